"""Execute statements on the driver's own cursor; SQLAlchemy compiles each one once and is bypassed afterwards.

An execution through ``sa.Connection`` costs five times as much as the statement itself, and adding an instance takes
six statements (docs/adr/0018).  Statements, types and connections are still SQLAlchemy's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from types import TracebackType
from typing import Any

import sqlalchemy as sa

from backup_scp.index.schema.rows import Row

_MOST_PLANS = 512
_Process = Callable[[Any], Any]

_plans: dict[tuple[str, Any, tuple[str, ...]], _Plan] = {}


@dataclass(slots=True)
class _Plan:
    """One compiled statement for one kind of row.

    Attributes
    ----------
    pick
        Returns the values of a row, in the order of its question marks; None for a driver with named parameters.
    fixed
        Values that are part of the statement.
    binds
        By name, or by position where ``pick`` gives one, functions that convert a value to the driver's type.
    columns
        Names of the selected columns; empty for one without a name.
    types
        Types of the selected columns.
    results
        By position, functions that convert the driver's value; None before the first execution, which shows its types.
    """

    text: str
    pick: Callable[[Row], tuple[Any, ...]] | None
    fixed: dict[str, Any]
    binds: tuple[tuple[Any, _Process], ...]
    columns: tuple[str, ...]
    types: tuple[sa.types.TypeEngine[Any], ...]
    results: tuple[tuple[int, _Process], ...] | None = None


class DriverResult:
    """The result of an execution: those methods of ``sa.CursorResult`` that ``RowWriter`` uses."""

    __slots__ = ("_columns", "_rows", "rowcount")

    def __init__(self, rows: list[tuple[Any, ...]], columns: tuple[str, ...], rowcount: int) -> None:
        self._rows = rows
        self._columns = columns
        self.rowcount = rowcount

    @property
    def inserted_primary_key(self) -> tuple[Any, ...]:
        return self._rows[0]

    def all(self) -> list[Any]:
        return self._rows

    def first(self) -> Any:
        return self._rows[0] if self._rows else None

    def scalars(self) -> Iterator[Any]:
        return (row[0] for row in self._rows)

    def mappings(self) -> DriverResult:
        rows: list[Any] = [dict(zip(self._columns, row, strict=True)) for row in self._rows]
        return DriverResult(rows, self._columns, self.rowcount)


class DriverCursor:
    """Executes statements on the driver's connection of an ``sa.Connection``; for one thread at a time.

    Parameters
    ----------
    connection
        Open.  When it is in a transaction, the statements are part of that.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self._dialect = connection.dialect
        self._is_sqlite = connection.dialect.name == "sqlite"
        self._error: type[Exception] = connection.dialect.loaded_dbapi.Error  # PEP 249
        self._cursor = connection.connection.cursor()

    def execute(self, statement: Any, row: Row | None = None, /) -> DriverResult:
        """Execute a statement.

        Raises
        ------
        sa.exc.DBAPIError
        """
        plan, values = self._prepared(statement, row or {})
        cursor = self._cursor
        try:
            cursor.execute(plan.text, values)
            rows: list[Any] = list(cursor.fetchall()) if cursor.description else []
        except self._error as error:
            raise self.explained(plan.text, error) from None
        if self._is_sqlite and statement.is_insert:
            rows = [(cursor.lastrowid,)]
        if rows and plan.types:
            results = plan.results if plan.results is not None else self._learn(plan, cursor)
            rows = [_processed(found, results) for found in rows] if results else rows
        return DriverResult(rows, plan.columns, cursor.rowcount)

    def batches(self, statement: Any, row: Row, size: int) -> Generator[list[tuple[Any, ...]], None, None]:
        """Yield the rows of a SELECT, up to ``size`` at a time, which are read when they are asked for.

        Raises
        ------
        sa.exc.DBAPIError
        """
        plan, values = self._prepared(statement, row)
        # A cursor of its own: SQLite ends the read transaction when it is closed, whatever is left unread.
        with contextlib.closing(self.connection.connection.cursor()) as cursor:
            try:
                cursor.execute(plan.text, values)
                while rows := list(cursor.fetchmany(size)):
                    results = plan.results if plan.results is not None else self._learn(plan, cursor)
                    yield [_processed(found, results) for found in rows] if results else rows
            except self._error as error:
                raise self.explained(plan.text, error) from None

    def _prepared(self, statement: Any, row: Row) -> tuple[_Plan, Any]:
        """Return the plan of a statement, and its values as the driver takes them."""
        key = (self._dialect.name, statement, tuple(row))
        plan = _plans.get(key) or self._plan(key)
        given = {**plan.fixed, **row} if plan.fixed else row
        if not plan.binds:
            return plan, plan.pick(given) if plan.pick else given
        values: Any = list(plan.pick(given)) if plan.pick else dict(given)
        for place, process in plan.binds:
            values[place] = process(values[place])
        return plan, values

    def transaction(self, begin: str) -> _Transaction:
        """Begin a transaction, for a ``with`` block: commit when it ends, roll back when it raises."""
        return _Transaction(self, begin)

    def control(self, statement: str) -> None:
        """Begin or end a transaction.

        Raises
        ------
        sa.exc.DBAPIError
        """
        try:
            self._cursor.execute(statement)
        except self._error as error:
            raise self.explained(statement, error) from None

    def ask(self, statement: str) -> Any:
        """Execute a statement of the driver's own, and return its first row.

        Raises
        ------
        sa.exc.DBAPIError
        """
        self.control(statement)
        return self._cursor.fetchone()

    def explained(self, text: str, error: Any) -> BaseException:
        """Return the error that SQLAlchemy would raise, and tell its pool about a lost connection."""
        lost = self._dialect.is_disconnect(error, self.connection.connection, self._cursor)
        if lost:
            self.connection.invalidate(error)
        explained: BaseException = sa.exc.DBAPIError.instance(
            text, None, error, self._error, hide_parameters=True, connection_invalidated=lost, dialect=self._dialect
        )
        return explained

    def _learn(self, plan: _Plan, cursor: Any) -> tuple[tuple[int, _Process], ...]:
        codes = [described[1] for described in cursor.description]
        processes = map(partial(_result, dialect=self._dialect), plan.types, codes)
        plan.results = tuple(_present(enumerate(processes)))
        return plan.results

    def _plan(self, key: tuple[str, Any, tuple[str, ...]]) -> _Plan:
        _, statement, names = key
        compiled = statement.compile(dialect=self._dialect, column_keys=list(names))
        parameters = compiled.construct_params(dict.fromkeys(names))
        types = {name: bind.type for bind, name in compiled.bind_names.items()}
        positions: list[str] | None = compiled.positiontup if compiled.positional else None
        places: Iterable[tuple[Any, str]] = enumerate(positions) if positions else ((name, name) for name in parameters)
        columns = list(statement.exported_columns) if statement.is_select else []
        plan = _Plan(
            text=str(compiled),
            pick=None if positions is None else _pick(positions),
            fixed={name: value for name, value in parameters.items() if name not in names},
            binds=tuple(_present((place, _bind(types[name], self._dialect)) for place, name in places)),
            columns=tuple(getattr(column, "name", "") for column in columns),
            types=tuple(column.type for column in columns),
        )
        if len(_plans) >= _MOST_PLANS:
            _plans.clear()
        _plans[key] = plan
        return plan


class _Transaction:
    __slots__ = ("_begin", "_cursor")

    def __init__(self, cursor: DriverCursor, begin: str) -> None:
        self._cursor = cursor
        self._begin = begin

    def __enter__(self) -> None:
        self._cursor.control(self._begin)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            try:
                self._cursor.control("COMMIT")
            except BaseException:
                self._roll_back()
                raise
        else:
            self._roll_back()

    def _roll_back(self) -> None:
        with contextlib.suppress(sa.exc.DBAPIError):  # after some errors SQLite has rolled back already
            self._cursor.control("ROLLBACK")


def _pick(names: list[str]) -> Callable[[Row], tuple[Any, ...]]:
    """Return a function that returns the values with these names."""
    if len(names) > 1:
        return itemgetter(*names)
    if not names:
        return lambda _: ()
    (only,) = names
    return lambda row: (row[only],)


def _present(processes: Iterator[tuple[Any, _Process | None]]) -> Iterator[tuple[Any, _Process]]:
    return ((where, process) for where, process in processes if process is not None)


def _bind(kind: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> _Process | None:
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _result(kind: sa.types.TypeEngine[Any], code: object, dialect: sa.Dialect) -> _Process | None:
    return kind.dialect_impl(dialect).result_processor(dialect, code)


def _processed(row: tuple[Any, ...], results: tuple[tuple[int, _Process], ...]) -> tuple[Any, ...]:
    values = list(row)
    for place, process in results:
        values[place] = process(values[place])
    return tuple(values)
