"""What is held, and what has become of it: the values that an index exchanges with the services."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from backup_scp.dicom.query.conditions import Condition
from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.ports.archive import Arrival, InstanceKey


class Flag(StrEnum):
    """Why a person may want to look at a version."""

    UNPARSED = "unparsed"
    TRUNCATED = "truncated"
    NOT_DEFLATED = "not-deflated"
    IDENTITY = "identity"
    CLASH = "clash"


_NOTHING_ODD: frozenset[Flag] = frozenset()
_UNPARSED = frozenset({Flag.UNPARSED})


def flags_of(instance: SOPInstance) -> frozenset[Flag]:
    """Tell what is odd about a Data Set, whatever else is held.

    Of one that could not be read, or was cut off, nobody knows what it would have said.
    """
    if not instance.parsed:
        return _UNPARSED
    if instance.is_whole and not instance.is_mislabelled and instance.is_identified:
        return _NOTHING_ODD
    said = {
        Flag.TRUNCATED: not instance.is_whole,
        Flag.NOT_DEFLATED: instance.is_mislabelled,
        Flag.IDENTITY: instance.is_whole and not instance.is_identified,
    }
    return frozenset(flag for flag, is_so in said.items() if is_so)


@dataclass(frozen=True, slots=True)
class Version:
    """One stored Data Set, as the index is told of it.

    Attributes
    ----------
    flags
        What is odd about it, whatever else is held.
    """

    instance: SOPInstance
    arrival: Arrival
    location: str
    sha256: str
    size_bytes: int
    flags: frozenset[Flag] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "flags", flags_of(self.instance))  # once: whoever stores it asks twice

    @property
    def key(self) -> InstanceKey:
        """Its instance's three UIDs."""
        return InstanceKey(
            self.instance.study_instance_uid, self.instance.series_instance_uid, self.instance.sop_instance_uid
        )


class AddResult(StrEnum):
    """What ``Index.add`` made of a version."""

    NEW = "new"  # a SOP Instance not held before
    VERSION = "version"  # a further version, from the same sender: if it is whole it answers queries from now on
    CLASH = "clash"  # a further version, from another sender: kept and flagged, does not take over
    REENCODED = "reencoded"  # a further version that says the same in another encoding: kept, changes nothing
    HELD = "held"  # the very same bytes were there already; nothing was added


class Lookup(NamedTuple):
    """What is known of a SOP Instance UID when a Data Set of it comes.

    Attributes
    ----------
    held
        Location and first arrival of the version with exactly these bytes, if there is one.
    latest
        The last in the order of arrival of all that has the UID; None where nothing has.
    """

    held: tuple[str, Arrival] | None = None
    latest: datetime | None = None


class StoredVersion(NamedTuple):
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
    """What a restore takes; everything that is said narrows it.

    Attributes
    ----------
    conditions
        Those of a query; all hold.
    all_versions
        Also the versions that do not answer queries.
    as_of
        What was received later does not exist: of each instance the version that answered at this moment, which is
        included.  With ``all_versions`` all that had been received.  A Patient ID is the one of that time.
    digests
        Exactly the versions whose SHA-256 begins with one of these hex digits, whether they answer or not.
    """

    conditions: tuple[Condition, ...] = ()
    all_versions: bool = False
    as_of: datetime | None = None
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FlaggedVersion:
    """One flagged or damaged version, for ``status``.

    Attributes
    ----------
    location
        Path of its file in the archive.
    sop_instance_uid
        Of the image.
    calling_ae_title
        AE title of the sender; empty for an import.
    received_at
        When.
    flags
        Why a person may want to look at it: ``unparsed``, ``clash``, ``damaged`` and so on.
    address, remote
        Network address of the sender, and its name in the settings; empty when it has none.
    """

    location: str
    sop_instance_uid: str
    calling_ae_title: str
    received_at: datetime
    flags: tuple[str, ...]
    address: str = ""
    remote: str = ""


class VerificationResult(NamedTuple):
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
    """Long work on the whole archive (a verification, a rebuild), and its position for a restart.

    Attributes
    ----------
    name
        Name of the work while it runs, and of its result after its end.
    began_at
        When it began.
    ended_at
        When it ended; None while it runs.
    position
        Its position, in a form of its own.
    done
        Versions.
    note
        A sentence for a person: the reason, or the result.
    """

    name: str
    began_at: datetime
    ended_at: datetime | None = None
    position: str = ""
    done: int = 0
    note: str = ""


class Progress(NamedTuple):
    """How far long work has come; a total of 0 is not known yet."""

    done: int
    total: int
    done_bytes: int = 0
    total_bytes: int = 0


ReadVersion = Callable[[str], "Version | None"]
"""Give the version at a location; None where there is none that is intact."""


@dataclass(frozen=True, slots=True)
class MassChange:
    """Many studies changed by one sender: stored images arrived again with other content.

    Attributes
    ----------
    site, calling_ae_title
        Site and AE title of the sender; empty for an import.
    studies, instances
        Number of changed studies, and of changed images in them.
    began_at
        When the first of them arrived.
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
    """Counts of what the index holds.

    Attributes
    ----------
    patients, studies, series
        How many.
    instances
        Number of different images.
    versions
        Number of versions: an image that arrived with different contents counts several times.
    size_bytes
        Total size of all versions.
    flagged
        Number of flagged versions, which a person may want to check.
    damaged
        Number of versions whose file changed or is gone.
    last_received_at
        When the last version arrived; null when there is none.
    last_verified_at
        When a version was last compared with its digest; null when none was.
    never_verified
        Number of versions that were never compared with their digest.
    """

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
class ClockDoubt:
    """What tells that the clock was wrong, or is.

    Attributes
    ----------
    images
        How many versions are dated later than now.
    newest_at
        The latest date among them; None where there are none.
    behind_by
        By how much the clock is behind it; 0 where there are none.
    is_over
        Whether the version that was entered last is not among them: the clock has been set right.
    """

    images: int = 0
    newest_at: datetime | None = None
    behind_by: timedelta = timedelta()
    is_over: bool = False

    @property
    def sentence(self) -> str:
        """Say what is wrong, and what to do; empty when nothing is."""
        if self.newest_at is None:
            return ""
        images = "1 image was" if self.images == 1 else f"{self.images} images were"
        return (
            f"{images} received in the future, up to {self.newest_at:%Y-%m-%d %H:%M:%S} UTC: this computer's clock was "
            "ahead then, or is behind now. Set it right; nothing is lost"
        )


@dataclass(frozen=True, slots=True)
class DiskFault:
    """A fault of the archive's disk, such as a failed fsync, and when it lasted.

    Attributes
    ----------
    sentence
        The fault, in a sentence.
    began_at
        When the fault was noticed.
    ended_at
        When a test file could be written and synced again; None until then.
    """

    sentence: str
    began_at: datetime
    ended_at: datetime | None


class IntakeTotals(NamedTuple):
    """How much the studies hold that received something of late, and when the first version of all came."""

    size_bytes: int
    first_at: datetime | None


Match = dict[str, str]
"""One answer: keyword to value; Unicode, several values joined by a backslash, empty where unknown."""


class VersionMatch(NamedTuple):
    """One version, for a person who chooses among those of an instance.

    Attributes
    ----------
    match
        The instance's answer to the query.
    arrival
        How it came in.
    sha256
        SHA-256 of its Data Set, 64 hex digits.
    size_bytes
        Length of its Data Set.
    sop_class_uid, transfer_syntax_uid
        Of this version.
    location
        Path of its file in the archive.
    answering
        Whether it answers queries.
    flags
        Why a person may want to check it; empty when nothing is odd.
    """

    match: Match
    arrival: Arrival
    sha256: str
    size_bytes: int
    sop_class_uid: str
    transfer_syntax_uid: str
    location: str
    answering: bool
    flags: tuple[str, ...]
