"""Count what a restore did: what the destination has, what is missing and why, and what was committed."""

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
"""Asks the destination to commit; gives 0 for a committed instance, else a Failure Reason; some may be left out."""

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
        """How many of the requested versions the destination does not have."""
        return max(self.selected - self.confirmed_before - self.sent, 0)

    @property
    def untried(self) -> int:
        """How many of the missing ones were not tried, because the restore ended early."""
        return max(self.missing - self.gaps.total(), 0)

    @property
    def is_complete(self) -> bool:
        """Whether at least one version was requested, and the destination has all of them."""
        has_ended = not self.stopped and not self.interrupted
        return bool(self.selected) and has_ended and not self.missing and not self.uncommitted

    def fail(self, outcome: Outcome) -> None:
        """Count a failed instance."""
        held, cause = outcome.held, outcome.cause
        status = cause.status if isinstance(cause, InstanceRefused) else 0
        series = (held.study_instance_uid, held.series_instance_uid) if len(self.gaps) < _MOST_LISTED else ("", "")
        self.gaps[Gap(*series, held.sop_class_uid, outcome.reason, status)] += 1
        if len(self.failed) < _MOST_LISTED:
            self.failed.append(replace(outcome, cause=None))  # its traceback keeps much memory


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
