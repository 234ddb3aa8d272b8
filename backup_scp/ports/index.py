"""What the services ask of an index."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Protocol

from backup_scp.dicom.query.information_model import Query
from backup_scp.ports.archive import Arrival, InstanceKey
from backup_scp.ports.commitments import Commitments
from backup_scp.ports.holdings import (
    AddResult,
    ClockDoubt,
    DiskFault,
    FlaggedVersion,
    Holdings,
    IntakeTotals,
    Lookup,
    MassChange,
    Match,
    ReadVersion,
    Selection,
    StoredVersion,
    Task,
    VerificationResult,
    Version,
    VersionMatch,
)
from backup_scp.ports.rejections import Rejection


class IndexReader(Protocol):
    """Answers what is held; changes nothing."""

    def look_up(self, key: InstanceKey, sha256: str) -> Lookup:
        """Look what is held with these UIDs, and what came before."""

    def held(self, key: InstanceKey, sha256: str) -> tuple[str, Arrival] | None:
        """Location and first arrival of the version with exactly these bytes, if there is one."""

    def versions_of(self, key: InstanceKey) -> list[StoredVersion]:
        """Give the versions of an instance: the one that answers queries, then the others, the latest first."""

    def search(self, query: Query) -> Generator[Match, None, None]:
        """Answer a query, one match per entity at its level; flat memory.

        Close the iterator to stop early.  Each match holds the keys in ``query.return_keys``, and the unique keys
        of its level and of those above.

        Raises
        ------
        IndexUnavailable
        """

    def search_as_of(self, query: Query, as_of: datetime, read: ReadVersion) -> Generator[Match, None, None]:
        """Answer a query at STUDY, SERIES or IMAGE level as ``search`` would have at that moment, which is included.

        ``read`` gives the version at a location: it is asked for those that were there of each study for which
        something was received since; None leaves one out.

        Raises
        ------
        InvalidSelection
            At PATIENT level, or with the counts of a patient.
        IndexUnavailable
        """

    def search_versions(self, query: Query) -> Generator[VersionMatch, None, None]:
        """Answer a query at IMAGE level with every version of each instance that matches, oldest first."""

    def retrieve(self, query: Query) -> list[StoredVersion]:
        """Find the answering versions of every instance below the entities that match, in series and instance order."""

    def select(self, selection: Selection) -> list[StoredVersion]:
        """Find what a restore takes: newest study first, by series and instance number, versions oldest first."""

    def select_in_batches(self, selection: Selection) -> Generator[list[StoredVersion], None, None]:
        """Find the same in batches of whole studies; flat memory, and no transaction is open while one is used.

        What changes meanwhile may be met or not: a study that is entered anew by then is left out.
        """

    def versions(self, before: datetime | None = None) -> Iterator[StoredVersion]:
        """Every version not verified since a moment (None is now), the longest unverified first; flat memory."""

    def unindexed(self, locations: Iterable[str]) -> Iterator[str]:
        """Give those of the locations that no version has, with flat memory."""

    def is_empty(self) -> bool:
        """Whether no file is known; at once, however many are."""

    def holdings(self) -> Holdings:
        """Count what is held."""


class IndexWriter(Protocol):
    """Enters versions."""

    def add(self, version: Version, read: ReadVersion | None = None) -> AddResult:
        """Enter a version; on return the row is durable.  Idempotent.

        With ``read`` the order in which versions of an instance are entered does not matter: where an earlier one
        comes late, its study is entered anew, from its files.

        Raises
        ------
        IndexUnavailable
        """

    def reindex_studies(self, versions: Sequence[Version], read: ReadVersion, task: Task) -> int:
        """Let the index say of the studies of these versions what their files say, in one short transaction.

        ``read`` is asked for further versions that the index knows of these studies.  Where it has none, a file is
        damaged or gone, and what is known of it stays, as does when a version was verified.  ``task`` is recorded in
        the same transaction.

        Returns
        -------
        int
            How many of the versions were not in the index.
        """


class IndexRecords(Protocol):
    """Keeps what the node notes beside the versions: verifications, long works, rejections, the archive's state."""

    def forget_future_verifications(self) -> None:
        """Take every version as never verified that was at a time which is yet to come: a clock was ahead then."""

    def record_verification(self, results: Iterable[VerificationResult]) -> None:
        """Note what was found."""

    def is_damaged(self, location: str) -> bool:
        """Tell whether the version there was found to be damaged, and not to be intact since."""

    def record_task(self, task: Task) -> None:
        """Note how far it is; one that has ended takes the place of the one under way."""

    def tasks(self) -> dict[str, Task]:
        """Give the long works under way, and the last of each that ended, by name."""

    def clock_doubt(self) -> ClockDoubt:
        """Tell what was received in the future: the clock was wrong then, or it is now."""

    def remarks(self, limit: int) -> list[FlaggedVersion]:
        """List flagged and damaged versions, newest first."""

    def storms(self, since: datetime, studies: int) -> list[MassChange]:
        """List the senders that changed instances of so many studies, or more, since a moment."""

    def record_rejections(self, found: Sequence[Rejection], settled: Sequence[Rejection] = ()) -> None:
        """Add to the counts of rejections, and forget those that are settled, as they were listed.

        The number of different ones is bounded, in all and for one address; the oldest go first, and those of 30 days.
        """

    def rejections(self, limit: int) -> list[Rejection]:
        """List the rejections of the last 30 days, newest first."""

    def archive_identity(self) -> str | None:
        """Tell which archive it was made of; None when it has not been told."""

    def record_archive_identity(self, identity: str) -> None:
        """Remember which archive it was made of."""

    def archive_trouble(self) -> DiskFault | None:
        """Tell of the last trouble of the archive's disk."""

    def record_archive_trouble(self, sentence: str) -> None:
        """Note that the archive's disk is not trusted, and why; an empty sentence ends it."""

    def received_since(self, since: datetime) -> IntakeTotals:
        """Sum up the studies that received something since then."""


class Index(IndexReader, IndexWriter, IndexRecords, Protocol):
    """The whole index.  Derived: ``rebuild`` makes it again from the files.  Take the narrowest of its parts."""

    def sweep(self) -> None:
        """Remove what a search of an earlier version left beside the index when it was killed."""

    @property
    def commitments(self) -> Commitments:
        """The Storage Commitment requests; not derived, and kept by ``rebuild``."""

    def too_few_connections(self, processes: int) -> str:
        """Say in one sentence that its server allows too few for a node of so many processes; empty when it does not.

        Raises
        ------
        IndexUnavailable
        """

    def damage(self) -> str:
        """Say what was met in it that makes it useless, in one sentence; empty when nothing was."""

    @property
    def is_replaced(self) -> bool:
        """Whether another file took the place of the index since it was opened, or last accepted."""

    def accept(self) -> None:
        """Take what is there now for the index."""

    def close(self) -> None:
        """Let go of every connection."""
