"""Limit what a connection costs while its request is incomplete or its answer is not read: uvicorn does not."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from backup_scp.web.direct_body import DIRECT_BODY, DirectBody
from backup_scp.web.problems import MEDIA_TYPE

MOST_HEADER_BYTES = 1 << 19
"""Longest request line and headers together: a query of 256 KiB fits."""

HEADER_S = 30.0
"""How long a caller may take for a request line and headers."""

STALL_S = 60.0
"""How long a caller may send nothing of a body that it has begun, or read nothing of an answer."""

_LOOK_S = 5.0


class GuardedConnection(HttpToolsProtocol):
    """One connection; uvicorn makes an object for each."""

    _header_bytes = 0
    _in_headers = True
    _in_body = False
    _direct_body: DirectBody | None = None
    _changed_at = 0.0
    _unsent_bytes = 0
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch it."""
        super().connection_made(transport)
        self._changed_at = self.loop.time()
        self._watch = self.loop.call_later(_LOOK_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """End watching it."""
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a header that is not complete yet."""
        if not self._in_headers or not self._header_bytes:
            self._changed_at = self.loop.time()  # a slow header counts from its first byte
        super().data_received(data)
        if not self._in_headers:
            return
        self._header_bytes += len(data)
        if self._header_bytes > MOST_HEADER_BYTES and not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request line and headers are too long")

    def on_message_begin(self) -> None:
        """Note that a header begins."""
        self._in_headers, self._header_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note that a body begins, if only an empty one."""
        self._in_headers, self._in_body = False, True
        super().on_headers_complete()
        self._direct_body = DirectBody(self)
        cast("dict[str, object]", self.scope)[DIRECT_BODY] = self._direct_body

    def on_body(self, body: bytes) -> None:
        """Count the bytes of a body."""
        if self._direct_body is not None:
            self._direct_body.count(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is complete."""
        self._in_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        problem = {"type": "about:blank", "title": status.phrase, "status": int(status), "detail": detail}
        body = json.dumps(problem).encode()
        head = (
            f"HTTP/1.1 {int(status)} {status.phrase}\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n"
        )
        self.transport.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        self.transport.close()

    def _look(self) -> None:
        now = self.loop.time()
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent != self._unsent_bytes:
            self._changed_at = now
        self._unsent_bytes = unsent
        since = now - self._changed_at
        waits_for_header = self._in_headers and (self._header_bytes > 0 or self.cycle is None)
        waits_for_body = self._in_body and not self.flow.read_paused
        if (waits_for_header and since > HEADER_S) or ((waits_for_body or unsent) and since > STALL_S):
            self.transport.abort()
            return
        self._watch = self.loop.call_later(_LOOK_S, self._look)
