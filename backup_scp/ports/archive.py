"""What the services ask of an archive, and the values of what is kept there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from backup_scp.dicom.file_meta import Heading

_NEXT = timedelta(microseconds=1)
_LAST = datetime.max.replace(tzinfo=UTC) - _NEXT


IMPORT = "IMPORT"
"""The service of what was not sent, but imported from files."""


class InstanceKey(NamedTuple):
    """What makes two Data Sets versions of one SOP Instance: all three UIDs, as written, without padding.

    One SOP Instance UID in two studies or series is two instances (both are found), flagged as a clash.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """How one Data Set came in; written into its file, restored from there by ``rebuild``.

    Attributes
    ----------
    received_at
        When its last byte arrived; UTC, microseconds.
    service
        ``C-STORE`` or ``IMPORT``.
    calling_ae_title, called_ae_title
        Of the Association; empty for an import.
    address
        The sender's network address; empty for an import.
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
        """The time by which versions are ordered: the time of arrival, unless the clock is known to have been wrong."""
        return self.ordered_at or self.received_at

    def after(self, latest: datetime | None) -> Arrival:
        """Return this arrival ordered after ``latest``, even when the clock is behind."""
        if latest is None or latest < self.order:
            return self
        return replace(self, ordered_at=min(latest, _LAST) + _NEXT)


class StagedFile(Protocol):
    """A Data Set on its way in: in the archive's own volume, not visible, gone after a crash."""

    heading: Heading

    @property
    def size_bytes(self) -> int:
        """Length of the Data Set so far."""

    @property
    def sha256(self) -> str:
        """64 hex digits over the Data Set so far."""

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
        """Open what was written, at the Data Set's first byte, for reading."""

    def discard(self) -> None:
        """Forget it; harmless when called twice.

        After an ``Archive.commit`` that has made it visible its note stays, for ``Archive.sweep``.
        """


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """What a stored file says of itself.

    Attributes
    ----------
    name
        Of the file, in the file system.
    xxh3_128
        Of the Data Set, where ``Archive.load`` has compared it by that; empty where it was compared by SHA-256.
    content
        Its Data Set, where ``Archive.load`` has read and compared it: valid as long as the memory given for it.
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
        """Open it at the Data Set's first byte; what is in memory is not read again.

        Raises
        ------
        FileMissing, DigestMismatch, ArchiveUnavailable
            Also each time that the stream is read: what the system refuses is never an ``OSError``.
        """
        if self.content is not None:
            return BytesIO(self.content)
        stream = self.reopen()
        stream.seek(self.data_set_offset)
        return stream


class Archive(Protocol):
    """Where the files are.  Never overwrites, never deletes what was committed."""

    def stage(self, heading: Heading) -> StagedFile:
        """Begin a file.

        Raises
        ------
        ArchiveFull, ArchiveUnavailable
        """

    def commit(self, staged: StagedFile, key: InstanceKey, arrival: Arrival) -> tuple[str, Arrival]:
        """Make it durable and visible: file, folder entry and new folders are fsynced.

        Return its location, a pure function of key and digest, and the arrival that the file there tells of: an
        intact file already there is kept, with its own; a damaged one is set aside (never deleted) and replaced.
        ``staged`` stays behind as a note for ``sweep`` until ``forget``.

        Raises
        ------
        ArchiveFull, ArchiveUnavailable
        """

    def forget(self, staged: StagedFile) -> None:
        """Drop the note that ``commit`` left: the index has its row now."""

    def sweep(self) -> Iterator[str]:
        """Remove what a crash left half-written; yield the locations of files committed with no ``forget``.

        Those of dead processes, and those of this one that were discarded.  What is yielded is not yielded again once
        the next one is asked for.
        """

    @property
    def has_leftovers(self) -> bool:
        """Whether this process has discarded what it had made visible: a ``sweep`` would yield it."""

    def read(self, location: str) -> ArchivedFile:
        """Read what the file says of itself, without reading its Data Set.

        Raises
        ------
        FileMissing, DigestMismatch
            It is gone, or its File Meta is damaged.
        """

    def verify(self, location: str, sha256: str) -> ArchivedFile:
        """Read every byte and compare with the file's own digests and with ``sha256``.

        Raises
        ------
        FileMissing, DigestMismatch
        """

    def load(
        self, location: str, sha256: str, room: Callable[[int], memoryview | None], *, by_sha256: bool = False
    ) -> ArchivedFile:
        """Read every byte, compare it, and leave the Data Set that was compared in memory, as its ``content``.

        It is compared by the XXH3 that stands in the file beside its SHA-256, which finds every accident
        (docs/adr/0022); by SHA-256 where the file has none, or another than this.  What the system has in memory need
        not be read from the medium, but nothing is called damaged that is intact there.

        Parameters
        ----------
        room
            Gives the memory for a Data Set of so many bytes, None when there is none: it is compared all the same.
        by_sha256
            Whether it must be compared by SHA-256, as ``verify`` does.

        Raises
        ------
        FileMissing, DigestMismatch
        """

    def announce(self, location: str) -> None:
        """Start reading a file that will be loaded soon (readahead); errors show later."""

    def flush(self, location: str) -> None:
        """Make a committed file durable, and every name that leads to it, whoever put it there.

        Raises
        ------
        ArchiveUnavailable, FileMissing
        """

    def locations(self, folder: str = "") -> Iterator[str]:
        """Every committed file, in no particular order, with flat memory; only those in one of ``folders``.

        Raises
        ------
        DigestMismatch
            After the last of all others: there are folders that cannot be read.
        ArchiveUnavailable
        """

    def has_note(self, location: str) -> bool:
        """Tell whether a committed file still has its note in staging."""

    def is_place_of(self, location: str, key: InstanceKey, sha256: str) -> bool:
        """Tell whether ``commit`` puts this Data Set there."""

    def folders(self) -> Iterator[str]:
        """Every folder with committed files, in order; what has one Study Instance UID stands in one folder.

        Raises
        ------
        DigestMismatch, ArchiveUnavailable
            As ``locations`` does.
        """

    def foreign(self) -> Iterator[str]:
        """Every other file or folder in the archive: not ours, never touched.

        Raises
        ------
        DigestMismatch, ArchiveUnavailable
            As ``locations`` does.
        """

    def free_bytes(self) -> int:
        """Count what the volume can still take.

        Raises
        ------
        ArchiveUnavailable
            Its drive is not there: another volume would be counted.
        """

    @property
    def trouble(self) -> str:
        """Why writes are refused: an fsync failed, and no test file was synced since; empty when all is well."""

    def mark_faulty(self, trouble: str) -> None:
        """Refuse writes until a test file was written and synced."""

    def identity(self) -> str | None:
        """Read which archive this is; None where it has no marker: a new one, an old one, or a missing drive.

        Raises
        ------
        ArchiveUnavailable
        """

    def establish(self, identity: str | None = None) -> str:
        """Write a durable marker with this identity, or a new one; return the identity that the archive has.

        Raises
        ------
        ArchiveFull, ArchiveUnavailable
        """

    def expect(self, identity: str) -> None:
        """From now on, read and write only while the archive is this one."""

    def require_ready(self) -> None:
        """See whether ``stage`` would be refused, without writing anything.

        Raises
        ------
        ArchiveFull, ArchiveUnavailable
        """
