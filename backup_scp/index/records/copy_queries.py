"""What the records of further copies tell: their states, which copy has a version, and what is to be compared."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import sqlalchemy as sa

from backup_scp.index.connection.database import Database
from backup_scp.index.reading import select
from backup_scp.index.records import copy_objects
from backup_scp.index.schema.dialect import Dialect
from backup_scp.index.schema.stored_text import moment, stored_key
from backup_scp.index.schema.tables import REMARKABLE, copy_due, copy_object, named, version
from backup_scp.index.schema.tables import copy as copies
from backup_scp.machine import clock
from backup_scp.ports import CopyItem, CopyState, CopyTrouble, StoredCopy, StoredVersion

FORGOTTEN = ""
"""Name of a copy whose records are being deleted."""

_GREATEST = 2**63 - 1
_LOCATIONS = 500
_INTACT = copy_object.c.is_damaged == 0
_KNOWN = copies.c.name != FORGOTTEN
# Exactly the text of the partial index; otherwise the database would not use that index.
_IS_REMARKABLE = sa.text(f"({REMARKABLE.text})")


class CopyQueries:
    """The part of ``ports.CopyRecords`` that only reads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def stored(self, copy: int, after: int, most: int) -> list[CopyItem]:
        there = copy_object.c.copy_id == copy, copy_object.c.version_id > after, _INTACT
        numbers = sa.select(copy_object.c.version_id).where(*there).order_by(copy_object.c.version_id).limit(most)
        return self._items(copy, numbers)

    def lost(self, copy: int, most: int) -> list[CopyItem]:
        there = sa.exists().where(copy_object.c.copy_id == copy, copy_object.c.version_id == version.c.id, _INTACT)
        damaged = sa.select(version.c.id).where(_IS_REMARKABLE, version.c.damage.is_not(None), there).limit(most)
        return self._items(copy, damaged)

    def _items(self, copy: int, select_numbers: sa.Select[tuple[int]]) -> list[CopyItem]:
        """Return the selected items; in two statements, because the plan of one would read all that is there."""
        with self._database.reading() as connection:
            numbers = connection.scalars(select_numbers).all()
            among = self._database.dialect.among(version.c.id, numbers)
            rows = copy_objects.stored_items(copy).where(among).order_by(version.c.id)
            return [copy_objects.item(row) for row in connection.execute(rows)]

    def names_of(self, medium: str) -> set[str]:
        names = sa.select(copies.c.name).where(copies.c.medium == stored_key(medium), _KNOWN)
        with self._database.reading() as connection:
            return set(connection.scalars(names))

    def sample(self, most: int) -> list[str]:
        draw = secrets.SystemRandom()
        # Two statements in one: asked for both at once, SQLite reads all rows.
        ends = sa.select(*(sa.select(end(version.c.id)).scalar_subquery() for end in (sa.func.min, sa.func.max)))
        with self._database.reading() as connection:
            first, last = connection.execute(ends).one()
            if first is None:
                return []
            starts = [draw.randint(first, last) for _ in range(most)]
            next_one = sa.select(version.c.location).order_by(version.c.id).limit(1)
            found = {connection.scalar(next_one.where(version.c.id >= start)) for start in starts}
            return [location for location in found if location]

    def where(self, held: StoredVersion) -> list[tuple[str, str, CopyItem]]:
        return self.holders([held.location]).get(held.location, [])

    def holders(self, locations: Sequence[str]) -> dict[str, list[tuple[str, str, CopyItem]]]:
        these = select.held(version.c.id).where(self._database.dialect.among(version.c.location, locations))
        held_by: dict[str, list[tuple[str, str, CopyItem]]] = {}
        with self._database.reading() as connection:
            found = {row.id: select.held_row(row) for row in connection.execute(these)}
            known = sa.select(copies.c.id, copies.c.name, copies.c.medium).where(_KNOWN)
            for copy_id, name, medium in connection.execute(known.order_by(copies.c.name, copies.c.medium)).all():
                for number, *stored in connection.execute(
                    self._intact(copy_id, found).add_columns(*copy_objects.STORED)
                ):
                    item = CopyItem(number, found[number], StoredCopy(*stored))
                    held_by.setdefault(item.held.location, []).append((name, medium, item))
        return held_by

    def copies_of(self, locations: Iterable[str]) -> dict[str, set[str]]:
        rest = iter(locations)
        found: dict[str, set[str]] = {}
        with self._database.reading() as connection:
            known = connection.execute(sa.select(copies.c.id, copies.c.name).where(_KNOWN)).all()
            while some := list(islice(rest, _LOCATIONS)):
                found.update((location, set()) for location in some)
                these = sa.select(version.c.id, version.c.location)
                these = these.where(self._database.dialect.among(version.c.location, some))
                location_of = {row.id: row.location for row in connection.execute(these)}
                for copy_id, name in known:  # one after the other: the plan of a join would read all that is there
                    for number in connection.scalars(self._intact(copy_id, location_of)):
                        found[location_of[number]].add(name)
        return found

    def _intact(self, copy_id: int, numbers: Iterable[int]) -> sa.Select[Any]:
        there = copy_object.c.copy_id == copy_id, self._database.dialect.among(copy_object.c.version_id, numbers)
        return sa.select(copy_object.c.version_id).where(*there, _INTACT)

    def count_due(self, copy: int) -> int:
        with self._database.reading(snapshot=True) as connection:
            row = connection.execute(sa.select(copies).where(copies.c.id == copy, _KNOWN)).one_or_none()
            return _due(connection, self._database.dialect, row).versions if row else 0

    def count_held(self, copy: int) -> int:
        with self._database.reading() as connection:
            return int(connection.scalar(sa.select(copies.c.held_count).where(copies.c.id == copy)) or 0)

    def states(self, now: datetime) -> list[CopyState]:
        """See ``CopyRecords.states``: it counts only what is due, since the sums of the others are in the row."""
        in_order = sa.select(copies).where(_KNOWN).order_by(copies.c.name, copies.c.medium)
        with self._database.reading(snapshot=True) as connection:
            return [_state(connection, self._database.dialect, row, now) for row in connection.execute(in_order).all()]


def known_moment(text: str, now: datetime) -> datetime | None:
    """Return a recorded time; None for none, or when a clock was ahead."""
    found = moment(text) if text else None
    return found if found is None or found <= now + clock.TOLERANCE else None


def _state(connection: sa.Connection, dialect: Dialect, row: sa.Row[Any], now: datetime) -> CopyState:
    due = _due(connection, dialect, row)
    failed = sa.select(copy_due.c.error).where(copy_due.c.copy_id == row.id, copy_due.c.error != "")
    return CopyState(
        name=row.name,
        medium=row.medium,
        label=row.label,
        held=row.held_count,
        held_bytes=row.held_bytes,
        due=due.versions,
        oldest_due=_oldest_due(connection, row, now),
        failed=due.failed,
        error=connection.scalar(failed.order_by(copy_due.c.id.desc()).limit(1)) or "",
        damaged=due.damaged,
        seen_at=known_moment(row.seen_at, now),
        complete_at=known_moment(row.complete_at, now),
        trouble=row.trouble,
        trouble_since=known_moment(row.trouble_at, now),
        trouble_kind=CopyTrouble(row.trouble_kind),
        compared_until=known_moment(row.compared_until, now),
        compared_at=known_moment(row.compared_at, now),
        alarm=row.alarm,
    )


class _Due(NamedTuple):
    versions: int
    failed: int
    damaged: int


def _due(connection: sa.Connection, dialect: Dialect, row: sa.Row[Any]) -> _Due:
    """Count what is due at a copy, and how much of it failed, and was found damaged."""
    work = sa.select(
        sa.func.count(),
        *(sa.func.coalesce(sa.func.sum(sa.case((column > 0, 1), else_=0)), 0) for column in _COUNTED),
    )
    work = work.select_from(copy_due.join(version, _IN_RANGE)).where(copy_due.c.copy_id == row.id)
    drawn, failed, damaged = map(int, connection.execute(work).one())
    older = dialect.count_ids(connection, version, 0, row.first_version - 1)
    newer = dialect.count_ids(connection, version, row.last_version + 1, _GREATEST)
    return _Due(drawn + older + newer, failed, damaged)


def _oldest_due(connection: sa.Connection, row: sa.Row[Any], now: datetime) -> datetime | None:
    """Return when the version with the lowest number was received, of each part of what is due."""
    lowest = sa.select(sa.func.min(copy_due.c.first_version)).where(copy_due.c.copy_id == row.id)
    drawn = connection.scalar(lowest)
    received = sa.select(version.c.received_at)
    parts = [
        received.where(version.c.id < row.first_version),
        received.where(version.c.id > row.last_version),
        *([] if drawn is None else [received.where(version.c.id >= drawn)]),
    ]
    found = (connection.scalar(part.order_by(version.c.id).limit(1)) for part in parts)
    return min((at for text in found if text and (at := known_moment(text, now))), default=None)


_IN_RANGE = version.c.id.between(copy_due.c.first_version, copy_due.c.last_version)
_COUNTED = named(copy_due, "attempts is_damaged")
