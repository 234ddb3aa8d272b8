"""Count and list rejections; delete them when they are settled, old, or too many."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from backup_scp.index.connection.database import Database
from backup_scp.index.schema.stored_text import moment, stored_key, stored_long, timestamp
from backup_scp.index.schema.tables import named
from backup_scp.index.schema.tables import rejection as table
from backup_scp.machine import clock
from backup_scp.ports import Rejection, ServiceKind

MOST = 1000
MOST_OF_ONE_ADDRESS = 100
"""Limit for one address: a caller that uses a new AE title each time must not displace the others."""

_KEPT_FOR = timedelta(days=30)
_CAUSE = ("service", "calling_ae_title", "called_ae_title", "address", "cause")
_NEWEST_FIRST = (table.c.last_at.desc(), table.c.id.desc())


def record(database: Database, found: Sequence[Rejection], settled: Sequence[Rejection]) -> None:
    """See ``Index.record_rejections``."""
    with database.writing("rejections") as connection:
        for one in settled:
            same = (table.c[name] == value for name, value in _cause(one).items())
            connection.execute(sa.delete(table).where(*same, table.c.last_at <= timestamp(one.last_at)))
        if found:
            connection.execute(_counting(database), [_row(one) for one in found])
        connection.execute(sa.delete(table).where(sa.or_(~_is_of_late(), table.c.id.in_(_too_many()))))


def _counting(database: Database) -> Any:
    insert = database.dialect.insert(table)
    newer = insert.excluded.last_at > table.c.last_at
    changed = {
        name: sa.case((newer, insert.excluded[name]), else_=table.c[name]) for name in ("reason", "fix", "last_at")
    }
    changed["count"] = table.c.count + insert.excluded.count
    return insert.on_conflict_do_update(index_elements=list(_CAUSE), set_=changed)


def _too_many() -> sa.Select[tuple[int]]:
    """Select the rows over the limit of one address, then those over the total limit: the oldest of who has most."""
    number = sa.func.row_number().over(partition_by=table.c.address, order_by=_NEWEST_FIRST)
    ranked = sa.select(table.c.id, table.c.last_at, number.label("number")).subquery()
    in_order = sa.select(ranked.c.id).order_by(ranked.c.number, ranked.c.last_at.desc(), ranked.c.id.desc())
    beyond = in_order.offset(MOST).subquery()
    of_one_address = sa.select(ranked.c.id).where(ranked.c.number > MOST_OF_ONE_ADDRESS)
    return sa.select(of_one_address.union(sa.select(beyond.c.id)).subquery().c.id)


def listed(connection: sa.Connection, limit: int) -> list[Rejection]:
    """See ``Index.rejections``."""
    columns = named(table, "service calling_ae_title called_ae_title address reason fix count last_at")
    statement = sa.select(*columns).where(_is_of_late()).order_by(*_NEWEST_FIRST).limit(limit)
    return [
        Rejection(**{**row, "service": ServiceKind(row["service"]), "last_at": moment(row["last_at"])})
        for row in connection.execute(statement).mappings()
    ]


def _is_of_late() -> sa.ColumnElement[bool]:
    """Match recent rows; not those dated in the future, which would never be settled or expire."""
    oldest, latest = timestamp(clock.now() - _KEPT_FOR), timestamp(clock.horizon())
    return sa.and_(table.c.last_at >= oldest, table.c.last_at <= latest)


def _cause(one: Rejection) -> dict[str, str]:
    return {name: stored_key(getattr(one, name)) for name in _CAUSE}


def _row(one: Rejection) -> dict[str, str | int]:
    texts = {"reason": stored_long(one.reason), "fix": stored_long(one.fix), "last_at": timestamp(one.last_at)}
    return {**_cause(one), **texts, "count": one.count}
