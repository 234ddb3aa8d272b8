"""How a caller reaches the service, and where it is, when a reverse proxy stands between (docs/adr/0045)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from backup_scp.web.options import BASE_PATH

_PROXIED = frozenset({
    b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto",
    b"x-forwarded-server", b"x-real-ip",
})  # fmt: skip
_PORTS = {"http": 80, "https": 443}
_HAS_PORT = re.compile(r":\d+$")
_HOST = re.compile(r"[A-Za-z0-9._~-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_MOST_HOPS = 32

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Forwarding:
    """Tells the base URI of the service and a caller's address.

    Parameters
    ----------
    public_url
        The address of the service before ``/dicom-web``, as callers reach it; empty: as their requests say.
    proxies
        Addresses and networks of proxies whose headers count, besides this computer.
    """

    def __init__(self, public_url: str = "", proxies: Iterable[str] = ()) -> None:
        self.public_url = public_url.rstrip("/")
        networks = tuple(ipaddress.ip_network(each, strict=False) for each in proxies)
        self._is_trusted = lru_cache(maxsize=1024)(lambda address: _is_within(address, networks))

    def is_proxied(self, scope: Scope) -> bool:
        """Tell whether a request may have come through a proxy: then its caller is not on this computer.

        A proxy without settings of ours may add no header; nginx then speaks HTTP/1.0.
        """
        return bool(self.public_url) or scope.get("http_version") == "1.0" or _names_a_proxy(scope)

    def address_of(self, scope: Scope, headers: Headers) -> str:
        """Return a caller's address: what the last proxy says that is trusted, or that of the connection."""
        address = str((scope.get("client") or ("", 0))[0])
        if not _names_a_proxy(scope):
            return address
        hops = ",".join(headers.getlist("x-forwarded-for")).rsplit(",", _MOST_HOPS)
        while hops and self._is_trusted(address):
            said = _plain_address(hops.pop())
            if not said:
                break
            address = said
        return address

    def base(self, scope: Scope, headers: Headers) -> str:
        """Return the base URI of the service, as the caller reaches it.

        Without a public URL, a trusted proxy says it by X-Forwarded-Proto and X-Forwarded-Host.  Without a proxy, a
        Host without a port gets ours: some clients leave it out (RFC 9110 7.2 does not allow that).
        """
        if self.public_url:
            return f"{self.public_url}{BASE_PATH}"
        scheme, host = scope["scheme"], headers.get("host") or "localhost"
        if _names_a_proxy(scope):
            if self._is_trusted(str((scope.get("client") or ("", 0))[0])):
                said = headers.get("x-forwarded-proto", scheme)
                scheme = said if said in _PORTS else scheme
                named = headers.get("x-forwarded-host", "")
                host = named if _HOST.fullmatch(named) else host
        elif (server := scope.get("server")) and server[1] not in {None, _PORTS[scheme]} and not _HAS_PORT.search(host):
            host = f"{host}:{server[1]}"
        return f"{scheme}://{host}{BASE_PATH}"

    def root(self, scope: Scope, headers: Headers) -> str:
        """Return the folder that our pages are in, as a browser sees it: empty, or ``/backup``."""
        return urlsplit(self.base(scope, headers)).path.removesuffix(BASE_PATH)

    def origin(self, scope: Scope, headers: Headers) -> str:
        """Return the origin of our own pages, as a browser names it."""
        parts = urlsplit(self.base(scope, headers))
        return f"{parts.scheme}://{parts.netloc}".lower()


def _names_a_proxy(scope: Scope) -> bool:
    return not _PROXIED.isdisjoint(name for name, _ in scope["headers"])


def _is_within(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0].removeprefix("::ffff:"))
    except ValueError:
        return False
    return parsed.is_loopback or any(parsed in network for network in networks)


def _plain_address(said: str) -> str:
    """Return the address of one hop, without a port; empty when it is none."""
    text = said.strip()
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::\d+)?", text)
    if bracketed:
        text = bracketed[1]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""
