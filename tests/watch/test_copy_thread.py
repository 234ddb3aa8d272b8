"""The thread of a copy: it keeps up, stands back, stops for an alarm, tells trouble once, and never ends by itself."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from datetime import datetime, timedelta

import pytest

from backup_scp.archive.filesystem import FilesystemArchive
from backup_scp.errors import DestinationUnavailable
from backup_scp.index.connection.migrate import upgrade
from backup_scp.index.sql_index import SQLIndex
from backup_scp.machine.hours import Hours
from backup_scp.ports import CopyTrouble
from backup_scp.watch.copy_thread import CopySchedule, CopyThread
from tests.processes import wait_until
from tests.samples import dx, encode, replace
from tests.services.faulty_place import FaultyPlace
from tests.services.test_copying import files, tiny
from tests.stored import Stored, stored_in
from tests.watch.copy_threads import has_everything, lines, noting, some_turns, state, trouble


def test_a_new_image_is_copied_soon(stored, place, under_way):
    under_way()
    for number in range(3):
        stored.put(tiny(number), number)
        wait_until(lambda: len(place.objects) == number + 1)  # noqa: B023 - it is over before the next
    assert has_everything(stored, place)
    wait_until(lambda: place.concluded)


def test_a_place_that_has_everything_is_left_alone(stored, place, under_way, monkeypatch):
    stored.put(tiny(1))
    under_way()
    wait_until(lambda: place.concluded)
    looks: list[bool] = []
    kind = type(stored.index.copies)
    monkeypatch.setattr(kind, "is_anything_due", noting(looks, kind.is_anything_due))
    wait_until(lambda: len(looks) > 3)
    assert place.entered == 1


def test_a_drive_that_is_plugged_in_catches_up(stored, place, under_way, caplog):
    place.is_removable, place.away = True, "No drive of ours is there"
    under_way()
    stored.put(tiny(1), 1)
    wait_until(lambda: trouble(stored) == "No drive of ours is there")
    assert state(stored).trouble_kind is CopyTrouble.AWAY
    stored.put(tiny(2), 2)
    place.away = ""
    wait_until(lambda: has_everything(stored, place) and not trouble(stored))
    assert not lines(caplog, logging.ERROR), "a drive that is away is no error"


def test_drives_take_turns_and_each_gets_everything(stored, place, under_way):
    place.is_removable, place.medium = True, "1"
    stored.put(tiny(1), 1)
    under_way()
    wait_until(lambda: place.concluded)
    first, place.away = place.objects, "away"
    wait_until(lambda: trouble(stored))
    place.objects, place.medium, place.concluded = {}, "2", []
    stored.put(tiny(2), 2)
    place.away = ""
    wait_until(lambda: has_everything(stored, place) and place.concluded)
    assert len(first) == 1
    place.away = "away"
    wait_until(lambda: trouble(stored))
    place.objects, place.medium, place.away = first, "1", ""
    wait_until(lambda: has_everything(stored, place))


def test_what_a_crash_left_out_after_the_last_batch_is_done_at_the_next_start(stored, place, under_way):
    """The lists of a drive, else they would wait for the next image."""
    stored.put(tiny(1))
    conclude = place.conclude

    def crash(snapshot, *, is_complete):
        raise DestinationUnavailable("The plug was pulled")

    place.conclude = crash
    first = under_way()
    wait_until(lambda: trouble(stored))
    first.stop()
    assert len(place.objects) == 1
    place.conclude = conclude
    under_way()
    wait_until(lambda: place.concluded == [True])
    wait_until(lambda: state(stored).complete_at)


def test_what_concludes_a_copy_is_tried_again(stored, place, under_way):
    """Also when nothing is due any more."""
    stored.put(tiny(1))
    conclude = place.conclude

    def fail(snapshot, *, is_complete):
        place.conclude = conclude
        raise DestinationUnavailable("The drive is full")

    place.conclude = fail
    under_way()
    wait_until(lambda: place.concluded == [True])


# -- when and how fast -------------------------------------------------------------------------------------------------


def hours_around(now: datetime, begin_h: float, end_h: float) -> Hours:
    local = now.astimezone()
    return Hours((local + timedelta(hours=begin_h)).time(), (local + timedelta(hours=end_h)).time())


def test_it_writes_only_in_its_hours(stored, place, under_way, clock, caplog):
    written = []

    def fault(content):
        written.append(content)
        if len(written) == 4:
            clock.jump(hours=3)

    place.fault = fault
    for number in range(10):
        stored.put(tiny(number), number)
    stop_after = CopySchedule(hours=hours_around(clock.time, 1, 3))
    under_way(stop_after)
    looked: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CopySchedule, "is_open", noting(looked, CopySchedule.is_open))
        wait_until(lambda: len(looked) > 3)
        assert place.entered == 0
        clock.jump(hours=1.5)
        wait_until(lambda: len(written) >= 4)
        looked.clear()
        wait_until(lambda: len(looked) > 3)
    assert len(place.objects) == 4
    assert trouble(stored) == ""
    clock.jump(hours=21.5)
    wait_until(lambda: has_everything(stored, place))
    assert len(written) == 10
    assert lines(caplog) == []


@pytest.fixture
def slept(monkeypatch):
    """Note each pause of a thread, and do not wait for it."""
    seconds: list[float] = []
    real = CopyThread._sleep

    def noted(self, how_long):
        seconds.append(how_long)
        real(self, min(how_long, 0.02))

    monkeypatch.setattr(CopyThread, "_sleep", noted)
    return seconds


def test_it_keeps_its_rate(stored, place, under_way, slept):
    stored.put(encode(replace(dx(), PixelData=bytes(400_000))))
    under_way(CopySchedule(mb_per_s=0.001))
    wait_until(lambda: place.objects)
    assert max(slept) > 100, "400 KB at 1 KB/s"


def test_receiving_goes_first(stored, place, under_way, slept):
    size = 50_000
    stored.put(encode(replace(dx(), PixelData=bytes(size))))
    under_way(received_at=time.monotonic)
    wait_until(lambda: place.objects)
    stands_back = [seconds for seconds in slept if 0 < seconds < 0.02]
    assert size / 1e6 * 0.3 <= sum(stands_back) < 2 * size / 1e6 * 0.3


def test_without_anything_received_it_does_not_stand_back(stored, place, under_way, slept):
    stored.put(encode(replace(dx(), PixelData=bytes(400_000))))
    under_way()
    wait_until(lambda: place.objects)
    assert not [seconds for seconds in slept if 0 < seconds < 0.02]


def test_it_stops_in_the_middle_of_a_large_object(stored, place, under_way):
    stored.put(encode(replace(dx(), PixelData=bytes(3_000_000))))
    begun, put = threading.Event(), place.put

    def noted(items, read):
        def begin(held):
            begun.set()
            return read(held)

        return put(items, begin)

    place.put = noted
    thread = under_way(CopySchedule(mb_per_s=0.001))  # it would take an hour
    assert begun.wait(30)
    thread.stop()
    assert place.objects == {}
    place.put = put
    under_way()
    wait_until(lambda: has_everything(stored, place))


# -- trouble -----------------------------------------------------------------------------------------------------------


def trouble_of(found):
    return found.trouble, found.trouble_since, found.trouble_kind


def test_trouble_is_told_once_stays_known_and_ends(stored, place, under_way, caplog):
    """A drive that is full can be reached: that must not hide the trouble."""

    def full(content):
        raise DestinationUnavailable("The drive is full")

    place.fault = full
    stored.put(tiny(1))
    under_way()
    since = wait_until(lambda: state(stored) and state(stored).trouble_since)
    some_turns(place, 4)
    assert [line for line in lines(caplog) if "full" in line] == ["Copy cloud: The drive is full"]
    full_since = ("The drive is full", since, CopyTrouble.FAULT)
    wait_until(lambda: trouble_of(state(stored)) == full_since)
    place.fault = lambda content: None
    wait_until(lambda: has_everything(stored, place) and not trouble(stored))
    wait_until(lambda: lines(caplog)[1:] == ["Copy cloud can be used again"])


def test_a_place_without_anything_due_is_not_said_to_be_usable_before_it_was_reached(
    stored, place, under_way, caplog, monkeypatch
):
    stored.put(tiny(1))
    under_way()
    wait_until(lambda: place.concluded)
    place.away = "The network is down"
    monkeypatch.setattr("backup_scp.watch.copy_thread._REACHED_EVERY_S", 0.0)
    wait_until(lambda: trouble(stored))
    monkeypatch.undo()
    some_turns(place)
    assert trouble(stored) == "The network is down"
    assert "Copy cloud can be used again" not in lines(caplog)


def test_what_nobody_foresaw_does_not_end_it_and_tells_no_values(stored, place, under_way, caplog):
    def stumble(content):
        raise ValueError("DOE^JANE")

    place.fault = stumble
    stored.put(tiny(1))
    under_way()
    wait_until(lambda: "ValueError in test_copy_thread.py" in trouble(stored))
    assert "JANE" not in caplog.text + trouble(stored)
    place.fault = lambda content: None
    wait_until(lambda: has_everything(stored, place))


def test_one_that_fails_for_ever_does_not_put_off_comparing_the_others(stored, place, under_way, clock):
    lost = stored.put(tiny(1), 1).location
    stored.put(tiny(2), 2)
    stored.flip(lost)
    under_way(CopySchedule(compare_days=90))
    wait_until(lambda: state(stored) and state(stored).compared_at)
    assert place.concluded == [False]
    name = next(iter(place.objects))
    del place.objects[name]
    clock.jump(days=91)
    wait_until(lambda: name in place.objects, what="the missing copy written again")


# -- two nodes ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def two_nodes(request, tmp_path):
    """Yield one archive with two index objects, as two processes have them."""
    if request.param == "sqlite":
        (tmp_path / "both").mkdir()
        with (
            stored_in(tmp_path / "both") as one,
            contextlib.closing(SQLIndex(f"sqlite:///{tmp_path}/both/index.sqlite")) as other,
        ):
            yield one, Stored(one.archive, other)
        return
    url = request.getfixturevalue("postgres_url")
    upgrade(url)
    archive = FilesystemArchive(tmp_path / "both")
    with contextlib.closing(SQLIndex(url)) as one, contextlib.closing(SQLIndex(url)) as other:
        yield Stored(archive, one), Stored(archive, other)


def test_two_nodes_share_the_work_without_doubling(two_nodes, under_way, monkeypatch):
    monkeypatch.setattr("backup_scp.services.copying.MOST_IN_A_BATCH", 5)
    first, second = two_nodes
    for number in range(60):
        first.put(tiny(number), number)
    shared: dict[str, bytes] = {}
    both = threading.Barrier(2)
    places = [FaultyPlace(objects=shared), FaultyPlace(objects=shared)]
    for place in places:
        place.fault = once_both_are_there(both)
    for place, store in zip(places, two_nodes, strict=True):
        under_way(store=store, at=place)
    wait_until(lambda: sorted(shared.values()) == files(first), timeout_s=60)
    wait_until(lambda: state(first).complete_at and state(second).due == 0)
    for number in range(60, 80):
        two_nodes[number % 2].put(tiny(number), number)
    wait_until(lambda: sorted(shared.values()) == files(first), timeout_s=60)
    assert sum(place.puts for place in places) == 80, "something was written twice"
    assert min(place.puts for place in places) >= 5
    wait_until(lambda: (state(first).held, state(first).due) == (80, 0))


def once_both_are_there(both: threading.Barrier):
    """Let the first write of each wait for that of the other."""
    waited: list[bool] = []

    def fault(content):
        if not waited:
            waited.append(True)
            both.wait(30)

    return fault
