"""Storage Commitment: read the requested instances back from the disk, and deliver the report, however long it takes.

Three steps, each of its own: a request is kept (``request``), its instances are looked at (``judge_next``), and the
report goes out (``report_next``).  What is due stands in the index, so a crash, a restart or a second node lose nothing
and do nothing twice.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from backup_scp.errors import (
    ArchiveUnavailable,
    BackupSCPError,
    Damaged,
    FileMissing,
    IndexUnavailable,
    ResourceLimitation,
    Unavailable,
)
from backup_scp.machine import clock
from backup_scp.ports import (
    Archive,
    Commitment,
    CommitmentRequest,
    FailureReason,
    Index,
    Reference,
    StoredVersion,
    VerificationResult,
)

log = logging.getLogger(__name__)

_LONGEST_PAUSE = timedelta(hours=1)
_LONGEST_LOOK = timedelta(seconds=30)
_IDLE_S = 1.0
_TROUBLED_S = 5.0
_BATCH = 500  # references that are looked for at once
_READ_AT_ONCE = 20  # instances that are read before a turn may end
_MOST_BEGUN = 4  # of 10,000 references each takes some MB

RenewLease = Callable[[], None]
"""Raises ``LeaseLost`` where somebody else has a report by now."""

DeliverReport = Callable[[Commitment, RenewLease], None]
"""Delivers a report, after a last ``RenewLease``; raises what kept it from being delivered."""


class LeaseLost(Exception):  # noqa: N818 - no error: somebody else does it
    """Another worker has the lease by now."""


@dataclass(frozen=True, slots=True)
class CommitmentTimers:
    """How long the steps of a commitment may take, and how long they wait.

    Attributes
    ----------
    images
        For instances that come after the request.
    look
        Before what is missing is looked for again; longer as time passes.
    retry
        After a report that was not taken; doubled each time, up to an hour.
    give_up
        After the request, reports are no longer tried.
    lease
        What a node that died was working on is taken up by another one.
    turn
        So long the instances of one request are read, then those of another requester.
    """

    images: timedelta = timedelta(minutes=10)
    look: timedelta = timedelta(seconds=2)
    retry: timedelta = timedelta(minutes=1)
    give_up: timedelta = timedelta(days=7)
    lease: timedelta = timedelta(seconds=30)
    turn: timedelta = timedelta(seconds=5)


class WorkSignal:
    """Wakes whoever waits for work."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.generation = 0

    def notify(self) -> None:
        """Wake all who wait."""
        with self._condition:
            self.generation += 1
            self._condition.notify_all()

    def wait(self, heard: int, timeout_s: float) -> None:
        """Wait until the generation is newer than ``heard``, or until the timeout."""
        with self._condition:
            self._condition.wait_for(lambda: self.generation != heard, timeout_s)


@dataclass(slots=True)
class _Begun:
    """How far the judgement of one request has come in this process.

    Attributes
    ----------
    missing
        What was not there at the last look, or has not been looked for.
    judgements
        Of the first references, in order.
    turn_is_over
        Whether it was interrupted for others.
    """

    missing: list[Reference]
    judgements: dict[Reference, FailureReason | None] = field(default_factory=dict)
    turn_is_over: bool = False


class StorageCommitment:
    """SCP of the Storage Commitment Push Model (PS3.4 J.3); safe to share between threads.

    Parameters
    ----------
    archive, index
        What is held, and what is due.
    is_storable
        Whether a SOP Class is one that can be stored here.
    pace
        How long is waited for what.
    clock
        The time, UTC.
    """

    def __init__(
        self,
        archive: Archive,
        index: Index,
        is_storable: Callable[[str], bool] = bool,
        pace: CommitmentTimers | None = None,
        clock: Callable[[], datetime] = clock.now,
    ) -> None:
        self._archive = archive
        self._index = index
        self._records = index.commitments
        self._is_storable = is_storable
        self._pace = pace or CommitmentTimers()
        self._clock = clock
        self._delivered: set[int] = set()  # but the index could not be told
        self._begun: OrderedDict[int, _Begun] = OrderedDict()  # by number; what was looked at last at the end
        self._had_a_turn: set[str] = set()  # addresses, in this round
        self.stopping = threading.Event()
        self.bell = WorkSignal()

    # -- asking --------------------------------------------------------------------------------------------------------

    def request(self, request: CommitmentRequest) -> int:
        """Keep a request; when it returns it is durable, and will be reported on.

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

    # -- judging -------------------------------------------------------------------------------------------------------

    def judge_next(self) -> bool:
        """Look at the instances of one request that is due; False when there is none.

        Raises
        ------
        IndexUnavailable
            It will be looked at again.
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
        is_late = age >= self._pace.images
        begun = self._begun_with(leased)
        if not is_late and self._is_missing_some(begun, request):
            self._records.postpone(leased, now + min(max(age / 4, self._pace.look), _LONGEST_LOOK))
            return
        if not self._has_read_all(begun, request, is_late=is_late):
            has_more_to_read = begun.turn_is_over and not self.stopping.is_set()
            self._records.postpone(leased, now if has_more_to_read else now + self._pace.look)
            return
        results = [begun.judgements[reference] for reference in request.references]
        self._begun.pop(leased.number, None)
        if self._records.conclude(leased, results, self._clock()):
            failed = sum(reason is not None for reason in results)
            log.info(
                "Storage Commitment for %r: %d SOP Instances read back and committed, %d failed",
                request.requester.ae_title,
                len(results) - failed,
                failed,
            )
            self.bell.notify()

    def _begun_with(self, leased: Commitment) -> _Begun:
        """Return how far this process has come with a request; nothing is known of the work of other processes."""
        begun = self._begun.get(leased.number) or _Begun(list(dict.fromkeys(leased.request.references)))
        self._begun[leased.number] = begun
        self._begun.move_to_end(leased.number)
        if len(self._begun) > _MOST_BEGUN:
            self._begun.popitem(last=False)
        return begun

    def _is_missing_some(self, begun: _Begun, request: CommitmentRequest) -> bool:
        """Tell whether an instance that may still arrive is missing; do not look again for those that are here."""
        while begun.missing:
            some, rest = begun.missing[:_BATCH], begun.missing[_BATCH:]
            found = self._records.find(some, request.requester, own_only=request.own_only)
            missing = [one for one, held in found.items() if not held and self._is_storable(one.sop_class_uid)]
            begun.missing = missing + rest
            if missing:
                return True
        return False

    def _has_read_all(self, begun: _Begun, request: CommitmentRequest, *, is_late: bool) -> bool:
        """Judge the rest; False when the turn is over, or when nothing can be read now."""
        until = time.monotonic() + self._pace.turn.total_seconds()
        begun.turn_is_over = False
        references = list(dict.fromkeys(request.references))
        while len(begun.judgements) < len(references):
            some = references[len(begun.judgements) :][:_READ_AT_ONCE]
            found = self._records.find(some, request.requester, own_only=request.own_only)
            judgements = self._judgements(found, is_late=is_late)
            if judgements is None:  # the node stops, or the archive cannot be read: it is no failure yet
                begun.judgements.clear()  # a proof is as fresh as the report
                return False
            begun.judgements |= {reference: judgements[reference] for reference in some}
            if time.monotonic() >= until and len(begun.judgements) < len(references):
                begun.turn_is_over = True
                return False
        return True

    def _judgements(
        self, found: dict[Reference, list[StoredVersion]], *, is_late: bool
    ) -> dict[Reference, FailureReason | None] | None:
        """Judge these references; None where that cannot be done now."""
        judgements: dict[Reference, FailureReason | None] = {}
        verified: list[VerificationResult] = []
        try:
            for reference, held in found.items():
                if self.stopping.is_set():
                    return None
                judgements[reference] = self._judgement(reference, held, verified)
        except ArchiveUnavailable as error:
            log.error("Storage Commitment waits for the archive: %s", error)
            if not is_late:
                return None
            unseen = found.keys() - judgements.keys()
            judgements |= dict.fromkeys(unseen, FailureReason.PROCESSING_FAILURE)
        finally:
            self._index.record_verification(verified)
        return judgements

    def _judgement(
        self, reference: Reference, held: list[StoredVersion], verified: list[VerificationResult]
    ) -> FailureReason | None:
        """Judge one reference; ``None`` is the proof that its bytes were read from the disk, and are those received."""
        if not held:
            is_storable = self._is_storable(reference.sop_class_uid)
            return FailureReason.NO_SUCH_OBJECT_INSTANCE if is_storable else FailureReason.SOP_CLASS_NOT_SUPPORTED
        meant = [one for one in held if one.sop_class_uid == reference.sop_class_uid]
        if not meant:
            return FailureReason.CLASS_INSTANCE_CONFLICT
        for one in meant:
            began = self._clock()
            try:
                self._archive.verify(one.location, one.sha256)
            except Damaged as error:
                log.error("%s; not committed", error)
                verified.append(VerificationResult(one.location, str(error), began))
                is_gone = isinstance(error, FileMissing)
                return FailureReason.NO_SUCH_OBJECT_INSTANCE if is_gone else FailureReason.PROCESSING_FAILURE
            verified.append(VerificationResult(one.location, None, began))
        return None

    # -- reporting -----------------------------------------------------------------------------------------------------

    def report_next(self, report: DeliverReport) -> bool:
        """Deliver one report that is due; False when there is none.

        Raises
        ------
        IndexUnavailable
            It will be delivered later, or the index told that it was.
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
        """Take one of these reports, to deliver it in another way; ``delivered`` or ``not_delivered`` ends that."""
        now = self._clock()
        return self._records.lease_report_of(numbers, attempts, now, now + self._pace.lease)

    def renew(self, leased: Commitment) -> bool:
        """Keep a report that was taken; False when it is no longer ours to deliver."""
        return leased.number not in self._delivered and self._records.renew(leased, self._clock() + self._pace.lease)

    def delivered(self, leased: Commitment) -> None:
        """Note that a report was taken by its requester; it is never sent again."""
        self._delivered.add(leased.number)
        self._records.report_delivered(leased, self._clock())
        self._delivered.discard(leased.number)
        self.bell.notify()

    def not_delivered(self, leased: Commitment, error: BackupSCPError | str) -> None:
        """Note why a report was not taken, and when it is tried again."""
        now = self._clock()
        pause = min(self._pace.retry * 2 ** min(leased.attempts, 16), _LONGEST_PAUSE)
        give_up_before = now + pause - self._pace.give_up
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
        done = threading.Event()

        def keep() -> None:
            while not done.wait(self._pace.lease.total_seconds() / 3):
                with contextlib.suppress(Unavailable):
                    self.renew(leased)

        def confirm() -> None:
            if not self.renew(leased):
                raise LeaseLost

        thread = threading.Thread(target=keep, name="lease", daemon=True)
        thread.start()
        try:
            yield confirm
        finally:
            done.set()
            thread.join()


class Worker:
    """The threads of a node that work on what is due.

    Parameters
    ----------
    commitment
        What they work on.
    report
        Delivers a report.
    reporters
        How many reports may be under way at once, each to another AE.
    """

    def __init__(self, commitment: StorageCommitment, report: DeliverReport, reporters: int = 3) -> None:
        self._commitment = commitment
        steps = [commitment.judge_next, *[lambda: commitment.report_next(report)] * reporters]
        self._threads = [
            threading.Thread(target=self._work, args=(step,), name="commitment", daemon=True) for step in steps
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self, grace_s: float) -> None:
        """Start no further work; unfinished work continues after the next start."""
        self._commitment.stopping.set()
        self._commitment.bell.notify()
        deadline = time.monotonic() + grace_s
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))

    def _work(self, step: Callable[[], bool]) -> None:
        stopping, bell = self._commitment.stopping, self._commitment.bell
        said = ""
        while not stopping.is_set():
            heard = bell.generation
            try:
                did_something = step()
                said = ""
                if did_something:
                    continue
            except BackupSCPError as error:
                if str(error) != said:  # once, not at each try
                    said = str(error)
                    log.error("Storage Commitment waits: %s", error)
                stopping.wait(_TROUBLED_S)
            except Exception as error:  # noqa: BLE001 - the border of this thread: the other requests go on
                log.error("Storage Commitment met an error in the node: %s", type(error).__name__)
                stopping.wait(_TROUBLED_S)
            bell.wait(heard, _IDLE_S)
