"""Records of further copies, on both engines: what is due, who has it, what is there."""

from __future__ import annotations

import contextlib
import itertools
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from backup_scp.index.schema.tables import copy, copy_due, copy_object
from backup_scp.index.schema.tables import version as versions
from backup_scp.index.sql_index import SQLIndex
from backup_scp.index.writing.row_writer import RowWriter
from backup_scp.index.writing.study_cache import StudyCache
from backup_scp.index.writing.version_rows import VersionRows
from backup_scp.index.writing.version_writer import VersionWriter
from backup_scp.ports import CopyResult, CopyTrouble, StoredCopy, Task, VerificationResult
from tests.index.conftest import opened
from tests.index.examples import MORNING, at, version

LEASE = timedelta(seconds=30)
MOST, MOST_BYTES = 100, 10**9
TASK = Task("rebuild", MORNING)


@pytest.fixture
def index(url):
    with opened(url) as index:
        yield index


@pytest.fixture
def records(index):
    return index.copies


@pytest.fixture
def drive(records):
    """Give the number of a copy that is made while the archive is empty."""
    return records.register("drive", "", at(0))


def add(index, *names) -> list[int]:
    """Add an image for each name; return the numbers."""
    for name in names:
        index.add(image(name))
    return [number_of(index, name) for name in names]


def image(name, **values):
    return version(f"1.2.3.4.{name}", **values)


def number_of(index, name) -> int:
    with index._database.reading() as connection:
        return connection.scalar(sa.select(versions.c.id).where(versions.c.location == image(name).location))


def leased(records, copy, minute=0.0, most=MOST, most_bytes=MOST_BYTES):
    return records.lease(copy, at(minute), at(minute) + LEASE, most, most_bytes)


def numbers(batch) -> list[int]:
    return [item.number for item in batch.items]


def there(number, name="", size_bytes=1000) -> CopyResult:
    return CopyResult(number, StoredCopy(name or f"2024/{number}.dcm", f"{number:064x}", size_bytes))


def failed(number, error="no room") -> CopyResult:
    return CopyResult(number, None, error)


def stored_all(records, copy, minute=0.0) -> list[int]:
    """Store all that is due at a copy."""
    done = []
    while batch := leased(records, copy, minute):
        done += numbers(batch)
        assert records.conclude(batch, map(there, numbers(batch)), at(minute), at(minute))
    return done


def state(records, minute=0.0, name="drive"):
    (found,) = [state for state in records.states(at(minute)) if state.name == name]
    return found


def rows(index, table):
    with index._database.reading() as connection:
        return connection.execute(sa.select(table)).mappings().all()


# ------------------------------------------------------------------------------------------------------ what is due


def test_what_arrives_is_due_at_a_copy_once(index, records, drive):
    assert leased(records, drive) is None
    assert not records.is_anything_due(drive, at(0))
    new = add(index, "1", "2")

    assert records.is_anything_due(drive, at(0))
    batch = leased(records, drive)

    assert numbers(batch) == new
    assert [item.held.sha256 for item in batch.items] == [image(name).sha256 for name in "12"]
    assert [item.stored for item in batch.items] == [None, None]
    assert (batch.copy, batch.attempts) == (drive, 0)
    assert leased(records, drive) is None
    assert not records.is_anything_due(drive, at(0))


def test_new_images_come_first_then_the_failed_ones_then_the_older_ones_newest_first(index, records):
    old = add(index, "1", "2", "3", "4")
    drive = records.register("drive", "", at(0))
    first, second = add(index, "5", "6")
    failing = leased(records, drive, most=1)
    assert numbers(failing) == [first]
    records.conclude(failing, [failed(first)], at(0), at(1))

    turns = [numbers(leased(records, drive, 1, most=2)) for _ in range(4)]

    assert turns == [[second], [first], old[2:], old[:2]]
    assert leased(records, drive, 1) is None


def test_a_batch_has_limits(index, records, drive):
    new = add(index, "1", "2", "3", "4", "5")
    assert numbers(leased(records, drive, most=2)) == new[:2]
    assert numbers(leased(records, drive, most_bytes=2 * version().size_bytes)) == new[2:4]
    assert numbers(leased(records, drive, most_bytes=1)) == new[4:]


def test_a_batch_that_is_leased_again_has_limits(index, records, drive):
    new = add(index, "1", "2", "3", "4")
    leased(records, drive)
    assert numbers(leased(records, drive, 1, most=1)) == new[:1]
    assert numbers(leased(records, drive, 1, most_bytes=2 * version().size_bytes)) == new[1:3]
    assert numbers(leased(records, drive, 1)) == new[3:]
    assert leased(records, drive, 1) is None
    assert sorted(stored_all(records, drive, 2)) == new


def test_each_copy_has_its_own_work(index, records, drive):
    cloud = records.register("cloud", "", at(0))
    new = add(index, "1")
    assert numbers(leased(records, drive)) == new
    later = leased(records, cloud, 5)  # the other lease has run out
    assert (numbers(later), later.copy) == (new, cloud)
    assert leased(records, cloud, 5) is None


def test_twelve_workers_of_three_processes_share_the_work(index, records, url):
    old = add(index, *map(str, range(30)))
    drive = records.register("drive", "", at(0))
    new = add(index, *map(str, range(30, 60)))

    def work(elsewhere) -> list[int]:
        mine = []
        while batch := leased(elsewhere.copies, drive, most=3):
            mine += numbers(batch)
        return mine

    with contextlib.ExitStack() as stack, ThreadPoolExecutor(12) as pool:
        processes = [stack.enter_context(contextlib.closing(SQLIndex(url))) for _ in range(3)]
        shares = list(pool.map(work, processes * 4))
    assert sorted(itertools.chain.from_iterable(shares)) == sorted(old + new)


# ------------------------------------------------------------------------------------------------------- leases


def test_a_lease_that_has_run_out_is_another_workers(index, records, drive):
    new = add(index, "1", "2")
    first = leased(records, drive)
    assert leased(records, drive, 0.49) is None

    second = leased(records, drive, 0.51)

    assert numbers(second) == new
    assert not records.renew(first, at(9))
    assert records.renew(second, at(2))
    assert leased(records, drive, 1.9) is None
    assert not records.conclude(first, [there(new[0])], at(0), at(0))
    assert state(records).held == 1  # what was written is recorded nevertheless
    assert records.conclude(second, map(there, new), at(0), at(0))
    assert (state(records).held, state(records).due) == (2, 0)


def test_what_was_leased_or_postponed_while_a_clock_was_ahead_is_due(index, records, drive):
    new = add(index, "1")
    leased(records, drive, 100_000)
    batch = leased(records, drive, 1)
    assert numbers(batch) == new
    records.give_back(batch, at(100_000))
    again = leased(records, drive, 2)
    assert numbers(again) == new
    records.conclude(again, [failed(new[0])], at(2), at(100_000))
    assert leased(records, drive, 3) is None
    assert numbers(leased(records, drive, 2 + 24 * 60)) == new  # not longer than anything is ever put off


def test_what_is_given_back_is_due_later(index, records, drive):
    new = add(index, "1", "2")
    records.give_back(leased(records, drive), at(5), "the drive was pulled out")
    assert leased(records, drive, 4.9) is None
    assert state(records).error == "the drive was pulled out"
    assert (state(records).due, state(records).failed) == (2, 0)
    again = leased(records, drive, 5)
    assert (numbers(again), again.attempts) == (new, 0)


@contextlib.contextmanager
def failing_at(index, beginning):
    """Let the first statement that begins so fail, as when the process is killed before it."""

    def fail(_connection, _cursor, statement, *_):
        if statement.startswith(beginning):
            raise KeyboardInterrupt

    engine = index._database._engine
    sa.event.listen(engine, "before_cursor_execute", fail)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        sa.event.remove(engine, "before_cursor_execute", fail)


@pytest.mark.parametrize("beginning", ["UPDATE copy ", "INSERT INTO copy_due"])
def test_a_crash_while_work_is_drawn_loses_none(index, records, beginning):
    old = add(index, "1")
    drive = records.register("drive", "", at(0))
    new = add(index, "2")
    with failing_at(index, beginning):
        leased(records, drive)
    assert stored_all(records, drive) == new + old


@pytest.mark.parametrize("beginning", ["DELETE FROM copy_due", "INSERT INTO copy_due", "UPDATE copy "])
def test_a_crash_while_results_are_recorded_loses_none(index, records, drive, beginning):
    one, two = add(index, "1", "2")
    batch = leased(records, drive)
    with failing_at(index, beginning):
        records.conclude(batch, [there(one), failed(two)], at(0), at(0))
    assert (state(records).held, state(records).due) == (0, 2)
    assert stored_all(records, drive, 1) == [one, two]
    assert (state(records).held, state(records).held_bytes) == (2, 2000)


@pytest.mark.parametrize("beginning", ["UPDATE copy_due", "INSERT INTO copy_due"])
def test_a_crash_while_a_batch_is_divided_loses_none(index, records, drive, beginning):
    new = add(index, "1", "2")
    leased(records, drive)
    with failing_at(index, beginning):
        leased(records, drive, 1, most=1)
    assert stored_all(records, drive, 2) == new


# ------------------------------------------------------------------------------------------------------- results


def test_what_failed_is_tried_again_and_the_rest_is_there(index, records, drive):
    one, two, three, four = add(index, "1", "2", "3", "4")
    batch = leased(records, drive)

    assert records.conclude(batch, [there(one), failed(two), failed(three), there(four)], at(0), at(10))

    found = state(records)
    assert (found.held, found.held_bytes, found.due, found.failed) == (2, 2000, 2, 2)
    assert (found.error, found.damaged) == ("no room", 0)
    assert leased(records, drive, 9) is None
    again = leased(records, drive, 10)
    assert (numbers(again), again.attempts) == ([two, three], 1)
    records.conclude(again, [there(two), failed(three, "odd")], at(10), at(11))
    last = leased(records, drive, 11)
    assert (numbers(last), last.attempts) == ([three], 2)
    records.conclude(last, [there(three)], at(11), at(11))
    found = state(records, 11)
    assert (found.held, found.held_bytes, found.due, found.failed, found.error) == (4, 4000, 0, 0, "")


def test_what_is_there_between_two_that_failed_is_not_due(index, records, drive):
    one, two, three = add(index, "1", "2", "3")
    records.conclude(leased(records, drive), [failed(one), there(two), failed(three)], at(0), at(0))
    assert state(records).due == 2
    assert stored_all(records, drive) == [one, three]


def test_what_has_no_result_is_due_and_was_not_tried(index, records, drive):
    one, two = add(index, "1", "2")
    records.conclude(leased(records, drive), [there(one)], at(0), at(1))
    assert (state(records).due, state(records).failed) == (1, 0)
    again = leased(records, drive, 1)
    assert (numbers(again), again.attempts) == ([two], 0)


def test_what_a_copy_cannot_hold_is_neither_there_nor_due(index, records, drive):
    one, two = add(index, "1", "2")
    left_out = CopyResult(one, None, "A later version is there", is_left_out=True)
    records.conclude(leased(records, drive), [left_out, there(two)], at(0), at(0))
    assert (state(records).held, state(records).due, state(records).failed) == (1, 0, 0)
    assert leased(records, drive, 1) is None
    records.record_comparison(drive, [left_out._replace(number=two)], at(1), until=None)
    assert (state(records).held, state(records).held_bytes, state(records).due) == (0, 0, 0)
    assert records.stored(drive, 0, 9) == []


def test_what_is_stored_again_is_counted_once_and_the_last_name_is_known(index, records, drive):
    (number,) = add(index, "1")
    late, batch = leased(records, drive), leased(records, drive, 1)
    records.conclude(batch, [there(number, "first", 1000)], at(1), at(1))
    records.conclude(late, [there(number, "second", 1234)], at(1), at(1))
    (found,) = records.stored(drive, 0, 9)
    assert found.stored.name == "second"
    assert (state(records).held, state(records).held_bytes) == (1, 1234)


def test_everything_of_a_stored_copy_is_kept(index, records, drive):
    (number,) = add(index, "1")
    stored = StoredCopy("a/ü%_'\"", "ab" * 32, 2**40, "v1.x~")
    records.conclude(leased(records, drive), [CopyResult(number, stored)], at(0), at(0))
    (item,) = records.stored(drive, 0, 9)
    assert item.stored == stored
    assert [item.held.location] == records.sample(3)
    assert records.where(item.held) == [("drive", "", item)]


# ---------------------------------------------------------------------------------------------------- comparing again


def test_what_is_found_damaged_is_due_again(index, records, drive):
    one, two, three = add(index, "1", "2", "3")
    stored_all(records, drive)
    results = [there(one), failed(two, "other bytes"), failed(three, "other bytes")]

    records.record_comparison(drive, results, at(5), until=None)

    found = state(records, 5)
    assert (found.held, found.held_bytes, found.due, found.damaged, found.failed) == (1, 1000, 2, 2, 0)
    assert found.error == "other bytes"
    assert numbers_of(records.stored(drive, 0, 9)) == [one]
    batch = leased(records, drive, 5)
    assert numbers(batch) == [two, three]
    assert batch.items[0].stored == there(two).stored  # its name there
    records.conclude(batch, [there(two, "new name"), failed(three, "no room")], at(5), at(6))
    found = state(records, 5)
    assert (found.held, found.held_bytes, found.due, found.damaged, found.failed) == (2, 2000, 1, 1, 1)
    assert numbers_of(records.stored(drive, 0, 9)) == [one, two]
    assert stored_all(records, drive, 6) == [three]
    found = state(records, 6)
    assert (found.held, found.due, found.damaged, found.failed) == (3, 0, 0, 0)


def test_what_failed_is_tried_again_together_whatever_the_errors_are(index, records, drive):
    """An error names its image; one batch is one wait for a PACS's report, and one manifest."""
    new = add(index, "1", "2", "3", "4")
    stored_all(records, drive)
    records.record_comparison(drive, [failed(number, f"Image {number}: gone") for number in new], at(5), until=None)
    assert state(records, 5).error == f"Image {new[-1]}: gone"
    batch = leased(records, drive, 5)
    assert numbers(batch) == new

    records.conclude(batch, [failed(number, f"Image {number}: no room") for number in new], at(5), at(6))

    assert state(records, 5).error == f"Image {new[-1]}: no room"
    again = leased(records, drive, 6)
    assert (numbers(again), again.attempts) == (new, 1)
    assert records.conclude(again, [there(new[0]), failed(new[1]), there(new[2])], at(6), at(6))
    rest = [leased(records, drive, 6) for _ in range(2)]
    assert [(numbers(batch), batch.attempts) for batch in rest] == [([new[1]], 2), ([new[3]], 1)]


def test_what_is_found_damaged_twice_is_due_once(index, records, drive):
    (one,) = add(index, "1")
    stored_all(records, drive)
    for _ in range(2):
        records.record_comparison(drive, [failed(one)], at(1), until=None)
    assert (state(records).held, state(records).due) == (0, 1)
    assert stored_all(records, drive, 1) == [one]
    assert leased(records, drive, 1) is None


def numbers_of(items) -> list[int]:
    return [item.number for item in items]


def test_a_pass_goes_on_where_it_was(index, records, drive):
    one, two, three = add(index, "1", "2", "3")
    stored_all(records, drive)
    assert records.comparison(drive) == (0, None)
    assert numbers_of(records.stored(drive, 0, 2)) == [one, two]
    records.record_comparison(drive, [there(one), there(two)], at(5), until=two)
    assert records.comparison(drive) == (two, None)
    assert numbers_of(records.stored(drive, two, 2)) == [three]
    assert state(records, 6).compared_until is None

    records.record_comparison(drive, [there(three)], at(7), until=None)

    assert records.comparison(drive) == (0, at(7))
    assert (state(records, 8).compared_until, state(records, 8).compared_at) == (at(5), at(7))


def test_a_pass_of_a_clock_that_was_ahead_does_not_count(index, records, drive):
    records.record_comparison(drive, [], at(10**8), until=5)
    records.record_comparison(drive, [], at(7), until=None)
    assert (state(records, 8).compared_until, state(records, 8).compared_at) == (None, at(7))
    records.record_comparison(drive, [], at(10**8), until=None)
    assert records.comparison(drive) == (0, None)
    assert state(records, 8).compared_at is None


# ------------------------------------------------------------------------------------------------------- states


def test_a_copy_and_each_of_its_drives_has_a_state(index, records):
    first = records.register("drives", "A1", at(1), "Monday")
    second = records.register("drives", "B2", at(2), "Tuesday")
    assert records.register("drives", "A1", at(3), "monday") == first != second
    add(index, "1")
    stored_all(records, first)
    records.note_complete(first, at(4))
    records.note_complete(second, at(10**8))

    monday, tuesday = records.states(at(5))

    assert (monday.name, monday.medium, monday.label) == ("drives", "A1", "monday")
    assert (tuesday.name, tuesday.medium, tuesday.label) == ("drives", "B2", "Tuesday")
    assert (monday.seen_at, monday.complete_at) == (at(3), at(4))
    assert (tuesday.seen_at, tuesday.complete_at) == (at(2), None)  # a clock was ahead
    assert (monday.held, monday.due, tuesday.held, tuesday.due) == (1, 0, 0, 1)
    assert (records.count_held(first), records.count_due(first)) == (1, 0)
    assert (records.count_held(second), records.count_due(second)) == (0, 1)
    assert (monday.oldest_due, tuesday.oldest_due) == (None, version().arrival.received_at)


def test_since_when_the_same_trouble_lasts_is_kept(records):
    records.register("drive", "", at(0))
    for minute in (1, 2):
        records.note_trouble("drive", "It is full", at(minute))
    assert (state(records).trouble, state(records, 2).trouble_since) == ("It is full", at(1))
    records.note_trouble("drive", "It is not connected", at(3))
    assert (state(records).trouble, state(records, 3).trouble_since) == ("It is not connected", at(3))
    records.register("drive", "", at(4))
    assert (state(records).trouble, state(records, 4).trouble_since) == ("", None)


def test_trouble_has_a_kind_until_it_is_over(records, drive):
    records.note_trouble("drive", "It is full", at(1))
    assert state(records).trouble_kind is CopyTrouble.FAULT
    records.note_trouble("drive", "It is full", at(2), CopyTrouble.AWAY)
    assert state(records).trouble_kind is CopyTrouble.AWAY
    records.note_trouble("drive", "", at(3), CopyTrouble.ALARM)
    assert state(records).trouble_kind is CopyTrouble.NONE
    records.note_trouble("drive", "Stopped", at(4), CopyTrouble.ALARM)
    records.register("drive", "", at(5))
    assert state(records).trouble_kind is CopyTrouble.NONE


def test_an_alarm_stays_until_a_pass_ends_without_one(index, records, drive):
    one, two = add(index, "1", "2")
    stored_all(records, drive)
    records.record_comparison(drive, [there(one)], at(5), until=one, alarm="A name was deleted")
    records.record_comparison(drive, [there(two)], at(6), until=two)
    records.record_comparison(drive, [], at(7), until=None)
    assert state(records, 8).alarm == "A name was deleted"
    records.record_comparison(drive, [there(one)], at(8), until=one)
    records.register("drive", "", at(9))
    assert state(records, 9).alarm == "A name was deleted"
    records.record_comparison(drive, [], at(9), until=None)
    assert state(records, 10).alarm == ""


def test_an_alarm_of_a_clock_that_was_ahead_is_cleared_too(index, records, drive):
    (one,) = add(index, "1")
    stored_all(records, drive)
    records.record_comparison(drive, [there(one)], at(10**8), until=None, alarm="A name was deleted")
    records.record_comparison(drive, [there(one)], at(8), until=one)
    records.record_comparison(drive, [], at(9), until=None)
    assert state(records, 10).alarm == ""


def test_trouble_of_a_clock_that_was_ahead_is_of_now(records, drive):
    records.note_trouble("drive", "It is full", at(10**8))
    assert (state(records).trouble, state(records).trouble_since) == ("It is full", None)
    records.note_trouble("drive", "It is full", at(1))
    assert state(records, 1).trouble_since == at(1)


def test_a_copy_that_was_never_reached_tells_its_trouble(index, records):
    add(index, "1")
    records.note_trouble("cloud", "The key is wrong", at(1))
    found = state(records, 1, "cloud")
    assert (found.trouble, found.trouble_since, found.seen_at, found.due) == ("The key is wrong", at(1), None, 1)
    records.register("cloud", "A1", at(2))
    (found,) = records.states(at(2))
    assert (found.medium, found.trouble, found.seen_at) == ("A1", "", at(2))


def test_a_copy_that_is_forgotten_begins_anew(index, records, drive, monkeypatch):
    monkeypatch.setattr("backup_scp.index.records.copies._BATCH", 2)
    new = add(index, "1", "2", "3", "4", "5")
    kept = records.register("kept", "", at(0))
    stored_all(records, kept)
    stored_all(records, drive)
    failing = add(index, "6")
    late = leased(records, drive)

    records.forget("drive")

    assert not records.conclude(late, map(there, failing), at(0), at(0))
    assert leased(records, drive) is None
    assert [found.name for found in records.states(at(0))] == ["kept"]
    assert {row["copy_id"] for table in (copy_due, copy_object) for row in rows(index, table)} == {kept}
    assert records.where(records.stored(kept, 0, 1)[0].held)[0][0] == "kept"
    again = records.register("drive", "", at(1))
    assert sorted(stored_all(records, again)) == new + failing


def test_forgetting_that_was_interrupted_leaves_nothing_of_use(index, records, drive, monkeypatch):
    new = add(index, "1", "2")
    stored_all(records, drive)
    failing = add(index, "3")
    late = leased(records, drive)
    more = add(index, "4")
    monkeypatch.setattr(records, "_delete_some", interrupt)
    with pytest.raises(KeyboardInterrupt):
        records.forget("drive")
    monkeypatch.undo()
    assert records.states(at(0)) == []
    assert records.copies_of([image("1").location]) == {image("1").location: set()}
    assert records.holders(index.copies.sample(1)) == {}
    assert leased(records, drive) is None
    assert not records.conclude(late, map(there, failing), at(0), at(0))
    again = records.register("drive", "", at(1))
    assert sorted(stored_all(records, again)) == new + failing + more
    records.forget("another")
    assert [row["id"] for row in rows(index, copy)] == [again]
    assert {row["copy_id"] for row in rows(index, copy_object)} == {again}


def test_a_worker_of_a_forgotten_copy_does_no_work_of_another(index, records, drive):
    """SQLite gives the number of a deleted row again."""
    new = add(index, "1", "2")
    late = leased(records, drive)
    records.forget("drive")
    another = records.register("another", "", at(1))
    assert another != drive
    assert leased(records, drive, 1) is None
    assert not records.is_anything_due(drive, at(1))
    assert records.count_due(drive) == 0
    assert not records.conclude(late, map(there, new), at(1), at(1))
    assert (state(records, 1, "another").held, state(records, 1, "another").due) == (0, 2)
    assert sorted(stored_all(records, another, 1)) == new
    records.forget("another")
    assert [found.name for found in records.states(at(1))] == []
    assert records.register("drive", "", at(2)) not in {drive, another}


def interrupt(*_):
    raise KeyboardInterrupt


# ------------------------------------------------------------------------------------------------------- who has it


def test_which_copies_have_a_version_is_known(index, records, drive):
    cloud = records.register("cloud", "", at(0))
    other = records.register("drive", "B2", at(0))
    one, two = add(index, "1", "2")
    stored_all(records, drive)
    stored_all(records, other)
    records.conclude(leased(records, cloud), [there(one, "key")], at(0), at(9))
    places = [image(name).location for name in "12"]

    assert records.copies_of([*places, "elsewhere"]) == {
        places[0]: {"cloud", "drive"},
        places[1]: {"drive"},
        "elsewhere": set(),
    }
    (item, _) = records.stored(drive, 0, 9)
    assert [(name, medium) for name, medium, _ in records.where(item.held)] == [
        ("cloud", ""),
        ("drive", ""),
        ("drive", "B2"),
    ]
    assert records.where(item.held)[0][2] == (one, item.held, there(one, "key").stored)
    records.record_comparison(drive, [failed(two)], at(1), until=None)
    records.record_comparison(other, [failed(two)], at(1), until=None)
    assert records.copies_of(places)[places[1]] == set()
    assert [name for name, _, _ in records.where(index.versions_of(image("2").key)[0])] == []


def test_lost_originals_that_a_copy_has_are_known(index, records, drive):
    index.add(image("0", is_whole=False))  # flagged, and not damaged
    stored_all(records, drive)
    one, _, three = add(index, "1", "2", "3")
    batch = leased(records, drive)
    records.conclude(batch, [there(one), there(two := numbers(batch)[1])], at(0), at(0))
    damaged = [VerificationResult(image(name).location, "other bytes") for name in "13"]
    index.record_verification(damaged)
    assert numbers_of(records.lost(drive, 9)) == [one]
    index.record_verification([VerificationResult(image("2").location, "gone")])
    assert numbers_of(records.lost(drive, 9)) == [one, two]
    assert numbers_of(records.lost(drive, 1)) == [one]
    assert three in numbers(leased(records, drive))


def test_a_sample_is_of_what_is_there(index, records):
    assert records.sample(5) == []
    add(index, *map(str, range(20)))
    found = records.sample(10)
    assert 1 <= len(found) <= 10
    assert len(set(found)) == len(found)
    assert set(found) <= {image(str(number)).location for number in range(20)}


# ------------------------------------------------------------------------------------------------ numbers


def reindex(index, *names, **values):
    """Re-index the study from files that are all there."""
    files = {image(name, **values).location: image(name, **values) for name in names}
    index.reindex_studies(list(files.values()), files.get, TASK)


def test_a_reindex_keeps_the_numbers(index, records, drive):
    old = add(index, "1", "2", "3")
    stored_all(records, drive)

    reindex(index, "3", "2", "1", "0", "9")

    assert [number_of(index, name) for name in "123"] == old
    assert min(number_of(index, name) for name in "09") > max(old)
    assert sorted(stored_all(records, drive)) == sorted(number_of(index, name) for name in "09")
    assert add(index, "8") > old
    assert (state(records).held, state(records).due) == (5, 1)


def test_a_version_that_arrives_late_keeps_the_numbers_of_the_others(index, records, drive):
    old = add(index, "1", "2")
    files = {image(name).location: image(name) for name in "12"}
    index.add(image("1", content="earlier", minute=-5), files.get)
    assert [number_of(index, name) for name in "12"] == old


def test_a_reindex_that_leaves_a_version_out_forgets_its_number(index, records, drive):
    """Of a release that could not decode an identity: two files turn out to have the same bytes of one image."""
    one, two = add(index, "1", "2")
    stored_all(records, drive)
    twin = image("1")
    object.__setattr__(twin, "location", image("2").location)
    files = {image("1").location: image("1"), twin.location: twin}
    index.reindex_studies([image("1")], files.get, TASK)
    assert number_of(index, "2") is None
    assert (state(records).held, state(records).held_bytes, state(records).due) == (1, 1000, 0)

    (new,) = add(index, "3")

    assert records.copies_of([image("3").location]) == {image("3").location: set()}
    assert stored_all(records, drive) == [new]
    assert numbers_of(records.stored(drive, 0, 9)) == [one, new]
    assert new >= two


def test_a_number_that_another_version_has_got_is_not_recorded(index, records, drive):
    """SQLite gives the number of the last version again, when a re-index has left that out."""
    one, two = add(index, "1", "2")
    batch = leased(records, drive)
    twin = image("1")
    object.__setattr__(twin, "location", image("2").location)
    index.reindex_studies([image("1")], {image("1").location: image("1"), twin.location: twin}.get, TASK)
    (new,) = add(index, "3")

    assert records.conclude(batch, [there(one), there(two)], at(0), at(0))

    assert records.copies_of([image("3").location]) == {image("3").location: set()}
    assert stored_all(records, drive) == [new]


def test_work_of_a_crash_has_no_number_that_another_version_has_got(index, records, drive):
    (one, _), batch = add(index, "1", "2"), leased(records, drive)
    assert batch
    twin = image("1")
    object.__setattr__(twin, "location", image("2").location)
    index.reindex_studies([image("1")], {image("1").location: image("1"), twin.location: twin}.get, TASK)
    (new,) = add(index, "3")
    assert sorted(stored_all(records, drive, 1)) == [one, new]


def test_receiving_writes_nothing_for_copies(index, records, drive):
    add(index, "1")
    stored_all(records, drive)
    before = [rows(index, table) for table in (copy, copy_due, copy_object)]
    add(index, "2")
    index.add(image("2", content="corrected", minute=1))
    index.flush()
    assert [rows(index, table) for table in (copy, copy_due, copy_object)] == before


# ------------------------------------------------------------------ numbers that become visible in another order


@contextlib.contextmanager
def being_stored(index, *names):
    """Hold a transaction open that has stored these images, each in a study of its own."""
    database = index._database
    with database.writing() as connection:
        for name in names:
            writer = VersionWriter(RowWriter(connection, database.dialect), StudyCache())
            writer.insert(VersionRows.of(elsewhere(name)))
        yield


def elsewhere(name):
    return version(f"1.9.{name}", f"1.9.4.{name}", f"1.9.3.{name}")


@pytest.fixture
def postgres_index(postgres_url):
    with opened(postgres_url) as index:
        yield index


def test_a_number_that_becomes_visible_later_is_not_passed_over(postgres_index, postgres_url):
    """A longer transaction has drawn a lower number."""
    index, records = postgres_index, postgres_index.copies
    drive = records.register("drive", "", at(0))
    with being_stored(index, "1"):
        index.add(elsewhere("2"))
        assert leased(records, drive) is None
        assert leased(records, drive) is None
        with contextlib.closing(SQLIndex(postgres_url)) as another:
            assert leased(another.copies, drive) is None
    assert len(stored_all(records, drive)) == 2


def test_a_number_that_becomes_visible_after_a_copy_was_made_is_not_passed_over(postgres_index):
    index, records = postgres_index, postgres_index.copies
    index.add(elsewhere("0"))
    with being_stored(index, "1"):
        index.add(elsewhere("2"))
        drive = records.register("drive", "", at(0))
        assert leased(records, drive) is None
    assert len(stored_all(records, drive)) == 3


def test_work_is_drawn_while_others_always_write(postgres_index):
    """Only who wrote when the number was drawn has to end, not those who came since."""
    index, records = postgres_index, postgres_index.copies
    drive = records.register("drive", "", at(0))
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        first.enter_context(being_stored(index, "1"))
        index.add(elsewhere("2"))
        assert leased(records, drive) is None
        second.enter_context(being_stored(index, "3"))
        first.close()
        batch = leased(records, drive)
        assert [item.held.location for item in batch.items] == [elsewhere(name).location for name in "12"]
        assert leased(records, drive) is None
    assert len(stored_all(records, drive)) == 1


def test_holders_tells_the_same_for_many(index, records, drive):
    add(index, "1", "2", "3")
    cloud = records.register("cloud", "", at(0))
    stored_all(records, drive)
    stored_all(records, cloud)
    one, two, three = (image(uid).location for uid in "123")
    lost = records.holders([two])[two][1][2].number
    records.record_comparison(drive, [failed(lost)], at(1), until=lost)
    held = records.holders([one, two, "elsewhere"])
    assert {location: [name for name, _, _ in by] for location, by in held.items()} == {
        one: ["cloud", "drive"],
        two: ["cloud"],
    }
    assert held[one] == records.where(held[one][0][2].held)
    assert three not in held


def test_what_a_copy_lists_is_learned(index, records, drive):
    numbers = add(index, "1", "2")
    locations = [image(uid).location for uid in "12"]
    listed = {location: StoredCopy(f"name of {location}", "a" * 64, 7) for location in [*locations, "elsewhere"]}
    records.record_comparison(drive, [], at(0), until=None)
    assert records.learn(drive, {location: listed[location] for location in locations[:1]}) == set()
    before = records.stored(drive, 0, 9)
    assert records.learn(drive, listed | {locations[0]: StoredCopy("other", "b" * 64, 9)}) == {"elsewhere"}
    items = records.stored(drive, 0, 9)
    assert items[:1] == before
    assert [(item.number, item.stored) for item in items] == [
        (number, listed[location]) for number, location in zip(numbers, locations, strict=True)
    ]
    assert (state(records, 1).held, state(records, 1).held_bytes) == (2, 14)
