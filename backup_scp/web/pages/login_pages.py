"""Log in: name and password, then a code where the user has one; and choose a password by a link."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from backup_scp.errors import InvalidSelection
from backup_scp.services.logins import LoggedIn, LoginRefused, Logins, Origin, TooManyAttempts
from backup_scp.services.passwords import LEAST
from backup_scp.services.user_changes import Actor, UserChanges
from backup_scp.web import session_cookie
from backup_scp.web.callers import WebCaller
from backup_scp.web.pages.page_frame import HEADERS, PageFrame, root_of
from backup_scp.web.pages.page_route import PageRoute
from backup_scp.web.problems import Problem

_LONGEST = 2000  # characters of a path to return to


def login_page(request: Request, frame: PageFrame) -> Response:
    """Show the form."""
    logins = logins_of(frame)
    to = own_path(request.query_params.get("next", ""))
    if caller_of(request).logged_in is not None:
        return _redirect(request, to)
    if not logins.accounts.has_users():
        raise Problem(401, "There are no users yet")
    return frame.page(request, "login.html", to=to, error="", name="")


def log_in(request: Request, frame: PageFrame) -> Response:
    """Compare name and password."""
    form: FormData = request.scope["form"]
    name, to = _text(form, "name"), own_path(_text(form, "next"))
    try:
        begun = logins_of(frame).log_in(name, _text(form, "password"), origin_of(request), instead_of=_token(request))
    except (LoginRefused, TooManyAttempts) as error:
        return _refused(request, frame, "login.html", error, to=to, name=name)
    if begun.session.is_complete:
        return _begun(request, begun, to)
    response = _redirect(request, f"/login/code?{urlencode({'next': to})}")
    session_cookie.give(response, begun.token, secure=is_secure(request))
    return response


def code_page(request: Request, frame: PageFrame) -> Response:
    """Ask for the code."""
    to = own_path(request.query_params.get("next", ""))
    if not logins_of(frame).waits_for_code(_token(request)):
        return _redirect(request, f"/login?{urlencode({'next': to})}")
    return frame.page(request, "login_code.html", to=to, error="")


def confirm(request: Request, frame: PageFrame) -> Response:
    """Compare the code."""
    form: FormData = request.scope["form"]
    to, logins = own_path(_text(form, "next")), logins_of(frame)
    try:
        begun = logins.confirm(_token(request), _text(form, "code"), origin_of(request))
    except (LoginRefused, TooManyAttempts) as error:
        if not logins.waits_for_code(_token(request)):
            return _redirect(request, f"/login?{urlencode({'next': to})}")
        return _refused(request, frame, "login_code.html", error, to=to)
    return _begun(request, begun, to)


def log_out(request: Request, frame: PageFrame) -> Response:
    """End the session."""
    logged_in = caller_of(request).logged_in
    if logged_in is not None:
        logins_of(frame).log_out(logged_in, origin_of(request))
    response = _redirect(request, "/login")
    response.headers["Clear-Site-Data"] = '"cache"'
    session_cookie.take(response, secure=is_secure(request))
    return response


def link_page(request: Request, frame: PageFrame) -> Response:
    """Show the form of a link: a password, and for the first administrator a name."""
    return _link_form(request, frame, request.query_params.get("token", ""), "")


def use_link(request: Request, frame: PageFrame) -> Response:
    """Choose the password, and log in."""
    form: FormData = request.scope["form"]
    token, name, logins = _text(form, "link"), _text(form, "name"), logins_of(frame)
    try:
        known = UserChanges(logins.accounts).use_link(token, name, typed_twice(form), caller_of(request).address)
    except InvalidSelection as error:
        return _link_form(request, frame, token, str(error), name)
    return _begun(request, logins.begin_session(known, origin_of(request), instead_of=_token(request)), "/")


def _link_form(request: Request, frame: PageFrame, token: str, error: str, name: str = "") -> Response:
    found = UserChanges(logins_of(frame).accounts).link(token)
    if found is None:
        raise Problem(404, "This link was used, or has ended: ask for a new one")
    _, user = found
    status = 400 if error else 200
    return frame.page(request, "link.html", status, link=token, whose=user, error=error, name=name, least=LEAST)


def _refused(
    request: Request, frame: PageFrame, template: str, error: LoginRefused | TooManyAttempts, **values: str
) -> Response:
    has_to_wait = isinstance(error, TooManyAttempts)
    response = frame.page(request, template, 429 if has_to_wait else 403, error=error, **values)
    if isinstance(error, TooManyAttempts):
        response.headers["Retry-After"] = str(error.wait_s)
    return response


def _begun(request: Request, begun: LoggedIn, to: str) -> Response:
    response = _redirect(request, to)
    session_cookie.give(response, begun.token, secure=is_secure(request))
    return response


def _redirect(request: Request, path: str) -> Response:
    return RedirectResponse(f"{root_of(request)}{path}", 303, HEADERS | {"Cache-Control": "no-store"})


def _token(request: Request) -> str:
    return session_cookie.token_in(request.scope, request.headers, request.scope["forwarding"])


def _text(form: FormData, name: str) -> str:
    return str(form.get(name, ""))


def typed_twice(form: FormData) -> str:
    """Return a new password, which was typed twice.

    Raises
    ------
    InvalidSelection
    """
    password = _text(form, "password")
    if password != _text(form, "again"):
        raise InvalidSelection("The two passwords differ")
    return password


def own_path(text: str) -> str:
    """Return a path of ours to go to after a login; the first page for anything else (open redirect)."""
    is_ours = text.startswith("/") and not text.startswith(("//", "/\\")) and len(text) < _LONGEST
    return text if is_ours and text.isprintable() and text.isascii() and "\\" not in text else "/"


def logins_of(frame: PageFrame) -> Logins:
    """Return what logs users in.

    Raises
    ------
    Problem
        404: this node has no users.
    """
    if frame.sources.logins is None:
        raise Problem(404, "This node has no users")
    return frame.sources.logins


def caller_of(request: Request) -> WebCaller:
    """Return who sent a request."""
    caller: WebCaller = request.scope["caller"]
    return caller


def actor_of(request: Request) -> Actor:
    """Return who does something, for the audit."""
    caller = caller_of(request)
    who = caller.logged_in.user.name if caller.logged_in else str(caller.kind)
    return Actor(who, caller.address)


def origin_of(request: Request) -> Origin:
    """Return where a login comes from."""
    return Origin(caller_of(request).address, request.headers.get("user-agent", ""))


def is_secure(request: Request) -> bool:
    """Tell whether the browser reaches the node by HTTPS."""
    return session_cookie.is_https(request.scope, request.headers, request.scope["forwarding"])


PAGES = (
    PageRoute("/login", "GET", None, login_page),
    PageRoute("/login", "POST", None, log_in),
    PageRoute("/login/code", "GET", None, code_page),
    PageRoute("/login/code", "POST", None, confirm),
    PageRoute("/logout", "POST", None, log_out),
    PageRoute("/link", "GET", None, link_page),
    PageRoute("/link", "POST", None, use_link),
)
