"""Send several statements to PostgreSQL in one round trip and one transaction: psycopg's pipeline mode.

Imported only for a PostgreSQL index.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlalchemy as sa

from backup_scp.index.connection.driver_cursor import DriverCursor

_DIALECT = sa.create_engine("postgresql+psycopg://", paramstyle="numeric_dollar").dialect
_NOT_AS_PREPARED = ("26000", "42P05")


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement for ``psycopg.RawCursor``, compiled once by SQLAlchemy.

    Attributes
    ----------
    text
        The SQL, with parameters ``$1``, ``$2``.
    names
        Names of the parameters, in their order.
    """

    text: bytes
    names: tuple[str, ...]

    @classmethod
    def of(cls, statement: sa.Executable) -> Statement:
        """Compile a statement with named parameters only."""
        compiled: Any = statement.compile(dialect=_DIALECT)  # type: ignore[attr-defined]
        return cls(str(compiled).encode(), tuple(compiled.positiontup))


def execute(direct: DriverCursor, *asked: tuple[Statement, Mapping[str, Any]]) -> int:
    """Execute statements in one transaction; after the durable commit return the row count of the last one.

    Statements between two Syncs without a BEGIN are one transaction, which the second Sync commits (PostgreSQL
    manual, Message Flow, Pipelining).

    Parameters
    ----------
    direct
        In autocommit mode.
    asked
        Each statement with its values, which are sent as text.

    Raises
    ------
    sa.exc.DBAPIError
        Nothing was written; after a lost connection or a timeout this is unknown.
    """
    connection: Any = direct.connection.connection.driver_connection
    cursor = psycopg.RawCursor(connection)
    try:
        with connection.pipeline() if len(asked) > 1 else contextlib.nullcontext():
            for statement, values in asked:
                texts = [_as_text(values[name]) for name in statement.names]
                cursor.execute(statement.text, texts, prepare=True)
    except psycopg.Error as error:
        # A connection pooler may have given us a server connection that lacks this prepared statement.
        if error.sqlstate in _NOT_AS_PREPARED:
            connection.close()
        raise direct.explained("", error) from None
    return cursor.rowcount


def _as_text(value: Any) -> str | None:
    """Return a value as text for PostgreSQL; one type for all, so that a statement is prepared once."""
    if type(value) is str or value is None:
        return value
    if type(value) is bool:
        return "t" if value else "f"
    return str(value)
