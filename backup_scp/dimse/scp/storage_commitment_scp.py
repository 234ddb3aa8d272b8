"""Storage Commitment Push Model SCP: N-ACTION, and N-EVENT-REPORT on the Association of the request (PS3.4 J.3)."""

from __future__ import annotations

import contextlib
import time

from backup_scp.dimse.association.association import Association, Context
from backup_scp.dimse.association.information_reader import InformationReader
from backup_scp.dimse.association.negotiation import STORAGE_COMMITMENT
from backup_scp.dimse.messages.command_set import CommandSet, Element, Field, response
from backup_scp.dimse.messages.commitment_data_sets import read_action_information
from backup_scp.dimse.messages.dimse_status import NO_SUCH_ACTION_TYPE, NO_SUCH_SOP_CLASS, NO_SUCH_SOP_INSTANCE, SUCCESS
from backup_scp.dimse.scu.event_report import WELL_KNOWN_INSTANCE, event_report, require_taken
from backup_scp.errors import DestinationUnavailable, Unavailable
from backup_scp.machine import clock
from backup_scp.ports import Commitment, CommitmentRequest, Requester
from backup_scp.services.commitment import StorageCommitment

REQUEST_STORAGE_COMMITMENT = 1  # Action Type ID, PS3.4 J.3.2.1.1

_LOOK_S = 0.5
_MOST_EXPECTED = 500


class StorageCommitmentSCP:
    """Answers N-ACTION; the report follows later.

    Parameters
    ----------
    commitment
        Stores the requests.
    reader
        Reads the requests.
    """

    def __init__(self, commitment: StorageCommitment, reader: InformationReader) -> None:
        self._commitment = commitment
        self._reader = reader

    def serve(self, association: Association, context: Context, command: CommandSet) -> tuple[str, str] | None:
        """Answer one N-ACTION-RQ: success when the request is durable (PS3.4 J.3.2.1.3)."""
        wrong = _wrong_in(command)
        if wrong is not None:
            status, comment = wrong
            association.skip_data_set()
            association.send(context.context_id, response(command, status, comment=comment))
            return comment, "report this sentence to the maker of the console"
        number = self._request(association, context)
        association.send(context.context_id, response(command, SUCCESS))
        if not isinstance(association.errand, SameAssociationReporter):
            association.errand = SameAssociationReporter(association, self._commitment)
        association.errand.expect(number, context)
        return None

    def _request(self, association: Association, context: Context) -> int:
        """Read and store a request; a requester that is not configured can commit only what it sent itself."""
        caller = association.caller
        site = caller.site or (str(caller.scope) if caller.is_known else "")
        requester = Requester(site, caller.ae_title, caller.address)
        with self._reader.reading(association, "request") as encoded:
            transaction_uid, references = read_action_information(encoded, context.transfer_syntax)
            association.audit.asked_for_commitment(transaction_uid, len(references))
            return self._commitment.request(
                CommitmentRequest(
                    transaction_uid,
                    references,
                    requester,
                    clock.now(),
                    association.our_ae_title,
                    own_only=not caller.is_known,
                )
            )

    @staticmethod
    def serve_response(association: Association, context: Context, command: CommandSet) -> None:  # noqa: ARG004
        """Handle the response to a report that was sent on this Association."""
        association.skip_data_set()
        if isinstance(association.errand, SameAssociationReporter):
            association.errand.answered(command)


class SameAssociationReporter:
    """Sends reports on the Association of their requests, while it lasts (PS3.4 J.3.3.1.2).

    When the requester has a configured address, this is used only after a report to that address has failed.
    """

    def __init__(self, association: Association, commitment: StorageCommitment) -> None:
        self._association = association
        self._commitment = commitment
        self._attempts = 0 if association.caller.remote is None else 1
        self._expected: dict[int, Context] = {}
        self._sent: Commitment | None = None
        self._message_id = 0
        self._next_look = 0.0

    def expect(self, number: int, context: Context) -> None:
        """Send the report of this request here, once its instances are verified."""
        self._expected[number] = context
        if len(self._expected) > _MOST_EXPECTED:  # the oldest one's report is sent on another Association
            del self._expected[next(iter(self._expected))]

    def poll(self) -> None:
        """Send a report that is due; one at a time, as negotiated (PS3.7 D.3.3.3)."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_S
        with contextlib.suppress(Unavailable):  # the next poll tries again
            if self._sent is not None:
                self._commitment.renew(self._sent)
            elif self._expected:
                self._send_next()

    def _send_next(self) -> None:
        leased = self._commitment.lease_report_of(list(self._expected), self._attempts)
        if leased is None:
            return
        context = self._expected.pop(leased.number)
        self._message_id = self._message_id % 0xFFFF + 1
        self._sent = leased
        report = event_report(leased, self._association.our_ae_title, context, self._message_id)
        self._association.send(context.context_id, *report)

    def answered(self, command: CommandSet) -> None:
        """Handle the response to the report that was sent."""
        message_id = command.number(Element.MESSAGE_ID_BEING_RESPONDED_TO)
        if self._sent is None or command.field != Field.N_EVENT_REPORT_RSP or message_id != self._message_id:
            return
        leased, self._sent = self._sent, None
        with contextlib.suppress(Unavailable):  # never answer a response; the lease expires soon
            self._note(leased, command)

    def _note(self, leased: Commitment, answer: CommandSet) -> None:
        try:
            require_taken(answer, self._message_id)
        except DestinationUnavailable as error:
            self._commitment.not_delivered(leased, error)
        else:
            self._commitment.delivered(leased)

    def end(self) -> None:
        """Give back an undelivered report, for other workers."""
        if self._sent is not None:
            with contextlib.suppress(Unavailable):  # the lease expires soon
                self._commitment.not_delivered(self._sent, "it ended the association without an answer")


def _wrong_in(command: CommandSet) -> tuple[int, str] | None:
    """Check the Command Set of a request as in PS3.7 10.1.4; return Status and text of an error, else None."""
    if command.text(Element.REQUESTED_SOP_CLASS_UID) != STORAGE_COMMITMENT:
        return NO_SUCH_SOP_CLASS, f"The Requested SOP Class UID must be {STORAGE_COMMITMENT}"
    if command.text(Element.REQUESTED_SOP_INSTANCE_UID) != WELL_KNOWN_INSTANCE:
        return NO_SUCH_SOP_INSTANCE, f"The Requested SOP Instance is {WELL_KNOWN_INSTANCE}"
    if command.number(Element.ACTION_TYPE_ID) != REQUEST_STORAGE_COMMITMENT:
        return NO_SUCH_ACTION_TYPE, "The Action Type ID must be 1"
    return None
