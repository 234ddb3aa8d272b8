"""The interface of a destination that instances are sent to, and its values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

from backup_scp.errors import InstanceRefused
from backup_scp.ports.archive import ArchivedFile
from backup_scp.ports.sites import SEES_ALL, SiteScope
from backup_scp.ports.versions import StoredVersion


class RemoteService(StrEnum):
    """What a ``[[remote]]`` may ask this node for."""

    STORE = "store"  # C-STORE
    COMMIT = "commit"  # Storage Commitment
    FIND = "find"  # C-FIND
    GET = "get"  # C-GET
    MOVE = "move"  # C-MOVE


EVERY_SERVICE = frozenset(RemoteService)
STORING_SERVICES = frozenset({RemoteService.STORE, RemoteService.COMMIT})
"""Services of a console that only sends."""


class UserIdentity(StrEnum):
    """What a remote AE must say of its user (PS3.7 D.3.3.7)."""

    NONE = "none"  # nothing; what it says is ignored
    NAME = "name"  # one of ``users``; nothing proves it
    PASSWORD = "password"  # noqa: S105 - name and passcode of a user of the node
    TOKEN = "token"  # noqa: S105 - a JSON Web Token


@dataclass(frozen=True, slots=True)
class RemoteAE:
    """A configured Application Entity: its names, its address, its permissions.

    Attributes
    ----------
    name
        Its name in commands; unique among the configured ones.
    ae_title
        Its AE title, as calling AE and as Move Destination.
    host, port
        The address that it listens on.
    site
        The clinic whose Patient IDs it uses; empty when the settings name none.
    sites
        The clinics whose images it may find, fetch and be sent; empty for its own, or all when it has none.
    services
        What it may ask this node for.
    destination
        Whether C-MOVE and restore may send to it.
    check_address
        Whether its AE title is accepted only from its host's address and its networks.
    commitment_port
        The port for Storage Commitment reports, when it is another one; 0 for the same.
    tls
        Whether we use TLS when we call it.
    tls_required
        Whether it must use TLS when it calls us.
    brings_sites
        The clinics whose images pass between this and the other backup-scp under their own name.
    networks
        Further addresses and networks from which it may call.
    certificate
        Names, one of which its client certificate must have (``machine.certificate_names``); empty for no condition.
    user_identity
        What it must say of its user when it calls us.
    users
        The names that it may say; empty for every user of the node, where these are compared.
    """

    name: str
    ae_title: str
    host: str
    port: int = 104
    site: str = ""
    services: frozenset[RemoteService] = EVERY_SERVICE
    destination: bool = True
    check_address: bool = True
    commitment_port: int = 0
    tls: bool = False
    tls_required: bool = False
    sites: tuple[str, ...] = ()
    brings_sites: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    certificate: frozenset[str] = frozenset()
    user_identity: UserIdentity = UserIdentity.NONE
    users: tuple[str, ...] = ()

    @property
    def scope(self) -> SiteScope:
        """What it may see and be sent."""
        if self.sites or self.brings_sites:
            return SiteScope.of([*(self.sites or [self.site]), *self.brings_sites])
        return SiteScope.of([self.site]) if self.site else SEES_ALL

    def carries(self, site: str) -> bool:
        """Tell whether images of a site pass between it and this node under the site's name.

        Raises
        ------
        InstanceRefused
            Those of other sites do, and this one has no place there.
        """
        if self.brings_sites and site and site not in self.brings_sites:
            raise InstanceRefused(f"Its clinic {site} is not in brings_sites of [[remote]] {self.name}")
        return site in self.brings_sites

    @property
    def plain_scope(self) -> SiteScope:
        """What it sees on an Association that names no site."""
        return SiteScope.of([self.site]) if self.brings_sites and not self.sites else self.scope


Upcoming = tuple[ArchivedFile, StoredVersion]
"""The next instance, compared and ready to be sent."""

Meanwhile = Callable[[], Upcoming | None]


def do_nothing() -> None:
    """Do nothing; the default for ``meanwhile``."""


class Destination(Protocol):
    """Receives instances: a remote AE over one Association, or a folder.  A context manager."""

    name: str

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def prepare(self, instances: Sequence[StoredVersion]) -> Sequence[StoredVersion]:
        """Connect for these instances; return them in the order in which to send them.

        Raises
        ------
        DestinationUnavailable
        """

    def send(self, file: ArchivedFile, held: StoredVersion, meanwhile: Meanwhile = do_nothing) -> str | None:
        """Deliver one instance; on return the destination has confirmed it.

        Parameters
        ----------
        meanwhile
            Work for the time while the destination has not confirmed yet.  Call it at most once, when the stored bytes
            are no longer needed: it makes ``file.content`` invalid.  It returns the next instance, when that one is in
            memory by now.

        Returns
        -------
        str or None
            The warning in one sentence, when the instance was taken with one (Status Bxxx).

        Raises
        ------
        InstanceRefused
            This instance failed; the next one may succeed.
        DestinationUnavailable
            The destination is away; nothing more can be sent.
        """


class RestoreDestination(Destination, Protocol):
    """Receives the instances of a restore, which prepares them batch by batch and may take hours.

    Attributes
    ----------
    implementation
        The implementation that the peer names, after a connection; empty when it names none.
    """

    implementation: str

    def expect(self, held: StoredVersion) -> None:
        """Announce one instance.  All instances are announced before the first batch is prepared."""

    def disconnect(self) -> None:
        """Release what is open, before a pause of hours; ``prepare`` connects again."""


class Inventory(Protocol):
    """Tells what a destination says that it has.  While it is not connected, it does not say."""

    def connect(self) -> None:
        """Connect, unless it is connected."""

    def disconnect(self) -> None:
        """Release the connection, so that it does not keep a place while images are sent."""

    def count(self, study_instance_uid: str) -> int | None:
        """Return how many images of a study the destination has; None when it does not say."""
