"""Let a thread send a long body to the socket itself.

asyncio copies what a socket does not take at once, and uvicorn wakes the event loop for each part.  A thread that sends
from the memory in which the bytes were compared does neither.  It never waits long: when the caller does not read, the
event loop waits in its place, so that slow callers take no threads from others.
"""

from __future__ import annotations

import asyncio
import select
import socket
import sys
from collections.abc import Iterator
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool

LEAST_BYTES = 1 << 18
"""The shortest body for which it pays."""

_TURN_BYTES = 8 << 20  # then other bodies have the thread
_PATIENCE_MS = 20  # of a thread, for a caller to read


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
            turn = await run_in_threadpool(self._send_some, parts)
            sent += turn.size
            if turn.is_last:
                return sent
            if self._transport.is_closing():
                raise ConnectionError
            if not turn.is_writable:
                await self._writable(stall_s)

    def _send_some(self, parts: Iterator[bytes | memoryview]) -> _Turn:
        size = 0
        while size < _TURN_BYTES:
            if not self._unsent:
                part = next(parts, None)
                if part is None:
                    return _Turn(size, is_last=True)
                self._unsent = memoryview(part)
                continue
            try:
                sent = self._socket.send(self._unsent)
            except BlockingIOError:
                if not self._is_writable_soon():
                    return _Turn(size, is_writable=False)
            else:
                size += sent
                self._unsent = self._unsent[sent:]
        return _Turn(size)

    def _is_writable_soon(self) -> bool:
        if sys.platform == "win32":
            return False
        waiting = select.poll()
        waiting.register(self._socket, select.POLLOUT)
        return bool(waiting.poll(_PATIENCE_MS))

    async def _writable(self, stall_s: float) -> None:
        loop = asyncio.get_running_loop()
        writable = loop.create_future()
        loop.add_writer(self._socket, _resolve, writable)
        try:
            async with asyncio.timeout(stall_s):
                await writable
        finally:
            loop.remove_writer(self._socket)


class _Turn(NamedTuple):
    size: int
    is_last: bool = False
    is_writable: bool = True


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
