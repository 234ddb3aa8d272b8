"""Leases of rows of work, on both engines: one worker holds a row, until a time."""

from __future__ import annotations

import contextlib
import secrets
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from backup_scp.index.connection.database import Database
from backup_scp.index.connection.migrate import upgrade
from backup_scp.index.records.leases import FREE, Leases
from backup_scp.index.schema.stored_text import timestamp
from tests.index.examples import MORNING

HOUR = timedelta(hours=1)
LATER = MORNING + HOUR
work = sa.Table(
    "lease_example",
    sa.MetaData(),
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
    *(sa.Column(name, sa.Text()) for name in ("state", "due_at", "leased_until", "lease", "what")),
)
ALL = (work.c.id, work.c.lease, work.c.what)


@pytest.fixture
def database(url):
    upgrade(url)
    database = Database(url)
    with database.writing("examples") as connection:
        work.create(connection)
    yield database
    with database.writing("examples") as connection:
        work.drop(connection)
    database.close()


@pytest.fixture
def leases(database):
    return Leases(database, work, "examples", HOUR)


@pytest.fixture
def add(database):
    def add(what, due_at, state="open"):
        with database.writing("examples") as connection:
            connection.execute(sa.insert(work).values(state=state, due_at=timestamp(due_at), what=what, **FREE))

    return add


def take(leases, now, until=LATER, **values):
    return leases.take(leases.due("open", now), ALL, now, until, values)


def test_the_row_that_is_due_for_longest_comes_first_and_once(leases, add):
    add("second", MORNING)
    add("first", MORNING - HOUR)
    add("done", MORNING - HOUR, "done")

    assert [take(leases, MORNING).what for _ in range(2)] == ["first", "second"]
    assert take(leases, MORNING) is None


def test_a_row_is_not_taken_before_its_time(leases, add):
    add("later", LATER)

    assert take(leases, MORNING) is None
    assert take(leases, LATER, LATER + HOUR).what == "later"


def test_a_row_of_a_clock_that_was_ahead_is_due(leases, add):
    add("lost", MORNING + timedelta(days=400))

    assert take(leases, MORNING).what == "lost"


def test_a_lease_that_has_run_out_is_another_workers(leases, add):
    add("slow", MORNING)
    first = take(leases, MORNING)

    second = take(leases, LATER, LATER + HOUR)

    assert second.id == first.id
    assert not leases.renew(first.id, first.lease, LATER + 2 * HOUR)
    assert not leases.change(first.id, first.lease, {"state": "done"})
    assert leases.change(second.id, second.lease, {"state": "done", **FREE})
    assert take(leases, LATER + 2 * HOUR) is None


def test_a_renewed_lease_is_kept(leases, add):
    add("long", MORNING)
    row = take(leases, MORNING)

    assert leases.renew(row.id, row.lease, LATER + HOUR)

    assert take(leases, LATER, LATER + 2 * HOUR) is None


def test_taking_changes_further_columns(leases, add):
    add("plain", MORNING)

    assert take(leases, MORNING, what="changed").what == "changed"


@pytest.mark.parametrize(
    "values",
    [{"state": "done", **FREE}, {"leased_until": timestamp(LATER + HOUR)}],
    ids=["ends its work", "renews its lease"],
)
def test_one_worker_has_a_row_when_the_last_one_is_late(leases, add, monkeypatch, values):
    """Its lease has run out; it comes back between the choice of the row and the new lease."""
    add("slow", MORNING)
    late = take(leases, MORNING)
    drawn = secrets.token_hex

    with ThreadPoolExecutor(1) as pool:

        def at_that_moment(size):
            monkeypatch.setattr(secrets, "token_hex", drawn)
            changes.append(pool.submit(leases.change, late.id, late.lease, values))
            with contextlib.suppress(TimeoutError):  # it waits for us
                changes[0].result(timeout=0.5)
            return drawn(size)

        changes: list[Future[bool]] = []
        monkeypatch.setattr(secrets, "token_hex", at_that_moment)
        taken = take(leases, LATER, LATER + HOUR)

    (change,) = changes
    assert (taken is not None, change.result()) in {(True, False), (False, True)}
