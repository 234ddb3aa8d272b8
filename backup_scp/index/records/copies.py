"""Records of further copies: lease what is due at each, and record what is there (docs/adr/0038).

A copy has all versions in a range of numbers but those of ``copy_due``.  Drawing work extends the range and inserts the
row of the work, leased, in one transaction: so no version is lost or drawn twice, whoever crashes.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple

import sqlalchemy as sa

from backup_scp.index.connection.database import Database
from backup_scp.index.records import copy_objects
from backup_scp.index.records.copy_queries import FORGOTTEN, CopyQueries, known_moment
from backup_scp.index.records.leases import FREE, Leases, is_free
from backup_scp.index.records.settled_numbers import SettledNumbers
from backup_scp.index.schema.rows import Row
from backup_scp.index.schema.stored_text import stored_key, stored_long, timestamp
from backup_scp.index.schema.tables import copy as copies
from backup_scp.index.schema.tables import copy_due, copy_object, named, version
from backup_scp.machine import clock
from backup_scp.ports import CopyBatch, CopyItem, CopyResult, CopyTrouble, StoredCopy
from backup_scp.ports.copies import LONGEST_PAUSE

_WHAT = "records of further copies"
_DUE = "due"
_BATCH = 1000
_NO_TROUBLE = {"trouble": "", "trouble_at": "", "trouble_kind": ""}
_TEXTS = {column.name for column in copies.c if isinstance(column.type, sa.Text)}
# SQLite gives the last number again, and a worker of the forgotten copy may still have it: that row stays, hidden.
_IS_NOT_LAST = copies.c.id < sa.select(sa.func.max(copies.alias().c.id)).scalar_subquery()
_LEASED = named(copy_due, "id first_version last_version lease due_at attempts error is_damaged")


class _Limits(NamedTuple):
    versions: int
    size_bytes: int


_Drawn = tuple[int, int, dict[str, int]]
_Result = tuple[int, str]  # how often it was tried, and the last error


class SQLCopies(CopyQueries):
    """Implements ``ports.CopyRecords``."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._leases = Leases(database, copy_due, _WHAT, LONGEST_PAUSE)
        self._settled = SettledNumbers(database)

    # -- copies --------------------------------------------------------------------------------------------------------

    def register(self, name: str, medium: str, now: datetime, label: str = "") -> int:
        name, medium = stored_key(name), stored_key(medium)
        of_it = copies.c.name == name, copies.c.medium == medium
        # ``note_trouble`` makes a row for a copy of which no medium was ever seen.
        unseen = copies.c.name == name, copies.c.medium == "", copies.c.seen_at == ""
        seen = {"label": stored_long(label), "seen_at": timestamp(now)}
        with self._database.writing(_WHAT) as connection:
            if medium and connection.scalar(sa.select(copies.c.id).where(*of_it)) is None:
                connection.execute(sa.update(copies).where(*unseen).values(medium=medium))
            self._add(connection, name, medium)
            connection.execute(sa.update(copies).where(copies.c.name == name).values(**_NO_TROUBLE))
            return int(connection.scalars(sa.update(copies).where(*of_it).values(**seen).returning(copies.c.id)).one())

    def _add(self, connection: sa.Connection, name: str, medium: str) -> None:
        """Add a copy that has nothing yet, unless there is one: its range begins above what the archive has now."""
        highest = connection.scalar(sa.select(sa.func.max(version.c.id))) or 0
        row: Row = {column.name: "" if column.name in _TEXTS else 0 for column in copies.c if column.name != "id"}
        row |= {"name": name, "medium": medium, "first_version": highest + 1, "last_version": highest}
        insert = self._database.dialect.insert(copies).values(**row)
        connection.execute(insert.on_conflict_do_nothing(index_elements=["name", "medium"]))

    def note_trouble(self, name: str, trouble: str, now: datetime, kind: CopyTrouble = CopyTrouble.FAULT) -> None:
        name, trouble = stored_key(name), stored_long(trouble)
        kind = kind if trouble else CopyTrouble.NONE
        is_other = sa.or_(copies.c.trouble != trouble, copies.c.trouble_kind != kind.value)
        changed = sa.or_(is_other, copies.c.trouble_at > timestamp(now + clock.TOLERANCE))
        values = {"trouble": trouble, "trouble_at": timestamp(now) if trouble else "", "trouble_kind": kind.value}
        with self._database.writing(_WHAT) as connection:
            if connection.scalar(sa.select(copies.c.id).where(copies.c.name == name).limit(1)) is None:
                self._add(connection, name, "")
            connection.execute(sa.update(copies).where(copies.c.name == name, changed).values(**values))

    def note_complete(self, copy: int, now: datetime) -> None:
        self._change(copy, {"complete_at": timestamp(now)})

    def _change(self, copy_id: int, values: Row) -> None:
        with self._database.writing(_WHAT) as connection:
            connection.execute(sa.update(copies).where(copies.c.id == copy_id).values(**values))

    def forget(self, name: str) -> None:
        """See ``CopyRecords.forget``: in batches, so that storing images need not wait; a further call continues."""
        of_it = copies.c.name == stored_key(name)
        # Another medium, because all forgotten copies have one name; the ID in it is unique.
        hidden = {"name": FORGOTTEN, "medium": sa.cast(copies.c.id, sa.Text())}
        with self._database.writing(_WHAT) as connection:
            connection.execute(sa.update(copies).where(of_it).values(**hidden))
            numbers = connection.scalars(sa.select(copies.c.id).where(copies.c.name == FORGOTTEN)).all()
        for number in numbers:
            for table in (copy_due, copy_object):
                while self._delete_some(table, number):
                    pass
            with self._database.writing(_WHAT) as connection:
                connection.execute(sa.delete(copies).where(copies.c.id == number, _IS_NOT_LAST))

    def _delete_some(self, table: sa.Table, copy_id: int) -> bool:
        """Delete some rows of a copy; False when it has no more."""
        key = sa.tuple_(*table.primary_key.columns)
        some = sa.select(*table.primary_key.columns).where(table.c.copy_id == copy_id).limit(_BATCH)
        with self._database.writing(_WHAT) as connection:
            return bool(connection.execute(sa.delete(table).where(key.in_(some))).rowcount)

    # -- work ----------------------------------------------------------------------------------------------------------

    def lease(self, copy: int, now: datetime, until: datetime, most: int, most_bytes: int) -> CopyBatch | None:
        limits = _Limits(most, most_bytes)
        return (
            self._draw(copy, now, until, limits, is_new=True)
            or self._take(copy, now, until, limits)
            or self._draw(copy, now, until, limits, is_new=False)
        )

    def _draw(self, copy_id: int, now: datetime, until: datetime, limits: _Limits, *, is_new: bool) -> CopyBatch | None:
        """Extend the range of a copy by new versions, or by older ones, and lease these."""
        with self._database.reading() as connection:
            if not _is_undrawn(connection, copy_id, is_new=is_new):  # do not make writers wait
                return None
        settled = self._settled.last()
        lease = {"leased_until": timestamp(until), "lease": secrets.token_hex(16)}
        with self._database.writing(_WHAT) as connection:
            row = _locked(connection, copy_id)
            drawn = row and (_newer if is_new else _older)(connection, row, settled, limits)
            if not drawn:
                return None
            first, last, moved = drawn
            connection.execute(sa.update(copies).where(copies.c.id == copy_id).values(**moved))
            work = _due_row(copy_id, first, last, timestamp(now), **lease)
            number = connection.scalars(sa.insert(copy_due).values(**work).returning(copy_due.c.id)).one()
        return CopyBatch(copy_id, number, lease["lease"], 0, tuple(self._between(copy_id, first, last)))

    def _take(self, copy_id: int, now: datetime, until: datetime, limits: _Limits) -> CopyBatch | None:
        """Lease what was tried before, or was leased by a worker that crashed."""
        clauses = [copy_due.c.copy_id == copy_id, *self._leases.due(_DUE, now)]
        while row := self._leases.take(clauses, _LEASED, now, until, {}):
            items = self._between(copy_id, row.first_version, row.last_version, limits.versions + 1)
            fitting = _that_fit(_sizes(items[: limits.versions]), limits.size_bytes)
            if not items:  # a re-index has left it out
                with self._database.writing(_WHAT) as connection:
                    connection.execute(sa.delete(copy_due).where(*self._leases.is_ours(row.id, row.lease)))
            elif len(fitting) == len(items) or self._leave(copy_id, row, fitting[-1]):
                return CopyBatch(copy_id, row.id, row.lease, row.attempts, tuple(items[: len(fitting)]))
        return None

    def _leave(self, copy_id: int, row: sa.Row[Any], last: int) -> bool:
        """Leave the versions after a number to other workers; False when the lease was lost."""
        kept = {name: getattr(row, name) for name in ("attempts", "error", "is_damaged")}
        rest = _due_row(copy_id, last + 1, row.last_version, row.due_at, **kept)
        ours = sa.update(copy_due).where(*self._leases.is_ours(row.id, row.lease)).values(last_version=last)
        with self._database.writing(_WHAT) as connection:
            is_ours = bool(connection.execute(ours).rowcount)
            if is_ours:
                connection.execute(sa.insert(copy_due).values(**rest))
        return is_ours

    def _between(self, copy_id: int, first: int, last: int, most: int | None = None) -> list[CopyItem]:
        rows = copy_objects.items(copy_id).where(version.c.id.between(first, last))
        with self._database.reading() as connection:
            return [copy_objects.item(row) for row in connection.execute(rows.order_by(version.c.id).limit(most))]

    def renew(self, batch: CopyBatch, until: datetime) -> bool:
        return self._leases.renew(batch.number, batch.lease, until)

    def conclude(self, batch: CopyBatch, results: Iterable[CopyResult], now: datetime, again_at: datetime) -> bool:
        found = {result.number: result for result in results}
        again_at = min(again_at, now + LONGEST_PAUSE)
        ours = sa.delete(copy_due).where(*self._leases.is_ours(batch.number, batch.lease))
        with self._database.writing(_WHAT) as connection:
            if _locked(connection, batch.copy) is None:
                return False
            numbers = self._unchanged(connection, batch)
            stored = {number: each for number in numbers if number in found and (each := found[number].stored)}
            left_out = {number for number in numbers if number in found and _is_left_out(found[number])}
            copy_objects.record_stored(connection, self._database.dialect, batch.copy, stored)
            copy_objects.remove(connection, self._database.dialect, batch.copy, left_out)
            ended = connection.execute(ours.returning(copy_due.c.error, copy_due.c.is_damaged)).one_or_none()
            if ended is None:
                return False
            rest = [number for number in numbers if number not in stored.keys() | left_out]
            tried = {number: (batch.attempts + 1, found[number].error) for number in rest if number in found}
            rows = [
                _due_row(
                    batch.copy,
                    first,
                    last,
                    timestamp(again_at if attempts > batch.attempts else now),
                    attempts=attempts,
                    error=error,
                    is_damaged=ended.is_damaged,
                )
                for first, last, (attempts, error) in _runs(rest, tried, (batch.attempts, ended.error))
            ]
            if rows:
                connection.execute(sa.insert(copy_due), rows)
        return True

    def _unchanged(self, connection: sa.Connection, batch: CopyBatch) -> list[int]:
        """Return the numbers of a batch, without one that a re-index has left out, or given to another version."""
        held = {item.number: item.held.location for item in batch.items}
        these = self._database.dialect.among(version.c.id, held)
        rows = connection.execute(sa.select(version.c.id, version.c.location).where(these)).all()
        return [row.id for row in rows if row.location == held[row.id]]

    def give_back(self, batch: CopyBatch, due_at: datetime, error: str = "") -> None:
        self._leases.change(
            batch.number, batch.lease, {"due_at": timestamp(due_at), "error": stored_long(error), **FREE}
        )

    def is_anything_due(self, copy: int, now: datetime) -> bool:
        due = sa.select(copy_due.c.id).where(
            copy_due.c.copy_id == copy, *self._leases.due(_DUE, now), is_free(copy_due, now)
        )
        with self._database.reading() as connection:
            return (
                _is_undrawn(connection, copy, is_new=True)
                or connection.scalar(due.limit(1)) is not None
                or _is_undrawn(connection, copy, is_new=False)
            )

    # -- comparing again -----------------------------------------------------------------------------------------------

    def record_comparison(
        self, copy: int, results: Iterable[CopyResult], now: datetime, *, until: int | None, alarm: str = ""
    ) -> None:
        missing = [result for result in results if not result.stored]
        left_out = [result.number for result in missing if result.is_left_out]
        errors = {result.number: (0, result.error) for result in missing if not result.is_left_out}
        with self._database.writing(_WHAT) as connection:
            row = _locked(connection, copy)
            if row is None:
                return
            copy_objects.remove(connection, self._database.dialect, copy, left_out)
            lost = copy_objects.record_damage(connection, self._database.dialect, copy, errors)
            rows = [
                _due_row(copy, first, last, timestamp(now), attempts=0, error=error, is_damaged=1)
                for first, last, (_, error) in _runs(lost, errors)
            ]
            if rows:
                connection.execute(sa.insert(copy_due), rows)
            values = _progress(row, timestamp(now), until) | _alarm(row, timestamp(now), until, stored_long(alarm))
            connection.execute(sa.update(copies).where(copies.c.id == copy).values(**values))

    def learn(self, copy: int, listed: Mapping[str, StoredCopy]) -> set[str]:
        these = sa.select(version.c.id, version.c.location)
        these = these.where(self._database.dialect.among(version.c.location, listed))
        known = sa.select(copy_object.c.version_id).where(copy_object.c.copy_id == copy, copy_object.c.is_damaged == 0)
        with self._database.writing(_WHAT) as connection:
            location_of = {row.id: row.location for row in connection.execute(these)}
            there = known.where(self._database.dialect.among(copy_object.c.version_id, location_of))
            new = location_of.keys() - set(connection.scalars(there))
            if new and _locked(connection, copy) is not None:
                stored = {number: listed[location_of[number]] for number in new}
                copy_objects.record_stored(connection, self._database.dialect, copy, stored)
        return listed.keys() - set(location_of.values())

    def comparison(self, copy: int) -> tuple[int, datetime | None]:
        columns = named(copies, "compared_version compared_at")
        with self._database.reading() as connection:
            row = connection.execute(sa.select(*columns).where(copies.c.id == copy)).one_or_none()
        return (row.compared_version, known_moment(row.compared_at, clock.now())) if row else (0, None)


def _progress(row: sa.Row[Any], now: str, until: int | None) -> Row:
    """Return the values of a copy's row after a part of a pass; ``until`` is None at the end of the pass."""
    began_at = row.comparison_began_at or now
    if until is not None:
        return {"compared_version": until, "comparison_began_at": began_at}
    return {
        "compared_version": 0,
        "comparison_began_at": "",
        "compared_until": began_at if began_at <= now else "",  # else a clock was ahead
        "compared_at": now,
    }


def _alarm(row: sa.Row[Any], now: str, until: int | None, alarm: str) -> Row:
    """Return the alarm of a copy's row after a part of a pass: a new one, or none if this pass ends without one."""
    if alarm:
        return {"alarm": alarm, "alarm_at": now}
    is_over = until is None and not row.comparison_began_at <= row.alarm_at <= now
    return {"alarm": "", "alarm_at": ""} if is_over else {}


def _locked(connection: sa.Connection, copy_id: int) -> sa.Row[Any] | None:
    """Lock and read a copy's row, unless the copy is forgotten."""
    row = sa.select(copies).where(copies.c.id == copy_id, copies.c.name != FORGOTTEN).with_for_update()
    return connection.execute(row).one_or_none()


def _is_undrawn(connection: sa.Connection, copy_id: int, *, is_new: bool) -> bool:
    """Tell whether the archive has versions above the range of a copy, or below it."""
    # By the first and last number: with a comparison, PostgreSQL would read all versions when there is none.
    end = sa.select((sa.func.max if is_new else sa.func.min)(version.c.id)).scalar_subquery()
    is_beyond = end > copies.c.last_version if is_new else end < copies.c.first_version
    return bool(connection.scalar(sa.select(is_beyond).where(copies.c.id == copy_id, copies.c.name != FORGOTTEN)))


def _newer(connection: sa.Connection, row: sa.Row[Any], settled: int, most: _Limits) -> _Drawn | None:
    """Find the next versions above the range of a copy: the first and last number, and the change of the row."""
    clauses = version.c.id > row.last_version, version.c.id <= settled
    numbers = _numbers(connection, clauses, version.c.id.asc(), most)
    return (row.last_version + 1, numbers[-1], {"last_version": numbers[-1]}) if numbers else None


def _older(connection: sa.Connection, row: sa.Row[Any], settled: int, most: _Limits) -> _Drawn | None:
    """Find the next versions below it."""
    if settled < row.first_version - 1:  # one of them may become visible later
        return None
    numbers = _numbers(connection, [version.c.id < row.first_version], version.c.id.desc(), most)
    return (numbers[-1], row.first_version - 1, {"first_version": numbers[-1]}) if numbers else None


def _numbers(
    connection: sa.Connection, clauses: Iterable[sa.ColumnElement[bool]], order: sa.ColumnElement[int], most: _Limits
) -> list[int]:
    some = sa.select(version.c.id, version.c.size_bytes).where(*clauses).order_by(order).limit(most.versions)
    return _that_fit((tuple(row) for row in connection.execute(some)), most.size_bytes)


def _sizes(items: Iterable[CopyItem]) -> Iterator[tuple[int, int]]:
    return ((item.number, item.held.size_bytes) for item in items)


def _that_fit(sizes: Iterable[tuple[int, int]], most_bytes: int) -> list[int]:
    """Return the first numbers whose versions together have so many bytes; at least one."""
    numbers: list[int] = []
    total = 0
    for number, size_bytes in sizes:
        total += size_bytes
        if numbers and total > most_bytes:
            break
        numbers.append(number)
    return numbers


def _due_row(copy_id: int, first: int, last: int, due_at: str, **values: Any) -> Row:
    row = {"copy_id": copy_id, "first_version": first, "last_version": last, "state": _DUE, "due_at": due_at}
    return row | FREE | {"attempts": 0, "error": "", "is_damaged": 0} | values


def _is_left_out(result: CopyResult) -> bool:
    return result.is_left_out and result.stored is None


def _runs(
    numbers: Sequence[int], results: Mapping[int, _Result], other: _Result = (0, "")
) -> Iterator[tuple[int, int, _Result]]:
    """Group consecutive numbers that were tried as often: they are tried again together, with the last error of them.

    An error that names its image would otherwise make a batch of each: one wait for a PACS's report, one manifest.
    """
    ordered = sorted(numbers)
    runs = groupby(enumerate(ordered), key=lambda pair: (pair[1] - pair[0], results.get(pair[1], other)[0]))
    for _, pairs in runs:
        run = [number for _, number in pairs]
        yield run[0], run[-1], results.get(run[-1], other)
