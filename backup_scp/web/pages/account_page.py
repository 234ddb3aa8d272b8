"""My account: password, codes of an app, and where I am logged in."""

from __future__ import annotations

import io
import re

import segno
from markupsafe import Markup
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from backup_scp.errors import InvalidSelection
from backup_scp.services import one_time_codes
from backup_scp.services.logins import LoggedIn, LoginRefused, TooManyAttempts
from backup_scp.services.passwords import LEAST
from backup_scp.services.user_changes import Actor, UserChanges
from backup_scp.web import session_cookie
from backup_scp.web.pages.login_pages import caller_of, is_secure, logins_of, origin_of, typed_twice
from backup_scp.web.pages.page_frame import HEADERS, PageFrame, root_of
from backup_scp.web.pages.page_route import PageRoute
from backup_scp.web.problems import Problem

_SECRET = re.compile("[A-Z2-7]{32}")


def account_page(request: Request, frame: PageFrame) -> Response:
    """Show what a user may change about itself."""
    return _page(request, frame)


def change_password(request: Request, frame: PageFrame) -> Response:
    """Change the password; the other sessions end."""
    logged_in, form, logins = _logged_in(request), _form(request), logins_of(frame)
    try:
        logins.require_password(logged_in, str(form.get("current", "")), origin_of(request))
        _changes(frame).set_password(logged_in.user, typed_twice(form), _actor(request))
    except (InvalidSelection, LoginRefused, TooManyAttempts) as error:
        return _page(request, frame, error=str(error))
    known = logins.accounts.credentials_of(logged_in.user.id)
    if known is None:
        raise Problem(401, "This user was removed")
    begun = logins.begin_session(known, origin_of(request))
    response = _done(request)
    session_cookie.give(response, begun.token, secure=is_secure(request))
    return response


def codes_page(request: Request, frame: PageFrame) -> Response:
    """Show the QR code that an app reads."""
    return _codes_form(request, frame, one_time_codes.new_secret(), "")


def turn_codes_on(request: Request, frame: PageFrame) -> Response:
    """Turn codes on, when the app shows the right one; show the recovery codes, once."""
    logged_in, form = _logged_in(request), _form(request)
    secret = str(form.get("secret", ""))
    if not _SECRET.fullmatch(secret):
        raise Problem(400, "This form is not whole: begin again")
    try:
        logins_of(frame).require_password(logged_in, str(form.get("current", "")), origin_of(request))
        codes = _changes(frame).turn_codes_on(logged_in.user, secret, str(form.get("code", "")), _actor(request))
    except (InvalidSelection, LoginRefused, TooManyAttempts) as error:
        return _codes_form(request, frame, secret, str(error))
    return frame.page(request, "recovery_codes.html", codes=codes)


def turn_codes_off(request: Request, frame: PageFrame) -> Response:
    """Turn codes off."""
    logged_in = _logged_in(request)
    try:
        logins_of(frame).require_password(logged_in, str(_form(request).get("current", "")), origin_of(request))
    except (LoginRefused, TooManyAttempts) as error:
        return _page(request, frame, error=str(error))
    _changes(frame).turn_codes_off(logged_in.user, _actor(request))
    return _done(request)


def log_out_everywhere(request: Request, frame: PageFrame) -> Response:
    """End all other sessions."""
    logins_of(frame).log_out_everywhere(_logged_in(request), origin_of(request))
    return _done(request)


def _page(request: Request, frame: PageFrame, error: str = "") -> Response:
    logged_in, accounts = _logged_in(request), logins_of(frame).accounts
    return frame.page(
        request,
        "account.html",
        400 if error else 200,
        error=error,
        me=logged_in.user,
        sessions=[session for session in accounts.sessions(logged_in.user.id) if session.is_complete],
        this_session=logged_in.session.digest,
        codes_left=accounts.recovery_codes_left(logged_in.user.id),
        least=LEAST,
    )


def _codes_form(request: Request, frame: PageFrame, secret: str, error: str) -> Response:
    name = _logged_in(request).user.name
    address = one_time_codes.address_for_app(secret, name, f"backup-scp {request.url.hostname}")
    spaced = " ".join(re.findall("....", secret))
    status = 400 if error else 200
    return frame.page(
        request, "codes.html", status, error=error, secret=secret, spaced=spaced, drawing=qr_drawing(address)
    )


def qr_drawing(text: str) -> Markup:
    """Draw a QR code as SVG, black on white in dark mode as well."""
    drawn = io.BytesIO()
    segno.make(text, error="m").save(
        drawn, kind="svg", scale=5, light="#fff", xmldecl=False, svgns=False, svgclass="qr", nl=False
    )
    return Markup(drawn.getvalue().decode())  # noqa: S704 - made of numbers


def _logged_in(request: Request) -> LoggedIn:
    """Return the user.

    Raises
    ------
    Problem
        401
    """
    logged_in = caller_of(request).logged_in
    if logged_in is None:
        raise Problem(401, "Log in first")
    return logged_in


def _form(request: Request) -> FormData:
    form: FormData = request.scope["form"]
    return form


def _changes(frame: PageFrame) -> UserChanges:
    return UserChanges(logins_of(frame).accounts)


def _actor(request: Request) -> Actor:
    return Actor(_logged_in(request).user.name, caller_of(request).address)


def _done(request: Request) -> Response:
    return RedirectResponse(f"{root_of(request)}/account", 303, HEADERS | {"Cache-Control": "no-store"})


PAGES = (
    PageRoute("/account", "GET", None, account_page),
    PageRoute("/account/password", "POST", None, change_password),
    PageRoute("/account/codes", "GET", None, codes_page),
    PageRoute("/account/codes", "POST", None, turn_codes_on),
    PageRoute("/account/codes/off", "POST", None, turn_codes_off),
    PageRoute("/account/sessions", "POST", None, log_out_everywhere),
)
