"""Let a thread send a long body to the socket itself, or receive one.

asyncio and uvicorn copy each byte several times, and wake the event loop for each part.  A thread that sends from the
memory in which the bytes were compared, or receives where they are stored from, does neither.  It never waits long: the
event loop waits in its place for a caller that does not read or send, so that slow callers take no threads from others.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from backup_scp.web.worker_threads import in_thread

_SENT_BYTES = 32 << 20  # at most in one turn: then other bodies have the thread
_STORED_BYTES = 8 << 20  # the same for what is received
_PATIENCE_MS = 20  # of a thread, for a caller to read or send
_PAUSE_S = 0.01  # before a thread receives what has begun to come again
_FLOWING_BYTES = 1 << 16  # a thread waits only for a caller that has sent so much without a pause
_PIECE_BYTES = 1 << 20  # that are stored at once
_MOST_DROPPED_BYTES = 64 << 20  # of a body that cannot be stored: most callers read the answer only when they have sent
_MOST_IDLE = 4  # pieces of memory kept for the next body: the system clears each page of new memory

_idle: deque[bytearray] = deque(maxlen=_MOST_IDLE)

Piece = bytes | bytearray
"""Some bytes of a body."""

Feed = Callable[[Sequence[Piece]], None]
"""Takes some bytes of a body.  They are valid until the second next call, so that a thread can hash them."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How slowly a body may come.

    Attributes
    ----------
    silence_s
        How long no byte may come.
    grace_s
        How long the rate does not count.
    least_bytes_per_s
        The lowest rate after that; the time in which we store does not count.
    """

    silence_s: float = 60.0
    grace_s: float = 300.0
    least_bytes_per_s: float = 1000.0

    def are_passed(self, size: int, waited_s: float) -> bool:
        """Tell whether so many bytes have taken too long."""
        return waited_s > self.grace_s and size < waited_s * self.least_bytes_per_s


class DirectSocket:
    """A second descriptor of a connection's socket; asyncio keeps the first, and notes when the caller has gone.

    Parameters
    ----------
    transport
        The connection, without TLS, and with nothing that asyncio has still to send.

    Raises
    ------
    OSError
        The process has no descriptor left.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._socket: socket.socket = transport.get_extra_info("socket").dup()
        self._socket.settimeout(0)
        self._unsent = memoryview(b"")

    @staticmethod
    def is_possible(transport: asyncio.Transport) -> bool:
        """Tell whether there is such a socket: not with TLS, not on Windows."""
        return (
            sys.platform != "win32"
            and transport.get_extra_info("ssl_object") is None
            and transport.get_extra_info("socket") is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )

    def close(self) -> None:
        """Close this descriptor; the connection stays."""
        self._socket.close()

    async def send(self, parts: Iterator[bytes | memoryview], stall_s: float) -> int:
        """Send all parts; return the bytes sent.  What ``parts`` raises is raised.

        Raises
        ------
        OSError
            The caller has gone, or has read nothing for ``stall_s`` seconds.
        """
        sent = 0
        while True:
            turn = await in_thread(self._send_some, parts)
            sent += turn.size
            if turn.is_last:
                return sent
            if self._transport.is_closing():
                raise ConnectionError
            if not turn.is_ready:
                await self._writable(stall_s)

    async def receive(self, feed: Feed, size: int, limits: BodyLimits) -> None:
        """Receive so many bytes.  What ``feed`` raises is raised, after some of the rest was received and dropped.

        Raises
        ------
        TimeoutError
            They come too slowly.
        OSError
            The caller has gone.
        """
        loop = asyncio.get_running_loop()
        taker = _Taker(feed)
        received, waited_s = 0, 0.0
        while True:
            turn = await in_thread(self._receive_some, taker, size - received)
            received += turn.size
            if turn.is_last or taker.has_enough:
                break
            if self._transport.is_closing():
                raise ConnectionError
            if not turn.is_ready:
                began = loop.time()
                await self._readable(limits.silence_s)
                await asyncio.sleep(_PAUSE_S)
                waited_s += loop.time() - began
                if limits.are_passed(received, waited_s):
                    raise TimeoutError
        if taker.error is not None:
            raise taker.error
        taker.give_back()

    def _receive_some(self, taker: _Taker, left: int) -> _Turn:
        size, flowing, is_ready = 0, _FLOWING_BYTES, True
        while is_ready and size < min(left, _STORED_BYTES) and not taker.has_enough:
            memory = taker.memory()
            filled, wanted, is_end = 0, min(len(memory), left - size), False
            with memoryview(memory) as buffer:
                while filled < wanted and is_ready and not is_end:
                    try:
                        came = self._socket.recv_into(buffer[filled:wanted])
                    except BlockingIOError:
                        is_ready = flowing >= _FLOWING_BYTES and self._is_ready_soon(to_send=False)
                        flowing = 0
                    else:
                        is_end = not came
                        filled += came
                        flowing += came
            taker.take(memory, filled)
            size += filled
            if is_end:
                raise ConnectionError
        if not is_ready:
            taker.give_back()
        return _Turn(size, is_last=size == left, is_ready=is_ready)

    def _send_some(self, parts: Iterator[bytes | memoryview]) -> _Turn:
        size = 0
        while size < _SENT_BYTES:
            if not self._unsent:
                part = next(parts, None)
                if part is None:
                    return _Turn(size, is_last=True)
                self._unsent = memoryview(part)
                continue
            try:
                sent = self._socket.send(self._unsent)
            except BlockingIOError:
                if not self._is_ready_soon(to_send=True):
                    return _Turn(size, is_ready=False)
            else:
                size += sent
                self._unsent = self._unsent[sent:]
        return _Turn(size)

    def _is_ready_soon(self, *, to_send: bool) -> bool:
        if sys.platform == "win32":
            return False
        waiting = select.poll()
        waiting.register(self._socket, select.POLLOUT if to_send else select.POLLIN)
        return bool(waiting.poll(_PATIENCE_MS))

    async def _writable(self, stall_s: float) -> None:
        loop = asyncio.get_running_loop()
        await self._until(loop.add_writer, loop.remove_writer, stall_s)

    async def _readable(self, stall_s: float) -> None:
        loop = asyncio.get_running_loop()
        await self._until(loop.add_reader, loop.remove_reader, stall_s)

    async def _until(self, add: Callable[..., object], remove: Callable[..., object], stall_s: float) -> None:
        ready = asyncio.get_running_loop().create_future()
        add(self._socket, _resolve, ready)
        try:
            async with asyncio.timeout(stall_s):
                await ready
        finally:
            remove(self._socket)


class _Taker:
    """Takes what comes, into two pieces of memory by turns, and after an error drops some more."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._dropped_bytes = 0
        self._flowing_bytes = 0
        self._next = self._last = bytearray()
        self.error: Exception | None = None

    @property
    def has_enough(self) -> bool:
        return self._dropped_bytes > _MOST_DROPPED_BYTES

    def memory(self) -> bytearray:
        """Return memory for the next piece: small at first, so that many callers that send a little take little."""
        size = _FLOWING_BYTES if self._flowing_bytes < 4 * _FLOWING_BYTES else _PIECE_BYTES
        memory = self._next if len(self._next) == size else _memory(size)
        self._next, self._last = self._last, memory
        return memory

    def give_back(self) -> None:
        """Leave the memory to other bodies, while the caller sends nothing and at the end."""
        for memory in (self._next, self._last):
            with contextlib.suppress(BufferError):
                if len(memory) == _PIECE_BYTES:
                    memory.append(memory.pop())  # cannot be while somebody reads it, who then keeps it
                    _idle.append(memory)
        self._next = self._last = bytearray()
        self._flowing_bytes = 0

    def take(self, memory: bytearray, length: int) -> None:
        """Take so many bytes."""
        self._flowing_bytes += length
        if self.error is not None:
            self._dropped_bytes += length
            return
        try:
            self._feed([memory if length == len(memory) else bytes(memory[:length])])
        except Exception as error:  # noqa: BLE001 - raised when the caller has sent the rest
            self.error = error


def _memory(size: int) -> bytearray:
    with contextlib.suppress(IndexError):
        if size == _PIECE_BYTES:
            return _idle.pop()
    return bytearray(size)


class _Turn(NamedTuple):
    size: int
    is_last: bool = False
    is_ready: bool = True


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
