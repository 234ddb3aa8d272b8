"""The state of the backup: the same as ``status --json``, as a picture and as events."""

from __future__ import annotations

import asyncio
import re
import threading
from datetime import UTC, date, datetime, timedelta

import pytest

from backup_scp.errors import NoArchive
from backup_scp.machine import clock
from backup_scp.node.health import diagnosis, facts
from backup_scp.node.web_main import backup_state
from backup_scp.ports import CopyState, CopyTrouble, FirstArrival, Rejection, ServiceKind
from backup_scp.watch.alert_state import AlertFile, SentAlert
from backup_scp.web.pages import intake_calendar, state_feed
from backup_scp.web.pages.backup_state import BackupState, Sign, StateFinding, StateNode
from backup_scp.web.pages.intake_calendar import DayKind, console_days
from backup_scp.web.pages.state_feed import StateFeed
from tests.processes import wait_until
from tests.samples import dx, encode

NOW = datetime(2026, 1, 28, 12, tzinfo=UTC)


def state(*findings: StateFinding, **facts) -> BackupState:
    return BackupState(ae_title="A", node=StateNode(running=True), findings=list(findings), **facts)


def act(what: str) -> StateFinding:
    return StateFinding(what, "act", f"about {what}", "do it")


class TestSign:
    def test_it_is_the_most_urgent_of_all(self):
        note = StateFinding("web", "note", "look")
        assert state(note).sign is Sign.WELL
        assert state(note, act("copies")).sign is Sign.SOON
        assert state(act("copies"), note, act("damage")).sign is Sign.NOW
        assert [one.what for one in state(act("copies"), note, act("damage")).to_do] == ["damage", "copies"]

    def test_a_stranger_who_is_refused_does_not_make_it_red(self, pages, stored, settings):
        def refuse(*who: str) -> None:
            one = Rejection(ServiceKind.ASSOCIATION, who[0], "A", who[1], "Unknown", "add it", 1, clock.now())
            stored.index.record_rejections([one])

        def signs() -> list[Sign]:
            return [one.sign for one in backup_state(settings, stored).refused]

        refuse("SCANNER", "192.0.2.99")
        assert signs() == [Sign.SOON]
        refuse("DX", "192.0.2.7")  # a console of the settings
        assert sorted(signs()) == [Sign.NOW, Sign.SOON]

    def test_an_unknown_subject_that_needs_a_person_is_never_well(self):
        assert state(act("something new")).sign is Sign.SOON

    def test_the_page_shows_what_status_finds(self, pages, settings, stored):
        """No node runs on this folder: that is the first finding."""
        found = diagnosis.findings(facts.gather(settings))
        text = pages.get("/").text
        assert found
        assert 'data-sign="now"' in text
        assert "NOT RUNNING" in text
        assert "backup-scp serve" in text

    def test_the_page_shows_what_was_told_last(self, pages, settings, stored):
        told = AlertFile(settings.home)
        for number in range(7):
            told.state.add_sent(SentAlert(NOW, "e-mail", f"A: <b>alarm {number}", is_alarm=True))
        told.save()
        text = pages.get("/").text
        assert "Last messages" in text
        assert text.index("A: &lt;b&gt;alarm 6") < text.index("alarm 2")
        assert "alarm 1" not in text

    def test_a_node_without_a_second_copy_is_not_called_done(self, make_pages):
        copy = CopyState("drive", "1", seen_at=NOW)
        assert "nothing to do" in make_pages(found=lambda: state(copies=[copy])).get("/").text
        alone = make_pages(found=state).get("/").text
        assert "All is well" in alone
        assert "A second copy is still missing" in alone
        assert "nothing to do" not in alone

    def test_markup_is_shown_as_text(self, pages, stored):
        stored.index.record_rejections(
            [
                Rejection(
                    ServiceKind.STORE, "<script>x", "A", "192.0.2.9", '<img src=x onerror="y">', "<b>", 1, clock.now()
                )
            ]
        )
        text = pages.get("/").text
        assert "&lt;script&gt;x" in text
        assert "<script>x" not in text
        assert "<img" not in text

    def test_what_is_kept(self, pages, stored):
        stored.put(encode(dx()))
        assert re.search(r"<dt>Images</dt><dd>1</dd>", pages.get("/").text)

    def test_copies_show_where_they_are(self, pages, stored):
        copies = stored.index.copies
        copies.register("drive", "1", NOW, "<b>red</b>")
        copies.note_trouble("drive", "it is not connected", NOW, CopyTrouble.AWAY)
        text = pages.get("/").text
        assert "There is no second copy" in text  # it is not in the settings


class TestCalendar:
    @pytest.fixture(autouse=True)
    def days_begin_at_midnight_utc(self, monkeypatch):
        monkeypatch.setenv("TZ", "UTC")
        import time

        time.tzset()

    def test_a_day_is_compared_with_the_same_weekday_before(self):
        """Eight weeks of four studies on Mondays; then a silent one, one with a single study, and a usual one."""
        monday = datetime(2026, 1, 26, 9, tzinfo=UTC)
        numbers = {0: 4, 1: 1, 2: 0} | dict.fromkeys(range(3, 12), 4)
        came = {week: monday - timedelta(weeks=week) for week in numbers}
        arrivals = [FirstArrival("dx", came[week], came[week]) for week, n in numbers.items() for _ in range(n)]
        (console,) = console_days(arrivals, date(2026, 1, 28))
        kinds = {day.day: (day.kind, day.studies, day.habit) for day in console.days}
        assert kinds[date(2026, 1, 26)] == (DayKind.USUAL, 4, 4)
        assert kinds[date(2026, 1, 19)] == (DayKind.LOW, 1, 4)
        assert kinds[date(2026, 1, 12)] == (DayKind.SILENT, 0, 4)
        assert kinds[date(2026, 1, 27)][0] is DayKind.FREE
        assert kinds[date(2026, 1, 28)][0] is DayKind.TODAY
        assert len(console.days) == intake_calendar.SHOWN_DAYS

    def test_a_new_console_has_no_habit(self):
        (console,) = console_days([FirstArrival("dx", NOW, NOW)], NOW.date())
        assert {day.habit for day in console.days} == {0.0}

    def test_the_busiest_console_comes_first(self):
        arrivals = [FirstArrival("b", NOW, NOW), FirstArrival("a", NOW, NOW), FirstArrival("b", NOW, NOW)]
        assert [console.name for console in console_days(arrivals, NOW.date())] == ["b", "a"]


class TestFeed:
    @pytest.fixture
    def asked(self):
        return []

    @pytest.fixture
    def feed(self, stored, asked):
        def ask() -> BackupState:
            asked.append(1)
            return state(act("copies")) if len(asked) > 1 else state()

        return StateFeed(ask, stored.index, threading.Event())

    def test_many_who_look_are_one_question(self, feed, asked):
        assert {id(feed.now()) for _ in range(5)} == {id(feed.now())}
        assert len(asked) == 1

    def test_it_asks_again_when_it_is_time(self, feed, monkeypatch):
        monkeypatch.setattr(state_feed, "LEAST_S", 0.0)
        monkeypatch.setattr(state_feed, "_SHARE", 0)
        assert feed.now().state.sign is Sign.WELL
        assert feed.now().state.sign is Sign.SOON

    @pytest.fixture
    def slow(self, stored, monkeypatch):
        """Return a feed whose answers come one for each ``may_answer.release()``."""
        monkeypatch.setattr(state_feed, "LEAST_S", 0.0)
        monkeypatch.setattr(state_feed, "_SHARE", 0)
        may_answer = threading.Semaphore(0)

        def ask() -> BackupState:
            assert may_answer.acquire(timeout=60)
            return state()

        feed = StateFeed(ask, stored.index, threading.Event())
        yield feed, may_answer
        for _ in range(9):
            may_answer.release()

    def test_nobody_waits_for_a_slow_answer(self, slow, monkeypatch):
        feed, may_answer = slow
        monkeypatch.setattr(state_feed, "PATIENCE_S", 0.0)
        assert feed.soon() is None
        may_answer.release()
        first = feed.now()
        assert feed.soon() is first
        monkeypatch.setattr(state_feed, "_OLDEST", timedelta())
        assert feed.soon() is None, "it is too old to be shown"

    def test_one_who_goes_away_takes_the_answer_from_nobody(self, slow):
        feed, may_answer = slow

        async def watch() -> None:
            gone, stays = (asyncio.create_task(anext(feed.changes())) for _ in range(2))
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.wait([gone])
            may_answer.release()
            assert await stays is not None

        asyncio.run(watch())

    def test_an_error_is_told_to_all_who_wait_and_forgotten(self, stored):
        asked = []

        def ask() -> BackupState:
            asked.append(1)
            if len(asked) == 1:
                raise NoArchive("it is gone")
            return state()

        feed = StateFeed(ask, stored.index, threading.Event())
        with pytest.raises(NoArchive):
            feed.now()
        assert feed.now().state.sign is Sign.WELL

    def test_the_page_comes_before_a_slow_answer(self, make_pages, monkeypatch):
        monkeypatch.setattr(state_feed, "PATIENCE_S", 0.0)
        may_answer = threading.Event()
        pages = make_pages(found=lambda: (may_answer.wait(60), state())[1])
        text = pages.get("/").text
        assert 'data-sign="asking"' in text
        assert 'content="3"' in text  # without JavaScript it asks again soon
        may_answer.set()
        wait_until(lambda: 'data-sign="well"' in pages.get("/").text, what="the answer")

    def test_all_watchers_get_a_change_from_one_question(self, feed, asked, monkeypatch):
        monkeypatch.setattr(state_feed, "LEAST_S", 3600.0)

        async def all_watch() -> set[Sign]:
            snapshots = await asyncio.gather(*(anext(feed.changes()) for _ in range(50)))
            return {snapshot.state.sign for snapshot in snapshots if snapshot is not None}

        assert asyncio.run(all_watch()) == {Sign.WELL}
        assert len(asked) == 1
        feed._next_at = 0.0
        assert asyncio.run(all_watch()) == {Sign.SOON}
        assert len(asked) == 2

    def test_streams_end_with_the_process(self, stored):
        is_ending = threading.Event()
        feed = StateFeed(state, stored.index, is_ending)

        async def watch() -> int:
            number = 0
            async for _ in feed.changes():
                number += 1
                is_ending.set()
            return number

        assert asyncio.run(watch()) == 1
