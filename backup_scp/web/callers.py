"""Who calls, and what this caller may do (docs/adr/0045)."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import Scope

from backup_scp.errors import Unavailable
from backup_scp.machine.addresses import is_loopback
from backup_scp.ports import EVERY_SITE, SEES_ALL, SEES_NOTHING, SiteScope
from backup_scp.services.logins import LoggedIn, Logins
from backup_scp.services.permissions import LINK_RIGHTS, CallerKind, Right, may, scope_with, user_may
from backup_scp.services.share_links import OpenedShare, ShareLinks
from backup_scp.web import session_cookie
from backup_scp.web.forwarding import Forwarding
from backup_scp.web.options import BASE_PATH, SHARE_PATH, WebOptions
from backup_scp.web.problems import Problem

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class WebCaller:
    """Who sent a request.

    Attributes
    ----------
    kind
        How it is known.
    address
        Its network address.
    scope
        The clinics whose images it may see.
    site
        The clinic that it stores for.
    brings
        The clinics one of which each request may be for.
    logged_in
        The user and its session; None for other kinds.
    lacks_second_factor
        Whether it may do nothing before it has set one up.
    opened
        The share link that it has opened; None for other kinds.
    """

    kind: CallerKind
    address: str
    scope: SiteScope
    site: str = ""
    logged_in: LoggedIn | None = None
    lacks_second_factor: bool = False
    brings: tuple[str, ...] = ()
    opened: OpenedShare | None = None

    def __str__(self) -> str:
        return f"{self.kind} at {self.address}"

    def for_site(self, site: str) -> WebCaller:
        """Return the caller for the one clinic that a request names: it is another node, which brings images of it.

        Raises
        ------
        Problem
            403: it may not.
        """
        if site and site not in self.brings:
            raise Problem(403, "You may not bring images of this clinic; a token does with the word brings")
        return replace(self, site=site, scope=SiteScope.of([site])) if site else self

    def may(self, right: Right) -> bool:
        """Tell whether it may do this."""
        if self.opened is not None:
            return right in LINK_RIGHTS[self.opened.link.may_save]
        if self.lacks_second_factor:
            return False
        return user_may(self.logged_in.user.roles, right) if self.logged_in else may(self.kind, right, self.scope)

    def scope_for(self, right: Right | None) -> SiteScope:
        """Return the clinics whose images it may see on the way to do this: a user has a role at each."""
        return scope_with(self.logged_in.user.roles, right or Right.FIND) if self.logged_in else self.scope

    def require(self, right: Right) -> None:
        """Raise for a caller that may not do this.

        Raises
        ------
        Problem
            401; 403 for a known caller.
        """
        if self.may(right):
            return
        if self.lacks_second_factor:
            raise Problem(403, "Set up a second step of your login first: open My account")
        if self.kind is not CallerKind.UNKNOWN_WEB:
            raise Problem(403, f"You may not {right}")
        raise Problem(
            401,
            "Only programs on the node's own computer need no login. Send  Authorization: Bearer TOKEN  with a token "
            "of [web] token_file, or call with a client certificate of [web] ca; docs/web.md says how",
            {"WWW-Authenticate": 'Bearer realm="backup-scp"'},
        )


class WebAccess:
    """Identifies callers.

    Parameters
    ----------
    options
        The tokens, and whom to trust.
    logins
        The users; None without any.
    shares
        The share links; None without any.
    """

    def __init__(self, options: WebOptions, logins: Logins | None = None, shares: ShareLinks | None = None) -> None:
        self._options = options
        self.logins = logins
        self._shares = shares
        self.forwarding = Forwarding(options.public_url, options.proxies)
        self._tokens = [
            (_digest(token), (options.token_sites.get(token, ()), token in options.bringing))
            for token in options.tokens
        ]
        self._allowed_origins = frozenset(origin.lower() for origin in options.cors)

    async def logged_in(self, scope: Scope, headers: Headers) -> LoggedIn | None:
        """Find the user whose session a request names."""
        token = session_cookie.token_in(scope, headers, self.forwarding)
        if self.logins is None or not token:
            return None
        try:
            return await run_in_threadpool(self.logins.logged_in, token)
        except Unavailable:  # the login page says so
            return None

    async def by_link(self, scope: Scope, headers: Headers) -> WebCaller:
        """Identify the caller of a page of a share link: whether it has opened the link, and nothing else, counts."""
        address = self.forwarding.address_of(scope, headers)
        token, below, _ = scope["path"].removeprefix(SHARE_PATH).partition("/")
        session = session_cookie.share_token_in(scope, headers, self.forwarding)
        asks_for_pin = scope["method"] == "POST" and not below  # its form was made for who has not opened it
        if self._shares is not None and session and not asks_for_pin:
            with suppress(Unavailable):
                opened = await run_in_threadpool(self._shares.opened, token, session)
                if opened is not None:
                    seen = SiteScope(frozenset({opened.link.site}))
                    return WebCaller(CallerKind.SHARE_LINK, address, seen, opened=opened)
        return WebCaller(CallerKind.UNKNOWN_WEB, address, SEES_NOTHING)

    async def is_over(self, logged_in: LoggedIn) -> bool:
        """Tell whether a session has ended meanwhile."""
        try:
            return self.logins is None or not await run_in_threadpool(self.logins.lasts, logged_in)
        except Unavailable:
            return False

    def identify(self, scope: Scope, headers: Headers, logged_in: LoggedIn | None = None) -> WebCaller:
        """Identify the caller of a request.

        Raises
        ------
        Problem
            401: a wrong token.  403: a page of another site, or a name that leads to this computer.
        """
        address = self.forwarding.address_of(scope, headers)
        if logged_in is not None:
            lacks = self.logins is not None and self.logins.lacks_second_factor(logged_in)
            seen = SEES_NOTHING if lacks else scope_with(logged_in.user.roles, Right.FIND)
            return WebCaller(CallerKind.USER, address, seen, logged_in=logged_in, lacks_second_factor=lacks)
        if self._options.ca is not None and scope["scheme"] == "https":
            return WebCaller(CallerKind.CERTIFICATE, address, SEES_ALL)  # the TLS handshake fails without one
        if authorization := headers.get("authorization"):
            sites, brings = self._sites_of_token(authorization)
            seen = SiteScope.of(sites[:1] if brings else sites) if sites else SEES_ALL
            own = next(iter(sites), "").replace(EVERY_SITE, "")
            return WebCaller(CallerKind.TOKEN, address, seen, own, brings=sites if brings else ())
        if not self._is_here(scope):
            return WebCaller(CallerKind.UNKNOWN_WEB, address, SEES_NOTHING)
        if not _is_literal(headers.get("host", "")):
            return self._by_another_name(address)
        return WebCaller(CallerKind.THIS_MACHINE, address, SEES_ALL)

    def _by_another_name(self, address: str) -> WebCaller:
        """Trust nobody who reaches this computer by a name that any site may let lead here (DNS rebinding)."""
        with suppress(Unavailable):
            if self.logins is not None and self.logins.has_users():
                return WebCaller(CallerKind.UNKNOWN_WEB, address, SEES_NOTHING)
        raise Problem(403, "Without a token, call this computer by its IP address or as localhost, not by another name")

    def _sites_of_token(self, authorization: str) -> tuple[tuple[str, ...], bool]:
        """Return the sites that the line of a token names, none for all, and whether it brings them."""
        scheme, _, token = authorization.partition(" ")
        given = hashlib.sha256(token.strip().encode("latin-1")).digest()
        known = [its for digest, its in self._tokens if hmac.compare_digest(given, digest)]
        if scheme.lower() == "bearer" and known:
            return known[0]
        raise Problem(
            401,
            "This token is not in [web] token_file; the node reads that file at its start",
            {"WWW-Authenticate": 'Bearer realm="backup-scp", error="invalid_token"'},
        )

    def _is_here(self, scope: Scope) -> bool:
        if not self._options.trust_this_machine or self.forwarding.is_proxied(scope):
            return False
        address = str((scope.get("client") or ("", 0))[0])
        ours = str((scope.get("server") or ("", 0))[0])
        return _is_loopback(address) or (bool(address) and address == ours)

    def allows_origin(self, origin: str) -> bool:
        """Tell whether pages of this origin may call from a browser."""
        return origin.lower() in self._allowed_origins

    def require_origin(self, scope: Scope, headers: Headers) -> None:
        """Refuse what changes something when a page of another site sends it.

        Raises
        ------
        Problem
            403
        """
        origin = headers.get("origin")
        if origin is None or scope["method"] in _SAFE:
            return
        if scope["path"].startswith(BASE_PATH) and self.allows_origin(origin):
            return
        if scope["path"].startswith(SHARE_PATH) and origin == "null":
            return  # of a page that gives no Referer; ``FormGuard`` asks for its token
        if origin.lower() != self.forwarding.origin(scope, headers):
            raise Problem(403, "Pages of this origin may not store here; [web] cors lists those that may")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


@lru_cache(maxsize=1024)
def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0].removeprefix("::ffff:")).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=1024)
def _is_literal(host: str) -> bool:
    """Tell whether a Host header has an IP address or localhost."""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    name = name.strip("[]")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return is_loopback(name)
    return True
