"""The ports: what the services ask of an archive, an index and a destination, and the values that they exchange.

Each Protocol is the contract; one contract suite in ``tests/`` runs on every implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, Self

from backup_scp.information_model import Query
from backup_scp.sop_instance import SOPInstance


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
        When its last byte was in; UTC, microseconds.
    service
        ``C-STORE`` or ``IMPORT``.
    calling_ae_title, called_ae_title
        Of the Association; empty for an import.
    address
        The sender's network address; empty for an import.
    site
        The clinic that the sender is configured for; empty when it is not.
    """

    received_at: datetime
    service: str
    calling_ae_title: str = ""
    called_ae_title: str = ""
    address: str = ""
    site: str = ""

    @property
    def sender(self) -> tuple[str, str]:
        """Who counts as the same sender for the version rule: site and calling AE title."""
        return (self.site, self.calling_ae_title)


@dataclass(frozen=True, slots=True)
class Heading:
    """What is known of a Data Set before its first byte: it goes into File Meta (PS3.10 7.1)."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    source_ae_title: str = ""


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


class Progress(NamedTuple):
    """How far long work has come; a total of 0 is not known yet."""

    done: int
    total: int
    done_bytes: int = 0
    total_bytes: int = 0


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

        Raises
        ------
        ArchiveFull, ArchiveUnavailable
        """

    def data_set(self) -> BinaryIO:
        """Open what was written, at the Data Set's first byte, for reading."""

    def discard(self) -> None:
        """Forget it; harmless after ``Archive.commit`` and when called twice."""


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """What a stored file says of itself."""

    location: str
    heading: Heading
    arrival: Arrival
    sha256: str
    size_bytes: int
    data_set_offset: int
    path: Path

    def data_set(self) -> BinaryIO:
        """Open it at the Data Set's first byte."""
        stream = self.path.open("rb")
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
        """Remove what a crash left half-written; yield the locations of files committed with no ``forget``."""

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

    def flush(self, location: str) -> None:
        """Make a committed file durable, and every name that leads to it, whoever put it there.

        Raises
        ------
        ArchiveUnavailable, FileMissing
        """

    def locations(self, folder: str = "") -> Iterator[str]:
        """Every committed file, in no particular order, with flat memory; only those in one of ``folders``."""

    def has_note(self, location: str) -> bool:
        """Tell whether its ``commit`` waits for a ``forget``, as far as can be seen from the file."""

    def is_place_of(self, location: str, key: InstanceKey, sha256: str) -> bool:
        """Tell whether ``commit`` puts this Data Set there."""

    def folders(self) -> Iterator[str]:
        """Every folder with committed files, in order; what has one Study Instance UID stands in one folder."""

    def foreign(self) -> Iterator[str]:
        """Every other file or folder in the archive: not ours, never touched."""

    def free_bytes(self) -> int:
        """Count what the volume can still take."""

    @property
    def trouble(self) -> str:
        """Why nothing is written: an fsync failed, and no file was kept since; empty when all is well."""

    def distrust(self, trouble: str) -> None:
        """Write nothing until a new file was seen to be kept."""

    def identity(self) -> str | None:
        """Read which archive this is; None where it has no marker: a new one, an old one, or a missing drive.

        Raises
        ------
        ArchiveUnavailable
        """

    def establish(self, identity: str | None = None) -> str:
        """Give it a durable marker with this identity, or a new one; return the one it has, which may be another.

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


class Flag(StrEnum):
    """Why a person may want to look at a version."""

    UNPARSED = "unparsed"
    CLASH = "clash"


@dataclass(frozen=True, slots=True)
class Version:
    """One stored Data Set, as the index is told of it."""

    instance: SOPInstance
    arrival: Arrival
    location: str
    sha256: str
    size_bytes: int

    @property
    def key(self) -> InstanceKey:
        """Its instance's three UIDs."""
        return InstanceKey(
            self.instance.study_instance_uid, self.instance.series_instance_uid, self.instance.sop_instance_uid
        )


class Admission(StrEnum):
    """What ``Index.add`` made of a version."""

    NEW = "new"  # a SOP Instance not held before
    VERSION = "version"  # a further version, from the same sender: it answers queries from now on
    CLASH = "clash"  # a further version, from another sender: kept and flagged, does not take over
    HELD = "held"  # the very same bytes were there already; nothing was added


class Held(NamedTuple):
    """One version as retrieve, restore and verify need it."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    location: str
    sha256: str
    size_bytes: int
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Selection:
    """What a restore takes; everything that is not None narrows it.

    Attributes
    ----------
    since, until
        Study Dates, YYYYMMDD, both included.
    all_versions
        Also the versions that do not answer queries.
    as_of
        What was received later does not exist: of each instance the version that answered at this moment, which is
        included.  With ``all_versions`` all that had been received.
    digests
        Exactly the versions whose SHA-256 begins with one of these hex digits, whether they answer or not.
    """

    study_instance_uid: str | None = None
    patient_id: str | None = None
    since: str | None = None
    until: str | None = None
    all_versions: bool = False
    as_of: datetime | None = None
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Remark:
    """One flagged or damaged version, for ``status``."""

    location: str
    sop_instance_uid: str
    calling_ae_title: str
    received_at: datetime
    flags: tuple[str, ...]


class Checked(NamedTuple):
    """What reading a version against its digest has shown.

    Attributes
    ----------
    damage
        None if intact, else what is wrong.
    at
        When its reading began; None is now.  A later result is never replaced by an earlier one.
    """

    location: str
    damage: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """Long work on everything that is held: a verification, a rebuild; what it needs to go on after an interruption.

    Attributes
    ----------
    name
        Of the work, while it is under way; of what it has become, when it is done.
    began_at, ended_at
        ``ended_at`` is None while it is under way.
    position
        How far it has come, in its own words.
    done
        Versions.
    note
        A sentence for a person: why, or with what result.
    """

    name: str
    began_at: datetime
    ended_at: datetime | None = None
    position: str = ""
    done: int = 0
    note: str = ""


Read = Callable[[str], "Version | None"]
"""Give the version at a location; None where there is none that is intact."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """An Association or request that was turned away, counted, for ``status``."""

    calling_ae_title: str
    called_ae_title: str
    address: str
    reason: str
    fix: str
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Storm:
    """Many studies changed by one sender: instances that were held came again with other bytes.

    Attributes
    ----------
    began_at
        When the first of them came.
    """

    site: str
    calling_ae_title: str
    studies: int
    instances: int
    began_at: datetime

    @property
    def sender(self) -> tuple[str, str]:
        """Who it is."""
        return (self.site, self.calling_ae_title)

    @property
    def sentence(self) -> str:
        """Say what happened, and what to do."""
        before = (self.began_at - timedelta(microseconds=1)).isoformat(timespec="microseconds")
        return (
            f"{self.calling_ae_title or 'An import'} has sent {self.instances} images of {self.studies} studies again "
            f"with other content since {self.began_at:%Y-%m-%d %H:%M:%S} UTC: if nobody corrected them, look for a "
            f"virus there. Nothing is lost: backup-scp restore --as-of {before} gives back what was before"
        )


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the index holds, in numbers."""

    patients: int
    studies: int
    series: int
    instances: int
    versions: int
    size_bytes: int
    flagged: int
    damaged: int
    last_received_at: datetime | None
    last_verified_at: datetime | None
    never_verified: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the archive's disk was not trusted, and when; ``ended_at`` is None while it lasts."""

    sentence: str
    began_at: datetime
    ended_at: datetime | None


class Received(NamedTuple):
    """How much the studies hold that received something of late, and when the first version of all came."""

    size_bytes: int
    first_at: datetime | None


Match = dict[str, str]
"""One answer: keyword to value; Unicode, several values joined by a backslash, empty where unknown."""


class VersionMatch(NamedTuple):
    """One version, for a person who chooses among those of an instance; ``match`` is the instance's answer."""

    match: Match
    arrival: Arrival
    sha256: str
    size_bytes: int
    sop_class_uid: str
    transfer_syntax_uid: str
    location: str
    answering: bool
    flags: tuple[str, ...]


class Index(Protocol):
    """Who knows what is held.  Derived: ``rebuild`` makes it again from the files."""

    def add(self, version: Version, read: Read | None = None) -> Admission:
        """Enter a version; on return the row is durable.  Idempotent.

        With ``read`` the order in which versions of an instance are entered does not matter: where an earlier one
        comes late, its study is entered anew, from its files.

        Raises
        ------
        IndexUnavailable
        """

    def held(self, key: InstanceKey, sha256: str) -> tuple[str, Arrival] | None:
        """Location and first arrival of the version with exactly these bytes, if there is one."""

    def search(self, query: Query) -> Generator[Match, None, None]:
        """Answer a query, one match per entity at its level; flat memory.

        Close the iterator to stop early.  Each match holds the keys in ``query.return_keys``, and the unique keys
        of its level and of those above.

        Raises
        ------
        IndexUnavailable
        """

    def search_as_of(self, query: Query, as_of: datetime, read: Read) -> Generator[Match, None, None]:
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

    def retrieve(self, query: Query) -> list[Held]:
        """Find the answering versions of every instance below the entities that match, in series and instance order."""

    def select(self, selection: Selection) -> list[Held]:
        """Find what a restore takes: newest study first, by series and instance number, versions oldest first."""

    def versions(self, before: datetime | None = None) -> Iterator[Held]:
        """Every version not verified since a moment (None is now), the longest unverified first; flat memory."""

    def record_verification(self, results: Iterable[Checked]) -> None:
        """Note what was found."""

    def is_damaged(self, location: str) -> bool:
        """Tell whether the version there was found to be damaged, and not to be intact since."""

    def unindexed(self, locations: Iterable[str]) -> Iterator[str]:
        """Give those of the locations that no version has, with flat memory."""

    def enter_anew(self, versions: Sequence[Version], read: Read, task: Task) -> int:
        """Let the index say of the studies of these versions what their files say, in one short transaction.

        ``read`` is asked for further versions that the index knows of these studies.  Where it has none, a file is
        damaged or gone, and what is known of it stays, as does when a version was verified.  ``task`` is recorded in
        the same transaction.

        Returns
        -------
        int
            How many of the versions were not in the index.
        """

    def record_task(self, task: Task) -> None:
        """Note how far it is; one that has ended takes the place of the one under way."""

    def tasks(self) -> dict[str, Task]:
        """Give the long works under way, and the last of each that ended, by name."""

    def holdings(self) -> Holdings:
        """Count what is held."""

    def remarks(self, limit: int) -> list[Remark]:
        """List flagged and damaged versions, newest first."""

    def storms(self, since: datetime, studies: int) -> list[Storm]:
        """List the senders that changed instances of so many studies, or more, since a moment."""

    def record_rejection(self, calling: str, called: str, address: str, reason: str, fix: str) -> None:
        """Count a rejection; the number of different ones kept is bounded."""

    def rejections(self, limit: int) -> list[Rejection]:
        """List the rejections, newest first."""

    @property
    def commitments(self) -> Commitments:
        """The Storage Commitment requests; not derived, and kept by ``rebuild``."""

    def archive_identity(self) -> str | None:
        """Tell which archive it was made of; None when it has not been told."""

    def record_archive_identity(self, identity: str) -> None:
        """Remember which archive it was made of."""

    def archive_trouble(self) -> Trouble | None:
        """Tell of the last trouble of the archive's disk."""

    def record_archive_trouble(self, sentence: str) -> None:
        """Note that the archive's disk is not trusted, and why; an empty sentence ends it."""

    def received_since(self, since: datetime) -> Received:
        """Sum up the studies that received something since then."""

    def damage(self) -> str:
        """Say what was met in it that makes it useless, in one sentence; empty when nothing was."""

    def close(self) -> None:
        """Let go of every connection."""


class FailureReason(IntEnum):
    """Why a SOP Instance is not committed; Failure Reason (0008,1197), PS3.3 C.14.1.1."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_OBJECT_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119
    SOP_CLASS_NOT_SUPPORTED = 0x0122


class Reference(NamedTuple):
    """One item of a Referenced SOP Sequence (0008,1199)."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asked for a commitment: the report goes there."""

    site: str
    ae_title: str
    address: str


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """One Storage Commitment request (PS3.4 J.3.2.1)."""

    transaction_uid: str
    references: tuple[Reference, ...]
    requester: Requester
    requested_at: datetime


@dataclass(frozen=True, slots=True)
class Commitment:
    """A request that was leased, to be worked on.

    Attributes
    ----------
    results
        Of each reference, in order: None if it is committed.  Empty while they have not been looked at.
    attempts
        How often a report has failed.
    lease
        Whose it is: nobody else works on it meanwhile.
    """

    number: int
    request: CommitmentRequest
    results: tuple[FailureReason | None, ...]
    attempts: int
    lease: str


@dataclass(frozen=True, slots=True)
class OwedReports:
    """What one requester waits for, for ``status``.

    Attributes
    ----------
    waiting
        Requests whose instances have not been looked at yet.
    owed
        Reports that it has not taken yet.
    given_up
        Reports that are no longer tried.
    since
        When the oldest of these requests came.
    error
        Why the last report was not delivered, and what to do.
    tried_at, next_at
        Of the report that was tried last, and of the one that will be tried next.
    """

    requester: Requester
    waiting: int
    owed: int
    given_up: int
    since: datetime
    error: str
    tried_at: datetime | None
    next_at: datetime | None


class Commitments(Protocol):
    """The Storage Commitment requests of every node that shares the index; each method is one transaction.

    A request is entered, leased and concluded, its report leased and delivered.  A lease that is not renewed in time is
    over, and anyone may take the next one.

    Every method raises IndexUnavailable.
    """

    def enter(self, request: CommitmentRequest) -> int:
        """Keep a request; on return it is durable, and its number known.

        Raises
        ------
        DuplicateTransaction
            The requester has used the Transaction UID before.
        ResourceLimitation
            It has too much open.
        """

    def find(self, references: Sequence[Reference], requester: Requester) -> dict[Reference, list[Held]]:
        """Find what each reference names: the answering versions, and the latest that the requester has sent."""

    def lease_request(self, now: datetime, until: datetime) -> Commitment | None:
        """Take a request whose instances are due to be looked at."""

    def lease_report(self, now: datetime, until: datetime) -> Commitment | None:
        """Take a report that is due, of a requester to whom no other is under way."""

    def lease_report_of(
        self, numbers: Sequence[int], attempts: int, now: datetime, until: datetime
    ) -> Commitment | None:
        """Take one of these reports that has failed so often, due or not, if it is owed and nobody has it."""

    def renew(self, commitment: Commitment, until: datetime) -> bool:
        """Keep a lease for longer; False when it is lost."""

    def postpone(self, commitment: Commitment, due_at: datetime) -> None:
        """Give a request back, to be looked at again."""

    def conclude(self, commitment: Commitment, results: Sequence[FailureReason | None], now: datetime) -> bool:
        """Note what became of each reference; the report is owed from now on.  False when the lease was lost."""

    def report_failed(
        self, commitment: Commitment, error: str, now: datetime, again_at: datetime, give_up_before: datetime
    ) -> None:
        """Note that a report was not taken: none to this requester is tried before, and no older request's at all."""

    def report_delivered(self, commitment: Commitment, now: datetime) -> None:
        """Note that a report was taken: the Transaction UID is dead; what else is owed to the requester is due."""

    def owed(self) -> list[OwedReports]:
        """List who waits for what, the oldest first."""

    def ask(self, transaction_uid: str, now: datetime) -> None:
        """Note that we ask another AE for a commitment; older notes are forgotten after some time."""

    def answer(self, transaction_uid: str, results: Mapping[Reference, int]) -> bool:
        """Note what it reports, 0 for committed, else its Failure Reason; False when we have not asked that."""

    def answer_to(self, transaction_uid: str) -> dict[Reference, int] | None:
        """Give what it reported, once it has."""


class Destination(Protocol):
    """Where instances go back to: a remote AE over one Association, or a folder.  A context manager."""

    name: str

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def prepare(self, instances: Sequence[Held]) -> Sequence[Held]:
        """Reach it, knowing what will come; return the same instances in the order in which it wants them.

        Raises
        ------
        DestinationUnavailable
        """

    def send(self, file: ArchivedFile, held: Held) -> str | None:
        """Deliver one instance; on return the destination has confirmed it.

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
