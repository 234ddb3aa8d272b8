"""A Storage SCP on loopback that hashes what it receives and keeps nothing: the console of a drill."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, NoReturn

from backup_scp.dimse.association.access import AccessPolicy
from backup_scp.dimse.association.listener import ListenSettings
from backup_scp.dimse.association.negotiation import is_storage
from backup_scp.dimse.association.request_dispatch import Service
from backup_scp.dimse.association.server import Server
from backup_scp.dimse.messages.command_set import Field
from backup_scp.dimse.scp.storage_scp import StorageSCP
from backup_scp.ports import AddResult, Arrival, Heading, RemoteAE, ServiceKind, StagedFile
from backup_scp.services.ingest import Accepted
from backup_scp.services.permissions import Right

_AE_TITLE = "DRILL_CONSOLE"
_LOOPBACK = "127.0.0.1"
_GRACE_S = 5.0


@dataclass
class HashedDataSet:
    """Implements ``ports.StagedFile`` without a file."""

    heading: Heading
    size_bytes: int = 0
    journal_share: float = 0.0
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    @property
    def sha256(self) -> str:
        """SHA-256 of the Data Set so far, 64 hex digits."""
        return self._digest.hexdigest()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hash a part."""
        self._digest.update(data)
        self.size_bytes += len(data)

    def data_set(self) -> BinaryIO:
        """Raise: nothing is kept."""
        return _kept_nothing()

    def discard(self) -> None:
        """Do nothing."""


def _kept_nothing() -> NoReturn:
    raise NotImplementedError("A throw-away Storage SCP keeps nothing")


class HashingStore:
    """Takes Data Sets as ``Ingest`` does, and remembers only their digests.

    Attributes
    ----------
    arrived
        SHA-256 of each Data Set.
    """

    def __init__(self, arrived: set[str]) -> None:
        self.arrived = arrived

    def begin(self, heading: Heading) -> StagedFile:
        """Begin to hash a Data Set."""
        return HashedDataSet(heading)

    def accept(self, staged: StagedFile, arrival: Arrival) -> Accepted:  # noqa: ARG002 - nothing is kept
        """Remember its digest."""
        self.arrived.add(staged.sha256)
        return Accepted(AddResult.NEW, "")


class _NoRecords:
    """Implements ``ports.RejectionRecorder``: nobody but us calls."""

    def rejected(
        self,
        service: ServiceKind,  # noqa: ARG002
        calling: str,  # noqa: ARG002
        called: str,  # noqa: ARG002
        address: str,  # noqa: ARG002
        reason: str,  # noqa: ARG002
        fix: str,  # noqa: ARG002
    ) -> bool:
        return True

    def succeeded(self, service: ServiceKind, ae_title: str, address: str, about: str = "") -> None:
        pass


@contextmanager
def throw_away_scp(arrived: set[str]) -> Iterator[RemoteAE]:
    """Run the SCP in the block, on a free port; yield where to send.

    Parameters
    ----------
    arrived
        Gets the SHA-256 of each Data Set.

    Raises
    ------
    InvalidSettings
        No port can be opened.
    """
    store = Service(is_storage, StorageSCP(HashingStore(arrived)).serve, Right.STORE)
    listening = ListenSettings(_AE_TITLE, _LOOPBACK, 0)
    server = Server(listening, AccessPolicy((), trust_this_machine=True), {Field.C_STORE_RQ: store}, _NoRecords())
    (port,) = server.start()
    try:
        yield RemoteAE("the drill's own Storage SCP", _AE_TITLE, _LOOPBACK, port)
    finally:
        server.stop(_GRACE_S)
