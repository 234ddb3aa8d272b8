"""Run the application on uvicorn until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from backup_scp.errors import InvalidSettings
from backup_scp.machine.renewed_context import RenewedContext
from backup_scp.web.guarded_connection import GuardedConnection
from backup_scp.web.options import WebOptions
from backup_scp.web.worker_threads import in_thread

_GRACE_S = 5  # for answers that are being sent
_KEEP_ALIVE_S = 75  # of an idle connection: longer than a viewer pauses
_MOST_CONNECTIONS = 512
_NO_PASSWORD = "?"  # noqa: S105 - a key that has one is refused: nobody is there to type it


class _Server(uvicorn.Server):
    """Leaves signals alone: the node's main process says when this one stops."""

    on_start: Callable[[], object]

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_start()
        await in_thread(_do_nothing)  # loads what threads need: 30 ms, which the first request would wait


class WebServer:
    """Serves an application on a socket that listens already.

    Parameters
    ----------
    app
        What answers.
    options
        The certificate, if any.

    Raises
    ------
    InvalidSettings
        The certificate or key cannot be used.
    """

    def __init__(self, app: ASGIApp, options: WebOptions) -> None:
        config = uvicorn.Config(
            app,
            http=GuardedConnection,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # a header must not say where a caller is
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
            limit_concurrency=_MOST_CONNECTIONS,
            ssl_certfile=_named(options.certificate),
            ssl_keyfile=_named(options.key),
            ssl_keyfile_password=_NO_PASSWORD,
            ssl_ca_certs=_named(options.ca),
            ssl_cert_reqs=ssl.CERT_NONE if options.ca is None else ssl.CERT_REQUIRED,
            ssl_context_factory=None if options.certificate is None else _renewed,
        )
        config.load()
        self._server = _Server(config)

    def run(self, listener: socket.socket, on_start: Callable[[], object] = lambda: None) -> None:
        """Serve until ``stop``."""
        self._server.on_start = on_start
        with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
            runner.run(self._server.serve(sockets=[listener]))

    def stop(self) -> None:
        """End ``run``, from any thread: no new requests, and some seconds for the answers being sent."""
        self._server.should_exit = True


def _renewed(config: uvicorn.Config, make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Return a context that takes renewed files."""
    files = (config.ssl_certfile, config.ssl_keyfile, config.ssl_ca_certs)
    return RenewedContext(functools.partial(_usable, make), [Path(file) for file in files if file])


def _usable(make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    try:
        return make()
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise InvalidSettings(
            f"[web] certificate, key or ca cannot be used ({reason}): check that they are PEM files, that this "
            "user may read them, and that the key belongs to the certificate and has no password"
        ) from None


def _do_nothing() -> None:
    """Do nothing."""


def _named(path: Path | None) -> str | None:
    return None if path is None else str(path)
