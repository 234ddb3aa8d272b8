"""Log in at a provider (OpenID Connect), link a user to it, and what the provider tells of a logout (docs/adr/0067).

The provider may be slow or silent: it is asked in threads of their own, so that no page and no image waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from backup_scp.errors import BackupSCPError, InvalidSelection, ProviderRefused, ProviderUnavailable, Refused
from backup_scp.ports import Person
from backup_scp.services.backoff import network_of
from backup_scp.services.logins import LoginRefused, TooManyAttempts
from backup_scp.services.pending_logins import PendingLogin
from backup_scp.services.provider_logins import ProviderLogins
from backup_scp.services.user_changes import UserChanges
from backup_scp.web import session_cookie
from backup_scp.web.pages.account_page import account_form, form_of, me, require_password
from backup_scp.web.pages.form_guard import name_browser, remember_browser
from backup_scp.web.pages.login_pages import (
    caller_of,
    entered,
    is_secure,
    login_form,
    logins_of,
    origin_of,
    own_path,
    redirect,
    session_token,
)
from backup_scp.web.pages.page_frame import PageFrame, base_of
from backup_scp.web.pages.page_route import PageRoute
from backup_scp.web.problems import Problem

log = logging.getLogger(__name__)

CALLBACK = "/login/openid/callback"
"""Where the browser comes back to; this address is entered at the provider."""

_THREADS = 4
_MOST_WAITING = 32
_PATIENCE_S = 20.0
_LONGEST = 1 << 16  # bytes of what the provider sends
_USED = "This link was used, or has ended: ask for a new one"
_P = ParamSpec("_P")
_Result = TypeVar("_Result")

_threads = ThreadPoolExecutor(_THREADS, "openid")
_waiting: set[Future[Any]] = set()


async def begin(request: Request, frame: PageFrame) -> Response:
    """Send the browser to the provider."""
    to = own_path(request.query_params.get("next", ""))
    if caller_of(request).logged_in is not None:
        return redirect(request, to)
    try:
        pending, token = await _begun(request, frame, to)
    except ProviderUnavailable as error:
        return await run_in_threadpool(_failed, request, frame, error, to)
    return _with_cookie(request, redirect(request, pending.login.address), token)


async def come_back(request: Request, frame: PageFrame) -> Response:
    """Take the provider's answer: log the user in, or link it."""
    logins, query = provider_of(frame), dict(request.query_params)
    token = session_cookie.login_in(request.scope, request.headers, request.scope["forwarding"])
    pending = logins.pending.take(token, query.get("state", "")) if token else None
    if pending is None:
        error = ProviderRefused(
            "This login was used before, took more than ten minutes, or began in another browser or at another address "
            "of this node: begin again"
        )
        return await run_in_threadpool(_failed, request, frame, error, "/")
    try:
        person = await _asked(logins.provider.finish, pending.login, query)
        response = await run_in_threadpool(_entered, request, frame, pending, person)
    except (Refused, InvalidSelection, ProviderUnavailable) as error:
        log.warning("A login at the provider failed: %s", error)
        response = await run_in_threadpool(_failed, request, frame, error, pending.to)
    session_cookie.take_login(response, secure=is_secure(request))
    return response


def _entered(request: Request, frame: PageFrame, pending: PendingLogin, person: Person) -> Response:
    """Link the user, if it is for that, and begin a session, where there is none."""
    logins, origin = provider_of(frame), origin_of(request)
    if pending.for_user is not None:
        logged_in, accounts = caller_of(request).logged_in, logins_of(frame).accounts
        is_logged_in = logged_in is not None and logged_in.user.id == pending.for_user
        if not is_logged_in and (not pending.link or accounts.link(pending.link) is None):
            raise LoginRefused(_USED if pending.link else "You are no longer logged in here: log in, and link again")
        logins.link(person, pending.for_user, origin)
        if pending.link:
            accounts.use_link(pending.link)
        if is_logged_in:
            return redirect(request, pending.to)
    return entered(request, logins.log_in(person, origin, instead_of=session_token(request)), pending.to)


def _failed(request: Request, frame: PageFrame, error: BackupSCPError, to: str) -> Response:
    """Say why a login failed, with the form for another way."""
    if caller_of(request).logged_in is not None:
        return frame.problem(request, Problem(503 if isinstance(error, ProviderUnavailable) else 403, str(error)))
    return login_form(request, frame, to, error)


async def begin_link(request: Request, frame: PageFrame) -> Response:
    """Let a user who is logged in, and knows the password, log in at the provider from now on."""
    try:
        await run_in_threadpool(require_password, request, frame)
        pending, token = await _begun(request, frame, "/account", me(request).user.id)
    except (LoginRefused, TooManyAttempts, ProviderUnavailable) as error:
        return await run_in_threadpool(account_form, request, frame, str(error))
    return _leave(request, frame, pending, token)


def link_page(request: Request, frame: PageFrame) -> Response:
    """Show what a link of an administrator is for."""
    provider_of(frame)
    token = request.query_params.get("token", "")
    found = UserChanges(logins_of(frame).accounts).link(token, of_provider=True)
    if found is None or found[1] is None:
        raise Problem(404, _USED)
    name_browser(request)
    return remember_browser(request, frame.page(request, "provider_link.html", whose=found[1], link=token))


async def use_link(request: Request, frame: PageFrame) -> Response:
    """Send who has a link of an administrator to the provider."""
    changes, text = UserChanges(logins_of(frame).accounts), str(form_of(request).get("link", ""))
    found = await run_in_threadpool(changes.link, text, of_provider=True)
    if found is None or found[1] is None:
        raise Problem(404, _USED)
    pending, token = await _begun(request, frame, "/", found[1].id, found[0].digest)
    return _leave(request, frame, pending, token)


async def out_page(request: Request, frame: PageFrame) -> Response:
    """Say that the session here has ended, and lead to where that of the provider ends."""
    provider = provider_of(frame).provider
    try:
        address = await _asked(provider.logout_address, f"{base_of(request)}/login")
    except ProviderUnavailable:
        address = ""
    return await run_in_threadpool(frame.page, request, "provider_out.html", address=address)


async def ended_there(request: Request, frame: PageFrame) -> Response:
    """End the sessions of a user who has logged out at the provider (OpenID Connect Back-Channel Logout 1.0, 2.5)."""
    logins, length = provider_of(frame), request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > _LONGEST:
        raise Problem(413, f"A message of a logout has at most {_LONGEST} bytes")
    token = (await request.form(max_fields=10, max_files=0)).get("logout_token")
    try:
        identity = await _asked(logins.provider.ended, token if isinstance(token, str) else "")
    except ProviderRefused as error:
        raise Problem(400, str(error)) from None
    await run_in_threadpool(logins.sessions_ended, identity, origin_of(request))
    return Response(headers={"Cache-Control": "no-store"})


async def _begun(
    request: Request, frame: PageFrame, to: str, for_user: int | None = None, link: str = ""
) -> tuple[PendingLogin, str]:
    """Begin a login at the provider; return it, and the token for the browser's cookie."""
    logins = provider_of(frame)
    login = await _asked(logins.provider.begin, f"{base_of(request)}{CALLBACK}")
    pending = PendingLogin(login, to, for_user, link, network_of(caller_of(request).address))
    return pending, logins.pending.add(pending)


def _leave(request: Request, frame: PageFrame, pending: PendingLogin, token: str) -> Response:
    """Return a page that leads to the provider: after a form a browser follows no redirection elsewhere (CSP)."""
    page = frame.page(request, "provider_leave.html", address=pending.login.address)
    return _with_cookie(request, page, token)


def _with_cookie(request: Request, response: Response, token: str) -> Response:
    session_cookie.give_login(response, token, secure=is_secure(request))
    return response


async def _asked(function: Callable[_P, _Result], *arguments: _P.args, **named: _P.kwargs) -> _Result:
    """Ask the provider in a thread of its own.

    Raises
    ------
    ProviderUnavailable
        It takes too long, or too many wait for it.
    """
    if len(_waiting) >= _MOST_WAITING:
        raise ProviderUnavailable("Too many logins wait for the provider: try again in a minute")
    job = _threads.submit(function, *arguments, **named)
    _waiting.add(job)
    job.add_done_callback(_waiting.discard)
    try:
        return await asyncio.wait_for(asyncio.wrap_future(job), _PATIENCE_S)
    except TimeoutError:
        raise ProviderUnavailable("The provider takes too long: try again, or log in another way") from None


def provider_of(frame: PageFrame) -> ProviderLogins:
    """Return what logs users in who come from the provider.

    Raises
    ------
    Problem
        404: the settings name none.
    """
    if frame.sources.provider is None:
        raise Problem(404, "No provider of logins is set up here: docs/openid-connect.md")
    return frame.sources.provider


PAGES = (
    PageRoute("/login/openid", "GET", None, begin),
    PageRoute(CALLBACK, "GET", None, come_back),
    PageRoute("/login/openid/link", "GET", None, link_page),
    PageRoute("/login/openid/link", "POST", None, use_link),
    PageRoute("/login/openid/out", "GET", None, out_page),
    PageRoute("/login/openid/ended", "POST", None, ended_there, is_of_program=True),
    PageRoute("/account/openid", "POST", None, begin_link),
)
