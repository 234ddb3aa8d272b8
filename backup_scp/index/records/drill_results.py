"""Keep the results of drills."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime

import msgspec
import sqlalchemy as sa

from backup_scp.index.connection.database import Database
from backup_scp.index.schema.stored_text import moment, stored_key, stored_long, timestamp
from backup_scp.index.schema.tables import drill
from backup_scp.ports import DrillResult

_WHAT = "records of drills"


class SQLDrills:
    """Implements ``ports.DrillRecords``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, result: DrillResult) -> None:
        row = {
            "copy": stored_key(result.copy),
            "medium": stored_key(result.medium),
            "ended_at": timestamp(result.ended_at),
            "is_full": int(result.is_full),
            "result": stored_long(msgspec.json.encode(result).decode()),
        }
        with self._database.writing(_WHAT) as connection:
            connection.execute(sa.insert(drill).values(**row))

    def latest(self) -> list[DrillResult]:
        last = sa.select(sa.func.max(drill.c.id)).group_by(drill.c.copy, drill.c.medium)
        rows = sa.select(drill.c.result).where(drill.c.id.in_(last)).order_by(drill.c.copy, drill.c.id)
        with self._database.reading() as connection:
            texts = connection.scalars(rows).all()
        return list(_decoded(texts))

    def not_full_since(self, copy: str, medium: str) -> datetime | None:
        of_it = drill.c.copy == stored_key(copy), drill.c.medium == stored_key(medium)
        last_full = sa.func.max(sa.case((drill.c.is_full == 1, drill.c.ended_at)))
        with self._database.reading() as connection:
            row = connection.execute(sa.select(last_full, sa.func.min(drill.c.ended_at)).where(*of_it)).one()
        found = row[0] or row[1]
        return moment(found) if found else None


def _decoded(texts: Iterable[str]) -> Iterator[DrillResult]:
    """Yield the results that this release understands; a later one may have had further kinds of problems."""
    for text in texts:
        with suppress(msgspec.DecodeError):
            yield msgspec.json.decode(text, type=DrillResult)
