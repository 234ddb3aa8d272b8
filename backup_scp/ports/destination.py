"""Where instances go back to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from backup_scp.ports.archive import ArchivedFile
from backup_scp.ports.holdings import StoredVersion


@dataclass(frozen=True, slots=True)
class RemoteAE:
    """A configured Application Entity: who it is, where it listens, what it may do.

    Attributes
    ----------
    name
        What people call it in commands; unique among the configured.
    ae_title
        Its AE title, as calling AE and as Move Destination.
    host, port
        Where it listens, when we connect to it.
    site
        The clinic whose Patient IDs it uses; empty when it has not been told.
    query
        It may C-FIND, C-GET and C-MOVE.
    destination
        C-MOVE and restore may send to it.
    check_address
        Its AE title counts only from its host's address.
    commitment_port
        Where it listens for Storage Commitment reports, when that is another port; 0 for the same.
    tls
        Whether we secure our Associations with it.
    tls_required
        Whether it must secure its own with us.
    """

    name: str
    ae_title: str
    host: str
    port: int = 104
    site: str = ""
    query: bool = True
    destination: bool = True
    check_address: bool = True
    commitment_port: int = 0
    tls: bool = False
    tls_required: bool = False


Upcoming = tuple[ArchivedFile, StoredVersion]
"""What comes next, compared and ready to be sent."""

Meanwhile = Callable[[], Upcoming | None]


def do_nothing() -> None:
    """Do nothing meanwhile."""


class Destination(Protocol):
    """Where instances go back to: a remote AE over one Association, or a folder.  A context manager."""

    name: str

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def prepare(self, instances: Sequence[StoredVersion]) -> Sequence[StoredVersion]:
        """Connect for these instances; return them in the order in which they are to be sent.

        Raises
        ------
        DestinationUnavailable
        """

    def send(self, file: ArchivedFile, held: StoredVersion, meanwhile: Meanwhile = do_nothing) -> str | None:
        """Deliver one instance; on return the destination has confirmed it.

        Parameters
        ----------
        meanwhile
            Call it once, when the stored bytes are not needed any more: what is to be done while the destination
            has not confirmed them.  ``file.content`` is void from then on.  It returns what comes next, where that is
            in memory by now.  It need not be called.

        Returns
        -------
        str or None
            A warning in one sentence when it was taken with one (Status Bxxx).

        Raises
        ------
        InstanceRefused
            This one failed; the next may not.
        DestinationUnavailable
            It is gone; nothing more can be sent.
        """


class RestoreDestination(Destination, Protocol):
    """Where a restore sends, which may take hours, and is asked for batch by batch.

    Attributes
    ----------
    implementation
        What the other side says that it is, once it was reached; empty where it does not say.
    """

    implementation: str

    def expect(self, held: StoredVersion) -> None:
        """Announce one instance; all are announced before the first batch is prepared."""


class Inventory(Protocol):
    """What a destination says that it has."""

    def count(self, study_instance_uid: str) -> int | None:
        """Tell how many images of a study it has; None where it does not say."""
