"""The object that ``restore --json`` prints."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backup_scp.services.delivery import Outcome
    from backup_scp.services.restore_journal import Dropped
    from backup_scp.services.restore_result import Restore


@dataclass(frozen=True, slots=True)
class Missing:
    """Missing images of one study and modality, for one reason.

    Attributes
    ----------
    reason
        Why they are missing.
    status
        The destination's DIMSE Status; 0 if there was none.
    status_meaning
        The meaning of that Status.
    sop_class
        Name of the SOP Class, or its UID if it has no name.
    sop_class_uid
        UID of the SOP Class.
    study_instance_uid
        UID of the study; empty when very many images failed.
    modality, patient_id, patient_name, study_date
        Values of the index; empty when unknown or not looked up.
    images
        Number of images.
    """

    reason: str
    status: int
    status_meaning: str
    sop_class: str
    sop_class_uid: str
    study_instance_uid: str
    modality: str
    patient_id: str
    patient_name: str
    study_date: str
    images: int


@dataclass(frozen=True, slots=True)
class Delivered:
    """The result of sending one image.

    Attributes
    ----------
    sop_instance_uid, study_instance_uid
        UIDs of the image and its study.
    reason
        The destination's answer, or why the image was not sent.
    """

    sop_instance_uid: str
    study_instance_uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class RestoreSummary:
    """The result of a restore.

    Attributes
    ----------
    destination
        Name of the destination.
    selected
        Number of selected images.
    confirmed_before
        How many of them were confirmed in an earlier restore, and not sent again.
    first_confirmed_at, last_confirmed_at
        The first and the last time of these confirmations; null if there are none.
    no_longer_there
        How many were confirmed earlier, but the destination no longer has them; they were sent again.
    confirmed_too_long_ago
        How many confirmations are too old to be valid; these images were sent again.
    confirmed_by_another
        How many were confirmed by another device of that name; they were sent again.
    sent
        How many images the destination confirmed in this run.
    already_there
        How many of them were in the folder already.
    size_bytes
        Total size of the sent images.
    missing_images
        How many of the selected images are missing at the destination.
    not_tried
        How many of the missing images were not tried, because the restore ended early.
    missing
        The missing images, grouped by study, modality and reason.
    warnings
        Images that the destination accepted with a warning.
    failed
        Images that failed, one by one; at most 10,000.
    stopped
        Why the restore ended early; empty when every image was tried.
    interrupted
        Whether the restore was interrupted (Ctrl-C).
    complete
        Whether images were selected, and all of them are at the destination; then the exit code is 0.
    committed
        How many images the destination has committed, with --commit.
    uncommitted
        SOP Instance UIDs of images without an answer to the Storage Commitment request.
    no_commitment
        Why there is no answer; empty if there is one.
    confirmations
        Number of studies by how their arrival was confirmed: `committed` (Storage Commitment), `counted` (C-STORE
        answers, and as many images in C-FIND), `answered` (C-STORE answers, or files of a folder), `short` (C-STORE
        answers, but fewer images in C-FIND), `none` (nothing arrived).
    short_studies
        Study Instance UIDs of the `short` ones.
    unmatched
        Lines of the list (--list) that match no stored image.
    receipt
        The file of the receipt; empty if there is none.
    """

    destination: str
    selected: int
    confirmed_before: int
    first_confirmed_at: datetime | None
    last_confirmed_at: datetime | None
    no_longer_there: int
    confirmed_too_long_ago: int
    confirmed_by_another: int
    sent: int
    already_there: int
    size_bytes: int
    missing_images: int
    not_tried: int
    missing: list[Missing]
    warnings: list[Delivered]
    failed: list[Delivered]
    stopped: str
    interrupted: bool
    complete: bool
    committed: int
    uncommitted: list[str]
    no_commitment: str
    confirmations: dict[str, int]
    short_studies: list[str]
    unmatched: list[str]
    receipt: str


def summary(
    done: Restore, lacking: list[Missing], name: str, already_there: int, dropped: Dropped, receipt: str
) -> RestoreSummary:
    """Build the summary of a restore."""
    first, last = done.confirmed_at or (None, None)
    return RestoreSummary(
        destination=name,
        selected=done.selected,
        confirmed_before=done.confirmed_before,
        first_confirmed_at=first,
        last_confirmed_at=last,
        no_longer_there=done.lacking,
        confirmed_too_long_ago=dropped.old,
        confirmed_by_another=dropped.foreign,
        sent=done.sent,
        already_there=already_there,
        size_bytes=done.size_bytes,
        missing_images=done.missing,
        not_tried=done.untried,
        missing=lacking,
        warnings=[_delivered(outcome) for outcome in done.warnings],
        failed=[_delivered(outcome) for outcome in done.failed],
        stopped=done.stopped,
        interrupted=done.interrupted,
        complete=done.is_complete,
        committed=done.committed,
        uncommitted=[held.sop_instance_uid for held in done.uncommitted],
        no_commitment=done.no_commitment,
        confirmations=Counter(study.confirmation.value for study in done.studies.values()),
        short_studies=done.short,
        unmatched=done.unmatched,
        receipt=receipt,
    )


def _delivered(outcome: Outcome) -> Delivered:
    return Delivered(outcome.held.sop_instance_uid, outcome.held.study_instance_uid, outcome.reason)
