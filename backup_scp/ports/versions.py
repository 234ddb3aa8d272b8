"""The values of a version, which is one stored Data Set: to add, look up, select, verify and flag it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from backup_scp.ports.archive import Arrival, InstanceKey
from backup_scp.ports.sites import SEES_ALL, SiteScope

if TYPE_CHECKING:  # they load what a command without a query does not need
    from backup_scp.dicom.query.conditions import Condition
    from backup_scp.dicom.sop_instance import SOPInstance


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
    """Return the flags of the Data Set itself, independent of other versions.

    A Data Set that cannot be read, or is cut off, gets no flag for its identity, which is not known completely.
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
    """One stored Data Set, with the values that the index stores.

    Attributes
    ----------
    flags
        What is unusual about the Data Set itself.
    """

    instance: SOPInstance
    arrival: Arrival
    location: str
    sha256: str
    size_bytes: int
    flags: frozenset[Flag] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "flags", flags_of(self.instance))  # computed once, since an index reads it twice

    @property
    def key(self) -> InstanceKey:
        """The three UIDs of its instance."""
        return InstanceKey(
            self.instance.study_instance_uid, self.instance.series_instance_uid, self.instance.sop_instance_uid
        )


ReadVersion = Callable[[str], "Version | None"]
"""Returns the version at a location; None when there is no intact file."""


class AddResult(StrEnum):
    """The result of ``Index.add``."""

    NEW = "new"  # a new SOP Instance
    VERSION = "version"  # a further version from the same sender: a complete one answers queries from now on
    CLASH = "clash"  # a further version from another sender: stored and flagged, does not answer
    REENCODED = "reencoded"  # a further version with the same content in another encoding: stored, changes nothing
    HELD = "held"  # the same bytes are stored already; nothing was added


class Lookup(NamedTuple):
    """What the index has for the UIDs of an incoming Data Set.

    Attributes
    ----------
    held
        Location and first arrival of the version with exactly these bytes, if there is one.
    latest
        The order of the latest version with the SOP Instance UID; None when there is none.
    """

    held: tuple[str, Arrival] | None = None
    latest: datetime | None = None


class StoredVersion(NamedTuple):
    """The values of a version that retrieve, restore and verify need."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    location: str
    sha256: str
    size_bytes: int
    received_at: datetime
    site: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """The images that a restore sends; each value narrows the selection.

    Attributes
    ----------
    conditions
        Conditions of a query; all must match.
    all_versions
        Whether to include versions that do not answer queries.
    as_of
        Select of each instance the version that answered at this moment, which is included, and nothing that was
        received later.  With ``all_versions``, all versions received by then.  A Patient ID is the one of that time.
    digests
        Exactly the versions whose SHA-256 begins with one of these hex digits, whether they answer or not.
    scope
        Only images of these sites.
    """

    conditions: tuple[Condition, ...] = ()
    all_versions: bool = False
    as_of: datetime | None = None
    digests: tuple[str, ...] = ()
    scope: SiteScope = SEES_ALL


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
    """The result of comparing a version with its digest.

    Attributes
    ----------
    damage
        The damage; None if intact.
    at
        When the read began; None is now.  An earlier result never replaces a later one.
    """

    location: str
    damage: str | None = None
    at: datetime | None = None


Match = dict[str, str]
"""One answer: values by keyword; Unicode, several values joined by a backslash, empty when unknown."""


class NewestStudies(NamedTuple):
    """The newest studies that match.

    Attributes
    ----------
    matches
        The studies, the newest first.
    is_cut
        Whether older ones may match: they were not tested.
    """

    matches: list[Match]
    is_cut: bool


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
