"""What ``restore --json`` prints."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backup_scp.services.delivery import Outcome
    from backup_scp.services.restore_journal import Dropped
    from backup_scp.services.restore_result import Restore


@dataclass(frozen=True, slots=True)
class Missing:
    """Images that are not there, of one study and modality, for one reason.

    Attributes
    ----------
    reason
        Why they are not there.
    status
        The DIMSE Status that the destination answered; 0 where it gave none.
    status_meaning
        What that means.
    sop_class
        Its name, or its UID where it has none.
    sop_class_uid
        Its UID.
    study_instance_uid
        Of the study; empty where very many images failed.
    modality, patient_id, patient_name, study_date
        As the index knows them; empty where it does not, or was not asked.
    images
        How many.
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
    """What became of one image.

    Attributes
    ----------
    sop_instance_uid, study_instance_uid
        Of the image.
    reason
        What the destination said, or why it was not sent.
    """

    sop_instance_uid: str
    study_instance_uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class RestoreSummary:
    """What a restore did.

    Attributes
    ----------
    destination
        Where it sent to.
    selected
        How many images were asked for.
    confirmed_before
        How many of them an earlier restore had confirmed; they were not sent again.
    first_confirmed_at, last_confirmed_at
        When the first and the last of these were confirmed; null where there are none.
    no_longer_there
        How many an earlier restore had confirmed and the destination says that it does not have; they were sent again.
    confirmed_too_long_ago
        How many were confirmed so long ago that it counts no more; they were sent again.
    confirmed_by_another
        How many were confirmed by another device of that name; they were sent again.
    sent
        How many the destination has confirmed now.
    already_there
        How many of them lay in the folder already.
    size_bytes
        Of what was sent.
    missing_images
        How many of what was asked for are not there.
    not_tried
        How many of these were not tried, because it ended early.
    missing
        What is not there, put together by study, modality and reason.
    warnings
        What was taken with a warning.
    failed
        What failed, one by one; 10,000 at most.
    stopped
        Why it ended early; empty when everything was tried.
    interrupted
        Whether it was interrupted (Ctrl-C).
    complete
        Whether something was asked for, and all of it is there; the exit code is 0 then.
    committed
        How many the destination has committed, where it was asked.
    uncommitted
        SOP Instance UIDs of what it has not said of whether it commits it.
    no_commitment
        Why it has not; empty when it has.
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


def summary(done: Restore, lacking: list[Missing], name: str, already_there: int, dropped: Dropped) -> RestoreSummary:
    """Put together what was done."""
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
    )


def _delivered(outcome: Outcome) -> Delivered:
    return Delivered(outcome.held.sop_instance_uid, outcome.held.study_instance_uid, outcome.reason)
