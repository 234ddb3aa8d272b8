"""One page and method, and what its handler gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from backup_scp.services.permissions import Right
from backup_scp.web.pages.page_frame import PageFrame

PageHandler = Callable[[Request, PageFrame], Response | Awaitable[Response]]
"""Answers a request: a function, which runs in a thread, or a coroutine function, which must never block."""


@dataclass(frozen=True, slots=True)
class PageRoute:
    """One page and method.

    Attributes
    ----------
    path
        On this port.
    method
        Of HTTP.  A POST has a form, which was checked: ``request.scope["form"]``.
    right
        What the caller must be allowed; None for what shows nothing of the archive.
    handler
        Answers it.
    is_of_program
        Whether another program calls it: its POST has no form of ours.
    """

    path: str
    method: str
    right: Right | None
    handler: PageHandler
    is_of_program: bool = False
