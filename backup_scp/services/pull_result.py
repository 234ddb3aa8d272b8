"""What a pull has done."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class MissingStudy:
    """A study of the other PACS that is not complete here.

    Attributes
    ----------
    study_instance_uid
        Its Study Instance UID.
    study_date
        Its Study Date, YYYYMMDD, as the other PACS says it.
    images
        How many of its images are missing here, as far as the other PACS says.
    reason
        Why, in a sentence.
    patient_id
        Its Patient ID, as the other PACS says it.
    """

    study_instance_uid: str
    study_date: str
    images: int
    reason: str
    patient_id: str = ""


@dataclass(slots=True)
class Pulled:
    """What a pull did.

    Attributes
    ----------
    source
        The other PACS.
    studies
        How many studies it lists.
    complete
        How many of them are complete here.
    fetched
        Images that were fetched now; each is durable.
    held
        Images that were here before.
    missing
        Images that it lists and that are not here.
    size_bytes
        Total size of the fetched Data Sets.
    incomplete
        Studies that are not complete here, with the reason; at most 10,000.
    doubts
        Why there may be studies that it did not list, in sentences.
    stopped
        Why it ended early; empty when every study was asked for.
    interrupted
        Whether a person has interrupted it.
    """

    source: str
    studies: int = 0
    complete: int = 0
    fetched: int = 0
    held: int = 0
    missing: int = 0
    size_bytes: int = 0
    incomplete: list[MissingStudy] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    stopped: str = ""
    interrupted: bool = False

    def add(self, other: Pulled) -> None:
        """Add what was pulled for another clinic of the same PACS."""
        self.source = other.source
        self.studies += other.studies
        self.complete += other.complete
        self.fetched += other.fetched
        self.held += other.held
        self.missing += other.missing
        self.size_bytes += other.size_bytes
        self.incomplete += other.incomplete
        self.doubts += other.doubts
        self.stopped = self.stopped or other.stopped
        self.interrupted = self.interrupted or other.interrupted

    @property
    def is_complete(self) -> bool:
        """Whether everything that the other PACS has is here, as far as it can be known."""
        is_ended = not self.stopped and not self.interrupted
        return is_ended and self.complete == self.studies and not self.doubts
