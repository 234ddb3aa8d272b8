"""A socket with a buffer, deadlines, and a function that is called while it waits."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from mmap import ACCESS_COPY, mmap

from backup_scp.dimse.upper_layer.p_data import Piece
from backup_scp.dimse.upper_layer.socket_io import Stream
from backup_scp.dimse.upper_layer.tls_socket import stream_of

_BUFFER_BYTES = 1 << 20
_MOST_IDLE = 8  # free buffers kept for the next connection: to map and unmap one costs as much as a C-ECHO
_SLOWEST_BYTES_PER_S = 10_000  # minimum rate: a PDU or write gets this much time in addition to the timeout
_WATCH_S = 0.2
_PATIENCE_S = 4.0
_LAST_WORD_S = 5.0  # limit for sending a PDU of the state machine, since the end of an Association waits for it
_JOINED_BYTES = 16 << 10  # below this, one copy is faster than a gathering write

_idle: deque[memoryview] = deque(maxlen=_MOST_IDLE)


_NO_BUFFER = memoryview(b"")


class AssociationEnded(Exception):  # noqa: N818 - not an error: the usual end of reading
    """The peer released or aborted, or the connection is lost; the state machine has handled it."""


class Interrupted(Exception):  # noqa: N818 - not an error of this association
    """The requestor of the current work no longer wants it."""


class PeerTimedOut(AssociationEnded):
    """The peer was silent for longer than the limit."""


class BufferedSocket:
    """A socket, and the bytes that were received and not read yet.

    Attributes
    ----------
    connection
        The socket; None after it was closed.
    network_timeout_s
        How long the peer may pause within a PDU or message, in seconds.
    watch
        Called repeatedly while the peer is slow to send or receive.  It may raise ``Interrupted``, and is then
        removed.
    """

    def __init__(self, connection: socket.socket | None, network_timeout_s: float) -> None:
        self.connection = connection
        self.network_timeout_s = network_timeout_s
        self.watch: Callable[[], None] | None = None
        self._watched_at = 0.0
        self._stream: Stream | None = None
        self._buffer, self._other = _buffer(), _NO_BUFFER
        self._is_lent = False  # the caller may still use this buffer: receive into the other one
        self._start = self._end = 0  # received and not read yet

    def has_input(self, wait_s: float = 0.0) -> bool:
        """Tell whether bytes from the peer, or its end, can be read; wait for them at most ``wait_s``."""
        connection = self.connection
        if self._start != self._end or connection is None:
            return True
        until = time.monotonic() + wait_s
        while self._receive_now() is None:
            if not wait_s or not self._on(connection).wait(until - time.monotonic()):
                return False
        return True

    def shut(self, how: int) -> None:
        """From any thread: shut the connection down in one direction or both; its own thread closes it."""
        connection = self.connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(how)

    # -- reading -----------------------------------------------------------------------------------------------------

    def _read_exactly(self, length: int, deadline: float) -> bytes:
        body = bytearray()
        while len(body) < length:
            if self._start == self._end:
                self._receive(deadline)
            body += self._take(min(length - len(body), self._end - self._start))
        return bytes(body)

    def _require(self, size: int, deadline: float) -> None:
        """Receive until the buffer has ``size`` contiguous bytes; ``size`` is at most a header."""
        while self._end - self._start < size:
            self._move_up()
            self._receive(deadline)

    def _move_up(self) -> None:
        """Make room behind the received bytes; do not overwrite bytes that the caller may still use."""
        if self._start:
            rest = bytes(self._buffer[self._start : self._end])
            if self._is_lent:
                self._buffer, self._other = self._other or _buffer(), self._buffer
                self._is_lent = False
            self._buffer[: len(rest)] = rest
            self._start, self._end = 0, len(rest)

    def _take(self, size: int) -> memoryview:
        data = self._buffer[self._start : self._start + size]
        self._start += size
        return data

    def _receive(self, deadline: float) -> None:
        """Receive at least one byte into the free end of the buffer.

        Raises
        ------
        PeerTimedOut
            Nothing came before the deadline.
        AssociationEnded
            Nothing more can come.
        """
        if self._start == self._end:
            self._move_up()
        connection = self.connection
        if connection is None:
            raise AssociationEnded
        count = self._receive_from(connection, deadline)
        if not count:
            self._peer_is_gone()
            raise AssociationEnded
        self._end += count

    def _receive_now(self) -> int | None:
        """Receive what is there, without waiting, behind the earlier bytes; None if there is nothing, 0 at the end."""
        connection = self.connection
        if connection is None:
            return 0
        self._move_up()
        try:
            count = self._on(connection).receive_now(self._buffer[self._end :])
        except OSError:
            return 0
        self._end += count or 0
        return count

    def _receive_from(self, connection: socket.socket, deadline: float) -> int:
        """Wait for bytes and receive them; 0 when the connection is lost."""
        stream, room = self._on(connection), self._buffer[self._end :]
        while True:
            try:
                return stream.receive(room, self._patience_s(deadline))
            except TimeoutError:
                if time.monotonic() >= deadline:
                    raise PeerTimedOut from None
                self._look_up()
            except OSError:
                return 0

    def _peer_is_gone(self) -> None:
        """Handle that the peer has closed the connection, or that it was lost."""
        raise NotImplementedError

    # -- writing -----------------------------------------------------------------------------------------------------

    def _put(self, pieces: Sequence[Piece], most_s: float = math.inf) -> None:
        """Write everything, also to a slow peer, in as few system calls as possible.

        Parameters
        ----------
        most_s
            A shorter limit than the timeout, in seconds.

        Raises
        ------
        OSError
            The peer takes nothing more.
        """
        connection = self.connection
        if connection is None:
            raise ConnectionError
        stream = self._on(connection)
        left = sum(map(len, pieces))
        deadline = self._deadline(left, most_s)
        if left <= _JOINED_BYTES or not stream.gathers:
            pieces = [b"".join(pieces)]
        while left:
            try:
                sent = stream.send(pieces, self._patience_s(deadline))
            except TimeoutError:
                if time.monotonic() >= deadline:
                    raise
            else:
                left -= sent
                pieces = _after(pieces, sent) if left else ()
            self._look_up()

    def send_ignoring_errors(self, data: bytes) -> None:
        """Write a PDU of the state machine; when the peer is gone, the next read reports it."""
        watch, self.watch = self.watch, None
        try:
            self._put([data], _LAST_WORD_S)
        except OSError:
            self.shut(socket.SHUT_RDWR)
        self.watch = watch

    # -- both --------------------------------------------------------------------------------------------------------

    def _deadline(self, size: int, most_s: float = math.inf) -> float:
        """Return the deadline for ``size`` bytes: a peer that sends a byte a minute must not hold an Association."""
        return time.monotonic() + min(self.network_timeout_s, most_s) + size / _SLOWEST_BYTES_PER_S

    def _patience_s(self, deadline: float) -> float:
        """Return how long a call may block: until the next call of ``watch`` or the deadline, whichever is sooner."""
        usual_s = _PATIENCE_S if self.watch is None else _WATCH_S
        left_s = deadline - time.monotonic()
        return usual_s if left_s > usual_s else max(left_s, 0.001)

    def _on(self, connection: socket.socket) -> Stream:
        """Return the stream of this socket; made here, because an outgoing socket is connected and secured later."""
        if self._stream is None or self._stream.socket is not connection:
            self._stream = stream_of(connection)
        return self._stream

    def _give_back(self) -> None:
        """Return the buffers for the next connection; nothing can be read here afterwards."""
        if self._buffer is _NO_BUFFER and self._other is _NO_BUFFER:
            return
        _idle.extend(filter(len, (self._other, self._buffer)))
        self._buffer = self._other = _NO_BUFFER
        self._start = self._end = 0

    def _look_up(self) -> None:
        """Call ``watch``, unless it was called a moment ago."""
        if self.watch is None or time.monotonic() - self._watched_at < _WATCH_S:
            return
        watch, self.watch = self.watch, None
        watch()
        self.watch, self._watched_at = watch, time.monotonic()


def _buffer() -> memoryview:
    """Return a free buffer, or create one; it uses memory only as it is filled, so not for a silent peer."""
    try:
        return _idle.pop()
    except IndexError:
        return memoryview(mmap(-1, _BUFFER_BYTES, access=ACCESS_COPY))  # private: a forked process has its own copy


def _after(pieces: Sequence[Piece], sent: int) -> list[Piece]:
    """Return the pieces that are not sent yet."""
    for number, piece in enumerate(pieces):
        if sent < len(piece):
            return [memoryview(piece)[sent:], *pieces[number + 1 :]]
        sent -= len(piece)
    return []
