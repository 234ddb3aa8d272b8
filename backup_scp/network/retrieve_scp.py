"""Query/Retrieve SCP: C-MOVE and C-GET with sub-operations of our own (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Self

from backup_scp.errors import DestinationUnavailable, IndexUnavailable, InstanceRefused, MatchesUncounted
from backup_scp.identifier import Identifier
from backup_scp.information_model import MODELS, NOTHING, read_retrieve
from backup_scp.network.access import AccessPolicy
from backup_scp.network.association import Association, AssociationEnded, Context, Interrupted
from backup_scp.network.command_set import CommandSet, Element, response
from backup_scp.network.identifier import encode_failed_list
from backup_scp.network.status import CANCEL, PENDING, SUB_OPERATIONS_FAILED, SUB_OPERATIONS_REFUSED, SUCCESS
from backup_scp.network.storage_scu import MEDIUM_PRIORITY, MoveOriginator, StorageSCU
from backup_scp.outgoing import Outgoing
from backup_scp.ports import (
    Archive,
    ArchivedFile,
    Destination,
    Held,
    Index,
    Meanwhile,
    RejectionRecorder,
    RemoteAE,
    ServiceKind,
    nothing,
)
from backup_scp.restore import Delivery, Outcome, Record, retrieve

log = logging.getLogger(__name__)

OpenDestination = Callable[[RemoteAE, MoveOriginator, Callable[[], None]], Destination]

_PRIORITIES = range(3)  # medium, high, low: PS3.7 9.3.1.1
_PENDING_INTERVAL_S = 0.1  # ours to choose, PS3.4 C.4.2.3.1
_GRACE_S = 0.3  # for a sub-operation that is nearly done when the C-CANCEL comes


class RetrieveSCP:
    """Answers C-MOVE and C-GET.

    Parameters
    ----------
    archive, index
        What there is to retrieve.
    policy
        Where C-MOVE may send to.
    open_destination
        Makes the Storage SCU of a C-MOVE.
    rejections
        Told of Move Destinations that do not take what they are sent.
    strict
        See ``read_retrieve``.
    """

    def __init__(
        self,
        archive: Archive,
        index: Index,
        policy: AccessPolicy,
        open_destination: OpenDestination,
        rejections: RejectionRecorder,
        *,
        strict: bool = False,
    ) -> None:
        self._archive = archive
        self._index = index
        self._policy = policy
        self._open_destination = open_destination
        self._rejections = rejections
        self._strict = strict

    def serve_move(self, association: Association, context: Context, command: CommandSet) -> None:
        """Answer one C-MOVE-RQ."""
        self._serve(association, context, command, self._move)

    def serve_get(self, association: Association, context: Context, command: CommandSet) -> None:
        """Answer one C-GET-RQ."""
        self._serve(association, context, command, self._get)

    def _serve(
        self,
        association: Association,
        context: Context,
        command: CommandSet,
        operation: Callable[[_Operation, Sequence[Held]], None],
    ) -> None:
        association.forget_cancelled()
        identifier = Identifier.read(association.read_identifier(), context.transfer_syntax)
        negotiated = association.negotiated.get(context.abstract_syntax, NOTHING)
        model = MODELS[context.abstract_syntax]
        query = read_retrieve(identifier, model, negotiated, strict=self._strict)
        try:
            held = self._index.retrieve(query)
        except IndexUnavailable as error:
            raise MatchesUncounted(str(error)) from error
        operation(_Operation(association, context, command, held), held)

    def _move(self, operation: _Operation, held: Sequence[Held]) -> None:
        remote = self._policy.move_destination(operation.command.text(Element.MOVE_DESTINATION))
        caller, command = operation.association.caller, operation.command
        originator = MoveOriginator(caller.ae_title, command.message_id, _priority(command))
        with self._open_destination(remote, originator, operation.look_up) as destination:
            operation.run(self._archive, held, destination, self._index.record_verification)
            self._record(operation, remote)
            if operation.is_cancelled:  # and does not wait until the destination is released
                operation.conclude()
                return
        operation.conclude()

    def _record(self, operation: _Operation, remote: RemoteAE) -> None:
        """Note whether the destination took what it was sent."""
        caller = operation.association.caller
        if operation.not_taken:
            fix = f"is {remote.ae_title} on, and has it room? backup-scp check tries to reach it"
            self._rejections.rejected(
                ServiceKind.DESTINATION, caller.ae_title, remote.ae_title, caller.address, operation.not_taken, fix
            )
        elif operation.has_sent:
            self._rejections.succeeded(ServiceKind.DESTINATION, remote.ae_title, "")

    def _get(self, operation: _Operation, held: Sequence[Held]) -> None:
        destination = SameAssociation(operation.association, _priority(operation.command))
        operation.run(self._archive, held, destination, self._index.record_verification)
        operation.conclude()


def _priority(command: CommandSet) -> int:
    """Read the Priority of a retrieve, which is that of its sub-operations (PS3.4 C.4.2.1.2, C.4.3.1.2)."""
    priority = command.number(Element.PRIORITY)
    return priority if priority in _PRIORITIES else MEDIUM_PRIORITY


class SameAssociation:
    """The requestor of a C-GET as ``ports.Destination``."""

    def __init__(self, association: Association, priority: int) -> None:
        self.name = association.caller.ae_title
        contexts = (context for context in association.contexts.values() if context.peer_is_scp)
        self._scu = StorageSCU(association, contexts, priority=priority)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._scu.close()

    def prepare(self, instances: Sequence[Held]) -> Sequence[Held]:
        """See ``ports.Destination``."""
        return instances

    def send(self, file: ArchivedFile, held: Held, meanwhile: Meanwhile = nothing) -> str | None:
        """See ``ports.Destination``."""
        return self._scu.store(file, held, meanwhile)


class _Operation:
    """One C-MOVE or C-GET under way: its counts, and its answers (PS3.4 C.4.2.1.6 to C.4.2.1.9).

    Attributes
    ----------
    is_cancelled
        Whether it has ended by a C-CANCEL.
    not_taken
        Why the destination did not take the first instance that it did not; empty where it took each that it was sent.
    """

    def __init__(self, association: Association, context: Context, command: CommandSet, held: Sequence[Held]) -> None:
        self.association = association
        self.command = command
        self._context = context
        self._remaining = len(held)
        self._counts = dict.fromkeys(Delivery, 0)
        self._failed: list[str] = []
        self._first_reason = ""
        self._cancelled_at: float | None = None
        self._answered_at = -math.inf  # the first answer says how many there are
        self.is_cancelled = False
        self.not_taken = ""

    @property
    def has_sent(self) -> bool:
        """Whether the destination took anything."""
        return bool(self._counts[Delivery.SENT] or self._counts[Delivery.WARNING])

    def run(self, archive: Archive, held: Sequence[Held], destination: Destination, record: Record) -> None:
        """Send everything, with a pending answer now and then, until done or cancelled."""
        with Outgoing(archive) as outgoing:
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
                self._send_all(retrieve(outgoing, held, destination, record))
            except Interrupted:  # nobody knows whether it was stored
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
        """Send a pending answer after the first sub-operation, after each that went wrong, and now and then."""
        now = time.monotonic()
        if outcome.reason or now - self._answered_at >= _PENDING_INTERVAL_S:
            self._answer(PENDING)
            self._answered_at = now

    def _see_whether_cancelled(self) -> None:
        self.is_cancelled = self.association.cancelled(self.command.message_id)

    def look_up(self) -> None:
        """Interrupt a sub-operation that takes its time when nobody waits for it any more.

        Raises
        ------
        Interrupted
            The requestor has cancelled a moment ago, or is gone.
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

    def conclude(self) -> None:
        """Send the final answer (PS3.4 C.4.2.1.5, C.4.2.1.9)."""
        self._answer(self._final_status(), self._failed)
        log.info(
            "Retrieve for %s: %d sent, %d with a warning, %d failed, %d not sent",
            self.association.caller,
            self._counts[Delivery.SENT],
            self._counts[Delivery.WARNING],
            self._counts[Delivery.FAILED],
            self._remaining,
        )

    def _final_status(self) -> int:
        if self.is_cancelled:
            return CANCEL
        if not self._failed and not self._counts[Delivery.WARNING]:
            return SUCCESS
        return SUB_OPERATIONS_FAILED if self.has_sent else SUB_OPERATIONS_REFUSED

    def _count(self, outcome: Outcome) -> None:
        self._remaining -= 1
        self._counts[outcome.status] += 1
        self._first_reason = self._first_reason or outcome.reason
        if isinstance(outcome.cause, (DestinationUnavailable, InstanceRefused)):
            self.not_taken = self.not_taken or outcome.reason
        if outcome.status is Delivery.FAILED:
            self._failed.append(outcome.held.sop_instance_uid)

    def _answer(self, status: int, failed: Sequence[str] = ()) -> None:
        counts = {
            "completed": self._counts[Delivery.SENT],
            "failed": self._counts[Delivery.FAILED],
            "warning": self._counts[Delivery.WARNING],
        }
        if status in (PENDING, CANCEL):  # only these carry it, PS3.4 C.4.2.1.6
            counts["remaining"] = self._remaining
        identifier = encode_failed_list(failed, self._context.transfer_syntax) if failed else None
        comment = self._first_reason if status not in (SUCCESS, PENDING, CANCEL) else ""
        self.association.send(
            self._context.context_id,
            response(self.command, status, comment=comment, data_set=identifier is not None, **counts),
            identifier,
        )
