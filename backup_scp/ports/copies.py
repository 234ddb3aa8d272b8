"""The interfaces of further copies: a place that keeps each version once more, and the records of what is there.

A version's *number* is the ``id`` of its row: it grows with each arrival, and a re-index keeps it.  A copy has all
versions in a range of numbers, but for those that are due; so a copy costs nothing when an image is received, and one
that is configured later fills itself (docs/adr/0038).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, Self, runtime_checkable

from backup_scp.ports.archive import ArchivedFile
from backup_scp.ports.versions import StoredVersion

LONGEST_PAUSE = timedelta(days=1)
"""The longest time until a version is tried again; a later time was written while a clock was ahead."""


class CopyTrouble(StrEnum):
    """What kind of trouble keeps a copy from being used."""

    NONE = ""
    AWAY = "away"
    """It is not connected, as is usual for a drive."""
    ALARM = "alarm"
    """A virus may be at work: a person must look."""
    FAULT = "fault"
    """Anything else."""


class StoredCopy(NamedTuple):
    """What a copy has of one version.

    Attributes
    ----------
    name
        Its name there: a path below the drive's folder, an object's key, a SOP Instance UID at another PACS.
    sha256
        SHA-256 of all bytes under this name, 64 hex digits: of the sealed file, when the copy is sealed; at another
        PACS of the Data Set, as it comes back.
    size_bytes
        Their number.
    object_version
        The version ID that the store gave, where it keeps versions; the proof, at another PACS; else empty.
    """

    name: str
    sha256: str
    size_bytes: int
    object_version: str = ""


class CopyItem(NamedTuple):
    """A version, and what the copy has of it, if anything."""

    number: int
    held: StoredVersion
    stored: StoredCopy | None = None


class CopyResult(NamedTuple):
    """The result of writing or comparing one version at a copy.

    Attributes
    ----------
    stored
        What is there now, read back and compared; None when it is not there, or is damaged.
    error
        Why, in one sentence; empty with ``stored``.
    is_lost
        Whether the original in the archive is damaged or gone: the version is to be healed from another copy.
    is_left_out
        Whether the place cannot hold this version beside a later one of the same SOP Instance UID, as another PACS: it
        is neither there nor due again, and ``error`` says so.
    """

    number: int
    stored: StoredCopy | None
    error: str = ""
    is_lost: bool = False
    is_left_out: bool = False


ReadOriginal = Callable[[StoredVersion], ArchivedFile]
"""Opens the archive's file of a version, without comparing its bytes; raises ``Damaged`` or ``ArchiveUnavailable``."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a copy says of itself.

    Attributes
    ----------
    taken_at
        When its index was written; images that came later are in its lists alone.  None without an index.
    patients, studies, images, size_bytes
        What the index lists; None when an older release wrote it.
    newest_at
        When the newest image of the index was received; None when it is not known.
    """

    taken_at: datetime | None = None
    patients: int | None = None
    studies: int | None = None
    images: int | None = None
    size_bytes: int | None = None
    newest_at: datetime | None = None


class Snapshot(Protocol):
    """What a copy needs besides the images, so that it can stand alone."""

    def index(self, path: Path) -> Contents:
        """Write the index of this moment as one SQLite file, not in WAL mode; ``path`` does not exist before.

        Return what it lists.

        Raises
        ------
        IndexUnavailable
        """

    def settings(self) -> str:
        """Return the settings as TOML, without secrets."""


class CopyPlace(Protocol):
    """A further place that keeps each version: a drive, cloud storage, another PACS.

    A context manager: entering connects, and leaving disconnects.  One thread uses it at a time.  It never overwrites
    and never deletes what it has confirmed.  Each method raises ``DestinationUnavailable`` when the place is away
    (``DestinationAway`` for a drive that is not connected, which is no fault), full, or closed to us; what was not
    yielded by then is still due.

    Attributes
    ----------
    name
        Of the ``[[copy]]`` in the settings.
    is_off_site
        Whether a fire in the building leaves it.
    is_removable
        Whether it comes and goes, as a drive; entering is then quick, and tells whether it is here.
    medium
        The ID of the drive that is here; empty where there is only one.  Known after entering.
    label
        The drive's name for people; empty where there is only one.
    """

    name: str
    is_off_site: bool
    is_removable: bool
    medium: str
    label: str

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def put(self, items: Sequence[CopyItem], read: ReadOriginal) -> Iterator[CopyResult]:
        """Write each version, make it durable, read it back and compare it; yield a result for each.

        The original's bytes are compared with their digest while they are read.  A version that is there already, byte
        for byte, is not written again.  Results come in any order, a few at a time or all at the end.
        """

    def compare(self, items: Sequence[CopyItem]) -> Iterator[CopyResult]:
        """Read what is there of each version, as the medium has it now, and compare.

        ``stored`` of an item is never None here; that of a result is None when the version is damaged or missing.
        """

    def fetch(self, item: CopyItem, into: BinaryIO) -> None:
        """Write the whole DICOM file, File Meta included, as the archive had it.  The caller compares its digest.

        Raises
        ------
        FileMissing, DigestMismatch
            It is not there, is damaged, or is sealed and we have no key.
        """

    def conclude(self, snapshot: Snapshot, *, is_complete: bool) -> None:
        """Write what lets the copy stand alone, after the last batch of a run: lists, DICOMDIR, index, settings.

        Parameters
        ----------
        is_complete
            Whether nothing is due at this copy any more.
        """


@runtime_checkable
class WaitingPlace(Protocol):
    """A place that waits for another computer, and asks meanwhile whether to go on.

    Attributes
    ----------
    watch
        Called now and then while it waits.  What it raises ends the work.
    """

    watch: Callable[[], None]


@runtime_checkable
class NoticingPlace(Protocol):
    """A place that notices what is no damage, but needs a person."""

    def noticed(self) -> str:
        """Return what ``compare`` has noticed since the last call, in one sentence; empty for nothing."""


@dataclass(frozen=True, slots=True)
class PlaceAnswer:
    """What the place of a copy really gives.

    Attributes
    ----------
    question, answer
        What was tried, and what came of it.
    is_well
        Whether it is as it should be.
    fix
        What a person can do; empty when it is well.
    """

    question: str
    answer: str
    is_well: bool
    fix: str = ""


class CopyBatch(NamedTuple):
    """Versions that one worker holds a lease for.

    Attributes
    ----------
    copy
        Number of the copy's row.
    number, lease
        The row of the work, and our lease.
    attempts
        How often it was tried before.
    """

    copy: int
    number: int
    lease: str
    attempts: int
    items: tuple[CopyItem, ...]


@dataclass(frozen=True, slots=True)
class CopyState:
    """The state of one copy; of one drive, where several take turns.

    Attributes
    ----------
    name, medium, label
        The copy in the settings, the drive's ID (empty where there is only one) and the drive's name for people.
    held, held_bytes
        How many versions are there, read back after writing, and their bytes there.
    due, oldest_due
        How many are not there yet, and when the oldest of them was received; None without one.
    failed, error
        How many of the due ones were tried and failed, and why the last one did.
    damaged
        How many were found damaged or missing there and are due again.
    seen_at, complete_at
        When the place was last reached, and when nothing was due there last; None for never.
    trouble, trouble_since, trouble_kind
        Why the place cannot be used, since when, and what kind of trouble it is; empty and None when it can be used.
    compared_until, compared_at
        Everything written before the first moment was read back again; when the last pass ended.
    alarm
        What the running pass or the one before noticed that is no damage, but needs a person: names that
        somebody deleted or overwrote, whose bytes are intact.  A later pass without it clears it.
    """

    name: str
    medium: str
    label: str = ""
    held: int = 0
    held_bytes: int = 0
    due: int = 0
    oldest_due: datetime | None = None
    failed: int = 0
    error: str = ""
    damaged: int = 0
    seen_at: datetime | None = None
    complete_at: datetime | None = None
    trouble: str = ""
    trouble_since: datetime | None = None
    trouble_kind: CopyTrouble = CopyTrouble.NONE
    compared_until: datetime | None = None
    compared_at: datetime | None = None
    alarm: str = ""


class CopyRecords(Protocol):
    """The records of all copies, in the index.  Each method raises ``IndexUnavailable``."""

    def register(self, name: str, medium: str, now: datetime, label: str = "") -> int:
        """Note that a copy can be reached; return the number of its row, which the first call makes."""

    def note_trouble(self, name: str, trouble: str, now: datetime, kind: CopyTrouble = CopyTrouble.FAULT) -> None:
        """Note why a copy cannot be used now; an empty text notes that it can, whatever the kind."""

    def lease(self, copy: int, now: datetime, until: datetime, most: int, most_bytes: int) -> CopyBatch | None:
        """Lease versions that are due at a copy; None when nothing is due now.

        First what arrived since the copy was made, then what failed and is to be tried again, then what the archive
        had before, newest first.  A batch has at most ``most`` versions and about ``most_bytes`` bytes, at least one.
        While others store images, what has arrived may be left to the next call (PostgreSQL).
        """

    def renew(self, batch: CopyBatch, until: datetime) -> bool:
        """Extend a lease; False when it was lost."""

    def conclude(self, batch: CopyBatch, results: Iterable[CopyResult], now: datetime, again_at: datetime) -> bool:
        """Record results and end the lease; what failed is due again at ``again_at``, what has no result now.

        ``again_at`` is at most ``LONGEST_PAUSE`` after ``now``.  False when the lease was lost: what was written is
        recorded nevertheless.
        """

    def give_back(self, batch: CopyBatch, due_at: datetime, error: str = "") -> None:
        """End a lease without results: all of it is due at ``due_at``."""

    def is_anything_due(self, copy: int, now: datetime) -> bool:
        """Tell whether ``lease`` would find something, now or in a moment; quick with a million versions."""

    def count_due(self, copy: int) -> int:
        """Return how many versions are not there yet, also those that are to be tried again later."""

    def count_held(self, copy: int) -> int:
        """Return how many versions are there."""

    def lost(self, copy: int, most: int) -> list[CopyItem]:
        """Return versions whose original was found damaged or missing, and that a copy has."""

    def names_of(self, medium: str) -> set[str]:
        """Return the names of the copies that have a drive with this ID."""

    def sample(self, most: int) -> list[str]:
        """Return locations of versions drawn at random, not more than these; quick with a million."""

    def note_complete(self, copy: int, now: datetime) -> None:
        """Note that nothing is due at a copy."""

    def stored(self, copy: int, after: int, most: int) -> list[CopyItem]:
        """Return what a copy has, by number, after a number: for comparing it again; not what is due again."""

    def record_comparison(
        self, copy: int, results: Iterable[CopyResult], now: datetime, *, until: int | None, alarm: str = ""
    ) -> None:
        """Record results of ``CopyPlace.compare``; what is damaged or missing is due again.

        Parameters
        ----------
        now
            When the reading of these results began.
        until
            The last number; None at the end of the pass.
        alarm
            What was noticed besides; a pass that ends without any clears what an earlier one noticed.
        """

    def comparison(self, copy: int) -> tuple[int, datetime | None]:
        """Return where the running pass goes on (0 at the begin), and when the last one ended."""

    def where(self, held: StoredVersion) -> list[tuple[str, str, CopyItem]]:
        """Return the copies that have a version, intact as far as is known: name, medium and item."""

    def copies_of(self, locations: Iterable[str]) -> dict[str, set[str]]:
        """Return for each location the names of the copies that have its version, intact as far as is known."""

    def holders(self, locations: Sequence[str]) -> dict[str, list[tuple[str, str, CopyItem]]]:
        """Return the same for many locations, those that no copy has left out."""

    def learn(self, copy: int, listed: Mapping[str, StoredCopy]) -> set[str]:
        """Record what a copy's own lists say of it, by location, where nothing is known; return unknown locations."""

    def states(self, now: datetime) -> list[CopyState]:
        """Return the state of every copy and drive that was ever reached or had trouble, by name."""

    def forget(self, name: str) -> None:
        """Forget a copy that is in the settings no more; nothing is deleted at the place.  A further call continues."""
