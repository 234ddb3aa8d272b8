"""Make sure that a form was sent from a page of ours (cross-site request forgery)."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from backup_scp.services.secret_tokens import new_token
from backup_scp.web import session_cookie
from backup_scp.web.callers import WebCaller
from backup_scp.web.problems import Problem

MOST_BYTES = 1 << 18
_FORM = "application/x-www-form-urlencoded"
_MOST_FIELDS = 2000
_NEW = "new browser"


class FormGuard:
    """Makes a token for each session; every form has it.

    A page of another site can send a form here, but cannot read ours: so it does not know the token.  ``AccessGate``
    has refused other origins before.  Before a login, the token is that of the browser, so that nobody logs in another
    one under a name that is not its user's.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def token_of(self, request: Request) -> str:
        """Return the token for the session of a request, or for its browser; programs without either share one."""
        caller: WebCaller | None = request.scope.get("caller")
        if caller is not None and caller.logged_in:
            whose = caller.logged_in.session.digest
        else:
            whose = f"{caller.kind if caller else ''} {browser_of(request)}"
        return hmac.new(self._secret, whose.encode(), hashlib.sha256).hexdigest()

    async def read(self, request: Request) -> FormData:
        """Read the form.

        Raises
        ------
        Problem
            403: it has no token of ours.  411, 413, 415: it is no form of ours.
        """
        if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            raise Problem(403, "This form was sent from a page of another site; open the page of the node")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
            raise Problem(415, f"A form of the page is {_FORM}")
        length = request.headers.get("content-length", "")
        if not length.isdecimal():
            raise Problem(411, "A form of the page has a Content-Length")
        if int(length) > MOST_BYTES:
            raise Problem(413, f"A form of the page has at most {MOST_BYTES} bytes")
        form = await request.form(max_fields=_MOST_FIELDS)
        token = form.get("token")
        if not isinstance(token, str) or not hmac.compare_digest(
            token.encode("utf-8", "replace"), self.token_of(request).encode()
        ):
            raise Problem(
                403, "The node was restarted since this page was loaded, or you logged in: load it again, and repeat"
            )
        return form


def browser_of(request: Request) -> str:
    """Return what names the browser of a request: its cookie, or what ``named`` has drawn for it."""
    drawn: str = request.scope.get(_NEW, "")
    return drawn or session_cookie.browser_in(request.scope, request.headers, request.scope["forwarding"])


def name_browser(request: Request) -> None:
    """Draw a name for the browser of a request that has none; ``remember_browser`` gives it to the browser."""
    if not browser_of(request):
        request.scope[_NEW] = new_token()


def remember_browser(request: Request, response: Response) -> Response:
    """Give a browser the name that was drawn for it."""
    if drawn := request.scope.get(_NEW, ""):
        secure = session_cookie.is_https(request.scope, request.headers, request.scope["forwarding"])
        session_cookie.give_browser(response, drawn, secure=secure)
    return response
