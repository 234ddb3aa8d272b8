"""The values of a drill, which proves that a copy comes back, and the records of all drills."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from backup_scp.ports.copies import StoredCopy


class DrillKind(StrEnum):
    """What is wrong with a copy."""

    DAMAGED = "damaged"
    """Bytes changed."""
    TRUNCATED = "truncated"
    MISSING = "missing"
    SWAPPED = "swapped"
    """Another image of the archive is there."""
    OLD_VERSION = "old version"
    """Another version of the same SOP Instance is there."""
    FOREIGN = "foreign file"
    """Something is there that the archive never had."""
    DELETED_NAME = "deleted name"
    """Its bytes are intact, and its name was deleted or overwritten (S3)."""
    WRONG_KEY = "wrong key"
    OTHER_ARCHIVE = "other archive"
    """It is another clinic's."""
    STALE_INDEX = "stale index"
    """The index there lacks images, and should have been written again since."""
    BAD_INDEX = "bad index"
    """The index there is damaged or missing."""
    BAD_SETTINGS = "bad settings"
    NOT_LISTED = "not listed"
    """Neither the index nor the lists there name it."""
    NOT_SENT = "not sent back"
    """It came back from the copy, and did not arrive over the network as it was."""
    BAD_PIXELS = "bad pixels"
    """Its pixels are not those of the original, or cannot be decoded as those of the original can."""
    UNREACHABLE = "not reachable"


@dataclass(frozen=True, slots=True)
class DrillProblem:
    """One thing that a drill has found.

    Attributes
    ----------
    kind
        What kind of thing.
    sop_instance_uid
        The image; empty when it is about the whole copy.
    sentence
        What is wrong, without a patient's data.
    """

    kind: DrillKind
    sop_instance_uid: str
    sentence: str


@dataclass(frozen=True, slots=True)
class DrillResult:
    """The result of a drill of one copy; of one drive, where several take turns.

    Attributes
    ----------
    copy, medium, label
        The copy in the settings, the drive's ID (empty where there is only one) and the drive's name for people.
    began_at, ended_at
        When.
    passed
        Whether nothing was wrong.
    is_full
        Whether all images were tried, not a sample.
    tried, came_back
        Images that were fetched from the copy, and those of them that came back over the network, byte for byte.
    size_bytes
        Bytes of the Data Sets that came back.
    compared
        Images of which only the sealed bytes were compared, because the recovery key was not there.
    decoded
        Images whose pixels were decoded, and are those of the original.
    held, held_bytes
        Images that the copy should have, and their bytes there.
    index_taken_at
        When the index there was written; None when it is not known.
    index_lacks
        Images that the copy should have and the index there does not list; the lists there do.
    first_study_s, everything_s
        Seconds until the first study, and until everything would be back on a console, as measured and extrapolated;
        None when nothing came back.
    problems
        What is wrong; the first 100.
    problem_count
        How many there are.
    unproven
        What the drill did not prove, in sentences.
    sent_to
        The AE that got the images besides our own Storage SCP; empty for none.
    """

    copy: str
    began_at: datetime
    ended_at: datetime
    passed: bool
    medium: str = ""
    label: str = ""
    is_full: bool = False
    tried: int = 0
    came_back: int = 0
    size_bytes: int = 0
    compared: int = 0
    decoded: int = 0
    held: int = 0
    held_bytes: int = 0
    index_taken_at: datetime | None = None
    index_lacks: int = 0
    first_study_s: float | None = None
    everything_s: float | None = None
    problems: tuple[DrillProblem, ...] = ()
    problem_count: int = 0
    unproven: tuple[str, ...] = ()
    sent_to: str = ""


class DrillRecords(Protocol):
    """The records of all drills, in the index; kept for years.  Each method raises ``IndexUnavailable``."""

    def record(self, result: DrillResult) -> None:
        """Add a result."""

    def latest(self) -> list[DrillResult]:
        """Return the last result of each copy and drive, by name."""

    def not_full_since(self, copy: str, medium: str) -> datetime | None:
        """Return when all images of a copy were last tried; if never, when its first drill was; None without any."""


@runtime_checkable
class NamingPlace(Protocol):
    """A place that keeps the bytes of a name which somebody has deleted or overwritten."""

    def name_trouble(self, stored: StoredCopy) -> str:
        """Return what became of the name, ``deleted`` or ``overwritten``; empty when it leads to our bytes.

        Raises
        ------
        DestinationUnavailable
        """
