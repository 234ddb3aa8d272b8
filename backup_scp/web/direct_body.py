"""Send and receive the long body of one request past asyncio, and keep uvicorn's account of it right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import httptools

from backup_scp.web.direct_socket import BodyLimits, DirectSocket, Feed
from backup_scp.web.worker_threads import in_thread

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

DIRECT_BODY = "backup_scp.direct_body"
"""The key of a request's ``DirectBody`` in its scope."""

LEAST_BYTES = 1 << 18
"""The shortest body for which it pays."""


class DirectBody:
    """The body of a request, and that of its answer.

    Parameters
    ----------
    connection
        uvicorn's, when the headers have come.
    """

    def __init__(self, connection: HttpToolsProtocol) -> None:
        self._connection = connection
        self._cycle = connection.cycle
        self._parsed_bytes = 0

    def count(self, length: int) -> None:
        """Note that uvicorn has received so many bytes of the body."""
        self._parsed_bytes += length

    def can_send(self, size: int | None) -> bool:
        """Tell whether an answer of this length may be sent so, once its headers have been."""
        return (
            size is not None
            and size >= LEAST_BYTES
            and self._cycle.chunked_encoding is False
            and DirectSocket.is_possible(self._cycle.transport)
        )

    async def send(self, parts: Iterator[bytes | memoryview], stall_s: float) -> None:
        """Send all parts; the caller of this ends the answer.  What ``parts`` raises is raised.

        Raises
        ------
        OSError
            The caller has gone, or has read nothing for ``stall_s`` seconds.
        """
        direct = DirectSocket(self._cycle.transport)
        try:
            self._cycle.expected_content_length -= await direct.send(parts, stall_s)
        except OSError:
            self._cycle.transport.abort()
            raise
        finally:
            direct.close()

    def can_receive(self) -> bool:
        """Tell whether the rest of the request's body may be received so: nobody else reads it then."""
        return (
            self._missing_bytes() >= LEAST_BYTES
            and not self._cycle.disconnected
            and not self._connection.parser.should_upgrade()
            and DirectSocket.is_possible(self._cycle.transport)
        )

    async def receive(self, feed: Feed, limits: BodyLimits) -> None:
        """Receive the rest of the body.  What ``feed`` raises is raised, when the caller has sent what it had to.

        Raises
        ------
        TimeoutError
            It comes too slowly.
        OSError
            The caller has gone.
        """
        cycle, connection = self._cycle, self._connection
        missing = self._missing_bytes()
        direct = DirectSocket(cycle.transport)
        try:
            connection.flow.pause_reading()
            if cycle.waiting_for_100_continue:
                cycle.waiting_for_100_continue = False
                cycle.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            begun, cycle.body = bytes(cycle.body), bytearray()
            await in_thread(feed, [begun])
            await direct.receive(feed, missing, limits)
        except BaseException:
            cycle.keep_alive = False  # nobody knows where the next request would begin
            raise
        else:
            connection.parser = httptools.HttpRequestParser(connection)  # the old one still waits for the body
            connection.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            connection.on_message_complete()
        finally:
            direct.close()
            connection.flow.resume_reading()

    def _missing_bytes(self) -> int:
        for name, value in self._cycle.scope["headers"]:
            if name == b"content-length":
                return int(value) - self._parsed_bytes
        return 0
