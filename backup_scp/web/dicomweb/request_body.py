"""Read the body of a request in batches; a caller that sends too slowly is told so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from backup_scp.web.direct_body import DIRECT_BODY, DirectBody
from backup_scp.web.direct_socket import BodyLimits, Feed
from backup_scp.web.problems import RETRY_AFTER_S, Problem
from backup_scp.web.worker_threads import in_thread

_BATCH_BYTES = 1 << 20


LIMITS = BodyLimits()


class MemoryBudget:
    """Limits what the bodies of all requests together hold in memory.

    Parameters
    ----------
    most_bytes
        The limit.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._taken = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Reserve some bytes.

        Raises
        ------
        Problem
            503: others hold them.
        """
        with self._lock:
            if self._taken + size > self._most:
                raise Problem(
                    503,
                    "The node works on other requests that need as much memory: try again later",
                    {"Retry-After": str(RETRY_AFTER_S), "Connection": "close"},
                )
            self._taken += size

    def give_back(self, size: int) -> None:
        """End a reservation."""
        with self._lock:
            self._taken -= size


IN_MEMORY = MemoryBudget(16 << 20)
"""Of metadata, and of bodies that are read wholly."""


async def batches(request: Request, limits: BodyLimits) -> AsyncIterator[list[bytes]]:
    """Yield the body, some chunks at a time, since each way into a thread takes as long as many of them.

    Raises
    ------
    Problem
        408: it comes too slowly.  400: the caller has gone.
    """
    loop = asyncio.get_running_loop()
    stream = request.stream()
    batch: list[bytes] = []
    size = total = 0
    waited_s = 0.0
    while True:
        began = loop.time()
        try:
            async with asyncio.timeout(limits.silence_s):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise _too_slow(f"no byte came for {limits.silence_s:g} s") from None
        except ClientDisconnect:
            raise _broken_off() from None
        waited_s += loop.time() - began
        if chunk is None:
            break
        total += len(chunk)
        size += len(chunk)
        batch.append(chunk)
        if limits.are_passed(total, waited_s):
            raise _too_slow(f"less than {limits.least_bytes_per_s:g} bytes came in a second")
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


async def feed_body(request: Request, limits: BodyLimits, feed: Feed) -> None:
    """Give the body to a function in a thread; while it stores one batch, the next one is received.

    Raises
    ------
    Problem
        408: it comes too slowly.  400: the caller has gone.
    """
    direct: DirectBody | None = request.scope.get(DIRECT_BODY)
    if direct is not None and direct.can_receive():
        try:
            await direct.receive(feed, limits)
        except TimeoutError:
            raise _too_slow(f"no byte came for {limits.silence_s:g} s, or only few") from None
        except OSError:
            raise _broken_off() from None
        return
    storing: asyncio.Future[None] | None = None
    try:
        async for batch in batches(request, limits):
            if storing is not None:
                await storing
            storing = asyncio.ensure_future(in_thread(feed, batch))
    finally:
        if storing is not None:
            await storing


def _broken_off() -> Problem:
    return Problem(400, "The connection ended before the request did")


def _too_slow(what: str) -> Problem:
    return Problem(
        408, f"The request came too slowly: {what}. Images that came wholly are stored", {"Connection": "close"}
    )


async def whole_body(request: Request, limits: BodyLimits, most_bytes: int) -> bytes:
    """Return a short body.

    Raises
    ------
    Problem
        408, 413, 503
    """
    parts: list[bytes] = []
    size = 0
    try:
        async for batch in batches(request, limits):
            length = sum(map(len, batch))
            IN_MEMORY.take(length)
            size += length
            if size > most_bytes:
                raise Problem(413, f"The body may have {most_bytes >> 20} MiB", {"Connection": "close"})
            parts += batch
        return b"".join(parts)
    finally:
        IN_MEMORY.give_back(size)


def require_plain(request: Request) -> None:
    """Refuse a compressed body: a small one may have no end.

    Raises
    ------
    Problem
        415
    """
    if request.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise Problem(415, "Send the body without Content-Encoding", {"Accept-Encoding": "identity"})
