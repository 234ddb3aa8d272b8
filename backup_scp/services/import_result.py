"""What an import has done."""

from __future__ import annotations

from dataclasses import dataclass, field

_MOST_LISTED = 100_000


@dataclass(frozen=True, slots=True)
class FileProblem:
    """One file that was not imported, and why.

    Attributes
    ----------
    path
        The file.
    reason
        Why it was not imported.
    """

    path: str
    reason: str


@dataclass(slots=True)
class Imported:
    """What an import did.

    Attributes
    ----------
    new
        Files of new images.
    version
        Files of images that are stored with other content: both are kept.
    clash
        Files of images that another sender has stored with other content: both are kept, the new one is flagged.
    reencoded
        Files of images that are stored in another encoding, with the same elements and pixels: both are kept.
    held
        Files that are already stored, byte for byte.
    repaired
        How many of those held were damaged or missing in the archive, and are intact again.
    truncated_count
        How many of all imported files end too early.
    truncated
        The paths of these files; at most 100,000.
    size_bytes
        Total size of the imported Data Sets.
    skipped
        Skipped files: not DICOM, or links to files that are read anyway; at most 100,000.
    failed
        DICOM files that could not be imported, and unreadable files that may be images; at most 100,000.
    skipped_by_reason, failed_by_reason
        How many files, for each reason.
    stopped
        Why the import ended early; empty when every file was tried.
    """

    new: int = 0
    version: int = 0
    clash: int = 0
    reencoded: int = 0
    held: int = 0
    repaired: int = 0
    size_bytes: int = 0
    truncated_count: int = 0
    truncated: list[str] = field(default_factory=list)
    skipped: list[FileProblem] = field(default_factory=list)
    failed: list[FileProblem] = field(default_factory=list)
    skipped_by_reason: dict[str, int] = field(default_factory=dict)
    failed_by_reason: dict[str, int] = field(default_factory=dict)
    stopped: str = ""

    def skip(self, path: str, reason: str) -> None:
        """Record a skipped file."""
        _note(self.skipped, self.skipped_by_reason, FileProblem(path, reason))

    def add(self, other: Imported) -> None:
        """Add the skipped and failed files of another result."""
        for trouble in other.skipped:
            self.skip(trouble.path, trouble.reason)
        for trouble in other.failed:
            self.fail(trouble.path, trouble.reason)

    def truncate(self, path: str) -> None:
        """Record an imported file that ends too early."""
        self.truncated_count += 1
        if len(self.truncated) < _MOST_LISTED:
            self.truncated.append(path)

    def fail(self, path: str, reason: str) -> None:
        """Record a failed file that may be an image."""
        _note(self.failed, self.failed_by_reason, FileProblem(path, reason))


def _note(troubles: list[FileProblem], by_reason: dict[str, int], trouble: FileProblem) -> None:
    by_reason[trouble.reason] = by_reason.get(trouble.reason, 0) + 1
    if len(troubles) < _MOST_LISTED:
        troubles.append(trouble)
