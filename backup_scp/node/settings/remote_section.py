"""``[[remote]]``: the other Application Entities, and what each of them may do."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from backup_scp.machine.certificate_names import normal_name
from backup_scp.machine.networks import network_of
from backup_scp.ports import (
    EVERY_SERVICE,
    EVERY_SITE,
    STORING_SERVICES,
    RemoteAE,
    RemoteService,
    UserIdentity,
    site_fault,
)

AETitle = Annotated[str, Meta(max_length=16)]


def ae_title(text: str) -> str:
    """Strip insignificant spaces; raise for an invalid AE title (PS3.5 6.2, AE)."""
    title = text.strip(" ")
    if not title:
        raise ValueError("ae_title is empty: an AE title has 1 to 16 characters")
    if not all(" " <= character <= "~" and character != "\\" for character in title):
        raise ValueError("ae_title: only letters, digits, blanks and signs of ASCII, no backslash")
    return title


class RemoteSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[[remote]]``: another Application Entity; see ``ports.RemoteAE``."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    ae_title: AETitle
    host: Annotated[str, Meta(min_length=1)]
    port: Annotated[int, Meta(ge=1, le=65535)] = 104
    site: Annotated[str, Meta(max_length=64)] = ""
    sites: tuple[Annotated[str, Meta(max_length=64)], ...] = ()
    brings_sites: tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...] = ()
    services: tuple[RemoteService, ...] = ()
    query: bool = True
    destination: bool = True
    check_address: bool = True
    networks: tuple[str, ...] = ()
    certificate: tuple[str, ...] = ()
    commitment_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    tls: bool | Literal["required"] = False
    user_identity: Literal["none", "name", "password", "token"] = "none"
    users: tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...] = ()

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "ae_title", ae_title(self.ae_title))
        if not re.fullmatch(r"[^\W_][\w. -]*", self.name):
            raise ValueError("a name is letters, digits, blanks, dots, hyphens and underscores")
        named = (self.site, *self.brings_sites, *(set(self.sites) - {EVERY_SITE}))
        if fault := next(filter(None, map(site_fault, named)), ""):
            raise ValueError(f"site, sites, brings_sites: {fault}")
        if self.services and not self.query:
            raise ValueError("services: it says alone what the remote AE may do; leave query out")
        self._require_fitting_networks()
        self._require_fitting_users()
        for name in self.certificate:
            try:
                normal_name(name)
            except ValueError as error:
                raise ValueError(f"certificate: {error}") from None

    def _require_fitting_users(self) -> None:
        if self.user_identity == "name" and not self.users:
            raise ValueError('users: list the names that user_identity = "name" accepts')
        if self.user_identity == "none" and self.users:
            raise ValueError('users: set user_identity as well, to "name", "password" or "token"')
        if self.user_identity != "none" and self.brings_sites:
            raise ValueError("user_identity: another backup-scp names its clinic there; leave it out with brings_sites")

    def _require_fitting_networks(self) -> None:
        if self.networks and not self.check_address:
            raise ValueError("networks: check_address = false accepts every address; leave one of them out")
        for network in self.networks:
            try:
                network_of(network)
            except ValueError:
                raise ValueError('networks: name each by address or network, such as "192.168.1.0/24"') from None

    @property
    def may_use(self) -> frozenset[RemoteService]:
        """What it may ask this node for: ``services`` alone, where it names any."""
        return frozenset(self.services) or (EVERY_SERVICE if self.query else STORING_SERVICES)

    def remote_ae(self) -> RemoteAE:
        """Convert it to the value that the services use."""
        facts = msgspec.structs.asdict(self) | {
            "services": self.may_use,
            "certificate": frozenset(map(normal_name, self.certificate)),
            "tls": bool(self.tls),
            "user_identity": UserIdentity(self.user_identity),
            "tls_required": self.tls == "required" or bool(self.certificate),
        }
        del facts["query"]
        return RemoteAE(**facts)


def require_distinct(remotes: tuple[RemoteSettings, ...]) -> None:
    """Raise for two remote AEs that a command or a caller could not tell apart."""
    names: set[str] = set()
    places: set[tuple[str, str]] = set()
    for remote in remotes:
        if remote.name in names:
            raise ValueError(f"two [[remote]] have the name {remote.name}: give each its own")
        if (remote.ae_title, remote.host.lower()) in places:
            raise ValueError(f"two [[remote]] have the AE title {remote.ae_title} at one host: keep one of them")
        if any(remote.name == other.ae_title for other in remotes if other is not remote):
            raise ValueError(f"the name {remote.name} is another [[remote]]'s AE title: choose another name")
        names.add(remote.name)
        places.add((remote.ae_title, remote.host.lower()))
