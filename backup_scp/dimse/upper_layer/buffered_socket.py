"""A socket with a buffer, deadlines, and something to look after meanwhile."""

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
_MOST_IDLE = 8  # buffers that wait for the next connection: to map and to unmap one costs as much as a C-ECHO
_SLOWEST_BYTES_PER_S = 10_000  # what a PDU or a write may take beyond the timeout
_WATCH_S = 0.2
_PATIENCE_S = 4.0
_LAST_WORD_S = 5.0  # what the peer may take for a PDU of the state machine: whoever ends an Association waits for that
_JOINED_BYTES = 16 << 10  # to copy so little costs less than to describe the pieces

_idle: deque[memoryview] = deque(maxlen=_MOST_IDLE)


_NO_BUFFER = memoryview(b"")


class AssociationEnded(Exception):  # noqa: N818 - not an error: the usual end of reading
    """The peer released or aborted, or the connection is gone; the state machine has dealt with it."""


class Interrupted(Exception):  # noqa: N818 - not an error of this association
    """What is under way here is no longer wanted by somebody else."""


class PeerTimedOut(AssociationEnded):
    """The peer said nothing for longer than it may."""


class BufferedSocket:
    """A socket, and the bytes that were received and not yet read.

    Attributes
    ----------
    connection
        The bare socket, None once it is closed.
    network_timeout_s
        How long the peer may pause in the middle of a PDU or a message.
    watch
        Called again and again while the peer is slow to send or to take something; may raise ``Interrupted``, and is
        forgotten then.
    """

    def __init__(self, connection: socket.socket | None, network_timeout_s: float) -> None:
        self.connection = connection
        self.network_timeout_s = network_timeout_s
        self.watch: Callable[[], None] | None = None
        self._watched_at = 0.0
        self._stream: Stream | None = None
        self._buffer, self._other = _buffer(), _NO_BUFFER
        self._is_lent = False  # what was read last may still be looked at in this buffer: the next goes to the other
        self._start = self._end = 0  # what was received and not yet read

    def has_input(self, wait_s: float = 0.0) -> bool:
        """Whether something from the peer, or its end, waits to be read; wait for it at most so long."""
        connection = self.connection
        if self._start != self._end or connection is None:
            return True
        until = time.monotonic() + wait_s
        while self._receive_now() is None:
            if not wait_s or not self._on(connection).wait(until - time.monotonic()):
                return False
        return True

    def shut(self, how: int) -> None:
        """From any thread: end the connection in one direction or both; its own thread closes it."""
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
        """Have ``size`` bytes in one piece; ``size`` is at most a header."""
        while self._end - self._start < size:
            self._move_up()
            self._receive(deadline)

    def _move_up(self) -> None:
        """Make room behind what was received, and leave alone what is lent."""
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
        """Receive what there is, at least one byte, into the buffer's free end.

        Raises
        ------
        PeerTimedOut
            There was nothing until the deadline.
        AssociationEnded
            There will be nothing more.
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
        """Receive what there is behind what was received; None when that is nothing yet, 0 at the end."""
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
        """Receive as many bytes as there are; 0 when the connection is gone."""
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
        """See to it that the peer has closed the connection, or lost it."""
        raise NotImplementedError

    # -- writing -----------------------------------------------------------------------------------------------------

    def _put(self, pieces: Sequence[Piece], most_s: float = math.inf) -> None:
        """Write everything, however slowly the peer takes it, in as few calls as the system lets us.

        Parameters
        ----------
        most_s
            How long it may take nothing, where that is less than the timeout.

        Raises
        ------
        OSError
            It takes nothing more.
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
        """Write a PDU of the state machine: that the peer is gone is for the next read to see."""
        watch, self.watch = self.watch, None
        try:
            self._put([data], _LAST_WORD_S)
        except OSError:
            self.shut(socket.SHUT_RDWR)
        self.watch = watch

    # -- both --------------------------------------------------------------------------------------------------------

    def _deadline(self, size: int, most_s: float = math.inf) -> float:
        """When ``size`` bytes must be through: a peer that sends a byte a minute holds no association for ever."""
        return time.monotonic() + min(self.network_timeout_s, most_s) + size / _SLOWEST_BYTES_PER_S

    def _patience_s(self, deadline: float) -> float:
        """Say how long a call may block until it is time to look up or, when that is near, to the deadline."""
        usual_s = _PATIENCE_S if self.watch is None else _WATCH_S
        left_s = deadline - time.monotonic()
        return usual_s if left_s > usual_s else max(left_s, 0.001)

    def _on(self, connection: socket.socket) -> Stream:
        """Give what reads and writes this socket: one of ours is connected, and secured, after we have it."""
        if self._stream is None or self._stream.socket is not connection:
            self._stream = stream_of(connection)
        return self._stream

    def _give_back(self) -> None:
        """Let the next connection have the buffers; nothing more can be read here."""
        if self._buffer is _NO_BUFFER and self._other is _NO_BUFFER:
            return
        _idle.extend(filter(len, (self._other, self._buffer)))
        self._buffer = self._other = _NO_BUFFER
        self._start = self._end = 0

    def _look_up(self) -> None:
        """Let ``watch`` see to what else goes on, if it has not done so just now."""
        if self.watch is None or time.monotonic() - self._watched_at < _WATCH_S:
            return
        watch, self.watch = self.watch, None
        watch()
        self.watch, self._watched_at = watch, time.monotonic()


def _buffer() -> memoryview:
    """Give one that is idle, or make one; it costs memory as it is used, not for a silent peer."""
    try:
        return _idle.pop()
    except IndexError:
        return memoryview(mmap(-1, _BUFFER_BYTES, access=ACCESS_COPY))  # a process that comes of this one has its own


def _after(pieces: Sequence[Piece], sent: int) -> list[Piece]:
    """Give what is still to be sent."""
    for number, piece in enumerate(pieces):
        if sent < len(piece):
            return [memoryview(piece)[sent:], *pieces[number + 1 :]]
        sent -= len(piece)
    return []
