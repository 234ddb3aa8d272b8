"""The SQL of PostgreSQL; imported only for a PostgreSQL index."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import aggregate_order_by

from backup_scp.index.schema.dialect import VALUE, Clause, Executes, ItemValue, Text, Value
from backup_scp.index.schema.stored_text import lock_number
from backup_scp.index.schema.tables import METADATA

_ESCAPE = "!"
_ITEM: sa.ColumnClause[Any] = sa.column("value", postgresql.JSONB())

for _table in METADATA.tables.values():
    for _index in _table.indexes:  # the same partial indexes as on SQLite
        _index.dialect_options["postgresql"]["where"] = _index.dialect_options["sqlite"]["where"]


class PostgreSQL:
    """PostgreSQL 12 or newer: LIKE with an escape character, lists as arrays."""

    has_trigrams = False
    """Its trigram index serves LIKE directly."""

    def pattern(self, pattern: str) -> str:
        for special in (_ESCAPE, "%", "_"):
            pattern = pattern.replace(special, _ESCAPE + special)
        return pattern.replace("*", "%").replace("?", "_")

    def like(self, text: Text, pattern: Value) -> Clause:
        return text.like(pattern, escape=_ESCAPE)

    def among(self, text: Text, values: Iterable[object]) -> Clause:
        listed = sa.bindparam(None, list(values), type_=postgresql.ARRAY(text.type), unique=True)
        return text == sa.any_(listed)

    def some_value(self, text: Text, holds: Callable[[Text], Clause]) -> Clause:
        each = sa.func.unnest(sa.func.string_to_array(text, "\\")).table_valued(VALUE).render_derived()
        return sa.exists(sa.select(sa.literal(1)).select_from(each).where(holds(each.c.value)))

    def one_value_is(self, text: Text, delimited: Value) -> Clause:
        return sa.func.strpos(sa.literal("\\").concat(text).concat("\\"), sa.type_coerce(delimited, sa.Text())) > 0

    def some_item(self, sequence: Text, holds: Callable[[ItemValue], Clause]) -> Clause:
        item = self._items(sequence)
        return sa.exists(sa.select(sa.literal(1)).select_from(item).where(holds(self._value_of(item))))

    def items_that(self, sequence: Text, holds: Callable[[ItemValue], Clause]) -> Text:
        item = self._items(sequence)
        listed = sa.cast(sa.func.jsonb_agg(aggregate_order_by(item.c.value, item.c.number)), sa.Text())
        return sa.select(listed).select_from(item).where(holds(self._value_of(item))).scalar_subquery()

    @staticmethod
    def _items(sequence: Text) -> sa.TableValuedAlias:
        elements = sa.func.jsonb_array_elements(sa.cast(sa.func.nullif(sequence, ""), postgresql.JSONB()))
        return elements.table_valued(_ITEM, with_ordinality="number").render_derived()

    @staticmethod
    def _value_of(item: sa.TableValuedAlias) -> ItemValue:
        # Text from JSON has lost its column's collation, which comparisons of ranges need.
        text = item.c.value.op("->>", return_type=sa.Text())
        return lambda keyword: sa.collate(sa.func.coalesce(text(keyword), ""), "C")

    def insert(self, table: sa.Table) -> Any:
        return postgresql.insert(table)

    def insert_if_new(self, table: sa.Table) -> Any:
        return _postgresql_insert_if_new(table)

    def be_quick(self, connection: sa.Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.is_patient = False

    def make_durable(self, connection: sa.Connection) -> None:
        connection.execute(_DURABLE)

    def too_few_connections(self, connection: sa.Connection, processes: int, each: int) -> str:
        allowed = connection.scalar(_ALLOWED)
        needed = processes * each + _OF_COMMANDS
        if allowed is None or allowed >= needed:
            return ""
        said = f"{processes} process{'es' * (processes > 1)}, {each} each, and {_OF_COMMANDS} for commands beside it"
        return (
            f"PostgreSQL allows this node {allowed} connections, and it may need {needed} ({said}): raise "
            "max_connections of the server, or the limits of the user and of the database"
        )

    def lock_name(self, connection: Executes, name: str, *, waits: bool = True) -> None:
        connection.execute(_ADVISORY_LOCK if waits else _ADVISORY_LOCK_DEFERRED, {"number": lock_number(name)})

    def lock_entering(self, connection: Executes) -> None:
        connection.execute(_ENTERING)

    def lock_table(self, connection: sa.Connection, table: sa.Table) -> None:
        connection.execute(sa.text(f"LOCK TABLE {table.name} IN EXCLUSIVE MODE"))

    def new_ids(self, connection: sa.Connection, table: sa.Table, number: int, above: int = 0) -> Iterable[int]:  # noqa: ARG002
        # As an INSERT does, which draws its id with this lock: see ``writers_of``.
        connection.execute(sa.text(f"LOCK TABLE {table.name} IN ROW EXCLUSIVE MODE"))
        return connection.scalars(_NEXT_IDS, {"table": table.name, "number": number}).all()

    def count_ids(self, connection: sa.Connection, table: sa.Table, first: int, last: int) -> int:
        number = sa.select(sa.func.count()).select_from(table).where(table.c.id.between(first, last))
        return int(connection.scalar(number) or 0)

    def last_id(self, connection: sa.Connection, table: sa.Table) -> int:
        return int(connection.scalar(_LAST_ID, {"table": table.name}) or 0)

    def writers_of(self, connection: sa.Connection, table: sa.Table) -> frozenset[str]:
        return frozenset(connection.scalars(_WRITERS, {"table": table.name}))


_OF_COMMANDS = 4
_ALLOWED = sa.text(
    "SELECT least("
    "current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,"
    " (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user),"
    " (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()))"
)
_NEXT_IDS = sa.text("SELECT nextval(pg_get_serial_sequence(:table, 'id')) FROM generate_series(1, :number)")
_LAST_ID = sa.text("SELECT pg_sequence_last_value(pg_get_serial_sequence(:table, 'id')::regclass)")
# An INSERT locks the table before it draws an id, and holds the lock until its transaction ends.
_WRITERS = sa.text(
    "SELECT virtualtransaction FROM pg_locks WHERE relation = to_regclass(:table) AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND mode = 'RowExclusiveLock' AND pid IS DISTINCT FROM pg_backend_pid()"
)
_ENTERING = sa.text("LOCK TABLE study IN ROW EXCLUSIVE MODE")
# In each writing transaction: behind a connection pooler it may run on another connection than the one set up.
IS_DURABLE = "set_config('synchronous_commit', 'on', true)"
_DURABLE = sa.text(f"SELECT {IS_DURABLE}")
IS_DEFERRED = "set_config('synchronous_commit', 'off', true)"
_ADVISORY_LOCK = sa.text(f"SELECT pg_advisory_xact_lock(:number), {IS_DURABLE}")
_ADVISORY_LOCK_DEFERRED = sa.text(f"SELECT pg_advisory_xact_lock(:number), {IS_DEFERRED}")


@cache
def _postgresql_insert_if_new(table: sa.Table) -> Any:
    return postgresql.insert(table).on_conflict_do_nothing()
