"""Run one C-MOVE or C-GET: sub-operations, responses, and the line in the log (PS3.4 C.4.2.1, C.4.3.1)."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, Self

from backup_scp.dicom.uid_names import uid_name
from backup_scp.dimse.association.access import printable
from backup_scp.dimse.association.association import Association, AssociationEnded, Context, Interrupted
from backup_scp.dimse.messages.command_set import CommandSet, Field, response
from backup_scp.dimse.messages.dimse_status import (
    CANCEL,
    PENDING,
    SUB_OPERATIONS_FAILED,
    SUB_OPERATIONS_REFUSED,
    SUCCESS,
)
from backup_scp.dimse.messages.response_identifier import encode_failed_list
from backup_scp.dimse.scp import transfers
from backup_scp.dimse.scp.heartbeat import Heartbeat
from backup_scp.dimse.scu.storage_scu import StorageSCU
from backup_scp.errors import DestinationUnavailable, InstanceRefused
from backup_scp.ports import (
    ArchivedFile,
    Destination,
    Meanwhile,
    ReadableArchive,
    StoredVersion,
    do_nothing,
)
from backup_scp.services.audit_reporter import Party
from backup_scp.services.delivery import Delivery, Others, Outcome, RecordVerification, retrieve
from backup_scp.services.read_ahead import VerifiedReader

log = logging.getLogger(__name__)

_SHORTEST_PENDING_S = 0.1  # the standard leaves this to us, PS3.4 C.4.2.3.1
_LONGEST_PENDING_S = 4.0  # requestors give up after about 30 s without a response
_WITHOUT_ROLES = "set get_without_roles = true in [node], as Horos needs, or let the viewer use C-MOVE"
_GRACE_S = 0.3  # lets a nearly finished sub-operation complete after a C-CANCEL


class Retriever(Destination, Protocol):
    """The destination of a retrieve."""

    @property
    def sent(self) -> Mapping[tuple[str, str], int]:
        """How many instances it has stored, by two Transfer Syntaxes: as stored here, and as sent."""


class SameAssociation:
    """The requestor of a C-GET as ``Retriever``.

    Parameters
    ----------
    association
        The Association of the request.
    priority
        Priority of each C-STORE.
    waiting
        See ``StorageSCU``.
    without_roles
        Whether to send even when the requestor has not proposed the SCP role (PS3.7 D.3.3.4).
    """

    def __init__(
        self, association: Association, priority: int, waiting: Callable[[], None], *, without_roles: bool = False
    ) -> None:
        self.name = association.caller.ae_title
        self.sent: Counter[tuple[str, str]] = Counter()
        contexts = [each for each in association.contexts.values() if each.peer_is_scp or without_roles]
        proposed = {each.abstract_syntax for each in association.contexts.values()}
        self._without_role = proposed - {each.abstract_syntax for each in contexts}
        self._scu = StorageSCU(association, contexts, priority=priority, sent=self.sent, waiting=waiting)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._scu.close()

    def prepare(self, instances: Sequence[StoredVersion]) -> Sequence[StoredVersion]:
        """See ``ports.Destination``."""
        return instances

    def send(self, file: ArchivedFile, held: StoredVersion, meanwhile: Meanwhile = do_nothing) -> str | None:
        """See ``ports.Destination``."""
        if held.sop_class_uid in self._without_role:
            reason = f"{self.name} proposes {uid_name(held.sop_class_uid)} without the SCP role that C-GET needs"
            raise InstanceRefused(reason, fix=_WITHOUT_ROLES)
        return self._scu.store(file, held, meanwhile)


class RetrieveOperation:
    """One running C-MOVE or C-GET: its counts and its responses (PS3.4 C.4.2.1.6 to C.4.2.1.9).

    It sends a Pending response at once and then at least every few seconds, also while the node waits or reads.

    Attributes
    ----------
    is_cancelled
        Whether a C-CANCEL ended it.
    refusal
        Why the destination did not take an instance, for the first one; None when it took all.
    """

    def __init__(
        self, association: Association, context: Context, command: CommandSet, held: Sequence[StoredVersion]
    ) -> None:
        self.association = association
        self.command = command
        self._context = context
        self._studies = list(dict.fromkeys(one.study_instance_uid for one in held))
        self._remaining = self._total = len(held)
        self._counts = dict.fromkeys(Delivery, 0)
        self._failed: list[str] = []
        self._by_study: dict[bool, dict[str, Counter[str]]] = {True: {}, False: {}}
        self._first_reason = ""
        self._cancelled_at: float | None = None
        self._began = time.monotonic()
        self._answered_at = -math.inf
        self._is_concluded = not held  # nothing to send: only the final response
        self._to: Party | None = None
        self.is_cancelled = False
        self.refusal: DestinationUnavailable | InstanceRefused | None = None

    @property
    def has_sent(self) -> bool:
        """Whether the destination took an instance."""
        return bool(self._counts[Delivery.SENT] or self._counts[Delivery.WARNING])

    def keeps_telling(self) -> Heartbeat:
        """Send a Pending response now, and another one whenever none was sent for a while, until the final response."""
        return Heartbeat(self._tell)

    def tell(self) -> None:
        """Send a Pending response if one is due."""
        self._tell()

    def _tell(self) -> float | None:
        """Do the same from any thread; return the seconds until the next one is due."""
        try:
            with self.association.guard:
                if self._is_concluded:
                    return None
                left_s = self._answered_at + _LONGEST_PENDING_S - time.monotonic()
                if left_s > 0:
                    return left_s
                self._answer(PENDING)
        except AssociationEnded:  # the sending thread gets this error too
            return None
        return _LONGEST_PENDING_S

    def report_beginning(self, held: Sequence[StoredVersion], to: Party | None = None) -> None:
        """Report what is to be sent, to a Move Destination or to the requestor."""
        self._to = to
        studies: dict[str, Counter[str]] = {}
        for one in held:
            add_to(studies, one)
        self.association.audit.sending(studies, to)

    def run(
        self,
        archive: ReadableArchive,
        record: RecordVerification,
        others: Others,
        held: Sequence[StoredVersion],
        destination: Destination,
    ) -> None:
        """Send all instances, with Pending responses, until done or cancelled; see ``retrieve``."""
        with VerifiedReader(archive) as outgoing:
            try:
                held = destination.prepare(held)
            except DestinationUnavailable as error:
                log.warning("Retrieve for %s: %s", self.association.caller, error)
                for one in held:
                    self._count(Outcome(one, Delivery.FAILED, str(error), error))
                return
            except Interrupted:
                self._see_whether_cancelled()
                return
            try:
                self._send_all(retrieve(outgoing, held, destination, record, others))
            except Interrupted:  # whether the instance was stored is unknown
                self._count(Outcome(held[-self._remaining], Delivery.FAILED, "It was cancelled while it was sent"))
                self._see_whether_cancelled()

    def _send_all(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            self._count(outcome)
            if self._remaining:
                self._say_how_far(outcome)
                self._see_whether_cancelled()
            if self.is_cancelled:
                return

    def _say_how_far(self, outcome: Outcome) -> None:
        """Send a Pending response after a sub-operation with a failure or warning, otherwise at intervals."""
        if outcome.reason or time.monotonic() - self._answered_at >= _SHORTEST_PENDING_S:
            self._answer(PENDING)

    def _see_whether_cancelled(self) -> None:
        self.is_cancelled = self.association.cancelled(self.command.message_id)

    def look_up(self) -> None:
        """Interrupt a long sub-operation when the requestor no longer waits for it.

        Raises
        ------
        Interrupted
            The requestor has cancelled, and the time for finishing is over; or the requestor is gone.
        """
        try:
            cancelled = self.association.cancelled(self.command.message_id)
        except AssociationEnded:
            raise Interrupted from None
        if cancelled:
            now = time.monotonic()
            self._cancelled_at = self._cancelled_at or now
            if now - self._cancelled_at >= _GRACE_S:
                raise Interrupted

    def conclude(self, sent: Mapping[tuple[str, str], int], destination: str = "") -> None:
        """Send the final response, and write a line to the log (PS3.4 C.4.2.1.5, C.4.2.1.9)."""
        with self.association.guard:
            self._is_concluded = True
            self._answer(self._final_status(), self._failed)
        self._report_sent()
        log.info(
            "%s of %s%s: %s, %d images: %s%d with a warning, %d failed, %d not sent; %.2f s",
            Field(self.command.field).name.removesuffix("_RQ").replace("_", "-"),
            self.association.caller,
            f" to {destination}" if destination else "",
            _named(self._studies),
            self._total,
            transfers.summary(sent),
            self._counts[Delivery.WARNING],
            self._counts[Delivery.FAILED],
            self._remaining,
            time.monotonic() - self._began,
        )

    def _report_sent(self) -> None:
        """Report what was sent, and what was not, in entries of their own (PS3.15 A.5.2)."""
        audit = self.association.audit
        audit.sent(self._by_study[True], self._to)
        reason = self._first_reason or "It was cancelled"
        audit.sent(self._by_study[False], self._to, failed=reason)

    def _final_status(self) -> int:
        if self.is_cancelled:
            return CANCEL
        if not self._failed and not self._counts[Delivery.WARNING]:
            return SUCCESS
        return SUB_OPERATIONS_FAILED if self.has_sent else SUB_OPERATIONS_REFUSED

    def _count(self, outcome: Outcome) -> None:
        self._remaining -= 1
        is_sent = outcome.status is not Delivery.FAILED
        add_to(self._by_study[is_sent], outcome.held)
        self._counts[outcome.status] += 1
        self._first_reason = self._first_reason or outcome.reason
        if isinstance(outcome.cause, (DestinationUnavailable, InstanceRefused)):
            self.refusal = self.refusal or outcome.cause
        if outcome.status is Delivery.FAILED:
            self._failed.append(outcome.held.sop_instance_uid)

    def _answer(self, status: int, failed: Sequence[str] = ()) -> None:
        counts = {
            "completed": self._counts[Delivery.SENT],
            "failed": self._counts[Delivery.FAILED],
            "warning": self._counts[Delivery.WARNING],
        }
        if status in (PENDING, CANCEL):  # only these responses have the number of remaining ones, PS3.4 C.4.2.1.6
            counts["remaining"] = self._remaining
        identifier = encode_failed_list(failed, self._context.transfer_syntax) if failed else None
        comment = self._first_reason if status not in (SUCCESS, PENDING, CANCEL) else ""
        self.association.send(
            self._context.context_id,
            response(self.command, status, comment=comment, data_set=identifier is not None, **counts),
            identifier,
        )
        self._answered_at = time.monotonic()


def add_to(studies: dict[str, Counter[str]], one: StoredVersion) -> None:
    """Count an image for its study and SOP Class."""
    studies.setdefault(one.study_instance_uid, Counter())[one.sop_class_uid] += 1


def _named(studies: Sequence[str]) -> str:
    """Name the first studies by their UIDs, which do not identify a patient."""
    if not studies:
        return "no study"
    more = f" and {len(studies) - 1} more" if len(studies) > 1 else ""
    return f"study {printable(studies[0])}{more}"
