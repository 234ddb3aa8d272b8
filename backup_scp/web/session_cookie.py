"""The cookies with the token of a session, of a user or share link, and those of a browser before a login."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.types import Scope

from backup_scp.web.forwarding import Forwarding

_NAME = "backup-scp"
_BROWSER_NAME = f"{_NAME}-browser"
_LOGIN_NAME = f"{_NAME}-login"
_SECURE = "__Host-"  # a browser takes such a cookie only over HTTPS, and from no other host of the same domain
_SHARE_NAME = f"{_NAME}-share"
_SECURE_WITH_PATH = "__Secure-"  # the same for one with a path of its own, which __Host- forbids


def token_in(scope: Scope, headers: Headers, forwarding: Forwarding) -> str:
    """Return the token of a request's session; empty without one."""
    return _cookie(_NAME, scope, headers, forwarding)


def browser_in(scope: Scope, headers: Headers, forwarding: Forwarding) -> str:
    """Return what names the browser of a request: its forms and passkeys before a login are bound to it."""
    return _cookie(_BROWSER_NAME, scope, headers, forwarding)


def login_in(scope: Scope, headers: Headers, forwarding: Forwarding) -> str:
    """Return the token of a login at a provider that this browser has begun; empty without one."""
    return _cookie(_LOGIN_NAME, scope, headers, forwarding)


def share_token_in(scope: Scope, headers: Headers, forwarding: Forwarding) -> str:
    """Return the token of who has opened a share link; empty without one."""
    return _cookie(_SHARE_NAME, scope, headers, forwarding)


def _cookie(name: str, scope: Scope, headers: Headers, forwarding: Forwarding) -> str:
    if "cookie" not in headers:
        return ""
    cookies = cookie_parser("; ".join(headers.getlist("cookie")))
    return cookies.get(_named(name, secure=is_https(scope, headers, forwarding)), "")


def give(response: Response, token: str, *, secure: bool) -> None:
    """Give a browser the token of a session; it ends with the browser, or with the session."""
    _set(response, _NAME, token, secure=secure)


def give_browser(response: Response, value: str, *, secure: bool) -> None:
    """Give a browser its name."""
    _set(response, _BROWSER_NAME, value, secure=secure)


def give_login(response: Response, token: str, *, secure: bool) -> None:
    """Give a browser the token of a login at a provider."""
    _set(response, _LOGIN_NAME, token, secure=secure)


def take(response: Response, *, secure: bool) -> None:
    """Let a browser forget the token of its session."""
    _delete(response, _NAME, secure=secure)


def take_login(response: Response, *, secure: bool) -> None:
    """Let a browser forget the token of a login at a provider."""
    _delete(response, _LOGIN_NAME, secure=secure)


def _delete(response: Response, name: str, *, secure: bool) -> None:
    name = _named(name, secure=secure)
    response.delete_cookie(name, path="/", secure=secure, httponly=True, samesite="lax")


def give_share(response: Response, token: str, path: str, *, secure: bool) -> None:
    """Give a browser the token for the pages of one share link; it ends with the browser, or with the session."""
    name = _named(_SHARE_NAME, secure=secure)
    response.set_cookie(name, token, path=path, secure=secure, httponly=True, samesite="strict")


def take_share(response: Response, path: str, *, secure: bool) -> None:
    """Let a browser forget it."""
    name = _named(_SHARE_NAME, secure=secure)
    response.delete_cookie(name, path=path, secure=secure, httponly=True, samesite="strict")


def _set(response: Response, name: str, value: str, *, secure: bool) -> None:
    response.set_cookie(_named(name, secure=secure), value, path="/", secure=secure, httponly=True, samesite="lax")


def _named(name: str, *, secure: bool) -> str:
    prefix = _SECURE_WITH_PATH if name == _SHARE_NAME else _SECURE
    return f"{prefix}{name}" if secure else name


def is_https(scope: Scope, headers: Headers, forwarding: Forwarding) -> bool:
    """Tell whether the browser reaches the node by HTTPS, perhaps through a proxy."""
    return forwarding.base(scope, headers).startswith("https:")
