"""Connections to PostgreSQL, none of which is waited for without end; imported only where the index is one.

A server that is frozen, or whose disk or network is, takes what it is sent and says nothing.  TCP is content with that,
and so are the limits that the server itself keeps.  So each wait for an answer has a limit here (docs/adr/0029).
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
"""How long the server lets a statement wait for another transaction; less than ``ANSWER_S``, so that it can say so."""

ANSWER_S = 20.0
"""How long an answer is waited for: who waits behind another one, and then connects anew, is told in half a minute."""

CONNECT_S = 5
"""How long a new connection, or an idle one that is tried, may take."""

# Each end notices by itself that the other is gone: a server must not keep the locks of a node that lost its power.
_TCP = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
_SETTINGS = (
    "SET SESSION synchronous_commit = on",
    f"SET SESSION lock_timeout = '{LOCK_S}s'",
    "SET SESSION client_encoding = 'UTF8'",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED",  # what was waited for is seen
    "SET SESSION tcp_keepalives_idle = 10",
    "SET SESSION tcp_keepalives_interval = 5",
    "SET SESSION tcp_keepalives_count = 3",
    "SET SESSION tcp_user_timeout = '30s'",
)


class NoAnswer(psycopg.OperationalError):
    """The server took a question and did not answer in time; the connection is closed."""

    sqlstate = SILENT


class Connection(psycopg.Connection[Any]):
    """Waits for each answer with a limit.

    Attributes
    ----------
    limit_s
        How long nothing may come.
    is_patient
        Wait on as long as the server answers somebody else: for work that may take long.
    """

    limit_s: float = CONNECT_S
    is_patient: bool = False
    answers_others: Callable[[], bool] = staticmethod(lambda: False)

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        """Consume what waits for the server, as psycopg does."""
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
        """Give up on a server that has said nothing for the time of the limit.

        Raises
        ------
        NoAnswer
        """
        if not (self.is_patient and self.answers_others()):
            self.close()
            raise NoAnswer


def engine_of(url: sa.URL, most: int) -> sa.Engine:
    """Make the engine of an index; see ``Database``."""
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
    """Connect; the socket of a connection that took too long is closed when this raises, and not at some later time."""
    try:
        return Connection.connect(*arguments, **options)
    except psycopg.Error as error:
        failure = error.with_traceback(None)  # in its frames psycopg keeps the socket
    raise failure


def _answers(arguments: Any, options: Any) -> bool:
    """Tell whether the server takes a new connection and answers it."""
    with contextlib.suppress(psycopg.Error), _connected(*arguments, **options) as another:
        another.execute("SELECT 1")
        return True
    return False
