"""Optimistic insert for PostgreSQL: assume a new instance and an unchanged study row, and write all in one round trip.

The statement writes four rows, or nothing when an assumption is wrong; then the version is added statement by
statement.  ``VersionWriter`` has the rules for both ways (docs/adr/0023 and 0034).
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from backup_scp.errors import IndexUnavailable
from backup_scp.index.connection.database import Database
from backup_scp.index.connection.db_errors import ConnectionLost, TransactionConflict
from backup_scp.index.connection.driver_cursor import DriverCursor
from backup_scp.index.connection.sqlite_engine import WAIT_S
from backup_scp.index.schema.dialect import Dialect
from backup_scp.index.schema.postgresql import IS_DEFERRED
from backup_scp.index.schema.rows import Row
from backup_scp.index.schema.stored_text import lock_number
from backup_scp.index.schema.tables import instance, series, study, version
from backup_scp.index.writing.pipeline import Statement, execute
from backup_scp.index.writing.row_writer import LOAD_SERIES, LOOK_AT_STUDY, RowWriter
from backup_scp.index.writing.study_cache import StudyCache, StudyKey
from backup_scp.index.writing.version_rows import VersionRows
from backup_scp.index.writing.version_writer import VersionWriter
from backup_scp.ports import AddResult

_QUEUES = 256
_TABLES = (study, series, instance, version)


class OptimisticInsert:
    """Adds versions to a PostgreSQL index.

    Threads of this process that store into one study queue here, not at its row: so each has the row as the thread
    before has written it.

    Parameters
    ----------
    database
        The index.
    known
        Cached study rows.
    """

    def __init__(self, database: Database, known: StudyCache) -> None:
        self._database = database
        self._known = known
        self._queues = [threading.Lock() for _ in range(_QUEUES)]
        self._met = threading.local()  # the UID that this thread looked up last, if an instance has it

    def enter(self, facts: VersionRows) -> tuple[AddResult, bool]:
        """Add a version; its row is durable after ``SQLIndex.flush``.

        The second value is ``VersionWriter.is_out_of_order``.

        Raises
        ------
        IndexUnavailable
        """
        queue = self._queues[hash(facts.study_key) % _QUEUES]
        if not queue.acquire(timeout=WAIT_S):
            raise IndexUnavailable("The index is busy: another Association is storing into this study; try again")
        try:
            if getattr(self._met, "uid", None) != facts.key.sop_instance_uid and self._insert_new(facts):
                return AddResult.NEW, False
            return self._insert_any(facts)
        finally:
            queue.release()

    def may_be_held(self, sop_instance_uid: str) -> bool:
        """Tell whether an instance has the SOP Instance UID; mostly none has, and the search for versions is saved."""
        try:
            with self._database.autocommit() as direct:
                is_met = execute(direct, (_FIND_UID, {"uid": sop_instance_uid})) > 0
        except ConnectionLost:
            return True  # the search for versions then uses another connection
        self._met.uid = sop_instance_uid if is_met else None
        return is_met

    def _insert_new(self, facts: VersionRows) -> bool:
        """Insert an instance in one round trip; False when an assumption was wrong or the outcome is unknown."""
        try:
            with self._database.autocommit() as direct:
                rows = _NewRows(direct, self._database.dialect)
                writer = VersionWriter(rows, self._known)
                writer.insert(facts)
                is_inserted = rows.write(facts)
        except (_NotAssumed, TransactionConflict, ConnectionLost):  # an idle connection may be stale
            return False
        if is_inserted:
            writer.remember()
        return is_inserted

    def _insert_any(self, facts: VersionRows) -> tuple[AddResult, bool]:
        with self._database.write_fast() as connection:
            writer = VersionWriter(RowWriter(connection, self._database.dialect), self._known)
            admission = writer.insert(facts)
        writer.remember()
        return admission, writer.is_out_of_order


class _NotAssumed(Exception):  # noqa: N818 - no error
    """The version is not a new instance."""


class _NewRows(RowWriter):
    """Collects the rows of one new instance; any other statement raises ``_NotAssumed``.

    It reads a study or series that is not cached without a lock: the writing statement sees from ``study.revision``
    whether it has changed since.
    """

    def __init__(self, direct: DriverCursor, dialect: Dialect) -> None:
        super().__init__(direct, dialect)
        self._direct = direct
        self._rows: dict[sa.Table, Row] = {}

    def _read(self, *_: Any) -> Any:
        raise _NotAssumed

    def _write(self, *_: Any) -> Any:
        raise _NotAssumed

    def lock(self, uid: str) -> None:
        """Do nothing: the writing round trip takes the lock."""

    def find_instances(self, uid: str) -> Sequence[Row]:  # noqa: ARG002
        return ()

    def load_study(self, key: StudyKey) -> Row | None:
        """Return the study row, also one that is not written yet."""
        if new := self._rows.get(study):
            return dict(new)
        found: Row | None = self._direct.execute(LOOK_AT_STUDY, key._asdict()).mappings().first()
        return found

    def load_series(self, study_id: int, uid: str) -> Row | None:
        found: Row | None = self._direct.execute(LOAD_SERIES, {"of": study_id, "uid": uid}).mappings().first()
        return found

    def insert_study(self, row: Row) -> None:
        self._rows[study] = {**row, "id": self._draw_id(study)}

    def insert_series(self, row: Row) -> int:
        number = self._draw_id(series)
        self._rows[series] = {**row, "id": number}
        return number

    def update_study(self, study_id: int, known_revision: int, row: Row) -> bool:
        if new := self._rows.get(study):
            self._rows[study] = {name: row.get(name, value) for name, value in new.items()}
        else:
            self._rows[study] = {**row, "of": study_id, "known_revision": known_revision}
        return True

    def update_series(self, series_id: int, row: Row) -> None:
        self._rows[series] = {**row, "of": series_id}

    def insert_instance(self, row: Row) -> int:
        self._rows[instance] = row
        return 0  # unused: the writing statement has the id

    def insert_version(self, row: Row) -> None:
        self._rows[version] = row

    def _draw_id(self, table: sa.Table) -> int:
        """Fetch a new id for a row that other rows refer to."""
        (number,) = self._direct.execute(_DRAW_ID, {"table": table.name}).first()
        return int(number)

    def write(self, facts: VersionRows) -> bool:
        """Write the collected rows; False when an assumption was wrong and nothing was written.

        The lock is a separate statement: a statement only sees what was committed before it began, so the writing one
        must begin after the lock.
        """
        uid = facts.key.sop_instance_uid
        self._rows[version]["sha256"] = rf"\x{facts.version['sha256']}"
        rows = [self._rows[table] for table in _TABLES]
        values = {_parameter(table, name): row[name] for table, row in zip(_TABLES, rows, strict=True) for name in row}
        values["uid"] = uid
        lock = (_LOCK_NAME, {"number": lock_number(uid)})
        return execute(self._direct, lock, (_writing(*map(tuple, rows)), values)) == 1


_Names = tuple[str, ...]


@cache
def _writing(of_study: _Names, of_series: _Names, of_instance: _Names, of_version: _Names) -> Statement:
    """Return the statement that writes rows with these columns, all or none; it returns a row when it has written them.

    The study row is written when it has the known revision and no instance has the UID; each row below, when the one
    above was written.  The study row is first, because other transactions wait for it.  ``of`` is an existing row's id.
    """
    has_uid = sa.exists().where(_HAS_UID)
    if "of" in of_study:
        is_known = (study.c.id == _value(study, "of")) & (study.c.revision == _value(study, "known_revision"))
        a_study: Any = sa.update(study).where(is_known, ~has_uid).values(_values(study, of_study))
    else:
        new = _values(study, of_study)
        a_study = postgresql.insert(study).from_select(list(new), sa.select(*new.values()).where(~has_uid))
        a_study = a_study.on_conflict_do_nothing()
    above = a_study.returning(study.c.id).cte("written_study")
    if "of" in of_series:
        is_below = (series.c.id == _value(series, "of")) & (series.c.study_id == above.c.id)
        a_series: Any = sa.update(series).where(is_below).values(_values(series, of_series))
    else:
        a_series = _insert_below(above, series, "study_id", of_series)
    above = a_series.returning(series.c.id).cte("written_series")
    an_instance = _insert_below(above, instance, "series_id", of_instance)
    above = an_instance.returning(instance.c.id).cte("written_instance")
    a_version = _insert_below(above, version, "instance_id", of_version)
    return Statement.of(sa.select(a_version.returning(version.c.id).cte("written_version")))


def _insert_below(above: sa.CTE, table: sa.Table, parent: str, names: Collection[str]) -> Any:
    values = {name: value for name, value in _values(table, names).items() if name != parent}
    return sa.insert(table).from_select([parent, *values], sa.select(above.c.id, *values.values()))


def _values(table: sa.Table, names: Collection[str]) -> dict[str, sa.Cast[Any]]:
    return {name: _value(table, name) for name in names if name in table.c}


def _value(table: sa.Table, name: str) -> sa.Cast[Any]:
    """Cast a parameter, which is sent as text, to the type of its column."""
    kind = table.c[name].type if name in table.c else sa.BigInteger()
    return sa.cast(sa.bindparam(_parameter(table, name), type_=sa.types.NullType()), kind)


def _parameter(table: sa.Table, name: str) -> str:
    return f"{table.name}_{name}"


_DRAW_ID = sa.select(sa.func.nextval(sa.func.pg_get_serial_sequence(sa.bindparam("table"), "id")))
_NUMBER = sa.bindparam("number", type_=sa.types.NullType())
_LOCK = sa.func.pg_advisory_xact_lock(sa.cast(_NUMBER, sa.BigInteger()))
_LOCK_NAME = Statement.of(sa.select(_LOCK, sa.literal_column(IS_DEFERRED)))
_HAS_UID = instance.c.sop_instance_uid == sa.bindparam("uid")
_FIND_UID = Statement.of(sa.select(instance.c.id).where(_HAS_UID))
