"""What a recovery did, for its receipt: from a copy of ours, a folder of DICOM files or another PACS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from backup_scp.machine.readable import size
from backup_scp.services.import_result import Imported
from backup_scp.services.pull_result import Pulled
from backup_scp.services.recovery import Recovered

_MOST_TOLD = 1000


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What a recovery did, for its receipt.

    Attributes
    ----------
    is_complete
        Whether everything came back.
    facts
        What came, and how it was compared; by its name for people.
    missing
        How many images did not come, by Study Instance UID.
    missing_count
        How many images or files did not come.
    problems
        What did not come and why, a sentence for each.
    """

    is_complete: bool
    facts: Mapping[str, str | int]
    missing_count: int
    missing: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The result in a sentence."""
        if self.is_complete:
            return "Complete: every image is here."
        return "NOT complete: images are missing. See Problems."


def report_of(done: Recovered) -> RecoveryReport:
    """Return the report of what came back from a copy of ours."""
    facts: dict[str, str | int] = {
        "Images here": done.here,
        "Fetched in the last run": done.brought,
        "Bytes of these": size(done.brought_bytes),
        "Known by the copy's lists alone": done.from_lists,
        "Not there": done.missing_count + done.unlisted,
        "Compared": "each file with the digest in its header, which the index confirms, while it came",
    }
    missing = Counter(each.held.study_instance_uid for each in done.missing)
    return RecoveryReport(done.is_complete, facts, done.missing_count + done.unlisted, missing, _problems(done))


def report_of_import(done: Imported) -> RecoveryReport:
    """Return the report of what came from a folder of DICOM files."""
    failed = sum(done.failed_by_reason.values())
    facts: dict[str, str | int] = {
        "Files stored in the last run": done.new + done.version + done.clash + done.reencoded,
        "Files stored before": done.held,
        "Bytes read": size(done.size_bytes),
        "Files that are no images": sum(done.skipped_by_reason.values()),
        "Files not imported": failed,
        "Compared": "members of zip files with their checksums; the folder has no digests of the others",
    }
    problems = [f"{each.path}: {each.reason}" for each in done.failed[:_MOST_TOLD]]
    problems += _further(failed - len(problems), "files")
    problems += [f"{path}: the file ends too early; it is stored as it is" for path in done.truncated[:_MOST_TOLD]]
    problems += _further(done.truncated_count - _MOST_TOLD, "files that end too early")
    if done.stopped:
        problems.append(f"It stopped: {done.stopped}")
    is_complete = not (failed or done.truncated_count or done.stopped)
    return RecoveryReport(is_complete, facts, failed, problems=tuple(problems))


def report_of_pull(done: Pulled) -> RecoveryReport:
    """Return the report of what came from another PACS."""
    facts: dict[str, str | int] = {
        "Studies there": done.studies,
        "Of these complete here": done.complete,
        "Images fetched in the last run": done.fetched,
        "Images here before": done.held,
        "Bytes fetched": size(done.size_bytes),
        "Not there": done.missing,
        "Compared": "the images here with the list of the other PACS, image by image; it gives no digests",
    }
    told = done.incomplete[:_MOST_TOLD]
    problems = [
        f"{each.images:,} images of patient {each.patient_id or 'unknown'}, study {each.study_instance_uid}"
        f" of {each.study_date or 'no date'}: {each.reason}"
        for each in told
    ]
    problems += [*_further(len(done.incomplete) - len(told), "studies"), *done.doubts]
    if done.stopped:
        problems.append(f"It stopped: {done.stopped}")
    missing = {each.study_instance_uid: each.images for each in done.incomplete}
    return RecoveryReport(done.is_complete, facts, done.missing, missing, tuple(problems))


def _problems(done: Recovered) -> tuple[str, ...]:
    told = [f"Image {each.held.sop_instance_uid}: {each.reason}" for each in done.missing]
    told += _further(done.missing_count - len(told), "images")
    if done.unlisted:
        told.append(f"{done.unlisted:,} images that only the lists of the copy name did not come: see the log.")
    return tuple(told)


def _further(number: int, what: str) -> list[str]:
    return [f"And {number:,} further {what}."] if number > 0 else []
