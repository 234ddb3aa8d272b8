"""The interface of an index, divided by its users: readers, writers, records."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from backup_scp.ports.archive import Arrival, InstanceKey
from backup_scp.ports.commitments import Commitments
from backup_scp.ports.copies import CopyRecords
from backup_scp.ports.drills import DrillRecords
from backup_scp.ports.holdings import (
    ClockDoubt,
    DiskFault,
    FirstArrival,
    Holdings,
    IntakeTotals,
    MassChange,
    RecentStudy,
    Task,
)
from backup_scp.ports.rejections import Rejection
from backup_scp.ports.sites import SiteScope
from backup_scp.ports.versions import (
    AddResult,
    FlaggedVersion,
    Lookup,
    Match,
    NewestStudies,
    ReadVersion,
    Selection,
    StoredVersion,
    VerificationResult,
    Version,
    VersionMatch,
)

if TYPE_CHECKING:  # it loads what a command without a query does not need
    from backup_scp.dicom.query.information_model import Query


class StudyReader(Protocol):
    """Answers what callers ask: only from the sites that it is for, as if the index had no others."""

    def seen_by(self, scope: SiteScope) -> StudyReader:
        """Return a reader of these sites alone, of those that this one is for."""

    def versions_of(self, key: InstanceKey) -> list[StoredVersion]:
        """Return the versions of an instance: the one that answers queries, then the others, latest first."""

    def search(self, query: Query) -> Generator[Match, None, None]:
        """Answer a query with one match for each entity at its level, with constant memory.

        Close the iterator to stop early.  Each match holds the keys in ``query.return_keys``, and the unique keys
        of its level and of those above.

        Raises
        ------
        IndexUnavailable
        """

    def newest_matches(
        self,
        queries: Sequence[Query],
        most: int,
        *,
        skip: int = 0,
        arrived_since: datetime | None = None,
        in_all: bool = False,
    ) -> NewestStudies:
        """Return the newest studies that match one of some queries, without the first of them; quick with a million.

        Parameters
        ----------
        queries
            At STUDY level, with the same return keys.
        most, skip
            How many to return, and how many newer ones to leave out.
        arrived_since
            Only studies that an image of came since then, what is newest in the index first; None for the newest by
            date.
        in_all
            Test every study where no database index helps, however long that takes.

        Raises
        ------
        IndexUnavailable
        """

    def search_as_of(self, query: Query, as_of: datetime, read: ReadVersion) -> Generator[Match, None, None]:
        """Answer a query at STUDY, SERIES or IMAGE level as ``search`` did at that moment, which is included.

        ``read`` returns the version at a location, or None to leave it out.  It is called for the older versions of
        each study that received something since that moment.

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
        """Find what a restore sends: newest study first, by series and instance number, oldest version first."""

    def select_in_batches(self, selection: Selection) -> Generator[list[StoredVersion], None, None]:
        """Find the same in batches of whole studies, with constant memory and no open transaction between batches.

        Changes made meanwhile may be included or not.  A study that is re-indexed meanwhile is left out.
        """

    def holdings(self) -> Holdings:
        """Count patients, studies, images and versions."""

    def newest_studies(self, most: int) -> list[RecentStudy]:
        """Return the studies that were entered last, the newest first; it costs no more with a million."""


SeenBy = Callable[[SiteScope], StudyReader]
"""``StudyReader.seen_by``: who has this alone cannot forget whose question is answered."""


class IndexReader(StudyReader, Protocol):
    """Reads the index for the node itself, of all sites; changes nothing."""

    def look_up(self, key: InstanceKey, sha256: str, site: str) -> Lookup:
        """Find a site's version with exactly these bytes, and its latest of all with this SOP Instance UID."""

    def held(self, key: InstanceKey, sha256: str, site: str) -> tuple[str, Arrival] | None:
        """Return location and first arrival of a site's version with exactly these bytes, if there is one."""

    def versions(self, before: datetime | None = None) -> Iterator[StoredVersion]:
        """Yield every version not verified since a moment (None is now), the longest unverified first."""

    def unindexed(self, locations: Iterable[str]) -> Iterator[str]:
        """Yield those of the locations that no version has, with constant memory."""

    def is_empty(self) -> bool:
        """Tell whether the index lists no file; fast for any number of files."""


class IndexWriter(Protocol):
    """Adds versions to the index."""

    def add(self, version: Version, read: ReadVersion | None = None) -> AddResult:
        """Add a version; its row is durable after ``flush``.  Idempotent.

        With ``read``, versions of an instance may be added in any order: when an earlier one comes late, its study is
        re-indexed from its files.

        Raises
        ------
        IndexUnavailable
        """

    def flush(self) -> None:
        """Make the rows of all versions durable that were added before.

        Raises
        ------
        IndexUnavailable
        """

    def reindex_studies(self, versions: Sequence[Version], read: ReadVersion, task: Task) -> int:
        """Replace all rows of these versions' studies by what their files say, in one short transaction.

        ``read`` is called for further versions that the index lists in these studies.  When it returns None, the file
        is damaged or gone, and its row stays.  Times of verification stay too.  ``task`` is recorded in the same
        transaction.

        Returns
        -------
        int
            How many of the versions were not in the index.
        """


class IndexRecords(Protocol):
    """Stores the node's other records: verifications, long tasks, rejections, the state of the archive."""

    def forget_future_verifications(self) -> None:
        """Reset each time of verification that lies in the future, because a clock was ahead then."""

    on_damage: Callable[[str, str], None]
    """Called with location and reason of each damaged file that was recorded."""

    def record_verification(self, results: Iterable[VerificationResult]) -> None:
        """Record results of verification."""

    def record_return(self, locations: Sequence[str]) -> None:
        """Record that these files came back from a copy: not damaged, and not yet read again from this disk."""

    def is_damaged(self, location: str) -> bool:
        """Tell whether the last verification found the version at this location damaged."""

    def record_task(self, task: Task) -> None:
        """Record the progress of a task; a finished task replaces the running one."""

    def begin_task(self, task: Task) -> bool:
        """Record a new task, unless one of this name has not ended; False then, whoever began it."""

    def tasks(self) -> dict[str, Task]:
        """Return the running tasks, and the last finished one of each kind, by name."""

    def clock_doubt(self) -> ClockDoubt:
        """Report versions dated in the future: the clock was wrong then, or it is wrong now."""

    def count_damaged(self) -> int:
        """Return how many versions were found damaged or missing; quick, unlike ``holdings``."""

    def remarks(self, limit: int) -> list[FlaggedVersion]:
        """List flagged and damaged versions, newest first."""

    def storms(self, since: datetime, studies: int) -> list[MassChange]:
        """List the senders that changed instances of at least this many studies since a moment."""

    def record_rejections(self, found: Sequence[Rejection], settled: Sequence[Rejection] = ()) -> None:
        """Add to the counts of rejections, and delete the settled ones, if they are unchanged since they were listed.

        The number of different rejections is limited, in total and for one address.  The oldest are deleted first, and
        all that are older than 30 days.
        """

    def rejections(self, limit: int) -> list[Rejection]:
        """List the rejections of the last 30 days, newest first."""

    def archive_identity(self) -> str | None:
        """Return the identity of the index's archive; None when none is recorded."""

    def record_archive_identity(self, identity: str) -> None:
        """Record the identity of the index's archive."""

    def archive_trouble(self) -> DiskFault | None:
        """Return the last fault of the archive's disk."""

    def record_archive_trouble(self, sentence: str) -> None:
        """Record a fault of the archive's disk; an empty sentence ends it."""

    def received_since(self, since: datetime) -> IntakeTotals:
        """Return the totals of the studies that received something since then."""

    def verified_at(self, locations: Sequence[str]) -> dict[str, datetime]:
        """Return when the versions at these locations were last compared; those that never were are left out."""

    def first_arrivals(self, since: datetime) -> Generator[FirstArrival, None, None]:
        """Yield for each study and sender over the network when its first and last image came, with constant memory.

        It looks at images that came since a moment.  Close the iterator to stop early.
        """


class Index(IndexReader, IndexWriter, IndexRecords, Protocol):
    """The whole index.  It is derived: ``rebuild`` makes it again from the files.  Depend on the narrowest part."""

    def sweep(self) -> None:
        """Remove temporary files that a search of an earlier release left beside the index when it was killed."""

    @property
    def commitments(self) -> Commitments:
        """The Storage Commitment requests.  They are not derived; ``rebuild`` keeps them."""

    @property
    def copies(self) -> CopyRecords:
        """The records of further copies.  They are not derived; ``rebuild`` keeps them, unless the index is new."""

    @property
    def drills(self) -> DrillRecords:
        """The results of drills.  They are not derived; ``rebuild`` keeps them, unless the index is new."""

    def snapshot(self, path: Path) -> None:
        """Write the index of this moment as one SQLite file, durable and not in WAL mode; ``path`` does not exist yet.

        It leaves out what belongs to the node and not to its images: commitments, rejections, the fault of its disk,
        leases.  A write that fails leaves no file.

        Raises
        ------
        IndexUnavailable
        """

    def too_few_connections(self, processes: int) -> str:
        """Return a sentence when the database server allows too few connections for so many processes, else empty.

        Raises
        ------
        IndexUnavailable
        """

    def damage(self) -> str:
        """Return one sentence on damage that makes the index unusable; empty when none was found."""

    @property
    def is_replaced(self) -> bool:
        """Whether the file of the index was replaced since it was opened or last accepted."""

    def accept(self) -> None:
        """Use the file that is there now as the index."""

    def close(self) -> None:
        """Close all connections."""
