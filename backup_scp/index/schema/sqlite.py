"""The SQL of SQLite."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from backup_scp.index.schema.dialect import VALUE, Clause, Executes, ItemValue, Text, Value

_GREATEST = 2**63 - 1


class SQLite:
    """SQLite 3.37 or newer: GLOB compares case-sensitively, lists as JSON."""

    has_trigrams = False
    """Whether this index has the table of trigrams; read at each connection."""

    def pattern(self, pattern: str) -> str:
        return pattern.replace("[", "[[]")

    def like(self, text: Text, pattern: Value) -> Clause:
        return text.op("GLOB", is_comparison=True)(pattern)

    def among(self, text: Text, values: Iterable[object]) -> Clause:
        listed = sa.func.json_each(json.dumps(list(values))).table_valued("value")
        return text.in_(sa.select(listed.c.value))

    def some_value(self, text: Text, holds: Callable[[Text], Clause]) -> Clause:
        # json_quote doubles each backslash, so only two backslashes separate values.
        quoted = sa.func.replace(sa.func.json_quote(text), "\\\\", '","')
        as_list = sa.literal("[").concat(quoted).concat("]")
        each = sa.func.json_each(as_list).table_valued(VALUE)
        return sa.exists(sa.select(sa.literal(1)).select_from(each).where(holds(each.c.value)))

    def one_value_is(self, text: Text, delimited: Value) -> Clause:
        return sa.func.instr(sa.literal("\\").concat(text).concat("\\"), delimited) > 0

    def some_item(self, sequence: Text, holds: Callable[[ItemValue], Clause]) -> Clause:
        item = self._items(sequence)
        return sa.exists(sa.select(sa.literal(1)).select_from(item).where(holds(self._value_of(item))))

    def items_that(self, sequence: Text, holds: Callable[[ItemValue], Clause]) -> Text:
        item = self._items(sequence)
        listed = sa.func.json_group_array(sa.func.json(item.c.value), type_=sa.Text())
        return sa.select(listed).select_from(item).where(holds(self._value_of(item))).scalar_subquery()

    @staticmethod
    def _items(sequence: Text) -> sa.TableValuedAlias:
        return sa.func.json_each(sa.func.nullif(sequence, "")).table_valued(VALUE)

    @staticmethod
    def _value_of(item: sa.TableValuedAlias) -> ItemValue:
        return lambda keyword: sa.func.coalesce(
            sa.func.json_extract(item.c.value, f"$.{keyword}", type_=sa.Text()), "", type_=sa.Text()
        )

    def insert(self, table: sa.Table) -> Any:
        return sqlite.insert(table)

    def insert_if_new(self, table: sa.Table) -> Any:
        return _sqlite_insert_if_new(table)

    def be_quick(self, connection: sa.Connection) -> None:
        """Do nothing: a file has no server that could hang."""

    def make_durable(self, connection: sa.Connection) -> None:
        """Do nothing: with synchronous=FULL every commit is durable."""

    def too_few_connections(self, connection: sa.Connection, processes: int, each: int) -> str:  # noqa: ARG002
        return ""

    def lock_name(self, connection: Executes, name: str, *, waits: bool = True) -> None:
        """Do nothing: SQLite has one writer at a time."""

    def lock_entering(self, connection: Executes) -> None:
        """Do nothing: SQLite has one writer at a time."""

    def lock_table(self, connection: sa.Connection, table: sa.Table) -> None:
        """Do nothing: SQLite has one writer at a time."""

    def new_ids(self, connection: sa.Connection, table: sa.Table, number: int, above: int = 0) -> Iterable[int]:
        last = max(connection.scalar(sa.select(sa.func.max(table.c.id))) or 0, above)
        return range(last + 1, last + 1 + number)

    def count_ids(self, connection: sa.Connection, table: sa.Table, first: int, last: int) -> int:
        # To count them would read the whole table; a new row has the next number, so that there are hardly any gaps.
        ends = [
            connection.scalar(sa.select(table.c.id).where(table.c.id.between(first, last)).order_by(order).limit(1))
            for order in (table.c.id, table.c.id.desc())
        ]
        return 0 if ends[0] is None else ends[1] - ends[0] + 1

    def last_id(self, connection: sa.Connection, table: sa.Table) -> int:  # noqa: ARG002
        return _GREATEST  # it has one writer at a time: no row becomes visible later

    def writers_of(self, connection: sa.Connection, table: sa.Table) -> frozenset[str]:  # noqa: ARG002
        return frozenset()


@cache
def _sqlite_insert_if_new(table: sa.Table) -> Any:
    return sqlite.insert(table).on_conflict_do_nothing()
