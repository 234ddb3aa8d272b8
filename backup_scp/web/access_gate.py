"""The way into the web: who calls, and what pages of other sites may do in a browser (docs/adr/0045)."""

from __future__ import annotations

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backup_scp.services.logins import LoggedIn
from backup_scp.services.site_header import naming, site_in
from backup_scp.web.callers import WebAccess
from backup_scp.web.options import BASE_PATH, SHARE_PATH
from backup_scp.web.problems import Problem

_ALLOWED_METHODS = "GET, HEAD, OPTIONS, POST"
_EXPOSED = "Warning, Content-Location, ETag, Accept-Ranges, Content-Range"
_PREFLIGHT_S = "600"
_EVENTS = "text/event-stream"

Refusal = Callable[[Scope, Problem], ASGIApp]
"""Makes the answer to a request that is refused."""


class AccessGate:
    """Puts the caller into ``scope["caller"]``, and answers what a browser asks before it lets a page call (CORS).

    Parameters
    ----------
    app
        Gets the requests that may pass.
    access
        Identifies callers.
    refusal
        Makes the answer for those that may not pass.
    """

    def __init__(self, app: ASGIApp, access: WebAccess, refusal: Refusal) -> None:
        self._app = app
        self._access = access
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        # Viewers of other sites use DICOMweb; our pages are for nobody else's scripts.
        origin = headers.get("origin", "") if scope["path"].startswith(BASE_PATH) else ""
        cors = self._cors(origin)
        answer = _not_shared(_with_headers(send, cors) if cors else send)
        if cors and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await _preflight(answer, headers)
            return
        scope["forwarding"] = self._access.forwarding
        is_share = scope["path"].startswith(SHARE_PATH)
        logged_in = None if is_share else await self._access.logged_in(scope, headers)
        try:
            if is_share:
                caller = await self._access.by_link(scope, headers)
            else:
                caller = self._access.identify(scope, headers, logged_in).for_site(site_in(headers))
            scope["caller"] = caller
            self._access.require_origin(scope, headers)
        except Problem as problem:
            await self._refusal(scope, problem)(scope, receive, answer)
            return
        if site_in(headers):
            named = [(name.encode(), said.encode()) for name, said in naming(caller.site).items()]
            answer = _with_headers(answer, named)
        await self._app(scope, receive, self._while_it_lasts(answer, logged_in) if logged_in else answer)

    def _while_it_lasts(self, send: Send, logged_in: LoggedIn) -> Send:
        """End an answer without end of its own (server-sent events) when its session ends."""
        is_stream = is_over = False

        async def sending(message: Message) -> None:
            nonlocal is_stream, is_over
            if is_over:
                return
            if message["type"] == "http.response.start":
                is_stream = Headers(raw=message.get("headers", [])).get("content-type", "").startswith(_EVENTS)
            elif is_stream and message.get("body") and await self._access.is_over(logged_in):
                is_over = True
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        return sending

    def _cors(self, origin: str) -> list[tuple[bytes, bytes]]:
        if not origin or not self._access.allows_origin(origin):
            return []
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", _EXPOSED.encode()),
            (b"vary", b"Origin"),
        ]


def _with_headers(send: Send, more: list[tuple[bytes, bytes]]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await send(message)

    return sending


def _not_shared(send: Send) -> Send:
    """Keep answers out of the caches of proxies, which would give one caller's to another; files of a page say more."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            fields = list(message.get("headers", ()))
            if all(name.lower() != b"cache-control" for name, _ in fields):
                message = {**message, "headers": [*fields, (b"cache-control", b"private")]}
        await send(message)

    return sending


async def _preflight(send: Send, headers: Headers) -> None:
    asked = headers.get("access-control-request-headers", "")
    fields = [
        (b"access-control-allow-methods", _ALLOWED_METHODS.encode()),
        (b"access-control-allow-headers", asked.encode("latin-1")),
        (b"access-control-max-age", _PREFLIGHT_S.encode()),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": fields})
    await send({"type": "http.response.body", "body": b""})
