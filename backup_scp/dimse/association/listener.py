"""Accept connections on a port, also when the process has no descriptor or memory left."""

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from backup_scp.dimse.upper_layer import SecuredSocket, Selector, Timing
from backup_scp.errors import InvalidSettings
from backup_scp.machine.listening_socket import listen
from backup_scp.machine.networks import Network

log = logging.getLogger(__name__)

_BACKLOG = 128
_PAUSE_S = 0.1
_LAST_WAIT_S = 1.0
_REQUEST_BYTES = 65536
_LOCAL_LIMIT_EXCEEDED = bytes((3, 0, 0, 0, 0, 4, 0, 2, 3, 2))  # A-ASSOCIATE-RJ, transient: PS3.8 9.3.4
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_STARTS_BLOCKING = sys.platform == "linux"  # an accepted socket; on other systems it has the listener's mode
_SAID_EVERY = 100
NOT_OPENED = (OSError, TypeError, UnicodeError)  # Python raises TypeError for a name that cannot be encoded
_LISTENER_IS_SHUT = (errno.EINVAL, errno.EBADF, errno.ENOTSOCK)

Take = Callable[[socket.socket, str], None]


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Address, AE title and limits of the node's listeners.

    Attributes
    ----------
    maximum_associations
        Limit for all callers; configured remote AEs and this machine have ``reserved_associations`` more.
    maximum_associations_per_address
        Limit for one address, for other callers than these; 0 for no limit.
    maximum_pdu_length
        Maximum bytes of a P-DATA-TF to us, as offered to peers (PS3.8 D.1).
    tls, tls_port
        TLS context and number of a second port; None for no such port.
    plain
        Whether there is a port without TLS.
    proxies
        Addresses whose connections begin with a header of the PROXY protocol.
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
    proxies: tuple[Network, ...] = ()

    @property
    def reachable_tls_port(self) -> int:
        """The port with TLS; 0 when there is none."""
        return self.tls_port if self.tls is not None else 0


class Listener:
    """An open port; connections wait in the system's queue until ``start``.

    Processes forked after it was opened can each accept connections from it.

    Parameters
    ----------
    host, port
        The address; with port 0 the system chooses a port.
    tls
        TLS context of its connections; None for no TLS.
    before
        Listeners that go: with one at the same address it shares the socket, so that no caller is refused meanwhile.

    Raises
    ------
    InvalidSettings
        The port cannot be opened.

    Attributes
    ----------
    faults, last_fault
        How many callers were lost by an error in the node, and the type of the last error.
    """

    def __init__(
        self, host: str, port: int, tls: ssl.SSLContext | None = None, before: Sequence[Listener] = ()
    ) -> None:
        self._asked = host, port, tls is not None
        same = next((one for one in before if one._asked == self._asked), None)  # noqa: SLF001 - of this class
        self._socket: socket.socket = same._socket.dup() if same else _opened(host, port, before)  # noqa: SLF001 - of this class
        self._socket.settimeout(0)  # do not block: another process may accept the connection first
        self._tls = tls
        self._thread: threading.Thread | None = None
        self._waker: socket.socket | None = None
        self._note_fault: Callable[[str], None] = lambda _: None
        self.faults = 0
        self.last_fault = ""
        self.port = int(self._socket.getsockname()[1])

    def start(self, take: Take, note_fault: Callable[[str], None] = lambda _: None) -> None:
        """Start a thread that passes each connection and its address to ``take``, before any TLS handshake.

        Parameters
        ----------
        take
            Called with connection and address.
        note_fault
            Called for each caller that was lost through an error in the node.
        """
        self._note_fault = note_fault
        self._waker, woken = socket.socketpair()
        self._thread = threading.Thread(target=self._accept, args=(take, woken), name="listener", daemon=True)
        self._thread.start()

    @property
    def is_listening(self) -> bool:
        """Whether its thread accepts connections."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Stop accepting in this process, without shutting the port, which other processes may share."""
        self._end_thread()
        self._socket.close()

    def stop_after_the_last(self, take: Take) -> None:
        """Stop as ``stop`` does, after callers that wait in the queue: closing the port would turn them away."""
        self._end_thread()
        with Selector() as selector, contextlib.suppress(ValueError, OSError):
            selector.register(self._socket, selectors.EVENT_READ)
            with contextlib.closing(_Spare()) as spare:
                while selector.select(0) and self._accept_one(take, spare):
                    pass
        self._socket.close()

    def _end_thread(self) -> None:
        if self._thread is not None and self._waker is not None:
            self._waker.close()
            self._thread.join(_LAST_WAIT_S)

    def close(self) -> None:
        """Close the port in this process; other processes continue."""
        self._socket.close()

    def _accept(self, take: Take, woken: socket.socket) -> None:
        spare = _Spare()
        with contextlib.closing(spare), woken, Selector() as selector:
            try:
                selector.register(self._socket, selectors.EVENT_READ)
                selector.register(woken, selectors.EVENT_READ)
            except ValueError:  # the socket is closed already
                return
            while self._accept_next(selector, take, woken, spare):
                pass

    def _accept_next(self, selector: selectors.BaseSelector, take: Take, woken: socket.socket, spare: _Spare) -> bool:
        """Wait for a caller and accept it; catch every error.  False when it is time to stop."""
        try:
            # select() before accept(): Linux needs a free descriptor already when accept() begins to wait.
            for key, _ in selector.select():
                if key.fileobj is woken:
                    return False
            return self._accept_one(take, spare)
        except Exception as error:  # noqa: BLE001 - nobody would notice the end of this thread
            self.faults += 1
            self.last_fault = type(error).__name__
            if self.faults % _SAID_EVERY == 1:
                log.error("A caller at port %d was lost through an error in the node: %s", self.port, self.last_fault)
            with contextlib.suppress(Exception):  # there may be no memory for this either
                self._note_fault(self.last_fault)
            time.sleep(_PAUSE_S)  # until there is memory again
            return True

    def _accept_one(self, take: Take, spare: _Spare) -> bool:
        """Accept one caller; False when the port is shut."""
        listener = self._socket
        try:
            connection, (address, *_) = listener.accept()
        except BlockingIOError:
            return True
        except OSError as error:
            if listener.fileno() < 0 or error.errno in _LISTENER_IS_SHUT:
                return False
            if error.errno not in _OUT_OF_DESCRIPTORS or not spare.turn_away(listener):
                time.sleep(_PAUSE_S)  # until there is a descriptor again
            return True
        spare.refill()
        try:
            if not _STARTS_BLOCKING:
                connection.settimeout(None)
            take(self._secured(connection), address)
        except OSError:  # the caller is gone already
            connection.close()
        except BaseException:
            connection.close()
            raise
        return True

    def _secured(self, connection: socket.socket) -> socket.socket:
        if self._tls is None:
            return connection
        return SecuredSocket(connection, self._tls)


def _opened(host: str, port: int, before: Sequence[Listener]) -> socket.socket:
    try:
        return listen(host, port, _BACKLOG, [one._socket for one in before])  # noqa: SLF001 - of this module
    except NOT_OPENED as error:
        raise InvalidSettings(why_not_open(host, port, error)) from None


def why_not_open(host: str, port: int, error: Exception) -> str:
    """Return why a port cannot be opened, and what to do."""
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


def open_ports(listening: ListenSettings, before: Sequence[Listener] = ()) -> list[Listener]:
    """Open the configured ports: the one without TLS and the one with TLS.

    Parameters
    ----------
    listening
        Which ports.
    before
        Listeners that these replace.

    Raises
    ------
    InvalidSettings
        A port cannot be opened; neither is open.
    """
    wanted: list[tuple[int, ssl.SSLContext | None]] = [(listening.port, None)] if listening.plain else []
    if listening.tls is not None:
        wanted.append((listening.tls_port, listening.tls))
    opened: list[Listener] = []
    try:
        for port, tls in wanted:
            opened.append(Listener(listening.host, port, tls, before))
    except InvalidSettings:
        for listener in opened:
            listener.close()
        raise
    return opened


def shut(connection: socket.socket) -> None:
    """Shut a connection down, which wakes the thread that waits for it and closes it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Spare:
    """A reserved descriptor: when the process has none left (EMFILE), it accepts and rejects one caller with it."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self.refill()

    def refill(self) -> None:
        """Reserve a descriptor again, when there is one."""
        self._is_short = False
        self._open()

    def turn_away(self, listener: socket.socket) -> bool:
        """Use the reserved descriptor to accept and reject one caller; False when there is none."""
        if self._descriptor is None:
            return False
        self.close()
        if not self._is_short:
            log.error(
                "No file descriptor is left: callers are rejected until one is free; raise LimitNOFILE (ulimit -n)"
            )
        self._is_short = True
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(_LAST_WAIT_S)
                connection.recv(_REQUEST_BYTES)  # unread bytes at close() would make the system discard the answer
                connection.sendall(_LOCAL_LIMIT_EXCEEDED)
        self._open()
        return True

    def close(self) -> None:
        """Close the reserved descriptor."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> None:
        if self._descriptor is None:
            with contextlib.suppress(OSError):
                self._descriptor = os.open(os.devnull, os.O_RDONLY)
