r"""What SQLite and PostgreSQL say differently: patterns, lists, several values in one text, a lock on a name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import sqlalchemy as sa

Clause = sa.ColumnElement[bool]
Text = sa.ColumnElement[Any]
ItemValue = Callable[[str], Text]
"""Give the value of an item by keyword; empty where it has none."""

VALUE: sa.ColumnClause[str] = sa.column("value", sa.Text())
"""One value of a list."""


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

    def be_quick(self, connection: sa.Connection) -> None:
        """Let what is asked on it be answered in time or fail, whatever the server does for others."""

    def make_durable(self, connection: sa.Connection) -> None:
        """Let the transaction be on the disk when it is committed, whatever is set for the connection."""

    def too_few_connections(self, connection: sa.Connection, processes: int, each: int) -> str:
        """Say that the server allows fewer connections than so many processes may need; empty when it does not."""

    def lock_name(self, connection: Executes, name: str) -> None:
        """Wait until no other transaction holds this name; it is ours until the end of the transaction."""

    def lock_entering(self, connection: Executes) -> None:
        """Wait until nobody keeps writers out by ``lock_table`` of the studies; who wants to waits for us from here."""

    def lock_table(self, connection: sa.Connection, table: sa.Table) -> None:
        """Keep other writers out until the end of the transaction; readers go on."""

    def new_ids(self, connection: sa.Connection, table: sa.Table, number: int) -> Iterable[int]:
        """Give ids for new rows; nobody else writes to the table."""
