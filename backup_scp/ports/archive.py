"""The interface of an archive, and the values that it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from backup_scp.dicom.file_meta import Heading

_NEXT = timedelta(microseconds=1)
_LAST = datetime.max.replace(tzinfo=UTC) - _NEXT


IMPORT = "IMPORT"
"""The service of Data Sets that were imported from files, not sent."""

STOW = "STOW-RS"
"""The service of Data Sets that came over the web; all web clients count as one sender, without an AE title."""


class InstanceKey(NamedTuple):
    """The identity of a SOP Instance: all three UIDs, as written, without padding.

    Data Sets with the same key are versions of one instance.  A SOP Instance UID in two studies or series makes two
    instances: queries find both, and both are flagged as a clash.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """When and from whom a Data Set arrived; written into its file, and read from there by ``rebuild``.

    Attributes
    ----------
    received_at
        When its last byte arrived; UTC, microseconds.
    service
        ``C-STORE``, ``STOW-RS``, or ``IMPORT``: of a file, or of what another PACS was asked for.
    calling_ae_title, called_ae_title
        Of the Association; empty for a file and for a web client.  Of a PACS that was asked: its AE title, and empty.
    address
        The sender's network address; empty for a file.
    site
        The clinic configured for the sender; empty without one.
    remote
        Name of the sender's ``[[remote]]``, matched by AE title and address; else empty.
    same_as
        SHA-256 of an earlier version with the same content in another encoding; empty when there is none.
    ordered_at
        Sort key of the version, when the clock was behind a stored version; else None.
    """

    received_at: datetime
    service: str
    calling_ae_title: str = ""
    called_ae_title: str = ""
    address: str = ""
    site: str = ""
    remote: str = ""
    ordered_at: datetime | None = None
    same_as: str = ""

    @property
    def order(self) -> datetime:
        """The time that orders versions: the time of arrival, unless the clock is known to have been wrong."""
        return self.ordered_at or self.received_at

    def after(self, latest: datetime | None) -> Arrival:
        """Return this arrival ordered after ``latest``, even when the clock is behind."""
        if latest is None or latest < self.order:
            return self
        return replace(self, ordered_at=min(latest, _LAST) + _NEXT)


class StagedFile(Protocol):
    """A Data Set that is being received: on the archive's volume, not visible, removed after a crash."""

    heading: Heading

    @property
    def size_bytes(self) -> int:
        """Length of the Data Set so far, in bytes."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the Data Set so far, 64 hex digits."""

    @property
    def journal_share(self) -> float:
        """How much of one file of the intake journal it takes until it is forgotten; 0 when it was flushed itself."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append to the Data Set.

        Parameters
        ----------
        data
            Do not modify the buffer before the next call of ``write`` or ``sha256``: a thread may still be hashing it.

        Raises
        ------
        ArchiveFull, ArchiveUnavailable
        """

    def data_set(self) -> BinaryIO:
        """Open the written bytes for reading, at the first byte of the Data Set."""

    def discard(self) -> None:
        """Delete the staged bytes; harmless when called twice.

        When ``Archive.commit`` has made the file visible, its note stays for ``Archive.sweep``.
        """


class ReturnedFile(Protocol):
    """A whole file of the archive that came back from a copy, and is not visible yet."""

    @property
    def location(self) -> str:
        """Where it belongs."""

    @property
    def size_bytes(self) -> int:
        """Length of its Data Set."""

    def discard(self) -> None:
        """Delete it; harmless when called twice."""


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """A stored file: what its header says, and its Data Set.

    Attributes
    ----------
    name
        Of the file, in the file system.
    xxh3_128
        Of the Data Set, when ``Archive.load`` compared it by XXH3; empty when it was compared by SHA-256.
    content
        The Data Set, when ``Archive.load`` read and compared it; valid as long as the buffer that it was read into.
    reopen
        Opens the file at its first byte.
    """

    location: str
    heading: Heading
    arrival: Arrival
    sha256: str
    size_bytes: int
    data_set_offset: int
    name: str
    reopen: Callable[[], BinaryIO] = field(compare=False, repr=False)
    xxh3_128: str = field(default="", compare=False)
    content: memoryview | None = field(default=None, compare=False, repr=False)

    @property
    def path(self) -> Path:
        """Where it is in the file system."""
        return Path(self.name)

    def data_set(self) -> BinaryIO:
        """Open the Data Set at its first byte; when it is in memory, the file is not read again.

        Raises
        ------
        FileMissing, DigestMismatch, ArchiveUnavailable
            Every read of the stream may raise these too; none raises ``OSError``.
        """
        if self.content is not None:
            return BytesIO(self.content)
        stream = self.reopen()
        stream.seek(self.data_set_offset)
        return stream


class ReadableArchive(Protocol):
    """What sending needs of an archive."""

    def read(self, location: str) -> ArchivedFile:
        """Read the header of a file, without its Data Set.

        Raises
        ------
        FileMissing, DigestMismatch
            The file is gone, or its File Meta is damaged.
        """

    def load(
        self, location: str, sha256: str, room: Callable[[int], memoryview | None], *, by_sha256: bool = False
    ) -> ArchivedFile:
        """Read every byte, compare it, and keep the compared Data Set in memory, as ``content``.

        It compares the XXH3 that the file holds beside its SHA-256, which detects every accidental change
        (docs/adr/0022).  When the file has no XXH3, or its SHA-256 is not ``sha256``, it compares SHA-256.  It may read
        from the page cache, but reads from the disk before it calls a file damaged.

        Parameters
        ----------
        room
            Returns a buffer for a Data Set of that many bytes, or None; without a buffer the file is only compared.
        by_sha256
            Whether to compare SHA-256 in any case, as ``verify`` does.

        Raises
        ------
        FileMissing, DigestMismatch
        """

    def announce(self, location: str) -> None:
        """Start reading a file that will be loaded soon (readahead).  Raises nothing; ``load`` reports errors."""


class Archive(ReadableArchive, Protocol):
    """Stores the files.  It never overwrites and never deletes a committed file."""

    def stage(self, heading: Heading) -> StagedFile:
        """Create a staged file.

        Raises
        ------
        ArchiveFull, ArchiveUnavailable
        """

    def commit(
        self,
        staged: StagedFile,
        key: InstanceKey,
        arrival: Arrival,
        location: str = "",
        *,
        is_known: Callable[[str], bool] = lambda _: False,
    ) -> tuple[str, Arrival]:
        """Make the bytes of a file durable, and show it at its place; it is durable in its place after ``settle``.

        Return its location, a pure function of key and digest, and the arrival that the stored file names.  An intact
        file that is there already stays, with its own arrival.  A damaged one is renamed (never deleted) and replaced.
        When it came from another site, its location depends on the site as well: each site has a file of its own.
        ``staged`` stays as a note for ``sweep`` until ``forget``.

        Parameters
        ----------
        location
            Where this Data Set belongs, when the index knows it; empty for a new one.
        is_known
            Tells whether the index has another site's file at a location: when that is damaged, it is left there.

        Raises
        ------
        ArchiveFull, ArchiveUnavailable
        """

    def forget(self, *staged: StagedFile) -> None:
        """Remove the notes that ``commit`` left, because visible names and rows are durable now."""

    def settle(self, staged: Sequence[StagedFile]) -> None:
        """Make committed files durable in their places, with the names of the folders above them.

        Raises
        ------
        ArchiveUnavailable
        """

    def take_back(self, location: str, sha256: str, fetch: Callable[[BinaryIO], object]) -> ReturnedFile:
        """Write a file of this archive that a copy has kept, compare it with what it says of itself; do not show it.

        Threads may do this at the same time.  What a crash leaves is shown by ``sweep``, if it is whole.

        Parameters
        ----------
        location
            Empty when only the file says it.
        sha256
            Of the Data Set.
        fetch
            Writes the whole file; what it raises is raised.

        Raises
        ------
        NotOurFile
            The bytes are not a file that an archive of ours has written, as from another PACS.
        DigestMismatch
            They are damaged, or another file's.
        ArchiveFull, ArchiveUnavailable
        """

    def keep(self, returned: Sequence[ReturnedFile]) -> None:
        """Make files that came back durable, then show each at its place; the names are durable on return.

        An intact file that is there already stays; a damaged one is renamed (never deleted) and replaced.

        Raises
        ------
        ArchiveFull, ArchiveUnavailable
        """

    def has(self, location: str) -> bool:
        """Tell whether there is a file at a location, intact or not; quick."""

    def location_of(self, key: InstanceKey, sha256: str) -> str:
        """Return the usual location of a Data Set, without a look at the disk."""

    def close(self) -> None:
        """Remove what was made for images to come: after ``settle`` and ``forget`` the visible files alone suffice."""

    def sweep(self) -> Iterator[list[str]]:
        """Remove files that a crash left incomplete; yield the locations of committed files without ``forget``.

        It looks at the files of dead processes, and at those that this process discarded.  The notes of the yielded
        locations are removed when further ones are requested: their rows must be durable by then.
        """

    def left_by_the_dead(self) -> int:
        """Count the images that processes have left in staging when they died: ``sweep`` looks after them."""

    @property
    def has_leftovers(self) -> bool:
        """Whether this process discarded a file that was visible already, so that ``sweep`` would yield it."""

    def verify(self, location: str, sha256: str) -> ArchivedFile:
        """Read every byte and compare with the file's own digests and with ``sha256``.

        Raises
        ------
        FileMissing, DigestMismatch
        """

    def flush(self, location: str) -> None:
        """Make a committed file and all entries on its path durable, also when another program put it there.

        Raises
        ------
        ArchiveUnavailable, FileMissing
        """

    def locations(self, folder: str = "") -> Iterator[str]:
        """Yield every committed file, in any order, with constant memory; with ``folder`` only those below it.

        Raises
        ------
        DigestMismatch
            Some folders cannot be read; raised after the last file.
        ArchiveUnavailable
        """

    def has_note(self, location: str) -> bool:
        """Tell whether a committed file still has its note in staging."""

    def is_place_of(self, location: str, key: InstanceKey, sha256: str, site: str = "") -> bool:
        """Tell whether ``commit`` would use this location for this Data Set of a site."""

    def folders(self) -> Iterator[str]:
        """Yield every folder with committed files, in order; each Study Instance UID is in one folder only.

        Raises
        ------
        DigestMismatch, ArchiveUnavailable
            As ``locations`` does.
        """

    def foreign(self) -> Iterator[str]:
        """Yield every other file or folder in the archive: they are foreign and never touched.

        Raises
        ------
        DigestMismatch, ArchiveUnavailable
            As ``locations`` does.
        """

    def free_bytes(self) -> int:
        """Return the number of free bytes on the volume.

        Raises
        ------
        ArchiveUnavailable
            The drive is missing, and the number would be another volume's.
        """

    @property
    def trouble(self) -> str:
        """Why writes are refused: an fsync failed, and no test file was synced since; otherwise empty."""

    def mark_faulty(self, trouble: str) -> None:
        """Refuse writes until a test file was written and synced."""

    def identity(self) -> str | None:
        """Read the archive's identity; None without a marker: a new archive, an old one, or a missing drive.

        Raises
        ------
        ArchiveUnavailable
        """

    def establish(self, identity: str | None = None) -> str:
        """Write a durable marker with this identity, or with a new one; return the archive's identity.

        Raises
        ------
        ArchiveFull, ArchiveUnavailable
        """

    def expect(self, identity: str) -> None:
        """From now on, read and write only while the archive is this one."""

    def require_ready(self) -> None:
        """Raise when ``stage`` would be refused, without writing anything.

        Raises
        ------
        ArchiveFull, ArchiveUnavailable
        """
