"""Send A-ASSOCIATE-RJs in one thread, and wait until the peers close their connections (Sta13, PS3.8 9.1.5).

Closing at once could destroy the A-ASSOCIATE-RJ before the peer has read it.  With a thread for each, rejected callers
would use up the threads of the others.  The A-ASSOCIATE-RJ is sent here too: a rejected caller may call again at once,
and then the thread that served it must be free.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import deque

from backup_scp.dimse.upper_layer import Selector
from backup_scp.dimse.upper_layer.tls_socket import stream_of

MOST = 128
"""Limit of waiting connections; when there are more, the oldest is closed at once."""

_WAIT_S = 5.0
_SEND_S = 0.01
_READ_BYTES = 1 << 16


class ClosingConnections:
    """Waits, for some seconds each, until the peers close their connections."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._coming: deque[tuple[socket.socket, bytes]] = deque()
        self._waker: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._is_stopped = False

    def take(self, connection: socket.socket, farewell: bytes) -> None:
        """Send a last PDU, wait for the end of the connection, and close it; the first call starts the thread."""
        with self._lock:
            if self._is_stopped:
                connection.close()
                return
            self._coming.append((connection, farewell))
            if len(self._coming) > MOST:
                self._coming.popleft()[0].close()
            try:
                self._wake()
            except (OSError, RuntimeError, MemoryError):  # without a descriptor or thread, do not wait for the peer
                self._coming.pop()
                with contextlib.suppress(OSError):
                    _send(connection, farewell)
                connection.close()

    def stop(self) -> None:
        """Close all connections."""
        with self._lock:
            self._is_stopped = True
            waker, self._waker = self._waker, None
        if waker is not None and self._thread is not None:
            waker.close()
            self._thread.join()

    def _wake(self) -> None:
        if self._waker is None:
            self._waker, woken = socket.socketpair()
            self._waker.settimeout(0)
            woken.settimeout(0)
            self._thread = threading.Thread(target=self._run, args=(woken,), name="closing", daemon=True)
            try:
                self._thread.start()
            except BaseException:
                woken.close()
                self._waker.close()
                self._waker = self._thread = None
                raise
        with contextlib.suppress(BlockingIOError):  # the thread is awake already
            self._waker.send(b"1")

    def _run(self, woken: socket.socket) -> None:
        waiting: dict[socket.socket, float] = {}  # end of each wait, the oldest first
        with woken, Selector() as selector:
            selector.register(woken, selectors.EVENT_READ)
            try:
                while self._look(selector, woken, waiting):
                    while self._coming:
                        self._begin(selector, waiting)
            finally:
                for connection in (*waiting, *(one for one, _ in self._coming)):
                    connection.close()

    def _begin(self, selector: selectors.BaseSelector, waiting: dict[socket.socket, float]) -> None:
        with self._lock:
            connection, farewell = self._coming.popleft()
        try:
            _send(connection, farewell)
            connection.settimeout(0)
            selector.register(connection, selectors.EVENT_READ)
        except (OSError, ValueError):  # the peer is gone
            connection.close()
            return
        waiting[connection] = time.monotonic() + _WAIT_S
        if len(waiting) > MOST:
            _end(selector, waiting, next(iter(waiting)))

    @staticmethod
    def _look(selector: selectors.BaseSelector, woken: socket.socket, waiting: dict[socket.socket, float]) -> bool:
        """Wait for an event and handle it; False when it is time to stop."""
        left_s = max(next(iter(waiting.values())) - time.monotonic(), 0) if waiting else None
        for key, _ in selector.select(left_s):
            connection = key.fileobj
            if connection is woken:
                if not woken.recv(_READ_BYTES):
                    return False
            elif isinstance(connection, socket.socket) and _has_ended(connection):
                _end(selector, waiting, connection)
        now = time.monotonic()
        for connection in [one for one, until in waiting.items() if until <= now]:
            _end(selector, waiting, connection)
        return True


def _send(connection: socket.socket, farewell: bytes) -> None:
    """Send a PDU, short enough for the system to take it at once."""
    stream_of(connection).send([farewell], _SEND_S)


def _has_ended(connection: socket.socket) -> bool:
    """Ignore what the peer still sends (PS3.8 AA-6); True when it has closed the connection."""
    try:
        return not connection.recv(_READ_BYTES)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _end(selector: selectors.BaseSelector, waiting: dict[socket.socket, float], connection: socket.socket) -> None:
    selector.unregister(connection)
    del waiting[connection]
    connection.close()
