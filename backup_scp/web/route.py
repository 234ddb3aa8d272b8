"""One resource and method of the web service: what the router, the Capabilities and the documents are made from."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from backup_scp.services.permissions import Right
from backup_scp.web.callers import PROXIED
from backup_scp.web.media_types import Offer
from backup_scp.web.options import BASE_PATH
from backup_scp.web.stores import Stores

_PORTS = {"http": 80, "https": 443}
_HAS_PORT = re.compile(r":\d+$")

Handler = Callable[[Request, Stores], Response | Awaitable[Response]]
"""Answers a request: a function, which runs in a thread, or a coroutine function, which must never block."""


@dataclass(frozen=True, slots=True)
class Route:
    """One resource and method.

    Attributes
    ----------
    path
        Below ``/dicom-web``, with ``{study}``, ``{series}`` and ``{instance}`` for UIDs.
    method
        Of HTTP.
    transaction
        Its name in PS3.18.
    clause
        Where PS3.18 describes it.
    right
        What the caller must be allowed.
    handler
        Answers it.
    offers
        The media types of its answers, the default first.
    parameters
        Its query parameters.
    content_types
        The media types of its request body.
    """

    path: str
    method: str
    transaction: str
    clause: str
    right: Right
    handler: Handler
    offers: tuple[Offer, ...]
    parameters: tuple[str, ...] = ()
    content_types: tuple[Offer, ...] = ()

    @property
    def template(self) -> str:
        """The path as documents write it."""
        return re.sub(r":\w+}", "}", self.path)


def base_of(request: Request) -> str:
    """Return the base URI of the service, as the caller reaches it.

    A proxy says how by X-Forwarded-Proto and X-Forwarded-Host.  Without a proxy, a Host without a port gets ours: some
    clients leave it out (RFC 9110 7.2 does not allow that).
    """
    headers, scope = request.headers, request.scope
    scheme, host = scope["scheme"], headers.get("host") or "localhost"
    if any(name in headers for name in PROXIED):
        said = headers.get("x-forwarded-proto", scheme)
        scheme, host = (said if said in _PORTS else scheme), headers.get("x-forwarded-host", host)
    elif (server := scope.get("server")) and server[1] not in {None, _PORTS[scheme]} and not _HAS_PORT.search(host):
        host = f"{host}:{server[1]}"
    return f"{scheme}://{host}{BASE_PATH}"
