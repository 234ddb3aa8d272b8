r"""The SQL that differs between SQLite and PostgreSQL: patterns, lists, several values in one text, named locks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import sqlalchemy as sa

Clause = sa.ColumnElement[bool]
Text = sa.ColumnElement[Any]
Value = str | sa.BindParameter[str]
ItemValue = Callable[[str], Text]
"""Returns an item's value for a keyword; empty when it has none."""

VALUE: sa.ColumnClause[str] = sa.column("value", sa.Text())
"""One value of a list."""


class Executes(Protocol):
    """A connection, or an object with the same method."""

    def execute(self, statement: Any, row: Any = None, /) -> Any:
        """Execute a statement."""


class Dialect(Protocol):
    """The SQL of one engine."""

    has_trigrams: bool
    """Whether ``trigrams.named_like`` can narrow the rows of a search for a name."""

    def pattern(self, pattern: str) -> str:
        """Write a wild card pattern of PS3.4 C.2.2.2.4 as ``like`` takes it."""

    def like(self, text: Text, pattern: Value) -> Clause:
        """Match what ``pattern`` has written, case-sensitive."""

    def among(self, text: Text, values: Iterable[object]) -> Clause:
        """Match text that equals one of the values; they are one parameter."""

    def some_value(self, text: Text, holds: Callable[[Text], Clause]) -> Clause:
        r"""Match when ``holds`` is true for at least one of the values that backslashes separate."""

    def one_value_is(self, text: Text, delimited: Value) -> Clause:
        """Match when one of the values equals a value between two backslashes; faster than ``some_value``."""

    def some_item(self, sequence: Text, holds: Callable[[ItemValue], Clause]) -> Clause:
        """Match when ``holds`` is true for at least one item of a sequence, stored as ``items_text`` writes it."""

    def items_that(self, sequence: Text, holds: Callable[[ItemValue], Clause]) -> Text:
        """Return the items for which ``holds`` is true, as text of the same form."""

    def insert(self, table: sa.Table) -> Any:
        """Return an INSERT with the methods ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""

    def insert_if_new(self, table: sa.Table) -> Any:
        """Return an INSERT that does nothing when the row exists; the same object for each call."""

    def be_quick(self, connection: sa.Connection) -> None:
        """Make statements on this connection fail after the limit, also when the server answers other connections."""

    def make_durable(self, connection: sa.Connection) -> None:
        """Make the commit of this transaction durable, whatever the connection's settings are."""

    def too_few_connections(self, connection: sa.Connection, processes: int, each: int) -> str:
        """Return a sentence when the server allows fewer connections than the processes may need; otherwise empty."""

    def lock_name(self, connection: Executes, name: str, *, waits: bool = True) -> None:
        """Lock a name until the end of the transaction; wait for another transaction that has it."""

    def lock_entering(self, connection: Executes) -> None:
        """Lock the study table in a mode shared with other writers; only ``lock_table`` of the studies excludes it."""

    def lock_table(self, connection: sa.Connection, table: sa.Table) -> None:
        """Lock a table against other writers until the end of the transaction; readers continue."""

    def new_ids(self, connection: sa.Connection, table: sa.Table, number: int, above: int = 0) -> Iterable[int]:
        """Return ids for new rows, greater than ``above``; no other transaction writes to the table."""

    def count_ids(self, connection: sa.Connection, table: sa.Table, first: int, last: int) -> int:
        """Count the rows with ids from ``first`` to ``last``, quickly; more than there are where few were deleted."""

    def last_id(self, connection: sa.Connection, table: sa.Table) -> int:
        """Return the last id drawn for the table, perhaps of a row that is not visible yet, or a greater number."""

    def writers_of(self, connection: sa.Connection, table: sa.Table) -> frozenset[str]:
        """Return the other transactions that may have inserted rows which are not visible yet."""
