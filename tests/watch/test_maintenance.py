"""Maintenance: read all files again, rebuild a lost index, report mass changes."""

from __future__ import annotations

import contextlib
import logging
from datetime import UTC, datetime, timedelta

import pytest

from backup_scp.errors import IndexUnavailable
from backup_scp.index.connection.migrate import upgrade
from backup_scp.index.connection.sqlite_file import set_aside
from backup_scp.ports import MassChange, Task
from backup_scp.services.rebuild import rebuild
from backup_scp.watch.maintenance import MaintenanceThread
from tests.processes import wait_until
from tests.samples import ct_series, dx, encode
from tests.stored import arrival, put_into_archive, stored_in

NOW = datetime.now(UTC)


@pytest.fixture
def stored(tmp_path):
    with stored_in(tmp_path) as stored:
        for number, ds in enumerate([dx(), *ct_series(4)]):
            stored.put(encode(ds), number)
        yield stored


@pytest.fixture
def maintenance(stored, monkeypatch):
    """Run it beside a test, without waiting for anything to be due."""
    monkeypatch.setattr("backup_scp.watch.maintenance.LOOK_EVERY_S", 0.02)
    monkeypatch.setattr("backup_scp.watch.maintenance._NOTICE_EVERY_S", 0.01)
    monkeypatch.setattr("backup_scp.machine.priority._NICENESS", 0)  # the test waits for it
    with contextlib.ExitStack() as stack:

        def run(full_pass_days=30.0, renew=lambda _: None, storms=list):
            under_way = MaintenanceThread(stored.archive, stored.index, full_pass_days, renew, storms)
            under_way.start()
            stack.callback(under_way.stop)
            return under_way

        yield run


def test_every_file_is_read_once_in_the_days_that_are_set(stored, maintenance, monkeypatch):
    monkeypatch.setattr("backup_scp.watch.maintenance._LEAST_MB_PER_S", 1e6)
    location = stored.put(encode(dx())).location
    stored.flip(location)
    maintenance()
    wait_until(lambda: "verified" in stored.index.tasks())
    assert stored.index.holdings().damaged == 1
    assert stored.index.tasks()["verified"].note == "4 intact, 1 damaged"
    assert stored.index.holdings().never_verified == 0
    first = stored.index.tasks()["verified"]
    stored.index.record_task(Task("verify", NOW - timedelta(days=31), NOW - timedelta(days=29)))
    wait_until(lambda: stored.index.tasks()["verified"].began_at >= first.began_at)


def test_a_pass_that_began_in_the_future_does_not_put_off_the_next(stored, maintenance, monkeypatch):
    monkeypatch.setattr("backup_scp.watch.maintenance._LEAST_MB_PER_S", 1e6)
    ahead = NOW + timedelta(days=3650)
    stored.index.record_task(Task("verify", ahead, ahead))
    maintenance()
    wait_until(lambda: stored.index.tasks()["verified"].began_at < ahead)
    assert stored.index.holdings().never_verified == 0


def test_no_pass_is_begun_by_a_clock_that_seems_to_be_behind_but_one_is_in_the_end(stored, maintenance, monkeypatch):
    monkeypatch.setattr("backup_scp.watch.maintenance._LEAST_MB_PER_S", 1e6)
    ahead = NOW + timedelta(days=2) - arrival().received_at
    stored.put(encode(dx(study="ahead")), int(ahead.total_seconds()))
    under_way = maintenance()
    wait_until(lambda: "1 image was received in the future" in under_way.trouble)
    assert stored.index.tasks() == {}
    monkeypatch.setattr("backup_scp.watch.maintenance._WAIT_FOR_CLOCK_S", 0.0)
    wait_until(lambda: "verified" in stored.index.tasks())
    wait_until(lambda: not under_way.trouble)


def test_its_pace_is_made_from_what_is_held_and_it_stops_at_once(stored, maintenance, monkeypatch):
    monkeypatch.setattr("backup_scp.watch.maintenance._LEAST_MB_PER_S", 1e-9)
    under_way = maintenance(full_pass_days=1000)
    wait_until(lambda: "verify" in stored.index.tasks())
    under_way.stop()  # it waits after its first file, for months
    assert "verified" not in stored.index.tasks()
    assert stored.index.holdings().never_verified <= 4
    monkeypatch.setattr("backup_scp.watch.maintenance._LEAST_MB_PER_S", 1e6)
    maintenance()
    wait_until(lambda: "verified" in stored.index.tasks())
    assert stored.index.tasks()["verified"].done == 5


def test_nothing_is_read_where_it_is_switched_off(stored, maintenance):
    looked: list[object] = []

    def storms():
        looked.append(NOW)
        return []

    maintenance(full_pass_days=0, storms=storms)
    wait_until(lambda: len(looked) > 3)
    assert stored.index.tasks() == {}


def test_files_that_the_index_does_not_know_are_entered(stored, maintenance, monkeypatch):
    monkeypatch.setattr("backup_scp.watch.maintenance._LEAST_MB_PER_S", 1e6)
    held = put_into_archive(stored.archive, encode(dx(study="unknown")))
    maintenance()
    wait_until(lambda: "verified" in stored.index.tasks())
    assert not list(stored.index.unindexed([held.location]))


def test_a_rebuild_that_is_due_is_done_first(stored, maintenance):
    stored.index.record_task(Task("rebuild", NOW, note="why"))
    maintenance(full_pass_days=0)
    wait_until(lambda: "rebuilt" in stored.index.tasks())
    assert stored.index.tasks()["rebuilt"].done == 5


def test_an_index_that_is_lost_meanwhile_is_renewed(stored, maintenance, tmp_path):
    url = f"sqlite:///{tmp_path}/index.sqlite"
    asked: list[str] = []

    def renew(damage):
        asked.append(damage)
        set_aside(url)
        upgrade(url)
        stored.index.record_task(Task("rebuild", NOW, note=damage))

    maintenance(full_pass_days=0, renew=renew)
    for file in tmp_path.glob("index.sqlite*"):
        file.unlink()
    wait_until(lambda: asked or _holdings(stored))
    wait_until(lambda: _holdings(stored) == 5)
    assert "gone" in asked[0]


@pytest.mark.parametrize("times", [1, 2])
def test_an_index_that_somebody_else_has_made_is_filled(stored, maintenance, tmp_path, times):
    """A lost index is created empty by whoever opens it first: then no file is missing, and none is damaged."""
    url = f"sqlite:///{tmp_path}/index.sqlite"
    asked: list[str] = []

    def renew(damage):
        asked.append(damage)
        upgrade(url)
        stored.index.record_task(Task("rebuild", NOW, note=damage))

    under_way = maintenance(full_pass_days=0, renew=renew)
    wait_until(lambda: under_way.active_at)
    for turn in range(times):
        made = tmp_path / "made.sqlite"
        upgrade(f"sqlite:///{made}")
        made.replace(tmp_path / "index.sqlite")
        wait_until(lambda: len(asked) > turn)  # noqa: B023 - it is over in this turn
        wait_until(lambda: not stored.index.is_replaced and _holdings(stored) == 5)  # else the old file has answered
    assert asked == [""] * times


def _holdings(stored):
    try:
        return stored.index.holdings().versions
    except IndexUnavailable:  # until it is renewed
        return 0


def test_a_storm_is_told_once(maintenance, caplog):
    looked: list[object] = []
    storm = MassChange("", "CONSOLE", 40, 90, NOW)

    def storms():
        looked.append(storm)
        return [storm]

    with caplog.at_level(logging.ERROR):
        maintenance(full_pass_days=0, storms=storms)
        wait_until(lambda: len(looked) > 4)
    (told,) = [record.message for record in caplog.records if "CONSOLE" in record.message]
    assert "90 images of 40 studies" in told
    assert "restore --as-of" in told


def test_an_error_that_nobody_has_foreseen_ends_one_work_only(stored, maintenance, monkeypatch, caplog):
    monkeypatch.setattr("backup_scp.watch.maintenance._LEAST_MB_PER_S", 1e6)
    tries: list[object] = []

    def storms():
        tries.append(NOW)
        if len(tries) < 4:
            raise ValueError("Family^Given")
        return []

    def trouble_is_told() -> str:
        troubles.append(under_way.trouble)
        return troubles[-1]

    troubles: list[str] = []
    with caplog.at_level(logging.ERROR):
        under_way = maintenance(storms=storms)
        wait_until(trouble_is_told)
        wait_until(lambda: "verified" in stored.index.tasks())
        wait_until(lambda: len(tries) > 4)
        wait_until(lambda: not under_way.trouble)

    assert troubles[-1].startswith("alarm: ValueError in test_maintenance.py, line ")
    assert all(work.ended_at and not work.failures for work in under_way.state())
    said = [record.message for record in caplog.records if "alarm" in record.message]
    assert len(said) == 3
    assert "Family" not in caplog.text
    assert [line.split("again in ")[1] for line in said] == ["0:00:00.020000", "0:00:00.040000", "0:00:00.080000"]


@pytest.mark.parametrize("work", ["rebuild", "verify"])
def test_a_work_that_cannot_be_done_does_not_hold_up_the_others(stored, maintenance, monkeypatch, work):
    monkeypatch.setattr("backup_scp.watch.maintenance._LEAST_MB_PER_S", 1e6)
    stored.index.record_task(Task("rebuild", NOW))

    def fails(*_args, **_kwargs):
        raise RuntimeError

    monkeypatch.setattr(f"backup_scp.services.{work}.{work}", fails)
    under_way = maintenance()
    other = {"rebuild": "verified", "verify": "rebuilt"}[work]
    wait_until(lambda: other in stored.index.tasks())
    wait_until(lambda: [each.name for each in under_way.state() if each.error] == [work])


class TestStorms:
    def storm(self, stored, studies, sender="CONSOLE", at=100):
        for number in range(studies):
            for content in ("first", "encrypted"):
                ds = dx(study=f"s{number}", StudyDescription=content)
                stored.put(encode(ds), at * (content != "first") + number / 10, calling_ae_title=sender)

    def test_who_changes_many_studies_is_listed(self, stored):
        self.storm(stored, 5)
        began = min(v.received_at for v in stored.index.select(_all()) if v.received_at > _at(99))
        (found,) = stored.index.storms(_at(50), 5)
        assert (found.calling_ae_title, found.studies, found.instances, found.began_at) == ("CONSOLE", 5, 5, began)
        assert stored.index.storms(_at(50), 6) == []
        assert stored.index.storms(_at(200), 1) == []

    def test_what_is_new_is_no_storm(self, stored):
        for number in range(20):
            stored.put(encode(dx(study=f"new{number}")), number)
        assert stored.index.storms(_at(-1), 1) == []

    def test_the_archive_of_before_comes_back(self, stored):
        self.storm(stored, 3)
        before = {h.sha256 for h in stored.index.select(_all(as_of=_at(99)))}
        (found,) = stored.index.storms(_at(50), 3)
        said = found.sentence.split("--as-of ")[1].split()[0]
        from backup_scp.cli.options import moment

        as_of = moment(said)
        assert {h.sha256 for h in stored.index.select(_all(as_of=as_of))} == before
        rebuild(stored.archive, stored.index)
        assert stored.index.storms(_at(50), 3) == [found]


def _at(seconds):
    from tests.stored import arrival

    return arrival(seconds).received_at


def _all(**selection):
    from backup_scp.ports import Selection

    return Selection(**{"all_versions": "as_of" not in selection} | selection)
