"""The usual instance on PostgreSQL: presumed to be new, in a study that nobody else has changed; entered in one trip.

The rules are those of ``Entrance``, as ever.  What it asks first is answered here as it usually is, and what it writes
is gathered; one statement writes all of that, or nothing where a presumption is wrong: then the instance is entered as
any other (docs/adr/0023).
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from functools import cache
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from backup_scp.errors import IndexUnavailable
from backup_scp.index.connection.database import Database
from backup_scp.index.connection.db_errors import ConnectionLost, MetAnother
from backup_scp.index.connection.driver_cursor import Answer, Direct
from backup_scp.index.connection.sqlite_engine import WAIT_S
from backup_scp.index.schema.dialect import Dialect
from backup_scp.index.schema.postgresql import IS_DURABLE
from backup_scp.index.schema.rows import Row
from backup_scp.index.schema.stored_text import lock_number
from backup_scp.index.schema.tables import instance, series, study, version
from backup_scp.index.writing import statements
from backup_scp.index.writing.pipeline import Statement, Trips
from backup_scp.index.writing.study_cache import KnownStudies
from backup_scp.index.writing.version_rows import Facts
from backup_scp.index.writing.version_writer import Entrance
from backup_scp.ports import AddResult, InstanceKey

_QUEUES = 256
_TRIPS = "trips"
_TABLES = (study, series, instance, version)
_GATHERED = {
    statements.UPDATE_SERIES: series,
    statements.INSERT_INSTANCE: instance,
    statements.INSERT_VERSION: version,
}
_NOTHING = Answer([], (), 0)
_ONE = Answer([(0,)], (), 1)


class Presuming:
    """Enters versions into a PostgreSQL index.

    The threads of this process that bring one study queue here, where they would queue for its row: each then knows
    the row as the one before has left it.

    Parameters
    ----------
    database
        The index.
    known
        Study rows to begin from.
    """

    def __init__(self, database: Database, known: KnownStudies) -> None:
        self._database = database
        self._known = known
        self._queues = [threading.Lock() for _ in range(_QUEUES)]
        self._met = threading.local()  # the UID that this thread looked for last, if somebody had it

    def enter(self, facts: Facts) -> tuple[AddResult, bool]:
        """Enter a version; on return its row is durable.  The second value is ``Entrance.is_out_of_order``.

        Raises
        ------
        IndexUnavailable
        """
        queue = self._queues[hash(facts.study_key) % _QUEUES]
        if not queue.acquire(timeout=WAIT_S):
            raise IndexUnavailable("The index is busy: others bring instances of this study; try again")
        try:
            if getattr(self._met, "uid", None) != facts.key.sop_instance_uid and self._enter_usual(facts):
                return AddResult.NEW, False
            return self._enter_any(facts)
        finally:
            queue.release()

    def may_be_held(self, key: InstanceKey) -> bool:
        """Look whether anybody has the SOP Instance UID: mostly nobody has, and no version need be looked for."""
        try:
            with self._database.outside() as direct:
                is_met = _execute(direct, (_FIND_UID, {"uid": key.sop_instance_uid})) > 0
        except ConnectionLost:
            return True  # who looks for the version finds another connection
        self._met.uid = key.sop_instance_uid if is_met else None
        return is_met

    def _enter_usual(self, facts: Facts) -> bool:
        """Enter an instance in one trip; False where it is not the usual one, or it is not known what became of it."""
        try:
            with self._database.outside() as direct:
                usual = _Usual(direct, self._database.dialect)
                entrance = Entrance(usual, self._database.dialect, self._known, alone=True)
                entrance.admit(facts)
                is_entered = usual.write(facts)
        except (_NotUsual, MetAnother, ConnectionLost):  # what was idle when the server was restarted
            return False
        if is_entered:
            entrance.remember()
        return is_entered

    def _enter_any(self, facts: Facts) -> tuple[AddResult, bool]:
        with self._database.entering() as connection:
            entrance = Entrance(connection, self._database.dialect, self._known, alone=False)
            admission = entrance.admit(facts)
        entrance.remember()
        return admission, entrance.is_out_of_order


class _NotUsual(Exception):  # noqa: N818 - no error
    """What is not presumed."""


class _Usual:
    """Stands in for a connection for one instance: nobody has its UID, and its study is as it is known.

    A study or series that is not known is looked at, without a lock: by ``study.revision`` the statement that writes
    sees whether it was changed since.
    """

    def __init__(self, direct: Direct, dialect: Dialect) -> None:
        self._direct = direct
        self._insert_study = dialect.insert_if_new(study)
        self._rows: dict[sa.Table, Row] = {}

    def execute(self, statement: Any, row: Any = None, /) -> Answer:
        """Answer what is usual; gather what is to be written."""
        if statement is statements.FIND_INSTANCES:
            return _NOTHING
        if statement is statements.LOAD_STUDY:
            return self._study(row)
        if statement is statements.LOAD_SERIES:
            return self._direct.execute(statement, row)
        if statement is self._insert_study:
            return self._insert(study, row)
        if statement is statements.INSERT_SERIES:
            return self._insert(series, row)
        if statement is statements.UPDATE_STUDY:
            new = self._rows.get(study)
            self._rows[study] = {name: row.get(name, value) for name, value in new.items()} if new else row
        elif statement in _GATHERED:
            self._rows[_GATHERED[statement]] = row
        else:
            raise _NotUsual
        return _ONE

    def _study(self, key: Row) -> Answer:
        """Give the study row, also when it is yet to be written."""
        if new := self._rows.get(study):
            return Answer([tuple(new.values())], tuple(new), 1)
        return self._direct.execute(statements.LOOK_AT_STUDY, key)

    def _insert(self, table: sa.Table, row: Row) -> Answer:
        """Gather a row that others refer to: its id is drawn before."""
        (number,) = self._direct.execute(_DRAW_ID, {"table": table.name}).first()
        self._rows[table] = {**row, "id": number}
        return Answer([(number,)], (), 1)

    def write(self, facts: Facts) -> bool:
        """Write what was gathered; False when something is not as it was presumed, and nothing was written.

        The lock is a statement of its own: one sees what was committed before it began, and it begins with the lock.
        """
        uid = facts.key.sop_instance_uid
        self._rows[version]["sha256"] = rb"\x" + facts.version["sha256"].encode()
        rows = [self._rows[table] for table in _TABLES]
        values = {_parameter(table, name): row[name] for table, row in zip(_TABLES, rows, strict=True) for name in row}
        values["uid"] = uid
        lock = (_LOCK_NAME, {"number": lock_number(uid)})
        return _execute(self._direct, lock, (_writing(*map(tuple, rows)), values)) == 1


def _execute(direct: Direct, *asked: tuple[Statement, Row]) -> int:
    """Do what ``Trips.execute`` does; its errors are those of ``Direct``."""
    info = direct.connection.info  # lasts as long as the driver's connection
    trips: Trips | None = info.get(_TRIPS)
    if trips is None:
        trips = info[_TRIPS] = Trips(direct.connection.connection.driver_connection)  # type: ignore[arg-type]
    try:
        return trips.execute(*asked)
    except psycopg.Error as error:
        raise direct.explained("", error) from None


_Names = tuple[str, ...]


@cache
def _writing(of_study: _Names, of_series: _Names, of_instance: _Names, of_version: _Names) -> Statement:
    """Make the statement that writes rows of these columns; it gives a row if it has written them, all or none.

    Each is written where the one above it was, and the study row where it is as it was known and nobody has the UID: it
    comes first, for it is what others wait for.  Rows that are there have ``of`` for their id.
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
    """Give a parameter, which comes as text, as what its column holds."""
    kind = table.c[name].type if name in table.c else sa.BigInteger()
    return sa.cast(sa.bindparam(_parameter(table, name), type_=sa.types.NullType()), kind)


def _parameter(table: sa.Table, name: str) -> str:
    return f"{table.name}_{name}"


_DRAW_ID = sa.select(sa.func.nextval(sa.func.pg_get_serial_sequence(sa.bindparam("table"), "id")))
_NUMBER = sa.bindparam("number", type_=sa.types.NullType())
_LOCK = sa.func.pg_advisory_xact_lock(sa.cast(_NUMBER, sa.BigInteger()))
_LOCK_NAME = Statement.of(sa.select(_LOCK, sa.literal_column(IS_DURABLE)))
_HAS_UID = instance.c.sop_instance_uid == sa.bindparam("uid")
_FIND_UID = Statement.of(sa.select(instance.c.id).where(_HAS_UID))
