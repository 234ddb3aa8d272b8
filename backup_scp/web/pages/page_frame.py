"""What every page has in common: the layout, the words, and the headers that keep a browser safe."""

from __future__ import annotations

import copy
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from backup_scp import __version__
from backup_scp.errors import Unavailable
from backup_scp.machine import readable
from backup_scp.machine.addresses import is_loopback
from backup_scp.ports import SiteScope
from backup_scp.services.logins import Logins
from backup_scp.services.permissions import CallerKind, Right
from backup_scp.web import session_cookie
from backup_scp.web.forwarding import Forwarding
from backup_scp.web.pages.form_guard import FormGuard
from backup_scp.web.pages.page_sources import PageSources
from backup_scp.web.pages.page_texts import FOR_USERS, PageTexts, chosen, texts_in, user_texts_in
from backup_scp.web.pages.state_feed import StateFeed
from backup_scp.web.pages.static_files import address_of
from backup_scp.web.problems import Problem

_TEMPLATES = Path(__file__).parent / "templates"
_MENU = (
    ("/", "page.state", Right.STATE),
    ("/studies", "page.search", Right.FIND),
    ("/restore", "page.restore", Right.RESTORE),
    ("/shares", "page.shares", Right.SHARE),
    ("/patients", "page.patients", Right.LINK),
    ("/settings", "page.settings", Right.SETTINGS),
    ("/users", "page.users", Right.USERS),
)
_FOR_USERS = frozenset({
    "login.html", "login_code.html", "link.html", "account.html", "codes.html", "recovery_codes.html", "problem.html",
    "provider_leave.html", "provider_link.html", "provider_out.html",
})  # fmt: skip
_ACCOUNT = "/account"  # where a second factor is set up
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; font-src 'self'; worker-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every page: nothing is loaded from elsewhere, and no page of another site shows ours in a frame."""


class PageFrame:
    """Makes pages.

    Parameters
    ----------
    sources
        What they are made from.

    Attributes
    ----------
    sources
        The same.
    feed
        The state of the backup, shared by all who look.
    guard
        Checks forms.
    """

    def __init__(self, sources: PageSources) -> None:
        self.sources = sources
        self.feed = StateFeed(sources.state, sources.records, sources.is_ending)
        self.guard = FormGuard()

    def seen_by(self, scope: SiteScope) -> Self:
        """Return what a handler uses for a caller: it has nothing of other clinics than those of the caller."""
        if scope.is_all:
            return self
        _ = self._environment  # made once, for all
        seen = copy.copy(self)
        seen.sources = self.sources.seen_by(scope)
        return seen

    @cached_property
    def _environment(self) -> jinja2.Environment:
        return environment_of(_TEMPLATES)

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """Return a page."""
        return HTMLResponse(self.html(request, template, **values), status, HEADERS | {"Cache-Control": "no-store"})

    def html(self, request: Request, template: str, **values: Any) -> str:
        """Return the text of a page, or of a part of one."""
        caller = request.scope.get("caller")
        words = user_texts_of(request) if template in _FOR_USERS else texts_of(request)
        root = root_of(request)
        return self._environment.get_template(template).render(
            t=words,
            path=request.url.path,
            root=root,
            static=lambda name: f"{root}{address_of(name)}",
            menu=[entry for entry in _MENU if entry[2] is not Right.LINK or len(self.sources.clinics) > 1],
            token=self.guard.token_of(request),
            is_here=caller is not None and caller.kind is CallerKind.THIS_MACHINE,
            allowed=lambda right: caller is not None and caller.may(right),
            user=caller.logged_in.user if caller is not None and caller.logged_in else None,
            is_secure=_is_secure(request),
            provider=self.sources.provider_label,
            **values,
        )

    def problem(self, request: Request, problem: Problem) -> Response:
        """Return the page that says why a request is not answered, or lead to the login."""
        if to := self._way_out(request, problem):
            return RedirectResponse(f"{root_of(request)}{to}", 303, HEADERS | {"Cache-Control": "no-store"})
        response = self.page(request, "problem.html", int(problem.status), problem=problem)
        response.headers.update(problem.headers)
        return response

    def _way_out(self, request: Request, problem: Problem) -> str:
        """Return where a page that is closed to a caller leads; empty when it says why."""
        caller = request.scope.get("caller")
        is_navigation = request.headers.get("sec-fetch-mode", "navigate") == "navigate" and request.method == "GET"
        if caller is None or not is_navigation:
            return ""
        if problem.status == 403 and caller.lacks_second_factor:
            return _ACCOUNT
        if problem.status == 403 and request.url.path == "/" and caller.may(Right.FIND):
            return "/studies"  # the state is for those who see every site
        logins = self.sources.logins
        if problem.status != 401 or logins is None or request.url.path == "/login":
            return ""
        if self.sources.provider is None and not _has_users(logins):
            return ""
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return "/login" if path == "/" else f"/login?{urlencode({'next': path})}"


def _has_users(logins: Logins) -> bool:
    try:
        return logins.has_users()
    except Unavailable:
        return False


def environment_of(folder: Path) -> jinja2.Environment:
    """Return what makes pages from the templates of a folder."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"version": __version__, "Right": Right}
    environment.filters |= {"size": readable.size, "moment": day_and_time, "number": "{:,}".format}
    environment.filters["duration"] = readable.duration
    environment.filters["address"] = lambda text: quote(text, safe="")
    return environment


def _is_secure(request: Request) -> bool:
    """Tell whether nobody on the way can read what a browser sends."""
    forwarding: Forwarding = request.scope["forwarding"]
    is_https = session_cookie.is_https(request.scope, request.headers, forwarding)
    return is_https or is_loopback(request.url.hostname or "")


def root_of(request: Request) -> str:
    """Return what stands before each of our paths: the folder of a reverse proxy, or nothing."""
    forwarding: Forwarding = request.scope["forwarding"]
    return forwarding.root(request.scope, request.headers)


def base_of(request: Request) -> str:
    """Return the address of our first page, as a browser reaches it, without a slash at its end."""
    forwarding: Forwarding = request.scope["forwarding"]
    return f"{forwarding.origin(request.scope, request.headers)}{root_of(request)}"


def texts_of(request: Request) -> PageTexts:
    """Return the words in the language of the caller."""
    return texts_in(chosen(request.headers.get("accept-language", "")))


def user_texts_of(request: Request) -> PageTexts:
    """Return the words of login, account and refusals in the language of the caller."""
    return user_texts_in(chosen(request.headers.get("accept-language", ""), FOR_USERS))


def day_and_time(value: datetime | None) -> str:
    """Format a time as people read it, in this computer's time zone."""
    return value.astimezone().strftime("%Y-%m-%d %H:%M") if value else "-"
