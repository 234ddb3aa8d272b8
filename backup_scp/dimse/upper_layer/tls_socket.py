"""TLS over a socket: receive all available records in one call, then decrypt them (PS3.15 B.12).

Python's own ``SSLSocket`` makes two system calls for each record of 16 KiB, and returns one record at a time.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Sequence
from typing import cast

from backup_scp.dimse.upper_layer.p_data import Piece
from backup_scp.dimse.upper_layer.socket_io import Stream, bare_stream
from backup_scp.machine.certificate_names import names_in

_LONGEST_WRITE_BYTES = 1 << 18  # encrypted at once; limits memory
_ROOM_BYTES = 16 << 10
_AT_ONCE_BYTES = 1 << 18  # received at once, so that decryption finds it in the CPU cache
_WORTH_BYTES = 64 << 10  # least free room for another receive
_MOST_ANSWERS_BYTES = 1 << 16  # limit of unsent TLS messages, for example answers to thousands of KeyUpdates


class SecuredSocket(socket.socket):
    """A socket that replaces a plain one; only its ``Secured`` may read and write it.

    Parameters
    ----------
    bare
        A connected socket; it is detached and cannot be used afterwards.
    context
        The TLS context.
    server_hostname
        As requestor, the host that we call; None for an acceptor.

    Attributes
    ----------
    tls
        Reads records from ``received``, and writes them to ``made``.
    """

    def __init__(self, bare: socket.socket, context: ssl.SSLContext, server_hostname: str | None = None) -> None:
        super().__init__(bare.family, bare.type, bare.proto, fileno=bare.fileno())
        self.settimeout(bare.gettimeout())
        bare.detach()
        try:
            self._secure(context, server_hostname)
        except BaseException:  # out of memory
            self.close()
            raise

    def _secure(self, context: ssl.SSLContext, server_hostname: str | None) -> None:
        self.received, self.made = ssl.MemoryBIO(), ssl.MemoryBIO()
        is_server = server_hostname is None
        self.tls = context.wrap_bio(self.received, self.made, server_side=is_server, server_hostname=server_hostname)


class Secured:
    """A ``Stream`` with TLS."""

    gathers = False

    def __init__(self, connection: SecuredSocket) -> None:
        self.socket: socket.socket = connection
        self._bare = bare_stream(connection)
        self._received, self._made, self._tls = connection.received, connection.made, connection.tls
        self._unsent = memoryview(b"")  # encrypted records
        self._piece: Piece | None = None  # the piece that they are of
        self._taken = 0  # bytes of that piece in them

    def do_handshake(self, timeout_s: float) -> None:
        """Do the TLS handshake with the peer.

        Raises
        ------
        ssl.SSLError
            It failed.
        TimeoutError
            It took too long.
        OSError
            Also for a caller that closes before its first byte: a test whether the port is open is no failed TLS.
        """
        until, is_silent = time.monotonic() + timeout_s, self._tls.server_side
        room = memoryview(bytearray(_ROOM_BYTES))
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush(_left(until))
                count = self._bare.receive(room, _left(until))
                if is_silent and not count:
                    raise ConnectionAbortedError from None
                is_silent = False
                self._take_in(room, count)
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush(_left(until))  # sends the alert to the peer
                raise
            else:
                self._flush(_left(until))
                return

    def receive(self, room: memoryview, patience_s: float) -> int:
        left_s, until = patience_s, time.monotonic() + patience_s
        while (count := self._deciphered(room)) is None:
            self._take_in(room, self._bare.receive(room[:_AT_ONCE_BYTES], left_s))
            left_s = _left(until)  # after a part of a record, the same deadline holds for its rest
        return count + self._what_follows(room[count:]) if count else 0

    def _what_follows(self, room: memoryview) -> int:
        """Receive and decrypt more, without waiting, while there is room; return the number of bytes."""
        count = 0
        with contextlib.suppress(OSError):  # the next read raises it again, after the bytes before it were read
            while len(room) - count >= _WORTH_BYTES:
                rest = room[count:]
                received = self._bare.receive_now(rest[:_AT_ONCE_BYTES])
                if received is None:
                    break
                self._take_in(rest, received)
                count += self._deciphered(rest) or 0
                if not received:
                    break
        return count

    def receive_now(self, room: memoryview) -> int | None:
        count = self._deciphered(room)
        if count is None and (received := self._bare.receive_now(room)) is not None:
            self._take_in(room, received)
            count = self._deciphered(room)  # None: only a part of a record, or a record of TLS itself
        return count

    def send(self, pieces: Sequence[Piece], patience_s: float) -> int:
        piece = pieces[0]
        if piece is not self._piece:
            self._flush(patience_s)  # the rest of a piece that the caller gave up
            self._taken = self._tls.write(memoryview(piece)[:_LONGEST_WRITE_BYTES])
            self._piece = piece
        self._flush(patience_s)
        self._piece = None
        return self._taken

    def wait(self, patience_s: float) -> bool:
        return self._bare.wait(patience_s)

    def _take_in(self, room: memoryview, count: int) -> None:
        """Pass received bytes to TLS; their place in ``room`` is free again."""
        if count:
            self._received.write(room[:count])
        else:
            self._received.write_eof()

    def _deciphered(self, room: memoryview) -> int | None:
        """Decrypt all complete records into ``room``, while it has space; None when there is none, 0 at the end."""
        count, size, read = 0, len(room), self._tls.read
        try:
            while count < size:
                got = cast("int", read(size - count, room[count:]))  # with a buffer it returns a number
                if not got:
                    break
                count += got
        except ssl.SSLWantReadError:
            if self._made.pending > _MOST_ANSWERS_BYTES:  # no honest peer causes so many
                raise ConnectionAbortedError from None
            return count or None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return count
        except ssl.SSLError:
            if not count:  # otherwise the next call raises it again
                raise
        return count

    def _flush(self, patience_s: float) -> None:
        """Send all records; the next call sends those that were not taken in time."""
        if self._made.pending:
            self._unsent = memoryview(bytes(self._unsent) + self._made.read())
        left_s, until = patience_s, time.monotonic() + patience_s
        while self._unsent:
            self._unsent = self._unsent[self._bare.send([self._unsent], left_s) :]
            left_s = _left(until) if self._unsent else 0.0


def stream_of(connection: socket.socket) -> Stream:
    """Return the stream for a socket, with or without TLS."""
    return Secured(connection) if isinstance(connection, SecuredSocket) else bare_stream(connection)


def proved_names(connection: socket.socket) -> frozenset[str]:
    """Return the names in the peer's certificate, which a CA of ours signed; empty without one."""
    if not isinstance(connection, SecuredSocket) or connection.tls.context.verify_mode is not ssl.CERT_REQUIRED:
        return frozenset()
    der, decoded = connection.tls.getpeercert(binary_form=True), connection.tls.getpeercert()
    return names_in(der, decoded) if der and decoded else frozenset()


def _left(until: float) -> float:
    left_s = until - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s
