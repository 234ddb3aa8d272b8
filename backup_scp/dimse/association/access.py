"""Identify callers by AE title and network address, and check their permissions."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from backup_scp.errors import MoveDestinationUnknown, NotAuthorised
from backup_scp.ports import SEES_ALL, SEES_NOTHING, RemoteAE, SiteScope
from backup_scp.services.permissions import CallerKind, Right, may

ADD_REMOTE = "add a [[remote]] with its AE title and its host to the settings, and restart the node"
"""The fix for a refused caller that is not configured."""

_RESOLVED_FOR_S = 60.0


@dataclass(frozen=True, slots=True)
class Caller:
    """The requestor of an Association.

    Attributes
    ----------
    ae_title
        Calling AE title.
    address
        Its network address.
    remote
        The ``[[remote]]`` of the settings that it is, if any.
    is_this_machine
        Whether the connection comes from this machine, and the settings trust such callers.
    as_site
        The clinic that this Association is for, when it names one that its ``[[remote]]`` brings.
    """

    ae_title: str
    address: str
    remote: RemoteAE | None
    is_this_machine: bool
    as_site: str = ""

    def __str__(self) -> str:
        """Format for log and messages, so that nothing a caller sends can forge a line."""
        return f"{printable(self.ae_title)} at {self.address}"

    @property
    def site(self) -> str:
        """The clinic that it belongs to; empty when none is configured."""
        return self.as_site or (self.remote.site if self.remote else "")

    @property
    def scope(self) -> SiteScope:
        """The clinics whose images it may see: those of its ``[[remote]]``, also when that is on this machine."""
        if self.as_site:
            return SiteScope.of([self.as_site])
        if self.remote is not None:
            return self.remote.plain_scope
        return SEES_ALL if self.is_this_machine else SEES_NOTHING

    @property
    def kind(self) -> CallerKind:
        """How it is known, for the table of permissions."""
        if self.is_this_machine:
            return CallerKind.THIS_MACHINE
        if self.remote is None:
            return CallerKind.UNKNOWN_AE
        return CallerKind.CONFIGURED_AE if self.remote.query else CallerKind.STORING_AE

    @property
    def is_known(self) -> bool:
        """Whether it is configured or on this machine, so that Associations are reserved for it."""
        return self.remote is not None or self.is_this_machine


class AccessPolicy:
    """The rules of the settings for callers and Move Destinations.

    Parameters
    ----------
    remotes
        The configured remote AEs.
    trust_this_machine
        Whether callers from this machine get the rights of configured ones.  Do not use it behind a proxy or the port
        handler of a rootless container: there every caller seems to be on this machine.
    """

    def __init__(self, remotes: Sequence[RemoteAE], *, trust_this_machine: bool = True) -> None:
        self._remotes = tuple(remotes)
        self._trust_this_machine = trust_this_machine
        self._resolver = _Resolver()

    def identify(self, ae_title: str, address: str, called_address: str) -> Caller:
        """Identify a caller; one whose address is not that of its configured AE title counts as not configured.

        A caller whose address is the called address is on this machine; the settings may trust such callers.
        """
        address = plain_address(address)
        remote = self.find(ae_title, address)
        is_here = _is_loopback(address) or address == plain_address(called_address)
        return Caller(ae_title, address, remote, is_here and self._trust_this_machine)

    def find(self, ae_title: str, address: str) -> RemoteAE | None:
        """Find the configured remote AE with this AE title, at this address."""
        return next((r for r in self._remotes if r.ae_title == ae_title and self._is_at(r, address)), None)

    def require_query(self, caller: Caller) -> None:
        """Allow C-FIND, C-GET and C-MOVE to configured remote AEs and to this machine.

        Raises
        ------
        NotAuthorised
            PS3.7 C.5.7: 0124.
        """
        if may(caller.kind, Right.FIND) and may(caller.kind, Right.RETRIEVE):
            return
        if caller.remote:
            fix = f"set query = true for {caller.remote.name} in the settings, and restart the node"
        else:
            fix = self.fix_for(caller.ae_title)
        raise NotAuthorised(f"{caller} may not query here", fix)

    def fix_for(self, ae_title: str) -> str:
        """Return what to do so that the caller becomes a configured remote AE."""
        if any(remote.ae_title == ae_title for remote in self._remotes):
            return (
                "its AE title is configured for another host: correct the host, or set check_address = false, "
                "and restart the node"
            )
        return ADD_REMOTE

    def move_destination(self, ae_title: str, scope: SiteScope = SEES_ALL) -> RemoteAE:
        """Look up a Move Destination; one of other clinics alone than the caller's is answered as unknown.

        Raises
        ------
        MoveDestinationUnknown
            PS3.4 C.4.2.1.5: A801.
        """
        for remote in self._remotes:
            if remote.ae_title == ae_title and remote.destination and remote.scope.meets(scope):
                return remote
        raise MoveDestinationUnknown(
            f"Move Destination {printable(ae_title)} is not configured here",
            "add a [[remote]] with this AE title and the host and port where it listens to the settings, "
            "and restart the node",
        )

    def _is_at(self, remote: RemoteAE, address: str) -> bool:
        return not remote.check_address or address in self._resolver.addresses(remote.host)


def printable(text: str) -> str:
    """Escape text from the network, so that it can neither end a line nor colour it."""
    return repr(text.encode("ascii", "backslashreplace").decode())


@lru_cache(maxsize=1024)
def plain_address(address: str) -> str:
    """Write an IPv4-mapped IPv6 address as IPv4, and drop a zone."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


@lru_cache(maxsize=1024)
def peer_of(address: str) -> str:
    """Return what counts as one peer: an IPv4 address, or an IPv6 /64 network, of which a host can use any address."""
    plain = plain_address(address)
    if ":" not in plain:
        return plain
    return str(ipaddress.ip_network((plain, 64), strict=False).network_address)


@lru_cache(maxsize=1024)
def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


class _Resolver:
    """Resolves names, with a short-lived cache: not every Association may wait for DNS."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, frozenset[str]]] = {}
        self._lock = threading.Lock()

    def addresses(self, host: str) -> frozenset[str]:
        now = time.monotonic()
        with self._lock:
            resolved_at, addresses = self._known.get(host, (-_RESOLVED_FOR_S, frozenset()))
        if now - resolved_at < _RESOLVED_FOR_S:
            return addresses
        with contextlib.suppress(OSError, UnicodeError):  # when DNS fails, the last answer stays valid
            found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
            addresses = frozenset(plain_address(str(entry[4][0])) for entry in found)
        with self._lock:
            self._known[host] = (now, addresses)
        return addresses
