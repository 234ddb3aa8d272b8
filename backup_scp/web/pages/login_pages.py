"""Log in: name and password, then a code or passkey where the user has one; and choose a password by a link."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from backup_scp.errors import InvalidSelection, Unavailable
from backup_scp.services.logins import LoggedIn, LoginRefused, Logins, Origin, TooManyAttempts
from backup_scp.services.passkeys import site_of
from backup_scp.services.passwords import LEAST
from backup_scp.services.user_changes import Actor, UserChanges
from backup_scp.web import session_cookie
from backup_scp.web.callers import WebCaller
from backup_scp.web.forwarding import Forwarding
from backup_scp.web.pages.form_guard import browser_of, name_browser, remember_browser
from backup_scp.web.pages.page_frame import HEADERS, PageFrame, root_of
from backup_scp.web.pages.page_route import PageRoute
from backup_scp.web.problems import Problem

_LONGEST = 2000  # characters of a path to return to


def login_page(request: Request, frame: PageFrame) -> Response:
    """Show the form."""
    logins = logins_of(frame)
    to = own_path(request.query_params.get("next", ""))
    if caller_of(request).logged_in is not None:
        return redirect(request, to)
    if not logins.accounts.has_users() and frame.sources.provider is None:
        raise Problem(401, "There are no users yet")
    return login_form(request, frame, to)


def login_form(request: Request, frame: PageFrame, to: str, error: Exception | None = None, name: str = "") -> Response:
    """Show the form, with what became of the last attempt; the form is bound to this browser."""
    name_browser(request)
    response = frame.page(
        request,
        "login.html",
        _status(error),
        to=to,
        error=error or "",
        name=name,
        site=site_of(our_origin(request)),
        takes_passwords=logins_of(frame).takes_passwords,
    )
    return remember_browser(request, _with_wait(response, error))


def code_form(request: Request, frame: PageFrame, to: str, error: Exception | None = None) -> Response:
    """Ask for the second step, with what became of the last attempt."""
    options = logins_of(frame).second_step(session_token(request), site_of(our_origin(request)))
    response = frame.page(request, "login_code.html", _status(error), to=to, error=error or "", options=options)
    return _with_wait(response, error)


def log_in(request: Request, frame: PageFrame) -> Response:
    """Compare name and password."""
    form: FormData = request.scope["form"]
    name, to = _text(form, "name"), own_path(_text(form, "next"))
    if not browser_of(request):
        return to_login(request, to)
    password = _text(form, "password")
    try:
        begun = logins_of(frame).log_in(name, password, origin_of(request), instead_of=session_token(request))
    except (LoginRefused, TooManyAttempts) as error:
        return login_form(request, frame, to, error, name)
    return entered(request, begun, to)


def entered(request: Request, begun: LoggedIn, to: str) -> Response:
    """Return the way on after the first step, perhaps by the second one."""
    return begin(request, begun, to if begun.session.is_complete else f"/login/code?{urlencode({'next': to})}")


def code_page(request: Request, frame: PageFrame) -> Response:
    """Ask for the code."""
    to = own_path(request.query_params.get("next", ""))
    if not logins_of(frame).waits_for_code(session_token(request)):
        return to_login(request, to)
    return code_form(request, frame, to)


def confirm(request: Request, frame: PageFrame) -> Response:
    """Compare the code."""
    code = _text(request.scope["form"], "code")
    return second_step(
        request, frame, lambda: logins_of(frame).confirm(session_token(request), code, origin_of(request))
    )


def second_step(request: Request, frame: PageFrame, confirmed: Callable[[], LoggedIn]) -> Response:
    """Finish a login by its second step, or ask for it again."""
    to = own_path(_text(request.scope["form"], "next"))
    try:
        return begin(request, confirmed(), to)
    except (LoginRefused, TooManyAttempts) as error:
        if not logins_of(frame).waits_for_code(session_token(request)):
            return to_login(request, to)
        return code_form(request, frame, to, error)


def log_out(request: Request, frame: PageFrame) -> Response:
    """End the session."""
    logged_in = caller_of(request).logged_in
    if logged_in is not None:
        logins_of(frame).log_out(logged_in, origin_of(request))
    is_linked = logged_in is not None and logged_in.user.is_linked and frame.sources.provider is not None
    response = redirect(request, "/login/openid/out" if is_linked else "/login")
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
    if not browser_of(request):
        return redirect(request, f"/link?{urlencode({'token': token})}")
    try:
        known = UserChanges(logins.accounts).use_link(token, name, typed_twice(form), caller_of(request).address)
    except InvalidSelection as error:
        return _link_form(request, frame, token, str(error), name)
    return begin(request, logins.begin_session(known, origin_of(request), instead_of=session_token(request)), "/")


def _link_form(request: Request, frame: PageFrame, token: str, error: str, name: str = "") -> Response:
    found = UserChanges(logins_of(frame).accounts).link(token)
    if found is None:
        raise Problem(404, "This link was used, or has ended: ask for a new one")
    _, user = found
    status = 400 if error else 200
    name_browser(request)
    response = frame.page(request, "link.html", status, link=token, whose=user, error=error, name=name, least=LEAST)
    return remember_browser(request, response)


def _status(error: Exception | None) -> int:
    if error is None:
        return 200
    return 429 if isinstance(error, TooManyAttempts) else 503 if isinstance(error, Unavailable) else 403


def _with_wait(response: Response, error: Exception | None) -> Response:
    if isinstance(error, TooManyAttempts):
        response.headers["Retry-After"] = str(error.wait_s)
    return response


def begin(request: Request, begun: LoggedIn, to: str) -> Response:
    """Give a browser the token of its session, and lead it on."""
    response = redirect(request, to)
    session_cookie.give(response, begun.token, secure=is_secure(request))
    return response


def to_login(request: Request, to: str) -> Response:
    """Lead to the login, and from there back."""
    return redirect(request, f"/login?{urlencode({'next': to})}")


def redirect(request: Request, to: str) -> Response:
    """Lead a browser to a path of ours, or to an address."""
    address = f"{root_of(request)}{to}" if to.startswith("/") else to
    return RedirectResponse(address, 303, HEADERS | {"Cache-Control": "no-store"})


def session_token(request: Request) -> str:
    """Return the token of a request's session, complete or not; empty without one."""
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


def our_origin(request: Request) -> str:
    """Return the origin of our pages, as the browser names it."""
    forwarding: Forwarding = request.scope["forwarding"]
    return forwarding.origin(request.scope, request.headers)


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
