"""The records of what a further copy has of each version; the sums in its row follow them in the same transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from backup_scp.index.reading import select
from backup_scp.index.schema.dialect import Dialect
from backup_scp.index.schema.tables import copy, copy_object, named, version
from backup_scp.ports import CopyItem, StoredCopy

_HELD = len(select.held().selected_columns)
STORED = named(copy_object, "name sha256 size_bytes object_version")
_INTACT = copy_object.c.is_damaged == 0


def items(copy_id: int) -> sa.Select[Any]:
    """Select all versions with what a copy has of them, for ``item``."""
    there = sa.and_(copy_object.c.version_id == version.c.id, copy_object.c.copy_id == copy_id)
    return select.held(version.c.id, *STORED).outerjoin(copy_object, there)


def stored_items(copy_id: int) -> sa.Select[Any]:
    """Select the versions that a copy has, intact as far as is known, for ``item``."""
    there = select.held(version.c.id, *STORED).join(copy_object, copy_object.c.version_id == version.c.id)
    return there.where(copy_object.c.copy_id == copy_id, _INTACT)


def item(row: Iterable[Any]) -> CopyItem:
    """Convert a row of ``items`` or ``stored_items``."""
    values = list(row)
    number, *stored = values[_HELD : _HELD + 1 + len(STORED)]
    return CopyItem(number, select.held_row(values), None if stored[0] is None else StoredCopy(*stored))


def record_stored(connection: sa.Connection, dialect: Dialect, copy_id: int, stored: Mapping[int, StoredCopy]) -> None:
    """Record what a copy has now of these versions, by number."""
    if not stored:
        return
    count, size_bytes = _sums(connection, _these(dialect, copy_id, stored))
    insert = dialect.insert(copy_object)
    changed = {name: insert.excluded[name] for name in ("name", "sha256", "size_bytes", "object_version", "is_damaged")}
    insert = insert.on_conflict_do_update(index_elements=["copy_id", "version_id"], set_=changed)
    key = {"copy_id": copy_id, "is_damaged": 0}
    connection.execute(insert, [{**key, "version_id": number, **each._asdict()} for number, each in stored.items()])
    now = sum(each.size_bytes for each in stored.values())
    _add_to_sums(connection, copy_id, len(stored) - count, now - size_bytes)


def record_damage(connection: sa.Connection, dialect: Dialect, copy_id: int, numbers: Collection[int]) -> list[int]:
    """Record that these versions were found damaged or missing; return those that were not before, in order."""
    there = *_these(dialect, copy_id, numbers), _INTACT
    count, size_bytes = _sums(connection, there)
    lost = sa.update(copy_object).where(*there).values(is_damaged=1).returning(copy_object.c.version_id)
    found = sorted(connection.scalars(lost))
    _add_to_sums(connection, copy_id, -count, -size_bytes)
    return found


def remove(connection: sa.Connection, dialect: Dialect, copy_id: int, numbers: Collection[int]) -> None:
    """Record that a copy has these versions no more, and is not to have them."""
    if numbers:
        there = _these(dialect, copy_id, numbers)
        count, size_bytes = _sums(connection, there)
        connection.execute(sa.delete(copy_object).where(*there))
        _add_to_sums(connection, copy_id, -count, -size_bytes)


def _these(dialect: Dialect, copy_id: int, numbers: Iterable[int]) -> tuple[sa.ColumnElement[bool], ...]:
    return copy_object.c.copy_id == copy_id, dialect.among(copy_object.c.version_id, numbers)


def _sums(connection: sa.Connection, there: Iterable[sa.ColumnElement[bool]]) -> tuple[int, int]:
    sums = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(copy_object.c.size_bytes), 0))
    count, size_bytes = connection.execute(sums.where(*there, _INTACT)).one()
    return int(count), int(size_bytes)


def _add_to_sums(connection: sa.Connection, copy_id: int, count: int, size_bytes: int) -> None:
    more = {"held_count": copy.c.held_count + count, "held_bytes": copy.c.held_bytes + size_bytes}
    connection.execute(sa.update(copy).where(copy.c.id == copy_id).values(**more))
