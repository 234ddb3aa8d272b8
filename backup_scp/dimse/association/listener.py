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
from dataclasses import dataclass, field

from backup_scp.dimse.upper_layer import SecuredSocket, Selector, Timing
from backup_scp.errors import InvalidSettings

log = logging.getLogger(__name__)

_BACKLOG = 128
_PAUSE_S = 0.1
_LAST_WAIT_S = 1.0
_REQUEST_BYTES = 65536
_LOCAL_LIMIT_EXCEEDED = bytes((3, 0, 0, 0, 0, 4, 0, 2, 3, 2))  # A-ASSOCIATE-RJ, transient: PS3.8 9.3.4
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_STARTS_BLOCKING = sys.platform == "linux"  # what is accepted; elsewhere it is as the listener
_SAID_EVERY = 100
NOT_OPENED = (OSError, TypeError, UnicodeError)  # Python raises TypeError for a name that no encoding has
_LISTENER_IS_SHUT = (errno.EINVAL, errno.EBADF, errno.ENOTSOCK)

Take = Callable[[socket.socket, str], None]


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Where the node listens, as whom, and how many it serves at once.

    Attributes
    ----------
    maximum_associations
        For all callers; configured remote AEs and this machine have ``reserved_associations`` more.
    maximum_associations_per_address
        For all callers at one address that are neither; 0 for no such limit.
    maximum_pdu_length
        Bytes, offered to peers (PS3.8 D.1).
    tls, tls_port
        What the Associations of a second port are secured with; None for no such port.
    plain
        Whether there is a port without TLS.
    """

    ae_title: str
    host: str
    port: int
    check_called_ae_title: bool = True
    maximum_associations: int = 64
    reserved_associations: int = 8
    maximum_associations_per_address: int = 16
    maximum_pdu_length: int = 131072
    timing: Timing = field(default_factory=Timing)
    tls: ssl.SSLContext | None = None
    tls_port: int = 0
    plain: bool = True


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

    Attributes
    ----------
    faults, last_fault
        How often taking a caller failed by an error in the node, and the last one's type.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        dual = host == "::" and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=dual)
        except NOT_OPENED as error:
            raise InvalidSettings(why_not_open(host, port, error)) from None
        self._socket.settimeout(0)  # another process may have been quicker
        self._tls = tls
        self._thread: threading.Thread | None = None
        self._waker: socket.socket | None = None
        self._note_fault: Callable[[str], None] = lambda _: None
        self.faults = 0
        self.last_fault = ""
        self.port = int(self._socket.getsockname()[1])

    def start(self, take: Take, note_fault: Callable[[str], None] = lambda _: None) -> None:
        """Hand each connection and its address to ``take``, in a thread of its own, before any TLS handshake.

        Parameters
        ----------
        take
            Takes it.
        note_fault
            Told of each caller that was lost by an error in the node.
        """
        self._note_fault = note_fault
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

    def _accept(self, take: Take, woken: socket.socket) -> None:
        spare = _Spare()
        with contextlib.closing(spare), woken, Selector() as selector:
            try:
                selector.register(self._socket, selectors.EVENT_READ)
                selector.register(woken, selectors.EVENT_READ)
            except ValueError:  # it is closed already
                return
            while self._accept_next(selector, take, woken, spare):
                pass

    def _accept_next(self, selector: selectors.BaseSelector, take: Take, woken: socket.socket, spare: _Spare) -> bool:
        """Wait for a caller and take it, whatever happens; False when it is time to stop."""
        try:
            # It is asked before a caller is taken: Linux wants a descriptor for the next one early.
            for key, _ in selector.select():
                if key.fileobj is woken:
                    return False
            return self._accept_one(take, spare)
        except Exception as error:  # noqa: BLE001 - a node that lives and is deaf is noticed by nobody
            self.faults += 1
            self.last_fault = type(error).__name__
            if self.faults % _SAID_EVERY == 1:
                log.error("A caller at port %d was lost by an error in the node: %s", self.port, self.last_fault)
            with contextlib.suppress(Exception):  # no memory for this, either
                self._note_fault(self.last_fault)
            time.sleep(_PAUSE_S)  # some memory will come back
            return True

    def _accept_one(self, take: Take, spare: _Spare) -> bool:
        """Take one caller; False when the port is shut."""
        listener = self._socket
        try:
            connection, (address, *_) = listener.accept()
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
            take(self._secured(connection), address)
        except OSError:  # it is gone already
            connection.close()
        except BaseException:
            connection.close()
            raise
        return True

    def _secured(self, connection: socket.socket) -> socket.socket:
        if self._tls is None:
            return connection
        return SecuredSocket(connection, self._tls)


def why_not_open(host: str, port: int, error: Exception) -> str:
    """Say why a port cannot be opened, and what to do."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return (
            f"Port {port} is already in use. Is backup-scp already running? If not, choose another port in [node] "
            "(with TLS: in [tls])"
        )
    if number in (errno.EACCES, errno.EPERM):
        return f"Port {port} needs special rights: choose one above 1023 in [node] (with TLS: in [tls])"
    if number is None or number == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"[node] host: {host} is no address of this computer; 0.0.0.0 is every address that it has"
    reason = getattr(error, "strerror", None) or type(error).__name__
    return f"Port {port} on {host} cannot be opened ({reason}): choose another in [node] (with TLS: in [tls])"


def open_ports(listening: ListenSettings) -> list[Listener]:
    """Open the ports: the plain one, and that with TLS, as far as there are such.

    Raises
    ------
    InvalidSettings
        One cannot be had; neither is open.
    """
    plain = [Listener(listening.host, listening.port)] if listening.plain else []
    if listening.tls is None:
        return plain
    try:
        return [*plain, Listener(listening.host, listening.tls_port, listening.tls)]
    except InvalidSettings:
        for listener in plain:
            listener.close()
        raise


def shut(connection: socket.socket) -> None:
    """Wake whoever waits for a socket; its own thread closes it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Spare:
    """A reserved descriptor: when the process has none left (EMFILE), it accepts and rejects one caller with it."""

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
