"""The values of one stored Data Set, a version: how it is entered, looked up, selected, verified and flagged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
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


ReadVersion = Callable[[str], "Version | None"]
"""Give the version at a location; None where there is none that is intact."""


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
