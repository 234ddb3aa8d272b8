"""Count what a restore did: what arrived and how that was confirmed, what is missing and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from backup_scp.errors import DestinationUnavailable, InstanceRefused
from backup_scp.ports import Inventory, Reference, StoredVersion
from backup_scp.services.delivery import Delivery, Outcome
from backup_scp.services.restore_journal import RestoreJournal
from backup_scp.services.restored_study import Confirmation, RestoredStudy, count

RequestCommitment = Callable[[Sequence[Reference], str], Mapping[Reference, int]]
"""Asks the destination to commit instances of a site; gives 0 for a committed one, else a Failure Reason."""

_MOST_LISTED = 10_000  # failures that are listed; all of them are counted


class Gap(NamedTuple):
    """The failures of one series that have the same reason.

    Attributes
    ----------
    status
        The DIMSE Status that the destination returned; 0 when it returned none.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    reason: str
    status: int


@dataclass(slots=True)
class Restore:
    """The result of a restore.

    Attributes
    ----------
    selected
        How many versions were requested.
    confirmed_before
        How many of them the destination confirmed in an earlier run; they were not sent again.
    confirmed_at
        Times of the first and the last of these confirmations.
    lacking
        How many the destination confirmed in an earlier run and now says it lacks; they were sent again.
    sent, warnings
        How many the destination confirmed in this run; ``warnings`` counts those with a warning.
    failed
        The outcome of each failed instance, up to 10,000.
    gaps
        Number of failures, by series and reason.
    stopped
        Why it ended early; empty when every instance was tried.
    interrupted
        Whether a user ended it (Ctrl-C).
    committed
        How many of the sent instances the destination committed (PS3.4 J), when it was asked.
    uncommitted
        The sent instances for which it gave no commitment result; ``no_commitment`` says why.
    studies
        The selected studies, in the order of sending, by Study Instance UID.
    unmatched
        The lines of a list that match nothing.
    """

    selected: int = 0
    confirmed_before: int = 0
    confirmed_at: tuple[datetime, datetime] | None = None
    lacking: int = 0
    sent: int = 0
    size_bytes: int = 0
    warnings: list[Outcome] = field(default_factory=list)
    failed: list[Outcome] = field(default_factory=list)
    gaps: Counter[Gap] = field(default_factory=Counter)
    stopped: str = ""
    interrupted: bool = False
    committed: int = 0
    uncommitted: list[StoredVersion] = field(default_factory=list)
    no_commitment: str = ""
    studies: dict[str, RestoredStudy] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)

    @property
    def short(self) -> list[str]:
        """The studies of which the destination lists fewer images than it confirmed."""
        return [uid for uid, study in self.studies.items() if study.confirmation is Confirmation.SHORT]

    @property
    def missing(self) -> int:
        """How many of the requested versions the destination does not have."""
        return max(self.selected - self.confirmed_before - self.sent, 0)

    @property
    def untried(self) -> int:
        """How many of the missing ones were not tried, because the restore ended early."""
        return max(self.missing - self.gaps.total(), 0)

    @property
    def is_complete(self) -> bool:
        """Whether something was requested, each line of a list matched, and the destination has everything."""
        has_ended = not self.stopped and not self.interrupted
        has_all = not self.missing and not self.uncommitted and not self.unmatched and not self.short
        return bool(self.selected) and has_ended and has_all

    def study(self, held: StoredVersion) -> RestoredStudy:
        """Return the study of an instance."""
        return self.studies.setdefault(held.study_instance_uid, RestoredStudy())

    def select(self, batch: Sequence[StoredVersion]) -> None:
        """Count a batch of whole studies that is selected."""
        self.selected += len(batch)
        for uid, _ in dict.fromkeys((held.study_instance_uid, held.sop_instance_uid) for held in batch):
            self.studies.setdefault(uid, RestoredStudy()).instances += 1

    def confirm(self, outcome: Outcome) -> None:
        """Count an instance that the destination confirmed now."""
        self.sent += 1
        self.size_bytes += outcome.held.size_bytes
        self.study(outcome.held).sent += 1
        if outcome.status is Delivery.WARNING:
            self.warnings.append(outcome)

    def unconfirm(self, outcome: Outcome) -> None:
        """Count an instance no longer as confirmed."""
        self.sent -= 1
        self.size_bytes -= outcome.held.size_bytes
        self.study(outcome.held).sent -= 1

    def fail(self, outcome: Outcome) -> None:
        """Count a failed instance."""
        self.gaps[_gap(outcome, is_named=len(self.gaps) < _MOST_LISTED)] += 1
        self.study(outcome.held).failed += 1
        if len(self.failed) < _MOST_LISTED:
            self.failed.append(replace(outcome, cause=None))  # its traceback keeps much memory

    def unfail(self, outcome: Outcome) -> None:
        """Count a refused instance as confirmed: the destination commits it, so it has it."""
        self.gaps -= Counter([_gap(outcome)])
        self.failed = [one for one in self.failed if one.held != outcome.held]
        self.study(outcome.held).failed -= 1
        self.confirm(replace(outcome, status=Delivery.SENT))


def _gap(outcome: Outcome, *, is_named: bool = True) -> Gap:
    held, cause = outcome.held, outcome.cause
    status = cause.status if isinstance(cause, InstanceRefused) else 0
    series = (held.study_instance_uid, held.series_instance_uid) if is_named else ("", "")
    return Gap(*series, held.sop_class_uid, outcome.reason, status)


def forget_what_is_lacking(
    done: Restore, batch: Sequence[StoredVersion], journal: RestoreJournal, inventory: Inventory
) -> None:
    """Ask the destination what it has, and drop the rest from the journal: a replaced console has no images."""
    confirmed: dict[str, list[StoredVersion]] = {}
    for held in batch:
        if held in journal:
            confirmed.setdefault(held.study_instance_uid, []).append(held)
    for study, instances in confirmed.items():
        there = inventory.count(study)
        if there is not None and there < len({held.sop_instance_uid for held in instances}):
            journal.forget(instances)
            done.lacking += len(instances)
        else:
            done.studies[study].counted = there


def count_arrivals(done: Restore, inventory: Inventory) -> None:
    """Ask the destination how many images it lists of each study that was sent now and is not committed."""
    count(((uid, study) for uid, study in done.studies.items() if study.sent and not study.is_committed), inventory)


def settle_commitments(
    done: Restore, asked: Sequence[Outcome], commit: RequestCommitment, journal: RestoreJournal | None
) -> None:
    """Ask the destination to commit what it was sent and what it refused; the next restore sends what it lacks."""
    done.no_commitment = "it has not reported in time"
    by_site: dict[str, list[Outcome]] = {}
    for outcome in asked:
        by_site.setdefault(outcome.held.site, []).append(outcome)
    for site, outcomes in by_site.items():
        references = [Reference(outcome.held.sop_class_uid, outcome.held.sop_instance_uid) for outcome in outcomes]
        results: Mapping[Reference, int] = {}
        try:
            results = commit(list(dict.fromkeys(references)), site)
        except DestinationUnavailable as error:
            done.no_commitment = str(error)
        for outcome, reference in zip(outcomes, references, strict=True):
            _judge(done, outcome, results.get(reference), journal)
    if not done.uncommitted:
        done.no_commitment = ""


def _judge(done: Restore, outcome: Outcome, reason: int | None, journal: RestoreJournal | None) -> None:
    held, was_refused = outcome.held, outcome.cause is not None
    if was_refused:
        if reason != 0:
            return
        done.unfail(outcome)
    elif reason:
        sentence = f"The destination did not commit it (Failure Reason 0x{reason:04X})"
        done.unconfirm(outcome)
        done.fail(Outcome(held, Delivery.FAILED, sentence, InstanceRefused(sentence, reason)))
        return
    if reason is None:
        done.uncommitted.append(held)
    done.committed += reason == 0
    done.study(held).committed += reason == 0
    if journal is not None:
        journal.confirm(held)
