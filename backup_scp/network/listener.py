"""A port on which callers are taken: until the node stops, and when there is nothing left to take them with."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable

from backup_scp.errors import InvalidSettings
from backup_scp.network.upper_layer import SecuredSocket, Selector

log = logging.getLogger(__name__)

_BACKLOG = 128
_PAUSE_S = 0.1
_LAST_WAIT_S = 1.0
_REQUEST_BYTES = 65536
_LOCAL_LIMIT_EXCEEDED = bytes((3, 0, 0, 0, 0, 4, 0, 2, 3, 2))  # A-ASSOCIATE-RJ, transient: PS3.8 9.3.4
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_STARTS_BLOCKING = sys.platform == "linux"  # what is accepted; elsewhere it is as the listener
_LISTENER_IS_SHUT = (errno.EINVAL, errno.EBADF, errno.ENOTSOCK)


class Listener:
    """An open port; connections wait in it until ``start``.

    Processes that come into being after it was opened may each take connections from it.

    Parameters
    ----------
    host, port
        Where; port 0 lets the system choose.
    tls
        What its connections are secured with; None for none.

    Raises
    ------
    InvalidSettings
        The port cannot be had.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        dual = host == "::" and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=dual)
        except OSError as error:
            raise InvalidSettings(why_not_open(host, port, error)) from None
        self._socket.settimeout(0)  # another process may have been quicker
        self._tls = tls
        self._thread: threading.Thread | None = None
        self._waker: socket.socket | None = None
        self.port = int(self._socket.getsockname()[1])

    def start(self, take: Callable[[socket.socket], None]) -> None:
        """Hand each connection to ``take``, in a thread of its own; with TLS the handshake is still to be made."""
        self._waker, woken = socket.socketpair()
        self._thread = threading.Thread(target=self._accept, args=(take, woken), name="listener", daemon=True)
        self._thread.start()

    @property
    def is_listening(self) -> bool:
        """Whether its thread takes connections."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Take no more here; to shut the port would end it for the other processes that have it."""
        if self._thread is not None and self._waker is not None:
            self._waker.close()
            self._thread.join(_LAST_WAIT_S)
        self._socket.close()

    def close(self) -> None:
        """Let go of it here; other processes go on."""
        self._socket.close()

    def _accept(self, take: Callable[[socket.socket], None], woken: socket.socket) -> None:
        spare = _Spare()
        with contextlib.closing(spare), woken, Selector() as selector:
            try:
                selector.register(self._socket, selectors.EVENT_READ)
                selector.register(woken, selectors.EVENT_READ)
            except ValueError:  # it is closed already
                return
            # It is asked before a caller is taken: Linux wants a descriptor for the next one early.
            while not any(key.fileobj is woken for key, _ in selector.select()):
                if not self._accept_one(take, spare):
                    return

    def _accept_one(self, take: Callable[[socket.socket], None], spare: _Spare) -> bool:
        """Take one caller; False when the port is shut."""
        listener = self._socket
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return True
        except OSError as error:
            if listener.fileno() < 0 or error.errno in _LISTENER_IS_SHUT:
                return False
            if error.errno not in _OUT_OF_DESCRIPTORS or not spare.turn_away(listener):
                time.sleep(_PAUSE_S)  # some will come back
            return True
        spare.refill()
        try:
            if not _STARTS_BLOCKING:
                connection.settimeout(None)
            take(self._secured(connection))
        except OSError:  # it is gone already
            connection.close()
        return True

    def _secured(self, connection: socket.socket) -> socket.socket:
        if self._tls is None:
            return connection
        return SecuredSocket(connection, self._tls)


def why_not_open(host: str, port: int, error: OSError) -> str:
    """Say why a port cannot be opened, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} is already in use. Is backup-scp already running? If not, choose another port in [node] "
            "(with TLS: in [tls])"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"Port {port} needs special rights: choose one above 1023 in [node] (with TLS: in [tls])"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"[node] host: {host} is no address of this computer; 0.0.0.0 is every address that it has"
    reason = error.strerror or type(error).__name__
    return f"Port {port} on {host} cannot be opened ({reason}): choose another in [node] (with TLS: in [tls])"


def shut(connection: socket.socket) -> None:
    """Wake whoever waits for a socket; its own thread closes it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Spare:
    """A descriptor kept for the moment when there is no other: whoever calls then hears so, and is not left waiting."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self.refill()

    def refill(self) -> None:
        """Take one when there are some again."""
        self._is_short = False
        self._open()

    def turn_away(self, listener: socket.socket) -> bool:
        """Give it up for one caller, who is rejected; say whether there was one."""
        if self._descriptor is None:
            return False
        self.close()
        if not self._is_short:
            log.error("No descriptor is left: callers are rejected until one is; raise LimitNOFILE (ulimit -n)")
        self._is_short = True
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(_LAST_WAIT_S)
                connection.recv(_REQUEST_BYTES)  # what is not read at the close would undo the answer
                connection.sendall(_LOCAL_LIMIT_EXCEEDED)
        self._open()
        return True

    def close(self) -> None:
        """Let go of it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> None:
        if self._descriptor is None:
            with contextlib.suppress(OSError):
                self._descriptor = os.open(os.devnull, os.O_RDONLY)
