"""Several statements in one round trip to PostgreSQL, and in one transaction: psycopg's pipeline mode.

Imported only where the index is one.
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
    """A statement as ``psycopg.RawCursor`` takes it, compiled once by SQLAlchemy.

    Attributes
    ----------
    text
        With its parameters as ``$1``, ``$2``.
    names
        Of its parameters, in their order.
    """

    text: bytes
    names: tuple[str, ...]

    @classmethod
    def of(cls, statement: sa.Executable) -> Statement:
        """Compile a statement, all of whose parameters are named."""
        compiled: Any = statement.compile(dialect=_DIALECT)  # type: ignore[attr-defined]
        return cls(str(compiled).encode(), tuple(compiled.positiontup))


def execute(direct: DriverCursor, *asked: tuple[Statement, Mapping[str, Any]]) -> int:
    """Execute statements in one transaction; return how many rows the last one gave, once that is durable.

    What stands between two Syncs without a BEGIN is one transaction, which the second one commits (PostgreSQL manual,
    Message Flow, Pipelining).

    Parameters
    ----------
    direct
        In autocommit.
    asked
        Each statement with its values, which go as text.

    Raises
    ------
    sa.exc.DBAPIError
        Nothing is written; or, where the connection was lost or the server is silent, it is not known.
    """
    connection: Any = direct.connection.connection.driver_connection
    cursor = psycopg.RawCursor(connection)
    try:
        with connection.pipeline() if len(asked) > 1 else contextlib.nullcontext():
            for statement, values in asked:
                texts = [_as_text(values[name]) for name in statement.names]
                cursor.execute(statement.text, texts, prepare=True)
    except psycopg.Error as error:
        if error.sqlstate in _NOT_AS_PREPARED:  # behind a connection pooler: it is another server's connection
            connection.close()
        raise direct.explained("", error) from None
    return cursor.rowcount


def _as_text(value: Any) -> str | None:
    """Give a value as PostgreSQL reads it in text: of one type, so that a statement is prepared once."""
    if type(value) is str or value is None:
        return value
    if type(value) is bool:
        return "t" if value else "f"
    return str(value)
