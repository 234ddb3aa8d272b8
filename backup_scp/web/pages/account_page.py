"""My account: password, codes of an app, recovery codes, and where I am logged in."""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from backup_scp.errors import InvalidSelection
from backup_scp.services import one_time_codes
from backup_scp.services.logins import LoggedIn, LoginRefused, TooManyAttempts
from backup_scp.services.passkeys import fault_of, site_of
from backup_scp.services.passwords import LEAST
from backup_scp.services.user_changes import Actor, UserChanges
from backup_scp.web import session_cookie
from backup_scp.web.pages.login_pages import caller_of, is_secure, logins_of, origin_of, our_origin, typed_twice
from backup_scp.web.pages.page_frame import HEADERS, PageFrame, root_of
from backup_scp.web.pages.page_route import PageRoute
from backup_scp.web.pages.qr_drawing import qr_drawing
from backup_scp.web.problems import Problem

NOT_BEFORE = frozenset({"/account/openid", "/account/password", "/account/recovery-codes", "/account/sessions"})
"""What has to wait until a user has a second factor, where everybody needs one."""

_SECRET = re.compile("[A-Z2-7]{32}")


def account_page(request: Request, frame: PageFrame) -> Response:
    """Show what a user may change about itself."""
    return account_form(request, frame)


def change_password(request: Request, frame: PageFrame) -> Response:
    """Change the password; the other sessions end."""
    logged_in, form, logins = me(request), form_of(request), logins_of(frame)
    try:
        require_password(request, frame)
        changes_of(frame).set_password(logged_in.user, typed_twice(form), actor(request))
    except (InvalidSelection, LoginRefused, TooManyAttempts) as error:
        return account_form(request, frame, error=str(error))
    known = logins.accounts.credentials_of(logged_in.user.id)
    if known is None:
        raise Problem(401, "This user was removed")
    begun = logins.begin_session(known, origin_of(request))
    response = done(request)
    session_cookie.give(response, begun.token, secure=is_secure(request))
    return response


def codes_page(request: Request, frame: PageFrame) -> Response:
    """Show the QR code that an app reads."""
    return _codes_form(request, frame, one_time_codes.new_secret(), "")


def turn_codes_on(request: Request, frame: PageFrame) -> Response:
    """Turn codes on, when the app shows the right one; show the recovery codes, once."""
    logged_in, form = me(request), form_of(request)
    secret = str(form.get("secret", ""))
    if not _SECRET.fullmatch(secret):
        raise Problem(400, "This form is not whole: begin again")
    try:
        require_password(request, frame)
        codes = changes_of(frame).turn_codes_on(logged_in.user, secret, str(form.get("code", "")), actor(request))
    except (InvalidSelection, LoginRefused, TooManyAttempts) as error:
        return _codes_form(request, frame, secret, str(error))
    return frame.page(request, "recovery_codes.html", codes=codes)


def turn_codes_off(request: Request, frame: PageFrame) -> Response:
    """Turn codes off."""
    return changed(request, frame, lambda: changes_of(frame).turn_codes_off(me(request).user, actor(request)))


def renew_recovery_codes(request: Request, frame: PageFrame) -> Response:
    """Replace the recovery codes, and show them, once."""
    return changed(request, frame, lambda: changes_of(frame).new_recovery_codes(me(request).user, actor(request)))


def changed(request: Request, frame: PageFrame, change: Callable[[], list[str] | None]) -> Response:
    """Change the own account for who knows its password, and show the recovery codes if there are new ones."""
    try:
        require_password(request, frame)
        codes = change()
    except (InvalidSelection, LoginRefused, TooManyAttempts) as error:
        return account_form(request, frame, str(error))
    return frame.page(request, "recovery_codes.html", codes=codes) if codes else done(request)


def require_password(request: Request, frame: PageFrame) -> None:
    """Raise when the form has not the own password: an open screen is not enough.

    Raises
    ------
    LoginRefused, TooManyAttempts
    """
    password = str(form_of(request).get("current", ""))
    logins_of(frame).require_password(me(request), password, origin_of(request))


def log_out_everywhere(request: Request, frame: PageFrame) -> Response:
    """End all other sessions."""
    logins_of(frame).log_out_everywhere(me(request), origin_of(request))
    return done(request)


def account_form(request: Request, frame: PageFrame, error: str = "") -> Response:
    """Show the page, with what became of a change."""
    logged_in, accounts, origin = me(request), logins_of(frame).accounts, our_origin(request)
    return frame.page(
        request,
        "account.html",
        400 if error else 200,
        error=error,
        me=logged_in.user,
        sessions=[session for session in accounts.sessions(logged_in.user.id) if session.is_complete],
        this_session=logged_in.session.digest,
        passkeys=accounts.passkeys(logged_in.user.id),
        site=site_of(origin),
        no_passkeys=fault_of(origin),
        must=caller_of(request).lacks_second_factor,
        codes_left=accounts.recovery_codes_left(logged_in.user.id),
        least=LEAST,
    )


def _codes_form(request: Request, frame: PageFrame, secret: str, error: str) -> Response:
    name = me(request).user.name
    address = one_time_codes.address_for_app(secret, name, f"backup-scp {request.url.hostname}")
    spaced = " ".join(re.findall("....", secret))
    status = 400 if error else 200
    return frame.page(
        request, "codes.html", status, error=error, secret=secret, spaced=spaced, drawing=qr_drawing(address)
    )


def me(request: Request) -> LoggedIn:
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


def form_of(request: Request) -> FormData:
    """Return the form that was sent."""
    form: FormData = request.scope["form"]
    return form


def changes_of(frame: PageFrame) -> UserChanges:
    """Return what changes users."""
    return UserChanges(logins_of(frame).accounts)


def actor(request: Request) -> Actor:
    """Return who changes something, for the audit."""
    return Actor(me(request).user.name, caller_of(request).address)


def done(request: Request) -> Response:
    """Lead back to the page."""
    return RedirectResponse(f"{root_of(request)}/account", 303, HEADERS | {"Cache-Control": "no-store"})


PAGES = (
    PageRoute("/account", "GET", None, account_page),
    PageRoute("/account/password", "POST", None, change_password),
    PageRoute("/account/codes", "GET", None, codes_page),
    PageRoute("/account/codes", "POST", None, turn_codes_on),
    PageRoute("/account/codes/off", "POST", None, turn_codes_off),
    PageRoute("/account/recovery-codes", "POST", None, renew_recovery_codes),
    PageRoute("/account/sessions", "POST", None, log_out_everywhere),
)
