"""The values of `status`: counts, running tasks, and what a person has to check."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple


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


class IntakeTotals(NamedTuple):
    """Size and number of the studies that received something since a moment, and the time of the very first version."""

    size_bytes: int
    first_at: datetime | None
    studies: int = 0
    instances: int = 0


class RecentStudy(NamedTuple):
    """A study that is new in the index: its number, higher for a later one, and when its last image came."""

    number: int
    study_instance_uid: str
    last_received_at: datetime


class FirstArrival(NamedTuple):
    """The first image of a study from one sender: the sender's name, when it came, and when the last one came."""

    console: str
    at: datetime
    last_at: datetime


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


RECOVERY, RECOVERED = "recovery", "recovered"
"""Names of the task that brings the archive back from a copy, while most files are not here, and of its result."""


class Progress(NamedTuple):
    """The progress of a long task; a total of 0 is not known yet."""

    done: int
    total: int
    done_bytes: int = 0
    total_bytes: int = 0


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
        """Site and AE title of the sender."""
        return (self.site, self.calling_ae_title)

    @property
    def sentence(self) -> str:
        """What happened, and what to do."""
        before = (self.began_at - timedelta(microseconds=1)).isoformat(timespec="microseconds")
        return (
            f"{self.calling_ae_title or 'An import'} has sent {self.instances} images of {self.studies} studies again "
            f"with other content since {self.began_at:%Y-%m-%d %H:%M:%S} UTC: if nobody corrected them, look for a "
            f"virus there. Nothing is lost: backup-scp restore --as-of {before} restores what was before"
        )


@dataclass(frozen=True, slots=True)
class ClockDoubt:
    """Evidence that the clock was wrong, or is wrong now.

    Attributes
    ----------
    images
        How many versions are dated later than now.
    newest_at
        The latest date among them; None when there are none.
    behind_by
        By how much the clock is behind that date; 0 when there are none.
    is_over
        Whether the version that was added last is not among them, so that the clock is right again.
    """

    images: int = 0
    newest_at: datetime | None = None
    behind_by: timedelta = timedelta()
    is_over: bool = False

    @property
    def sentence(self) -> str:
        """What is wrong, and what to do; empty when nothing is."""
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
