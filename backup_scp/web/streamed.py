"""Send a body in parts, read the next part while one is sent, and break off the connection when a part fails."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Iterator, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from backup_scp.errors import BackupSCPError
from backup_scp.watch.unforeseen import place_of
from backup_scp.web import guarded_connection
from backup_scp.web.direct_body import DIRECT_BODY, LEAST_BYTES, DirectBody
from backup_scp.web.problems import Problem
from backup_scp.web.worker_threads import in_thread

log = logging.getLogger(__name__)

Part = bytes | memoryview
"""Some bytes of a body; memory may be used again for the next part once that is requested."""

_GATHERED_BYTES = 1 << 16


class StreamedResponse(Response):
    """A body in parts, with little memory.

    Threads read the parts, and send a long body of a known length themselves (``direct_socket.py``).  When one fails,
    what was sent has no end: neither its closing boundary nor its last chunk, or fewer bytes than Content-Length says.
    So no caller takes it for whole.

    Parameters
    ----------
    parts
        The body.  Its first part is requested at once, so that an error there can still be told; a short body, all.
    content_type
        Its media type.
    size
        Its length in bytes; None when it is not known.
    headers, status
        Of the answer.
    """

    def __init__(
        self,
        parts: Iterator[Part],
        content_type: str,
        size: int | None = None,
        headers: Mapping[str, str] | None = None,
        status: int = 200,
    ) -> None:
        self._parts = parts
        self._size = size
        self._first: Part = next(parts, b"")
        self._is_read = size is not None and size < LEAST_BYTES
        if self._is_read:  # each further thread would take as long as to read it
            self._first = b"".join(map(bytes, itertools.chain([self._first], parts)))
        self.status_code = status
        self.background = None
        self.body = b""
        own = {"content-type": content_type, **(headers or {})}
        if size is not None:
            own["content-length"] = str(size)
        self.raw_headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in own.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it (ASGI)."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
            else:
                await self._send(scope, receive, send)
        finally:
            if not self._is_read:
                await in_thread(self._close)

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        direct: DirectBody | None = scope.get(DIRECT_BODY)
        try:
            if direct is not None and direct.can_send(self._size):
                await direct.send(itertools.chain([self._first], self._parts), guarded_connection.STALL_S)
                self._is_read, self._first = True, b""
            elif not self._is_read:
                await self._send_in_turn(receive, send)
        except (BackupSCPError, Problem) as error:
            log.warning("An answer was broken off: %s", error)
        except OSError:
            pass  # the caller has gone, or reads nothing
        except Exception as error:  # noqa: BLE001 - its text may hold a patient's data
            log.error("An answer was broken off: %s. This should not have happened; please report it", place_of(error))
        else:
            if self._is_read:
                await send({"type": "http.response.body", "body": self._first})

    async def _send_in_turn(self, receive: Receive, send: Send) -> None:
        """Send one part while the next is read, until the caller has gone."""
        gone = asyncio.ensure_future(_gone(receive))
        try:
            part: bytes | None = bytes(self._first)
            while part is not None and not gone.done():
                reading = asyncio.ensure_future(in_thread(self._next))
                try:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                finally:
                    part = await reading
            self._is_read, self._first = part is None, b""
        finally:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone

    def _next(self) -> bytes | None:
        """Return the next part, in memory of its own: it is sent while the one after it is read."""
        part = next(self._parts, None)
        return None if part is None else bytes(part)

    def _close(self) -> None:
        close = getattr(self._parts, "close", None)
        if close is not None:
            close()


async def _gone(receive: Receive) -> None:
    """Return when the caller has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def gathered(parts: Iterator[Part]) -> Iterator[Part]:
    """Join short parts, so that few are sent; the first is not held back."""
    pieces: list[bytes] = []
    size, least = 0, 0
    for part in parts:
        size += len(part)
        if size <= least:
            pieces.append(bytes(part))
            continue
        yield b"".join([*pieces, part]) if pieces else part
        pieces, size, least = [], 0, _GATHERED_BYTES
    if pieces:
        yield b"".join(pieces)
