"""Connections to PostgreSQL with a timeout for every answer; imported only for a PostgreSQL index.

A server that hangs, or whose disk or network hangs, receives statements and never answers.  Neither TCP nor the
server's own timeouts notice that.  So every wait for an answer has a limit here (docs/adr/0029).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import psycopg
import sqlalchemy as sa

from backup_scp.index.connection.db_errors import SILENT

LOCK_S = 15
"""The server's limit for waiting on another transaction; less than ``ANSWER_S``, so that its error arrives in time."""

ANSWER_S = 20.0
"""Limit for an answer: a thread that waits for another one and then reconnects gets its error within half a minute."""

CONNECT_S = 5
"""Limit for a new connection, or for the test of an idle one."""

# Both ends detect a dead peer: the server must not keep the locks of a node that lost power.
_TCP = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
_SETTINGS = (
    "SET SESSION synchronous_commit = on",
    f"SET SESSION lock_timeout = '{LOCK_S}s'",
    "SET SESSION client_encoding = 'UTF8'",
    # A statement that waited for a lock sees the rows of the other transaction.
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION tcp_keepalives_idle = 10",
    "SET SESSION tcp_keepalives_interval = 5",
    "SET SESSION tcp_keepalives_count = 3",
    "SET SESSION tcp_user_timeout = '30s'",
)


class NoAnswer(psycopg.OperationalError):
    """The server received a statement and did not answer in time; the connection is closed."""

    sqlstate = SILENT


class Connection(psycopg.Connection[Any]):
    """A connection with a limit for each answer.

    Attributes
    ----------
    limit_s
        How long the server may send nothing, in seconds.
    is_patient
        Whether to wait longer while the server answers another connection; for statements that may take long.
    """

    limit_s: float = CONNECT_S
    is_patient: bool = False
    answers_others: Callable[[], bool] = staticmethod(lambda: False)

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        """Run psycopg's generator until the answer is there, as psycopg does, but with the limit."""
        return super().wait(self._limited(gen), *arguments, **options)

    def _limited(self, waiting: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        until = time.monotonic() + self.limit_s
        try:
            wanted = next(waiting)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > until:
                    self.require_answer()
                    until = time.monotonic() + self.limit_s
                wanted = waiting.send(ready)
                if ready:
                    until = time.monotonic() + self.limit_s
        except StopIteration as end:
            return end.value

    def require_answer(self) -> None:
        """Raise when the server has sent nothing for the time of the limit.

        Raises
        ------
        NoAnswer
        """
        if not (self.is_patient and self.answers_others()):
            self.close()
            raise NoAnswer


def engine_of(url: sa.URL, most: int) -> sa.Engine:
    """Create the engine of an index; see ``Database``."""
    kept = most // 4
    tcp = {name: value for name, value in _TCP.items() if name not in url.query}
    engine = sa.create_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=True,
        pool_size=kept,
        max_overflow=most - kept,
        pool_timeout=ANSWER_S,
        connect_args={"connect_timeout": CONNECT_S, "application_name": "backup-scp", **tcp},
    )

    @sa.event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, arguments: Any, options: Any) -> Connection:
        connection = _connected(*arguments, **options)
        connection.answers_others = partial(_answers, arguments, options)
        return connection

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Connection, _record: object) -> None:
        connection.execute("; ".join(_SETTINGS))
        connection.commit()

    @sa.event.listens_for(engine, "checkout")
    def take(connection: Connection, _record: object, _proxy: object) -> None:
        connection.limit_s, connection.is_patient = ANSWER_S, True

    @sa.event.listens_for(engine, "checkin")  # codespell:ignore checkin
    def put_back(connection: Connection | None, _record: object) -> None:
        if connection is not None:
            connection.limit_s, connection.is_patient = CONNECT_S, False

    return engine


def _connected(*arguments: Any, **options: Any) -> Connection:
    """Connect; when this raises after a timeout, close the socket at once, not at the next garbage collection."""
    try:
        return Connection.connect(*arguments, **options)
    except psycopg.Error as error:
        failure = error.with_traceback(None)  # the frames of the traceback keep psycopg's socket open
    raise failure


def _answers(arguments: Any, options: Any) -> bool:
    """Tell whether the server accepts a new connection and answers it."""
    with contextlib.suppress(psycopg.Error), _connected(*arguments, **options) as another:
        another.execute("SELECT 1")
        return True
    return False
