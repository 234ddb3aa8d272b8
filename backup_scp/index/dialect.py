r"""What SQLite and PostgreSQL say differently: patterns, lists, several values in one text, a lock on a name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import aggregate_order_by

from backup_scp.index.name_search import candidates
from backup_scp.index.values import lock_number

Clause = sa.ColumnElement[bool]
Text = sa.ColumnElement[Any]
ItemValue = Callable[[str], Text]
"""Give the value of an item by keyword; empty where it has none."""

_ESCAPE = "!"
_VALUE: sa.ColumnClause[str] = sa.column("value", sa.Text())
_ITEM: sa.ColumnClause[Any] = sa.column("value", postgresql.JSONB())


class Executes(Protocol):
    """A connection, or what stands in for one."""

    def execute(self, statement: Any, row: Any = None, /) -> Any:
        """Execute a statement."""


class Dialect(Protocol):
    """One engine's way to say it."""

    def like(self, text: Text, pattern: str) -> Clause:
        """Match a wild card pattern of PS3.4 C.2.2.2.4, case-sensitive."""

    def among(self, text: Text, values: Iterable[object]) -> Clause:
        """Equal one of any number of values, as one parameter."""

    def some_value(self, text: Text, holds: Callable[[Text], Clause]) -> Clause:
        r"""Hold for at least one of the values that backslashes separate."""

    def one_value_is(self, text: Text, value: str) -> Clause:
        """Do the same for equality, faster."""

    def some_item(self, sequence: Text, holds: Callable[[ItemValue], Clause]) -> Clause:
        """Hold for at least one item of a sequence, which is the text of ``items_text``."""

    def items_that(self, sequence: Text, holds: Callable[[ItemValue], Clause]) -> Text:
        """Give the items that it holds for, as text again."""

    def narrow_by_name(self, study_id: Text, trigrams: list[str]) -> Clause | None:
        """Hold for the study rows whose names have all these trigrams; None where it would not help."""

    def insert(self, table: sa.Table) -> Any:
        """Make an INSERT that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""

    def insert_if_new(self, table: sa.Table) -> Any:
        """Give the INSERT of a table that does nothing where the row is there; always the same one."""

    def lock_name(self, connection: Executes, name: str) -> None:
        """Wait until no other transaction holds this name; it is ours until the end of the transaction."""

    def lock_table(self, connection: sa.Connection, table: sa.Table) -> None:
        """Keep other writers out until the end of the transaction; readers go on."""

    def new_ids(self, connection: sa.Connection, table: sa.Table, number: int) -> Iterable[int]:
        """Give ids for new rows; nobody else writes to the table."""


class SQLite:
    """SQLite 3.37 or newer: GLOB compares case-sensitively, lists travel as JSON."""

    has_trigrams = False
    """Whether this index has the table of ``name_search``; seen at each connection."""

    def like(self, text: Text, pattern: str) -> Clause:
        return text.op("GLOB", is_comparison=True)(pattern.replace("[", "[[]"))

    def among(self, text: Text, values: Iterable[object]) -> Clause:
        listed = sa.func.json_each(json.dumps(list(values))).table_valued("value")
        return text.in_(sa.select(listed.c.value))

    def some_value(self, text: Text, holds: Callable[[Text], Clause]) -> Clause:
        # json_quote doubles each backslash: two of them separate values, and nothing else does.
        quoted = sa.func.replace(sa.func.json_quote(text), "\\\\", '","')
        as_list = sa.literal("[").concat(quoted).concat("]")
        each = sa.func.json_each(as_list).table_valued(_VALUE)
        return sa.exists(sa.select(sa.literal(1)).select_from(each).where(holds(each.c.value)))

    def one_value_is(self, text: Text, value: str) -> Clause:
        return sa.func.instr(sa.literal("\\").concat(text).concat("\\"), f"\\{value}\\") > 0

    def some_item(self, sequence: Text, holds: Callable[[ItemValue], Clause]) -> Clause:
        item = self._items(sequence)
        return sa.exists(sa.select(sa.literal(1)).select_from(item).where(holds(self._value_of(item))))

    def items_that(self, sequence: Text, holds: Callable[[ItemValue], Clause]) -> Text:
        item = self._items(sequence)
        listed = sa.func.json_group_array(sa.func.json(item.c.value), type_=sa.Text())
        return sa.select(listed).select_from(item).where(holds(self._value_of(item))).scalar_subquery()

    @staticmethod
    def _items(sequence: Text) -> sa.TableValuedAlias:
        return sa.func.json_each(sa.func.nullif(sequence, "")).table_valued(_VALUE)

    @staticmethod
    def _value_of(item: sa.TableValuedAlias) -> ItemValue:
        return lambda keyword: sa.func.coalesce(
            sa.func.json_extract(item.c.value, f"$.{keyword}", type_=sa.Text()), "", type_=sa.Text()
        )

    def narrow_by_name(self, study_id: Text, trigrams: list[str]) -> Clause | None:
        return study_id.in_(candidates(trigrams)) if trigrams and self.has_trigrams else None

    def insert(self, table: sa.Table) -> Any:
        return sqlite.insert(table)

    def insert_if_new(self, table: sa.Table) -> Any:
        return _sqlite_insert_if_new(table)

    def lock_name(self, connection: Executes, name: str) -> None:
        """There is one writer at a time anyhow."""

    def lock_table(self, connection: sa.Connection, table: sa.Table) -> None:
        """There is one writer at a time anyhow."""

    def new_ids(self, connection: sa.Connection, table: sa.Table, number: int) -> Iterable[int]:
        last = connection.scalar(sa.select(sa.func.max(table.c.id))) or 0
        return range(last + 1, last + 1 + number)


class PostgreSQL:
    """PostgreSQL 12 or newer: LIKE with an escape character, lists travel as arrays."""

    def like(self, text: Text, pattern: str) -> Clause:
        for special in (_ESCAPE, "%", "_"):
            pattern = pattern.replace(special, _ESCAPE + special)
        return text.like(pattern.replace("*", "%").replace("?", "_"), escape=_ESCAPE)

    def among(self, text: Text, values: Iterable[object]) -> Clause:
        listed = sa.bindparam(None, list(values), type_=postgresql.ARRAY(text.type), unique=True)
        return text == sa.any_(listed)

    def some_value(self, text: Text, holds: Callable[[Text], Clause]) -> Clause:
        each = sa.func.unnest(sa.func.string_to_array(text, "\\")).table_valued(_VALUE).render_derived()
        return sa.exists(sa.select(sa.literal(1)).select_from(each).where(holds(each.c.value)))

    def one_value_is(self, text: Text, value: str) -> Clause:
        return sa.func.strpos(sa.literal("\\").concat(text).concat("\\"), f"\\{value}\\") > 0

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
        # What comes out of JSON has lost its column's collation, in which ranges are compared.
        text = item.c.value.op("->>", return_type=sa.Text())
        return lambda keyword: sa.collate(sa.func.coalesce(text(keyword), ""), "C")

    def narrow_by_name(self, study_id: Text, trigrams: list[str]) -> Clause | None:  # noqa: ARG002
        """Its own index serves LIKE as it is."""
        return None

    def insert(self, table: sa.Table) -> Any:
        return postgresql.insert(table)

    def insert_if_new(self, table: sa.Table) -> Any:
        return _postgresql_insert_if_new(table)

    def lock_name(self, connection: Executes, name: str) -> None:
        connection.execute(_ADVISORY_LOCK, {"number": lock_number(name)})

    def lock_table(self, connection: sa.Connection, table: sa.Table) -> None:
        connection.execute(sa.text(f"LOCK TABLE {table.name} IN EXCLUSIVE MODE"))

    def new_ids(self, connection: sa.Connection, table: sa.Table, number: int) -> Iterable[int]:
        return connection.scalars(_NEXT_IDS, {"table": table.name, "number": number}).all()


_NEXT_IDS = sa.text("SELECT nextval(pg_get_serial_sequence(:table, 'id')) FROM generate_series(1, :number)")
_ADVISORY_LOCK = sa.text("SELECT pg_advisory_xact_lock(:number)")


@cache
def _sqlite_insert_if_new(table: sa.Table) -> Any:
    return sqlite.insert(table).on_conflict_do_nothing()


@cache
def _postgresql_insert_if_new(table: sa.Table) -> Any:
    return postgresql.insert(table).on_conflict_do_nothing()
