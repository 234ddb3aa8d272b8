"""Open a share link with its PIN.  Before that, nothing tells of a patient or a study."""

from __future__ import annotations

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from backup_scp.services.logins import TooManyAttempts
from backup_scp.services.permissions import Right
from backup_scp.services.share_links import ShareLinks, ShareLocked, WrongPin
from backup_scp.web import session_cookie
from backup_scp.web.callers import WebCaller
from backup_scp.web.options import SHARE_PATH
from backup_scp.web.pages.login_pages import is_secure
from backup_scp.web.pages.page_frame import PageFrame, root_of
from backup_scp.web.pages.page_route import PageRoute
from backup_scp.web.problems import Problem
from backup_scp.web.sharing.shared_frame import SHARE_HEADERS, address, shown

_NO_LINK = Problem(404, "There is no such link")


def pin_page(request: Request, frame: PageFrame) -> Response:
    """Ask for the PIN; lead on who has typed it."""
    caller: WebCaller = request.scope["caller"]
    if caller.may(Right.LOOK_BY_LINK):
        return _led(request, "/study")
    if _shares(frame).shared(_token(request)) is None:
        raise _NO_LINK
    return shown(request, frame, "pin.html", trouble="", wait_s=0)


def open_link(request: Request, frame: PageFrame) -> Response:
    """Compare the PIN."""
    form: FormData = request.scope["form"]
    caller: WebCaller = request.scope["caller"]
    pin = "".join(str(form.get("pin", ""))[:40].split())
    try:
        found = _shares(frame).open(_token(request), pin, caller.address)
    except WrongPin:
        return shown(request, frame, "pin.html", 403, trouble="pin.wrong", wait_s=0)
    except ShareLocked:
        return shown(request, frame, "pin.html", 403, trouble="pin.locked", wait_s=0)
    except TooManyAttempts as error:
        response = shown(request, frame, "pin.html", 429, trouble="pin.wait", wait_s=error.wait_s)
        response.headers["Retry-After"] = str(error.wait_s)
        return response
    if found is None:
        raise _NO_LINK
    response = _led(request, "/study")
    session_cookie.give_share(response, found[1], _path(request), secure=is_secure(request))
    return response


def close_link(request: Request, frame: PageFrame) -> Response:
    """End what this browser has opened."""
    caller: WebCaller = request.scope["caller"]
    if caller.opened is not None:
        _shares(frame).close(caller.opened)
    response = _led(request, "")
    response.headers["Clear-Site-Data"] = '"cache"'
    session_cookie.take_share(response, _path(request), secure=is_secure(request))
    return response


def _led(request: Request, below: str) -> Response:
    return RedirectResponse(address(request, below), 303, SHARE_HEADERS)


def _path(request: Request) -> str:
    """Return the path of the cookie: other links have their own."""
    return f"{root_of(request)}{SHARE_PATH}{_token(request)}"


def _token(request: Request) -> str:
    token: str = request.path_params["link"]
    return token


def _shares(frame: PageFrame) -> ShareLinks:
    if frame.sources.shares is None:
        raise _NO_LINK
    return frame.sources.shares


PAGES = (
    PageRoute("/share/{link}", "GET", None, pin_page),
    PageRoute("/share/{link}", "POST", None, open_link),
    PageRoute("/share/{link}/end", "POST", None, close_link),
)
