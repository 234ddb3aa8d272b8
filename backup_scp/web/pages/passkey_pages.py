"""Passkeys: log in with one, with or without a password; add and remove them (docs/adr/0066)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from backup_scp.errors import InvalidSelection
from backup_scp.services.logins import LoginRefused, TooManyAttempts
from backup_scp.services.passkeys import PasskeyRefused, PasskeySite, site_of
from backup_scp.web.pages.account_page import (
    account_form,
    actor,
    changed,
    changes_of,
    done,
    form_of,
    me,
    require_password,
)
from backup_scp.web.pages.form_guard import browser_of
from backup_scp.web.pages.login_pages import (
    begin,
    login_form,
    logins_of,
    origin_of,
    our_origin,
    own_path,
    second_step,
    session_token,
    to_login,
)
from backup_scp.web.pages.page_frame import HEADERS, PageFrame, user_texts_of
from backup_scp.web.pages.page_route import PageRoute
from backup_scp.web.problems import Problem

_NO_STORE = HEADERS | {"Cache-Control": "no-store"}


def to_sign(request: Request, frame: PageFrame) -> Response:
    """Tell the script of the login what to ask the browser for."""
    browser = browser_of(request)
    if not browser:
        raise Problem(400, "Open the login first")
    return JSONResponse(logins_of(frame).passkeys.first_step(_site(request), browser), headers=_NO_STORE)


def log_in(request: Request, frame: PageFrame) -> Response:
    """Log in by a passkey alone."""
    form, logins = form_of(request), logins_of(frame)
    to, browser = own_path(str(form.get("next", ""))), browser_of(request)
    if not browser:
        return to_login(request, to)
    answer = str(form.get("answer", ""))
    try:
        begun = logins.log_in_with_passkey(
            answer, _site(request), browser, origin_of(request), instead_of=session_token(request)
        )
    except (LoginRefused, TooManyAttempts) as error:
        return login_form(request, frame, to, error)
    return begin(request, begun, to)


def confirm(request: Request, frame: PageFrame) -> Response:
    """Finish a login by a passkey, after the password."""
    answer, token = str(form_of(request).get("answer", "")), session_token(request)
    return second_step(
        request,
        frame,
        lambda: logins_of(frame).confirm_with_passkey(token, answer, _site(request), origin_of(request)),
    )


def to_make(request: Request, frame: PageFrame) -> Response:
    """Tell the script of the account what to ask the browser for: only who knows the password adds a passkey."""
    try:
        require_password(request, frame)
    except (LoginRefused, TooManyAttempts) as error:
        return JSONResponse({"error": user_texts_of(request).said(error)}, 403, headers=_NO_STORE)
    site, mine, passkeys = _site(request), me(request), logins_of(frame).passkeys
    handle = changes_of(frame).handle_of(mine.user)
    options = passkeys.exchange.to_make(
        site, f"{mine.session.digest} {handle}", mine.user.name, handle, passkeys.here(mine.user.id, site)
    )
    return JSONResponse(options, headers=_NO_STORE)


def add(request: Request, frame: PageFrame) -> Response:
    """Add what the browser made; show the recovery codes, once, to who had none."""
    form, site, mine = form_of(request), _site(request), me(request)
    handle, name, answer = (str(form.get(field, "")) for field in ("handle", "name", "answer"))
    try:
        made = logins_of(frame).passkeys.exchange.made(site, f"{mine.session.digest} {handle}", answer)
        codes = changes_of(frame).add_passkey(mine.user, made, site.rp_id, handle, name, actor(request))
    except (InvalidSelection, PasskeyRefused) as error:
        return account_form(request, frame, str(error))
    return frame.page(request, "recovery_codes.html", codes=codes) if codes else done(request)


def remove(request: Request, frame: PageFrame) -> Response:
    """Remove a passkey."""
    number = str(form_of(request).get("passkey", ""))
    if not number.isdecimal() or len(number) > 18:
        raise Problem(400, "This form is not whole: begin again")
    return changed(
        request, frame, lambda: changes_of(frame).remove_passkey(me(request).user, int(number), actor(request))
    )


def _site(request: Request) -> PasskeySite:
    """Return what passkeys belong to.

    Raises
    ------
    Problem
        400: browsers make none for this address.
    """
    site = site_of(our_origin(request))
    if site is None:
        raise Problem(400, "Passkeys need an address with https and a name")
    return site


PAGES = (
    PageRoute("/login/passkey", "GET", None, to_sign),
    PageRoute("/login/passkey", "POST", None, log_in),
    PageRoute("/login/code/passkey", "POST", None, confirm),
    PageRoute("/account/passkeys/new", "POST", None, to_make),
    PageRoute("/account/passkeys", "POST", None, add),
    PageRoute("/account/passkeys/remove", "POST", None, remove),
)
