"""Identify callers by AE title, network address and client certificate, and check their permissions."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from backup_scp.dimse.association.ae_title_hints import likeness, spelling
from backup_scp.errors import MoveDestinationUnknown, NotAuthorised
from backup_scp.machine.networks import Network, address_of, network_of
from backup_scp.ports import SEES_ALL, SEES_NOTHING, RemoteAE, SiteScope
from backup_scp.services.permissions import RIGHT_TO_USE, CallerKind, Right, may, remote_may

ADD_REMOTE = "add a [[remote]] with its AE title and its host to the settings, and type  backup-scp reload"
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
    mismatch
        The ``[[remote]]`` that it would be with another client certificate.
    certificate
        The names in its certificate (``machine.certificate_names``), when a ``[[remote]]`` asks for one.
    is_refused
        Whether the settings refuse strangers, and it is one.
    user
        The user of the Association, when its ``[[remote]]`` has a ``user_identity``; empty otherwise.
    user_scope
        The clinics whose images that user may see; they limit those of the ``[[remote]]``.
    """

    ae_title: str
    address: str
    remote: RemoteAE | None
    is_this_machine: bool
    as_site: str = ""
    mismatch: RemoteAE | None = None
    certificate: frozenset[str] = frozenset()
    is_refused: bool = False
    user: str = ""
    user_scope: SiteScope = SEES_ALL

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
            return SiteScope.of([self.as_site]) & self.user_scope
        if self.remote is not None:
            return self.remote.plain_scope & self.user_scope
        return SEES_ALL if self.is_this_machine else SEES_NOTHING

    @property
    def kind(self) -> CallerKind:
        """How it is known, for the table of permissions."""
        if self.is_this_machine:
            return CallerKind.THIS_MACHINE
        if self.remote is not None:
            return CallerKind.CONFIGURED_AE
        return CallerKind.REFUSED_AE if self.is_refused else CallerKind.UNKNOWN_AE

    def may(self, right: Right) -> bool:
        """Tell whether it may do this."""
        if self.remote is not None and not self.is_this_machine:
            return remote_may(self.remote, right)
        return may(self.kind, right)

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
    refuses_strangers
        Whether an Association of a caller that is neither configured nor on this machine is rejected.
    """

    def __init__(
        self, remotes: Sequence[RemoteAE], *, trust_this_machine: bool = True, refuses_strangers: bool = False
    ) -> None:
        self._remotes = tuple(remotes)
        self._networks: dict[tuple[str, ...], tuple[Network, ...]] = {
            remote.networks: tuple(map(network_of, remote.networks)) for remote in self._remotes
        }
        self._trust_this_machine = trust_this_machine
        self._refuses_strangers = refuses_strangers
        self._resolver = _Resolver()

    def identify(
        self, ae_title: str, address: str, called_address: str, certificate: Callable[[], frozenset[str]] = frozenset
    ) -> Caller:
        """Identify a caller; one whose address or certificate is not that of its AE title counts as not configured.

        A caller whose address is the called address is on this machine; the settings may trust such callers.

        Parameters
        ----------
        ae_title, address
            Of the caller.
        called_address
            Where it has reached us; empty through a proxy, whose callers are never this machine's.
        certificate
            Returns the names in the client certificate that it has proved, if any.
        """
        address = plain_address(address)
        is_here = bool(called_address) and (_is_loopback(address) or address == plain_address(called_address))
        is_trusted = is_here and self._trust_this_machine
        mismatch, names = None, frozenset[str]()
        for remote in self._at(ae_title, address):
            if remote.certificate and not names:
                names = certificate()
            if not remote.certificate or not names.isdisjoint(remote.certificate):
                return Caller(ae_title, address, remote, is_trusted, certificate=names)
            mismatch = mismatch or remote
        is_refused = self._refuses_strangers and not is_trusted
        return Caller(ae_title, address, None, is_trusted, "", mismatch, names, is_refused)

    def find(self, ae_title: str, address: str) -> RemoteAE | None:
        """Find the configured remote AE with this AE title, at this address, whatever its certificate is."""
        return next(self._at(ae_title, plain_address(address)), None) if address else None

    def require(self, caller: Caller, right: Right) -> None:
        """Raise for a caller that may not do this.

        Raises
        ------
        NotAuthorised
            PS3.7 C.5.7: 0124.
        """
        if not caller.may(right):
            raise NotAuthorised(f"{caller} may not {_IN_WORDS.get(right, right)} here", self._fix_of(caller, right))

    def fix_for(self, ae_title: str, address: str) -> str:
        """Return what to do so that the caller becomes a configured remote AE."""
        if elsewhere := next((remote for remote in self._remotes if remote.ae_title == ae_title), None):
            return (
                f"its AE title is configured for another host, {elsewhere.host}: did its address change, or do two "
                f"devices use one AE title? Correct host of [[remote]] {elsewhere.name}, or add its address to networks"
                ", and type  backup-scp reload"
            )
        for remote in self._remotes:
            hint = likeness(ae_title, remote.ae_title)
            if hint and (spelling(ae_title, remote.ae_title) or self._is_at(remote, address)):
                mistaken = f"[[remote]] {remote.name} is {remote.ae_title}, and it calls itself {printable(ae_title)}"
                return f"{mistaken}: {hint}. Make both equal, and type  backup-scp reload"
        return ADD_REMOTE

    def fix_of_stranger(self, caller: Caller) -> str:
        """Return what to do so that this caller becomes a configured remote AE."""
        if caller.mismatch is None:
            return self.fix_for(caller.ae_title, caller.address)
        shown = next((name for name in caller.certificate if name.startswith("SHA256:")), "")
        if not shown:
            return f"it shows no client certificate, and [[remote]] {caller.mismatch.name} asks for one: give it one"
        return (
            f"its certificate is none of [[remote]] {caller.mismatch.name}: if it is the right one, add "
            f'"{shown}" to certificate there, and type  backup-scp reload'
        )

    def move_destination(self, ae_title: str, scope: SiteScope = SEES_ALL) -> RemoteAE:
        """Look up a Move Destination; one of other clinics alone than the caller's is answered as unknown.

        Raises
        ------
        MoveDestinationUnknown
            PS3.4 C.4.2.1.5: A801.
        """
        for remote in self._remotes:
            if remote.ae_title == ae_title and remote_may(remote, Right.RECEIVE) and remote.scope.meets(scope):
                return remote
        raise MoveDestinationUnknown(
            f"Move Destination {printable(ae_title)} is not configured here", self._fix_of_destination(ae_title)
        )

    def _fix_of_destination(self, ae_title: str) -> str:
        for remote in self._remotes:
            if remote.ae_title == ae_title:
                return f"[[remote]] {remote.name} has destination = false, or sites that differ: nothing is sent to it"
            if hint := likeness(ae_title, remote.ae_title):
                return f"[[remote]] {remote.name} is {remote.ae_title}: {hint}; correct the destination at the viewer"
        return (
            "add a [[remote]] with this AE title and the host and port where it listens to the settings, "
            "and type  backup-scp reload"
        )

    def _fix_of(self, caller: Caller, right: Right) -> str:
        if caller.remote is None:
            return self.fix_of_stranger(caller)
        service = next((service for service, needed in RIGHT_TO_USE.items() if needed is right), "")
        return f'add "{service}" to services of [[remote]] {caller.remote.name}, and type  backup-scp reload'

    def _at(self, ae_title: str, address: str) -> Iterator[RemoteAE]:
        return (r for r in self._remotes if r.ae_title == ae_title and self._is_at(r, address))

    def _is_at(self, remote: RemoteAE, address: str) -> bool:
        if not remote.check_address:
            return True
        if remote.networks and any(address_of(address) in network for network in self._networks[remote.networks]):
            return True
        return address in self._resolver.addresses(remote.host)


_IN_WORDS = {Right.FIND: "query", Right.RETRIEVE: "query", Right.MOVE: "query"}


def printable(text: str) -> str:
    """Escape text from the network, so that it can neither end a line nor colour it."""
    return repr(text.encode("ascii", "backslashreplace").decode())


@lru_cache(maxsize=1024)
def plain_address(address: str) -> str:
    """Write an IPv4-mapped IPv6 address as IPv4, and drop a zone."""
    return str(address_of(address))


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
