"""The cookie that has the token of a session."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.types import Scope

from backup_scp.web.forwarding import Forwarding

_NAME = "backup-scp"
_SECURE_NAME = f"__Host-{_NAME}"  # a browser takes it only over HTTPS, and from no other host of the same domain


def token_in(scope: Scope, headers: Headers, forwarding: Forwarding) -> str:
    """Return the token of a request; empty without one."""
    if "cookie" not in headers:
        return ""
    cookies = cookie_parser("; ".join(headers.getlist("cookie")))
    return cookies.get(_SECURE_NAME if is_https(scope, headers, forwarding) else _NAME, "")


def give(response: Response, token: str, *, secure: bool) -> None:
    """Give a browser the token; it ends with the browser, or with the session."""
    name = _SECURE_NAME if secure else _NAME
    response.set_cookie(name, token, path="/", secure=secure, httponly=True, samesite="lax")


def take(response: Response, *, secure: bool) -> None:
    """Let a browser forget the token."""
    name = _SECURE_NAME if secure else _NAME
    response.delete_cookie(name, path="/", secure=secure, httponly=True, samesite="lax")


def is_https(scope: Scope, headers: Headers, forwarding: Forwarding) -> bool:
    """Tell whether the browser reaches the node by HTTPS, perhaps through a proxy."""
    return forwarding.base(scope, headers).startswith("https:")
