"""Records about the archive as a whole: its identity, the fault of its disk, how fast it grows."""

from __future__ import annotations

import threading
from datetime import datetime

import sqlalchemy as sa

from backup_scp.index.connection.database import Database
from backup_scp.index.schema.stored_text import moment, now, timestamp
from backup_scp.index.schema.tables import archive, named, study, version
from backup_scp.machine import clock
from backup_scp.ports import DiskFault, IntakeTotals

_ONLY = 1  # the id of the only row
_BLANK = {"identity": "", "trouble": "", "trouble_at": "", "trouble_ended_at": ""}


def identity(connection: sa.Connection) -> str | None:
    """See ``Index.archive_identity``."""
    return connection.scalar(sa.select(archive.c.identity)) or None


def trouble(connection: sa.Connection) -> DiskFault | None:
    """See ``Index.archive_trouble``."""
    row = connection.execute(sa.select(*named(archive, "trouble trouble_at trouble_ended_at"))).first()
    if row is None or not row.trouble:
        return None
    return DiskFault(
        row.trouble, moment(row.trouble_at), moment(row.trouble_ended_at) if row.trouble_ended_at else None
    )


def record_identity(database: Database, said: str) -> None:
    """See ``Index.record_archive_identity``."""
    _record(database, {"identity": said})


def record_trouble(database: Database, sentence: str) -> None:
    """See ``Index.record_archive_trouble``."""
    if sentence:
        _record(database, {"trouble": sentence, "trouble_at": now(), "trouble_ended_at": ""})
    else:
        _record(database, {"trouble_ended_at": now()})


def _record(database: Database, values: dict[str, str]) -> None:
    insert = database.dialect.insert(archive).values(id=_ONLY, **(_BLANK | values))
    changes: dict[str, str | int] = {"id": _ONLY, **values}  # the same row, written once more
    with database.writing("facts of the archive") as connection:
        connection.execute(insert.on_conflict_do_update(index_elements=["id"], set_=changes))


class RowFlush:
    """Makes the rows of versions durable; safe to share between threads.

    The next durable commit makes all earlier ones durable, on SQLite and on PostgreSQL.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._failed_writes = database.failed_writes

    def flush(self) -> None:
        """See ``Index.flush``."""
        with self._lock:
            failed_writes = self._database.failed_writes
            # After a failed fsync another one would succeed without the log's bytes: copy them out of it.
            self._database.tidy_log(whole=failed_writes != self._failed_writes)
            _record(self._database, {})
            self._failed_writes = failed_writes


def received_since(connection: sa.Connection, since: datetime) -> IntakeTotals:
    """See ``Index.received_since``: it adds the sums in the study rows.

    It leaves out studies dated in the future, whose real time is unknown.
    """
    latest = timestamp(clock.horizon())
    recent = sa.and_(study.c.last_received_at >= timestamp(since), study.c.last_received_at <= latest)
    sums = [sa.func.sum(column) for column in (study.c.size_bytes, study.c.number_of_study_related_instances)]
    size_bytes, images, studies = connection.execute(sa.select(sums[0], sums[1], sa.func.count()).where(recent)).one()
    dated = sa.select(version.c.received_at).where(version.c.received_at <= latest)
    first = connection.scalar(dated.order_by(version.c.id).limit(1))
    return IntakeTotals(int(size_bytes or 0), moment(first) if first else None, int(studies), int(images or 0))
