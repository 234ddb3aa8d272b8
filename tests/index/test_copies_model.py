"""Any order of arrivals, leases, crashes, failures and re-indexes: nothing is lost at a copy, nothing done twice."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from backup_scp.index.schema.tables import copy, copy_due, copy_object
from backup_scp.index.schema.tables import version as versions
from backup_scp.index.sql_index import SQLIndex
from backup_scp.index.writing.row_writer import RowWriter
from backup_scp.index.writing.study_cache import StudyCache
from backup_scp.index.writing.version_rows import VersionRows
from backup_scp.index.writing.version_writer import VersionWriter
from backup_scp.ports import CopyResult, StoredCopy, Task
from tests.index.examples import MORNING, at, filling, version

STUDIES = st.integers(0, 2)
SOME = st.sets(st.integers(0, 9))
LEASE = timedelta(minutes=5)


class CopyLife(RuleBasedStateMachine):
    """Two nodes that share an index, and one copy."""

    index: SQLIndex
    url: str

    def __init__(self):
        super().__init__()
        with filling(self.index):
            pass
        with self.index._database.writing() as connection:
            for table in (copy, copy_due, copy_object):
                connection.execute(sa.delete(table))
        self.other = SQLIndex(self.url)
        self.files = {}
        self.minute = 0
        self.batches = []
        self.slow = contextlib.ExitStack()
        self.is_slow = False
        self.drive: Any = None

    def teardown(self):
        try:
            self.slow.close()
            if self.drive is not None:
                self.finish()
        finally:
            self.other.close()

    @property
    def now(self):
        return at(self.minute)

    def new(self, study):
        made = version(f"1.{len(self.files)}", f"1.2.{study}", f"1.3.{study}", minute=len(self.files))
        self.files[made.location] = made
        return made

    @initialize(earlier=st.integers(0, 5))
    def begin(self, earlier):
        for number in range(earlier):
            self.index.add(self.new(number % 3))

    # -- the archive

    @rule(study=STUDIES)
    def arrive(self, study):
        self.other.add(self.new(study))

    @precondition(lambda self: not self.index._database.is_sqlite and not self.is_slow)
    @rule(is_kept=st.booleans())
    def begin_slow(self, is_kept):
        """Begin a transaction that ends later, or is rolled back: its number is drawn now."""
        database = self.index._database
        made = version(f"8.{len(self.files)}", "8.1", f"8.2.{len(self.files)}", minute=len(self.files))

        @contextlib.contextmanager
        def storing():
            with contextlib.suppress(InterruptedError), database.writing() as connection:
                VersionWriter(RowWriter(connection, database.dialect), StudyCache()).insert(VersionRows.of(made))
                yield
                if not is_kept:
                    raise InterruptedError

        self.slow.enter_context(storing())
        self.is_slow = True

    @precondition(lambda self: self.is_slow)
    @rule()
    def end_slow(self):
        self.slow.close()
        self.is_slow = False

    @precondition(lambda self: self.files and not self.is_slow)
    @rule(study=STUDIES, is_found=st.booleans(), chance=st.randoms(use_true_random=False))
    def reindex(self, study, is_found, chance):
        """Read the files of a study again, sometimes with one that the index did not list."""
        if is_found:
            self.new(study)
        theirs = [made for made in self.files.values() if made.key.study_instance_uid == f"1.3.{study}"]
        chance.shuffle(theirs)
        if theirs:
            self.index.reindex_studies(
                theirs[: chance.randint(1, len(theirs))] + theirs[-1:] * is_found,
                self.files.get,
                Task("rebuild", MORNING),
            )

    # -- the copy

    @precondition(lambda self: self.drive is None)
    @rule()
    def register(self):
        self.drive = self.index.copies.register("drive", "", self.now)

    @precondition(lambda self: self.drive is not None)
    @rule(is_other=st.booleans(), most=st.integers(1, 4))
    def lease(self, is_other, most):
        records = (self.other if is_other else self.index).copies
        if batch := records.lease(self.drive, self.now, self.now + LEASE, most, 10**9):
            ours = {item.number for item in batch.items}
            assert 1 <= len(ours) == len(batch.items) <= most
            for until, earlier in self.batches:
                if until > self.minute:
                    assert not ours & {item.number for item in earlier.items}, "leased twice"
            self.batches.append((self.minute + 5, batch))

    @precondition(lambda self: self.batches)
    @rule(which=st.integers(0, 9), failing=SOME, left=SOME, is_other=st.booleans())
    def conclude(self, which, failing, left, is_other):
        until, batch = self.batches.pop(which % len(self.batches))
        results = [
            CopyResult(item.number, None if place in failing else stored(item.number), "error" * (place in failing))
            for place, item in enumerate(batch.items)
            if place not in left
        ]
        records = (self.other if is_other else self.index).copies
        is_ours = records.conclude(batch, results, self.now, self.now + timedelta(minutes=2))
        assert is_ours or until <= self.minute

    @precondition(lambda self: self.batches)
    @rule(which=st.integers(0, 9))
    def give_back(self, which):
        _, batch = self.batches.pop(which % len(self.batches))
        self.index.copies.give_back(batch, self.now + timedelta(minutes=1), "away")

    @precondition(lambda self: self.batches)
    @rule(which=st.integers(0, 9))
    def crash(self, which):
        self.batches.pop(which % len(self.batches))

    @rule(minutes=st.integers(1, 6))
    def wait(self, minutes):
        self.minute += minutes

    @precondition(lambda self: self.drive is not None)
    @rule(which=SOME)
    def find_damage(self, which):
        there = self.index.copies.stored(self.drive, 0, 99)
        results = [CopyResult(item.number, None, "damaged") for place, item in enumerate(there) if place in which]
        self.index.copies.record_comparison(self.drive, results, self.now, until=None)

    # -- what holds

    @invariant()
    def sums_are_exact_and_nothing_is_lost(self):
        if self.drive is None:
            return
        with self.index._database.reading() as connection:
            numbers = set(connection.scalars(sa.select(versions.c.id)))
            there = {
                row.version_id: row.size_bytes
                for row in connection.execute(
                    sa.select(copy_object.c.version_id, copy_object.c.size_bytes).where(copy_object.c.is_damaged == 0)
                )
            }
            row = connection.execute(sa.select(copy)).one()
            work = [
                range(each.first_version, each.last_version + 1) for each in connection.execute(sa.select(copy_due))
            ]
        assert (row.held_count, row.held_bytes) == (len(there), sum(there.values()))
        drawn = [number for numbers_ in work for number in numbers_ if number in numbers]
        assert len(drawn) == len(set(drawn)), "due twice"
        outside = {number for number in numbers if not row.first_version <= number <= row.last_version}
        assert not outside & (there.keys() | set(drawn))
        assert numbers == outside | there.keys() | set(drawn), "lost"
        assert self.index.copies.count_due(self.drive) == len(outside) + len(drawn)

    def finish(self):
        """Let both nodes do all that is due: then everything is there once."""
        self.minute += 60
        written = []
        for records in (self.index.copies, self.other.copies) * 99:
            if batch := records.lease(self.drive, self.now, self.now + LEASE, 3, 10**9):
                results = [CopyResult(item.number, stored(item.number)) for item in batch.items]
                assert records.conclude(batch, results, self.now, self.now)
                written += [item.number for item in batch.items]
        assert len(written) == len(set(written)), "written twice"
        assert not self.index.copies.is_anything_due(self.drive, self.now)
        listed = {item.held.location for item in self.index.copies.stored(self.drive, 0, 999)}
        with self.index._database.reading() as connection:
            assert listed == set(connection.scalars(sa.select(versions.c.location)))
        (found,) = self.index.copies.states(self.now)
        assert (found.held, found.due, found.failed, found.damaged) == (len(listed), 0, 0, 0)
        with self.index._database.reading() as connection:
            assert connection.execute(sa.select(copy_due)).all() == []


def stored(number) -> StoredCopy:
    return StoredCopy(f"{number}.dcm", f"{number:064x}", 100 + number)


@pytest.mark.timeout(300)
def test_nothing_is_lost_and_nothing_is_done_twice(shared_index):
    class Here(CopyLife):
        index = shared_index
        url = shared_index._database.url.render_as_string(hide_password=False)

    run_state_machine_as_test(
        Here,
        settings=hypothesis.settings(
            max_examples=15,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink a failure takes longer than a test may
        ),
    )
