"""A copy fills, compares and heals, whatever its place does."""

from __future__ import annotations

import contextlib
import shutil
from datetime import timedelta

import pytest

from backup_scp.errors import AllowanceUsed, ArchiveUnavailable, CopyingStopped, DestinationUnavailable
from backup_scp.machine import clock
from backup_scp.ports import Contents
from backup_scp.services.allowance import Allowance
from backup_scp.services.copying import Copying, CopyTimers
from backup_scp.services.ingest import Ingest
from tests.samples import Sample, encode, secondary_capture
from tests.services.faulty_place import FaultyPlace, one_in_five


def tiny(number: int) -> Sample:
    return encode(secondary_capture(study=f"copy.{number // 10}", series=str(100 + number)))


class NoSnapshot:
    def index(self, path):
        path.write_bytes(b"index")
        return Contents()

    def settings(self):
        return ""


class At:
    """The clock that a test moves."""

    def __init__(self, monkeypatch):
        self.ahead = timedelta()
        real = clock.now
        monkeypatch.setattr(clock, "now", lambda: real() + self.ahead)

    def pass_by(self, **by):
        self.ahead += timedelta(**by)


@pytest.fixture
def at(monkeypatch):
    return At(monkeypatch)


@pytest.fixture
def place():
    return FaultyPlace()


@pytest.fixture
def made(stored, place, tmp_path):
    """Make what fills the place, and say what is wrong with it."""

    def make(at=place, **how) -> Copying:
        ingest = Ingest(stored.archive, stored.index)
        return Copying(at, stored.archive, stored.index, ingest, NoSnapshot(), spool=tmp_path, **how)

    return make


def filled(copying, place):
    with place:
        number = copying.register()
        copying.fill(number)
    return number


def files(stored):
    return sorted(stored.path(location).read_bytes() for location in stored.archive.locations())


def test_everything_is_there_once_and_nothing_is_written_again(stored, place, made):
    for number in range(20):
        stored.put(tiny(number), number)
    copying = made()
    copy = filled(copying, place)
    assert sorted(place.objects.values()) == files(stored)
    assert (copying.done.copied, copying.done.failed, copying.done.is_complete) == (20, 0, True)
    assert place.concluded == [True]
    filled(copying, place)
    assert place.puts == 20
    assert place.concluded == [True]
    assert stored.index.copies.count_due(copy) == 0


def test_what_arrives_later_goes_ahead_of_what_was_there(stored, place, made):
    for number in range(6):
        stored.put(tiny(number), number)
    with place:
        copy = made().register()
    stored.put(tiny(77), 77)
    first = stored.index.copies.lease(copy, clock.now(), clock.now() + timedelta(minutes=1), 1, 1)
    assert [item.held.sop_instance_uid for item in first.items] == [tiny(77).sop_instance_uid]
    second = stored.index.copies.lease(copy, clock.now(), clock.now() + timedelta(minutes=1), 1, 1)
    assert [item.held.sop_instance_uid for item in second.items] == [tiny(5).sop_instance_uid]


def test_what_fails_is_tried_again_with_growing_pauses(stored, place, made, at):
    stored.put(tiny(1))
    copying = made(timers=CopyTimers(retry=timedelta(minutes=1)))
    place.fault = lambda content: content[:-1] + b"?"
    copy = filled(copying, place)
    tries = [place.puts]
    for minutes in (0, 1.1, 1.1, 1.1):
        at.pass_by(minutes=minutes)
        filled(copying, place)
        tries.append(place.puts)
    assert tries == [1, 1, 2, 2, 3]
    (state,) = stored.index.copies.states(clock.now())
    assert (state.failed, state.due, state.error) == (1, 1, "It came back with other bytes")
    place.fault = lambda content: None
    at.pass_by(hours=1)
    filled(copying, place)
    assert stored.index.copies.count_due(copy) == 0


def test_a_place_that_goes_away_in_the_middle_is_gone_on_with(stored, place, made):
    for number in range(10):
        stored.put(tiny(number), number)
    written = []

    def fault(content):
        written.append(content)
        if len(written) == 4:
            place.away = "The network is down"

    place.fault = fault
    copying = made()
    with pytest.raises(DestinationUnavailable):
        filled(copying, place)
    assert len(place.objects) == 4
    place.away, place.fault = "", lambda content: None
    filled(copying, place)
    assert sorted(place.objects.values()) == files(stored)
    assert place.puts == 10
    assert stored.index.copies.states(clock.now())[0].failed == 0


def test_another_place_under_the_same_name_gets_everything(stored, place, made):
    """The url was changed: the index still says that all is there, also to a console that asks for commitment."""
    for number in range(5):
        stored.put(tiny(number), number)
    copy = filled(made(), place)
    new = FaultyPlace()

    filled(made(new), new)

    assert sorted(new.objects.values()) == files(stored)
    assert {item.stored.name for item in stored.index.copies.stored(copy, 0, 9)} == set(new.objects)
    assert (new.puts, place.puts) == (5, 5)


@pytest.mark.parametrize("away", [False, True])
def test_a_place_that_is_known_is_not_compared_at_each_start(stored, place, made, monkeypatch, away):
    for number in range(5):
        stored.put(tiny(number), number)
    filled(made(), place)
    asked = []

    def compare(items):
        asked.append(len(items))
        if away:
            raise DestinationUnavailable("No answer")
        return FaultyPlace.compare(place, items)

    monkeypatch.setattr(place, "compare", compare)
    copying = made()
    filled(copying, place)
    filled(copying, place)
    assert (asked, place.puts) == ([3], 5)


class Crashing(FaultyPlace):
    """It is away after each image that it refuses, as a PACS that crashes on an image."""

    def put(self, items, read):
        for result in super().put(items, read):
            yield result
            if result.stored is None:
                raise DestinationUnavailable("It has crashed")


def test_one_at_which_the_place_goes_away_is_not_the_first_of_the_next_turn(stored, made):
    bad = stored.archive.read(stored.put(tiny(0), 0).location).path.read_bytes()
    for number in range(1, 4):
        stored.put(tiny(number), number)
    place = Crashing()

    def fault(content):
        if content == bad:
            raise OSError("It broke off")

    place.fault = fault
    for _ in range(2):
        with contextlib.suppress(DestinationUnavailable):
            filled(made(place), place)
    assert len(place.objects) == 3
    (state,) = stored.index.copies.states(clock.now())
    assert (state.due, state.failed) == (1, 1)


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_place_with_every_fault_gets_everything_in_the_end(stored, place, made, at, at_once):
    """One write in five fails, it is away for a day, names are taken away: nothing is lost, nothing is doubled."""
    for number in range(300):
        stored.put(tiny(number), number)
    place.fault = one_in_five(7)
    workers = [made(timers=CopyTimers(retry=timedelta(seconds=10))) for _ in range(at_once)]
    copy = filled(workers[0], place)
    place.away = "Gone for a day"
    for _ in range(24):
        at.pass_by(hours=1)
        with pytest.raises(DestinationUnavailable):
            filled(workers[-1], place)
    place.away = ""
    for name in list(place.objects)[:20]:
        del place.objects[name]
    turns = 0
    while stored.index.copies.count_due(copy) or not turns:
        at.pass_by(hours=1)
        for worker in workers:
            filled(worker, place)
        with place:
            worker.compare(copy)
        turns += 1
        assert turns < 40
    assert stored.index.copies.count_due(copy) == 0
    assert sorted(place.objects.values()) == files(stored)
    assert stored.index.copies.count_held(copy) == 300


def test_a_lost_original_is_told_and_healed_from_another_copy(stored, place, made):
    sound, damaged = tiny(1), tiny(2)
    stored.put(sound, 1)
    location = stored.put(damaged, 2).location
    first = filled(made(), place)
    before = stored.path(location).read_bytes()
    stored.flip(location)
    second = FaultyPlace("drive")
    copying = made(second)
    filled(copying, second)
    assert (copying.done.copied, copying.done.lost) == (1, 1)
    assert stored.index.is_damaged(location)
    healing = made()
    with place:
        healing.heal(first)
    assert healing.done.healed == 1
    assert stored.path(location).read_bytes() == before
    assert not stored.index.is_damaged(location)


def test_what_is_fetched_is_never_in_the_folder_that_all_users_share(stored, place, made, monkeypatch):
    location = stored.put(tiny(2)).location
    copy = filled(made(), place)
    stored.flip(location)
    stored.index.record_verification([lost(location)])
    monkeypatch.setattr("backup_scp.services.healing._IN_MEMORY_BYTES", 10)
    monkeypatch.setattr("tempfile.tempdir", "/there/is/no/such/folder")
    with place:
        made().heal(copy)
    assert not stored.index.is_damaged(location)


def test_a_missing_original_is_healed(stored, place, made):
    location = stored.put(tiny(2)).location
    copy = filled(made(), place)
    path = stored.path(location)
    before = path.read_bytes()
    path.unlink()
    stored.index.record_verification([lost(location)])
    with place:
        made().heal(copy)
    assert path.read_bytes() == before


def lost(location):
    from backup_scp.ports import VerificationResult

    return VerificationResult(location, "gone")


def test_a_damaged_copy_heals_nothing_and_is_asked_once(stored, place, made):
    location = stored.put(tiny(2)).location
    copying = made()
    copy = filled(copying, place)
    stored.flip(location)
    stored.index.record_verification([lost(location)])
    (name,) = place.objects
    place.objects[name] += b"x"
    asked = []
    fetch = place.fetch

    def counted(item, into):
        asked.append(item)
        fetch(item, into)

    place.fetch = counted
    for _ in range(3):
        with place:
            copying.heal(copy)
    assert len(asked) == 1
    assert stored.index.is_damaged(location)
    assert stored.archive.read(location)


def test_what_is_damaged_there_is_found_and_written_again(stored, place, made):
    for number in range(5):
        stored.put(tiny(number), number)
    copying = made()
    copy = filled(copying, place)
    name = next(iter(place.objects))
    place.objects[name] = b"encrypted"
    with place:
        copying.compare(copy)
    assert copying.done.damaged == 1
    assert stored.index.copies.states(clock.now())[0].damaged == 1
    filled(copying, place)
    assert sorted(place.objects.values()) == files(stored)


@pytest.fixture
def unreadable(place, monkeypatch):
    """Let the reading of some names fail, each of them so many times; return how often each is still to fail."""
    left: dict[str, int] = {}
    compare = place.compare

    def compares(items):
        for item in items:
            if left.get(item.stored.name):
                left[item.stored.name] -= 1
                raise DestinationUnavailable("The place does not answer (status 500)")
            yield from compare([item])

    monkeypatch.setattr(place, "compare", compares)
    return left


def test_a_pass_ends_and_says_what_it_could_not_read(stored, place, made, unreadable):
    for number in range(9):
        stored.put(tiny(number), number)
    copying = made()
    copy = filled(copying, place)
    first, second, *_, last = place.objects
    unreadable |= {first: 999, second: 2, last: 999}
    with place:
        assert copying.compare(copy)
    assert (copying.done.compared, copying.done.damaged) == (7, 0)
    (state,) = stored.index.copies.states(clock.now())
    assert "2 images were not read back" in state.alarm == copying.done.alarm
    assert (state.held, state.due) == (9, 0)
    unreadable.clear()
    with place:
        copying.compare(copy)
    assert stored.index.copies.states(clock.now())[0].alarm == ""


def test_a_place_that_answers_nothing_is_away(stored, place, made, unreadable):
    for number in range(9):
        stored.put(tiny(number), number)
    copying = made()
    copy = filled(copying, place)
    unreadable |= dict.fromkeys(place.objects, 999)
    with place, pytest.raises(DestinationUnavailable, match="status 500"):
        copying.compare(copy)
    assert sum(unreadable.values()) >= 9 * 999 - 9


def test_a_month_has_its_bytes_and_the_next_one_goes_on(stored, place, made, at, monkeypatch):
    monkeypatch.setattr("backup_scp.services.copying.MOST_IN_A_BATCH", 1)
    monkeypatch.setattr("backup_scp.services.copying._MOST_COMPARED", 1)
    for number in range(5):
        stored.put(tiny(number), number)
    size_bytes = stored.index.holdings().size_bytes / 5

    def limited():
        copying = made()
        copying.allowance = Allowance(stored.index, place.name, 2.9 * size_bytes / 1e9)  # a written one counts twice
        return copying

    with pytest.raises(AllowanceUsed, match=r"it goes on on \d{4}-\d\d-01"):
        filled(limited(), place)
    assert place.puts == 2
    with pytest.raises(AllowanceUsed):  # also after a restart
        filled(limited(), place)
    assert place.puts == 2
    copy = filled(made(), place)  # without a limit
    at.pass_by(days=32)
    copying = limited()
    with place, pytest.raises(AllowanceUsed):
        copying.compare(copy)
    assert copying.done.compared == 3


def test_an_alarm_ends_a_comparison_at_once(stored, place, made):
    stored.put(tiny(1))
    copy = filled(made(), place)
    paced: list[int] = []

    def pace(size_bytes):
        paced.append(size_bytes)
        if size_bytes:
            raise CopyingStopped("Look first")

    with place, pytest.raises(CopyingStopped):
        made(pace=pace).compare(copy)
    assert [size_bytes > 0 for size_bytes in paced] == [False, True]


def test_what_is_noticed_while_comparing_is_recorded_until_a_pass_notices_nothing(stored, place, made, monkeypatch):
    monkeypatch.setattr("backup_scp.services.copying._MOST_COMPARED", 2)
    for number in range(5):
        stored.put(tiny(number), number)
    noticed = ["", "", "A name was deleted"]
    place.noticed = lambda: noticed.pop() if noticed else ""
    copy = filled(made(), place)

    def alarm_after_a_pass():
        """Each part by another process, as after a restart."""
        with place:
            while not made().compare(copy, all_of_it=False):
                pass
        return stored.index.copies.states(clock.now())[0].alarm

    assert alarm_after_a_pass() == "A name was deleted"
    assert alarm_after_a_pass() == ""


def test_a_rebuilt_index_finds_that_the_copy_has_everything(stored, place, made, tmp_path):
    from tests.stored import stored_in

    for number in range(5):
        stored.put(tiny(number), number)
    filled(made(), place)
    (tmp_path / "other").mkdir()
    shutil.copytree(tmp_path / "archive", tmp_path / "other" / "archive")
    with stored_in(tmp_path / "other") as again:
        ingest = Ingest(again.archive, again.index)
        for location in again.archive.locations():
            ingest._add(location)
        filled(Copying(place, again.archive, again.index, ingest, NoSnapshot(), spool=tmp_path), place)
    assert place.puts == 5


def test_the_pace_sees_every_byte_and_may_end_the_work(stored, place, made):
    stored.put(tiny(1))
    seen: list[int] = []
    filled(made(pace=seen.append), place)
    assert sum(seen) >= len(tiny(1).data_set)

    class StoppedError(Exception):
        pass

    def stop(size_bytes):
        if size_bytes:
            raise StoppedError

    stored.put(tiny(2))
    with pytest.raises(StoppedError):
        filled(made(pace=stop), place)
    assert len(place.objects) == 1
    filled(made(), place)
    assert len(place.objects) == 2


def test_versions_that_a_place_cannot_hold_are_neither_there_nor_due(stored, place, made):
    stored.put(tiny(1), 1)
    put = place.put
    place.put = lambda items, read: (replace_result(result) for result in put(items, read))

    def replace_result(result):
        return result._replace(stored=None, error="Another version is there", is_left_out=True)

    copying = made()
    copy = filled(copying, place)
    assert (copying.done.left_out, copying.done.failed, copying.done.is_complete) == (1, 0, True)
    assert stored.index.copies.count_held(copy) == 0


def test_what_one_drive_cannot_heal_another_one_can(stored, place, made):
    """The same thread looks after drives that take turns."""
    location = stored.put(tiny(1)).location
    numbers, contents = {}, {}
    copying = made()
    for drive in ("a" * 32, "b" * 32):
        place.medium, place.objects = drive, {}
        numbers[drive], contents[drive] = filled(copying, place), place.objects
    stored.flip(location)
    stored.index.record_verification([lost(location)])
    for name in contents["a" * 32]:
        contents["a" * 32][name] += b"x"
    for drive, number in numbers.items():
        place.medium, place.objects = drive, contents[drive]
        with place:
            copying.heal(number)
    assert copying.done.healed == 1
    assert not stored.index.is_damaged(location)


def test_one_drive_is_never_two_copies(stored, place, made):
    stored.put(tiny(1))
    place.medium = "a" * 32
    filled(made(), place)
    other = FaultyPlace("second", medium="a" * 32)
    with pytest.raises(DestinationUnavailable, match="one drive is one copy"):
        filled(made(other), other)
    assert other.objects == {}


def test_a_comparison_by_a_person_begins_at_the_first_one(stored, place, made, monkeypatch):
    monkeypatch.setattr("backup_scp.services.copying._MOST_COMPARED", 2)
    for number in range(5):
        stored.put(tiny(number), number)
    copying = made()
    copy = filled(copying, place)
    with place:
        assert not copying.compare(copy, all_of_it=False)
        before = copying.done.compared
        copying.compare(copy)
    assert copying.done.compared - before == 5


def test_a_comparison_of_large_images_gives_other_work_its_turn(stored, place, made, monkeypatch):
    monkeypatch.setattr("backup_scp.services.comparing._MOST_COMPARED_BYTES", 1)
    for number in range(3):
        stored.put(tiny(number), number)
    copying = made()
    copy = filled(copying, place)
    with place:
        assert not copying.compare(copy, all_of_it=False)
    assert copying.done.compared == 1


def test_a_folder_that_cannot_hold_what_is_fetched_is_told_of(stored, place, made, monkeypatch, tmp_path):
    location = stored.put(tiny(1)).location
    copy = filled(made(), place)
    stored.flip(location)
    stored.index.record_verification([lost(location)])
    monkeypatch.setattr("backup_scp.services.healing._IN_MEMORY_BYTES", 10)
    copying = made()
    copying._spool = tmp_path / "gone"
    with place, pytest.raises(ArchiveUnavailable, match="cannot hold what is fetched"):
        copying.heal(copy)


def test_a_copy_that_is_filled_for_long_is_known_to_be_here(stored, place, made, at, monkeypatch):
    monkeypatch.setattr("backup_scp.services.copying._SEEN_EVERY_S", -1.0)
    monkeypatch.setattr("backup_scp.services.copying.MOST_IN_A_BATCH", 1)
    for number in range(2):
        stored.put(tiny(number), number)
    copying = made()
    with place:
        copy = copying.register()
        at.pass_by(hours=3)
        copying.fill(copy)
    (state,) = stored.index.copies.states(clock.now())
    assert clock.now() - state.seen_at < timedelta(hours=1)
