"""Storage Commitment: read the requested instances back from the disk, and deliver the report, however long it takes.

There are three independent steps: store a request (``request``), verify its instances (``judge_next``), and deliver the
report (``report_next``).  The index holds what is due, so a crash, a restart or a second node loses nothing and does
nothing twice.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from backup_scp.errors import BackupSCPError, IndexUnavailable, ResourceLimitation
from backup_scp.machine import clock
from backup_scp.ports import (
    Archive,
    Commitment,
    CommitmentRequest,
    FailureReason,
    Index,
    RejectionRecorder,
    ServiceKind,
)
from backup_scp.services.commitment_failures import why_not_committed
from backup_scp.services.commitment_verification import CopiesNeeded, ReferenceVerifier
from backup_scp.services.lease_keeper import kept

log = logging.getLogger(__name__)

_LONGEST_PAUSE = timedelta(hours=1)
_LONGEST_LOOK = timedelta(seconds=30)
_LONGEST_LOOK_FOR_COPIES = timedelta(minutes=5)  # a drive may be away for days, and hundreds of requests wait for it

RenewLease = Callable[[], None]
"""Raises ``LeaseLost`` when another worker has the report by now."""

DeliverReport = Callable[[Commitment, RenewLease], None]
"""Delivers a report, after a last ``RenewLease``; raises the error that prevents the delivery."""


class LeaseLost(Exception):  # noqa: N818 - no error: another worker does it
    """Another worker has the lease by now."""


@dataclass(frozen=True, slots=True)
class CommitmentTimers:
    """Time limits and intervals of the steps of a commitment.

    Attributes
    ----------
    images
        How long to wait for instances that come after the request.
    look
        First interval between two searches for missing instances; it grows with time.
    retry
        First interval after a failed report; doubled each time, up to an hour.
    give_up
        How long after the request to wait for further copies, and to try reports; the latter for as long again when
        copies are waited for.
    lease
        Duration of a lease; after it another worker continues the work of a dead one.
    turn
        How long to read the instances of one request before those of another requester.
    """

    images: timedelta = timedelta(minutes=10)
    look: timedelta = timedelta(seconds=2)
    retry: timedelta = timedelta(minutes=1)
    give_up: timedelta = timedelta(days=7)
    lease: timedelta = timedelta(seconds=30)
    turn: timedelta = timedelta(seconds=5)


class WorkSignal:
    """Wakes threads that wait for work."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.generation = 0

    def notify(self) -> None:
        """Wake all waiting threads."""
        with self._condition:
            self.generation += 1
            self._condition.notify_all()

    def wait(self, heard: int, timeout_s: float) -> None:
        """Wait until the generation is newer than ``heard``, or until the timeout."""
        with self._condition:
            self._condition.wait_for(lambda: self.generation != heard, timeout_s)


class StorageCommitment:
    """SCP of the Storage Commitment Push Model (PS3.4 J.3); safe to share between threads.

    Parameters
    ----------
    archive, index
        Hold the instances, and the requests.
    is_storable
        Tells whether a SOP Class can be stored here.
    pace
        Time limits and intervals.
    clock
        The time, UTC.
    needed
        The further copies that must have an image before it is committed; it is waited for until ``give_up``.
    rejections
        Records for ``status`` what was not committed; None records nothing.
    """

    def __init__(
        self,
        archive: Archive,
        index: Index,
        is_storable: Callable[[str], bool] = bool,
        pace: CommitmentTimers | None = None,
        clock: Callable[[], datetime] = clock.now,
        *,
        needed: CopiesNeeded | None = None,
        rejections: RejectionRecorder | None = None,
    ) -> None:
        self._records = index.commitments
        self._rejections = rejections
        needed = needed or CopiesNeeded()
        self._pace = pace or CommitmentTimers()
        # A result that waited for copies to the last moment must be reported too, to a console that is off just then.
        self._give_up_reports = self._pace.give_up * (2 if needed else 1)
        self._clock = clock
        self._delivered: set[int] = set()  # delivered reports that the index could not record
        self._had_a_turn: set[str] = set()  # addresses, in this round
        self.stopping = threading.Event()
        self._verifier = ReferenceVerifier(
            archive,
            index,
            is_storable,
            needed,
            self._pace.turn,
            clock=clock,
            stopping=self.stopping,
        )
        self.bell = WorkSignal()

    # -- requests ------------------------------------------------------------------------------------------------------

    def request(self, request: CommitmentRequest) -> int:
        """Store a request; on return it is durable, and its report will follow.

        Returns
        -------
        int
            Its number, for ``lease_report_of``.

        Raises
        ------
        DuplicateTransaction, ResourceLimitation
        """
        try:
            number = self._records.enter(request)
        except IndexUnavailable as error:
            raise ResourceLimitation(str(error)) from None
        self.bell.notify()
        return number

    # -- verification --------------------------------------------------------------------------------------------------

    def judge_next(self) -> bool:
        """Verify the instances of one request that is due; False when there is none.

        Raises
        ------
        IndexUnavailable
            The request stays due.
        """
        now = self._clock()
        leased = self._records.lease_request(now, now + self._pace.lease, self._had_a_turn)
        if leased is None and self._had_a_turn:
            self._had_a_turn.clear()
            leased = self._records.lease_request(now, now + self._pace.lease)
        if leased is None:
            return False
        self._had_a_turn.add(leased.request.requester.address)
        with self._kept(leased):
            self._judge(leased, now)
        return True

    def _judge(self, leased: Commitment, now: datetime) -> None:
        request = leased.request
        age = now - request.requested_at
        is_late = age >= self._pace.images and not self._verifier.is_recovering()
        progress = self._verifier.progress_of(leased)
        if not is_late and self._verifier.is_missing_some(progress):
            self._records.postpone(leased, now + min(max(age / 4, self._pace.look), _LONGEST_LOOK))
            return
        lacking = self._verifier.lack_copies(progress)
        if lacking and age < self._pace.give_up:
            self._records.postpone(leased, now + min(max(age / 4, self._pace.look), _LONGEST_LOOK_FOR_COPIES))
            return
        if not self._verifier.has_read_all(progress, is_late=is_late):
            has_more_to_read = progress.turn_is_over and not self.stopping.is_set()
            look = _LONGEST_LOOK if self._verifier.is_recovering() else self._pace.look
            self._records.postpone(leased, now if has_more_to_read else now + look)
            return
        without = dict.fromkeys(lacking, FailureReason.PROCESSING_FAILURE)
        results = [progress.results[reference] or without.get(reference) for reference in request.references]
        self._verifier.forget(leased)
        if self._records.conclude(leased, results, self._clock()):
            failed = sum(reason is not None for reason in results)
            log.info(
                "Storage Commitment for %r: %d SOP Instances read back and committed, %d failed",
                request.requester.ae_title,
                len(results) - failed,
                failed,
            )
            self._note(request, results)
            self.bell.notify()

    def _note(self, request: CommitmentRequest, results: Sequence[FailureReason | None]) -> None:
        """Record for ``status`` what was not committed; a web client asks for its results itself."""
        requester = request.requester
        if self._rejections is None or not requester.ae_title:
            return
        if why := why_not_committed(results):
            called = request.called_ae_title
            facts = (ServiceKind.PROOF, requester.ae_title, called, requester.address)
            is_first = self._rejections.rejected(*facts, *why)
            level = logging.WARNING if is_first else logging.DEBUG
            log.log(level, "Storage Commitment for %r: %s; %s", requester.ae_title, *why)
        else:
            self._rejections.succeeded(ServiceKind.PROOF, requester.ae_title, requester.address)

    # -- reporting -----------------------------------------------------------------------------------------------------

    def report_next(self, report: DeliverReport) -> bool:
        """Deliver one report that is due; False when there is none.

        Raises
        ------
        IndexUnavailable
            The report, or its record in the index, follows later.
        """
        now = self._clock()
        leased = self._records.lease_report(now, now + self._pace.lease)
        if leased is None:
            return False
        if leased.number in self._delivered:
            self.delivered(leased)
            return True
        with self._kept(leased) as confirm:
            try:
                report(leased, confirm)
            except LeaseLost:
                log.info("A Storage Commitment report was taken over by another node")
            except BackupSCPError as error:
                self.not_delivered(leased, error)
            else:
                self.delivered(leased)
        return True

    def lease_report_of(self, numbers: Sequence[int], attempts: int) -> Commitment | None:
        """Lease one of these reports, to deliver it in another way; call ``delivered`` or ``not_delivered`` then."""
        now = self._clock()
        return self._records.lease_report_of(numbers, attempts, now, now + self._pace.lease)

    def renew(self, leased: Commitment) -> bool:
        """Extend the lease of a report; False when another worker has it or it was delivered."""
        return leased.number not in self._delivered and self._records.renew(leased, self._clock() + self._pace.lease)

    def delivered(self, leased: Commitment) -> None:
        """Record that the requester accepted a report; it is never sent again."""
        self._delivered.add(leased.number)
        self._records.report_delivered(leased, self._clock())
        self._delivered.discard(leased.number)
        self.bell.notify()

    def not_delivered(self, leased: Commitment, error: BackupSCPError | str) -> None:
        """Record why a report was not delivered, and when to try it again."""
        now = self._clock()
        pause = min(self._pace.retry * 2 ** min(leased.attempts, 16), _LONGEST_PAUSE)
        give_up_before = now + pause - self._give_up_reports
        self._records.report_failed(leased, str(error), now, now + pause, give_up_before)
        log.warning(
            "A Storage Commitment report to %r was not delivered: %s%s",
            leased.request.requester.ae_title,
            error,
            "; it is given up" if leased.request.requested_at < give_up_before else "",
        )

    @contextlib.contextmanager
    def _kept(self, leased: Commitment) -> Iterator[RenewLease]:
        """Renew a lease while the block runs."""

        def confirm() -> None:
            if not self.renew(leased):
                raise LeaseLost

        with kept(lambda: self.renew(leased), self._pace.lease):
            yield confirm
