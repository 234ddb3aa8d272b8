"""Several statements in one trip to PostgreSQL, and in one transaction: libpq's pipeline mode.

Imported only where the index is one.  psycopg's own pipeline does the same in twice the processor time: it finds a
type for each value, and keeps books of what it prepares (docs/adr/0023).
"""

from __future__ import annotations

import selectors
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import pq
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from backup_scp.index.connection.postgresql_engine import Connection

_DIALECT = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)
_NOT_AS_PREPARED = ("26000", "42P05")
_FINE = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as libpq takes it; compiled by SQLAlchemy, made once.

    Attributes
    ----------
    text
        With its parameters as ``$1``, ``$2``.
    names
        Of its parameters, in their order.
    name
        What it is called where it is prepared: two that are called the same are the same.
    """

    text: bytes
    names: tuple[str, ...]
    name: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", b"backup_scp_" + sha256(self.text).hexdigest()[:32].encode())

    @classmethod
    def of(cls, statement: sa.Executable) -> Statement:
        """Compile a statement, all of whose parameters are named."""
        compiled: Any = statement.compile(dialect=_DIALECT)  # type: ignore[attr-defined]
        return cls(str(compiled).encode(), tuple(compiled.positiontup))


class Trips:
    """Executes on one connection of psycopg, in autocommit; one thread at a time.

    Parameters
    ----------
    connection
        Open, outside of any transaction, and not patient.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._prepared: set[bytes] = set()
        self._selector = _Selector()
        self._selector.register(connection.pgconn.socket, selectors.EVENT_READ)

    def execute(self, *asked: tuple[Statement, Mapping[str, Any]]) -> int:
        """Execute statements in one transaction; return how many rows the last one gave, once that is durable.

        What comes between two Syncs without a BEGIN is one transaction, which the second one commits (PostgreSQL
        manual, Message Flow, Pipelining).

        Raises
        ------
        psycopg.Error
            Nothing is written; or, where the connection was lost or the server is silent, it is not known.
        """
        server = self._connection.pgconn
        preparing: list[bytes] = []
        try:
            server.enter_pipeline_mode()
            for statement, _ in asked:
                if statement.name not in self._prepared and statement.name not in preparing:
                    server.send_prepare(statement.name, statement.text)
                    preparing.append(statement.name)
            for statement, values in asked:
                server.send_query_prepared(statement.name, [_encoded(values[name]) for name in statement.names])
            server.pipeline_sync()
            results = self._results(server)
            server.exit_pipeline_mode()
        except BaseException:
            self._connection.close()  # nobody may read the answers to another's questions
            raise
        for number, result in enumerate(results):
            if result.status not in _FINE:
                raise self._error(result)
            self._prepared.update(preparing[number : number + 1])  # which stays so when the transaction fails
        return results[-1].ntuples

    def _results(self, server: pq.abc.PGconn) -> list[pq.abc.PGresult]:
        """Wait for what answers each statement, until all of it is committed."""
        results: list[pq.abc.PGresult] = []
        while server.flush():
            self._selector.modify(server.socket, selectors.EVENT_WRITE)
            self._wait()
            self._selector.modify(server.socket, selectors.EVENT_READ)
        while True:
            while server.is_busy():
                self._wait()
                server.consume_input()
            result = server.get_result()
            if result is None:  # between the answers
                if server.status != pq.ConnStatus.OK:
                    raise psycopg.OperationalError("the connection was lost")
            elif result.status == pq.ExecStatus.PIPELINE_SYNC:
                return results
            else:
                results.append(result)

    def _wait(self) -> None:
        if not self._selector.select(self._connection.limit_s):
            self._connection.require_answer()

    def _error(self, result: pq.abc.PGresult) -> psycopg.Error:
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        if state in _NOT_AS_PREPARED:
            self._connection.close()  # it is another server's, behind what pools connections
        try:
            return psycopg.errors.lookup(state)()
        except KeyError:
            error = psycopg.DatabaseError()
            error.sqlstate = state
            return error


def _encoded(value: Any) -> bytes | None:
    """Give a value as text, as PostgreSQL reads each of its types; bytes are text already."""
    if type(value) is str:
        return value.encode()
    if value is None or type(value) is bytes:
        return value
    if type(value) is bool:
        return b"t" if value else b"f"
    return repr(value).encode()
