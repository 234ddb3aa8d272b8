"""What a restore did: what is there, what is missing and why, and what the destination has committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from backup_scp.errors import DestinationUnavailable, InstanceRefused
from backup_scp.ports import Reference, StoredVersion
from backup_scp.services.delivery import Delivery, Outcome
from backup_scp.services.restore_journal import RestoreJournal

RequestCommitment = Callable[[Sequence[Reference]], Mapping[Reference, int]]
"""Asks the destination to commit: 0 for what it has committed, else a Failure Reason; it need not name everything."""

_MOST_LISTED = 10_000  # failures, one by one; all of them are counted


class Gap(NamedTuple):
    """What failed alike, in one series.

    Attributes
    ----------
    status
        The DIMSE Status that the destination answered; 0 where it gave none.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    reason: str
    status: int


@dataclass(slots=True)
class Restore:
    """What a restore did.

    Attributes
    ----------
    selected
        How many versions were asked for.
    confirmed_before
        How many of them an earlier run had confirmed; they were not sent again.
    confirmed_at
        When: the first and the last of them.
    lacking
        How many an earlier run had confirmed and the destination says that it does not have; they were sent again.
    sent, warnings
        How many the destination has confirmed now; with a warning, in ``warnings``.
    failed
        The outcome of each that failed, up to 10,000.
    gaps
        How many failed, put together.
    stopped
        Why it ended early; empty when every instance was tried.
    interrupted
        Whether somebody ended it (Ctrl-C).
    committed
        How many of those sent the destination has committed (PS3.4 J), where it was asked.
    uncommitted
        Those sent of which it has not said whether it commits them; why, in ``no_commitment``.
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

    @property
    def missing(self) -> int:
        """How many of what was asked for are not there."""
        return max(self.selected - self.confirmed_before - self.sent, 0)

    @property
    def untried(self) -> int:
        """How many of the missing were not tried, because it ended early."""
        return max(self.missing - self.gaps.total(), 0)

    @property
    def is_complete(self) -> bool:
        """Whether something was asked for, and all of it is there."""
        has_ended = not self.stopped and not self.interrupted
        return bool(self.selected) and has_ended and not self.missing and not self.uncommitted

    def fail(self, outcome: Outcome) -> None:
        """Count an instance that is not there."""
        held, cause = outcome.held, outcome.cause
        status = cause.status if isinstance(cause, InstanceRefused) else 0
        series = (held.study_instance_uid, held.series_instance_uid) if len(self.gaps) < _MOST_LISTED else ("", "")
        self.gaps[Gap(*series, held.sop_class_uid, outcome.reason, status)] += 1
        if len(self.failed) < _MOST_LISTED:
            self.failed.append(replace(outcome, cause=None))  # which would keep all that led to it


def settle_commitments(
    done: Restore, asked: Sequence[Outcome], commit: RequestCommitment, journal: RestoreJournal | None
) -> None:
    """Ask the destination to commit what it was sent and what it refused; the next restore sends what it lacks."""
    references = [Reference(outcome.held.sop_class_uid, outcome.held.sop_instance_uid) for outcome in asked]
    results: Mapping[Reference, int] = {}
    try:
        results = commit(list(dict.fromkeys(references))) if references else {}
        done.no_commitment = "it has not reported in time"
    except DestinationUnavailable as error:
        done.no_commitment = str(error)
    for outcome, reference in zip(asked, references, strict=True):
        _judge(done, outcome, results.get(reference), journal)
    if not done.uncommitted:
        done.no_commitment = ""


def _judge(done: Restore, outcome: Outcome, reason: int | None, journal: RestoreJournal | None) -> None:
    held, was_refused = outcome.held, outcome.cause is not None
    if was_refused:
        if reason != 0:
            return
        _unfail(done, outcome)
    elif reason:
        sentence = f"The destination did not commit it (Failure Reason 0x{reason:04X})"
        done.sent, done.size_bytes = done.sent - 1, done.size_bytes - held.size_bytes
        done.fail(Outcome(held, Delivery.FAILED, sentence, InstanceRefused(sentence, reason)))
        return
    if reason is None:
        done.uncommitted.append(held)
    done.committed += reason == 0
    if journal is not None:
        journal.confirm(held)


def _unfail(done: Restore, outcome: Outcome) -> None:
    """Count a refused instance as sent: the destination commits it, so it has it."""
    probe = Restore()
    probe.fail(outcome)
    done.gaps -= probe.gaps
    done.failed = [one for one in done.failed if one.held != outcome.held]
    done.sent += 1
    done.size_bytes += outcome.held.size_bytes
