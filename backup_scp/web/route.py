"""One resource and method of the web service: what the router, the Capabilities and the documents are made from."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from backup_scp.dicom.uids import is_like_uid
from backup_scp.services.permissions import Right
from backup_scp.web.forwarding import Forwarding
from backup_scp.web.media_types import Offer
from backup_scp.web.problems import Problem
from backup_scp.web.stores import Stores

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
    """Return the base URI of the service, as the caller reaches it."""
    forwarding: Forwarding = request.scope["forwarding"]
    return forwarding.base(request.scope, request.headers)


_NAMED_BY_UID = ("study", "series", "instance", "inventory", "transaction")


def require_uids(path: Mapping[str, str]) -> None:
    """Raise when the path of a resource has something else where it should have a UID.

    To retrieve and search, ask this only when nothing was found: stored images may have such identities, too.

    Raises
    ------
    Problem
        400 (PS3.18 8.5).
    """
    for name in _NAMED_BY_UID:
        if not is_like_uid(path.get(name, "0")):
            raise Problem(400, f"The {name} in the path is no UID, which has digits and dots alone")
