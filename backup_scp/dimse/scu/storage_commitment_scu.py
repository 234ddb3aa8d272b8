"""Storage Commitment Push Model SCU: ask a remote AE to commit the images it was sent (PS3.4 J.3)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence

from backup_scp.dimse.association.access import printable
from backup_scp.dimse.association.association import (
    Association,
    AssociationEnded,
    Context,
    Interrupted,
    InvalidResponse,
    LocalAE,
)
from backup_scp.dimse.association.information_reader import InformationReader
from backup_scp.dimse.association.negotiation import NATIVE, STORAGE_COMMITMENT
from backup_scp.dimse.messages.command_set import CommandSet, Element, Field, encode, response
from backup_scp.dimse.messages.commitment_data_sets import action_information, read_event_information
from backup_scp.dimse.messages.dimse_status import SUCCESS, status_of
from backup_scp.dimse.scu.event_report import WELL_KNOWN_INSTANCE
from backup_scp.errors import (
    DestinationUnavailable,
    IndexUnavailable,
    InvalidActionInformation,
    ResourceLimitation,
)
from backup_scp.machine import clock
from backup_scp.ports import Commitments, Reference, RemoteAE, do_nothing

_BATCH = 1000
_LOOK_S = 0.5


class EventReportSCU:
    """Answers N-EVENT-REPORT: receives the reports on our requests, on any Association.

    Parameters
    ----------
    records
        Holds our requests, and stores the reports for the code that sent the request.
    reader
        Reads the reports.
    """

    def __init__(self, records: Commitments, reader: InformationReader | None = None) -> None:
        self._records = records
        self._reader = reader or InformationReader()

    def serve(self, association: Association, context: Context, command: CommandSet) -> None:
        """Answer one N-EVENT-REPORT-RQ: success when its content is stored."""
        with self._reader.reading(association, "report") as encoded:
            transaction_uid, results = read_event_information(encoded, context.transfer_syntax)
            try:
                is_known = self._records.answer(transaction_uid, results)
            except IndexUnavailable as error:
                raise ResourceLimitation(str(error)) from None
        if not is_known:
            raise InvalidActionInformation("The Transaction UID is not of a request of this node")
        association.send(context.context_id, response(command, SUCCESS))


class StorageCommitmentSCU:
    """Asks a remote AE to commit instances.

    Parameters
    ----------
    local
        Our AE title and TLS context.
    remote
        The AE to ask.
    records
        Stores reports that come on another Association.
    watch
        Called repeatedly while we wait; an exception from it ends the wait.
    """

    def __init__(
        self, local: LocalAE, remote: RemoteAE, records: Commitments, watch: Callable[[], None] = do_nothing
    ) -> None:
        self._local = local
        self._remote = remote
        self._records = records
        self._reports = EventReportSCU(records)
        self._watch = watch

    def commit(self, references: Sequence[Reference], wait_s: float) -> dict[Reference, int]:
        """Send the requests, and wait for the reports.

        Returns
        -------
        dict
            0 for a committed reference, else the Failure Reason; no entry when no report came in time.

        Raises
        ------
        DestinationUnavailable
            The AE cannot be reached, or refuses the request.
        """
        association = Association.request_from(
            local=self._local,
            called=self._remote.ae_title,
            host=self._remote.host,
            port=self._remote.port,
            contexts=[(STORAGE_COMMITMENT, NATIVE[:2])],
            tls=self._remote.tls,
            watch=self._watch,
        )
        try:
            (context,) = association.contexts.values()
            asked = [
                self._ask(association, context, number, references[start : start + _BATCH])
                for number, start in enumerate(range(0, len(references), _BATCH), 1)
            ]
            results = self._wait(association, asked, wait_s)
        except InvalidResponse as error:
            association.close()
            sentence = f"{self._remote.ae_title} did not answer the commitment request: it sent {error}"
            raise DestinationUnavailable(sentence) from None
        except AssociationEnded:
            association.close()
            raise DestinationUnavailable(
                f"{self._remote.ae_title} broke off instead of answering the commitment request"
            ) from None
        except Interrupted:
            association.abort(block=False)
            raise
        finally:
            association.release()
        return results

    def _ask(self, association: Association, context: Context, message_id: int, references: Sequence[Reference]) -> str:
        transaction_uid = f"2.25.{uuid.uuid4().int}"
        self._records.ask(transaction_uid, clock.now())
        request: dict[Element, str | int] = {
            Element.REQUESTED_SOP_CLASS_UID: STORAGE_COMMITMENT,
            Element.COMMAND_FIELD: Field.N_ACTION_RQ,
            Element.MESSAGE_ID: message_id,
            Element.REQUESTED_SOP_INSTANCE_UID: WELL_KNOWN_INSTANCE,
            Element.ACTION_TYPE_ID: 1,
        }
        information = action_information(transaction_uid, references, context.transfer_syntax)
        association.send(context.context_id, encode(request, data_set=True), information)
        while (answer := self._next(association)).field != Field.N_ACTION_RSP:
            pass
        association.require_answer(answer, message_id, WELL_KNOWN_INSTANCE)
        if answer.status:
            comment = answer.text(Element.ERROR_COMMENT)
            raise DestinationUnavailable(
                f"{self._remote.ae_title} answered the commitment request with status 0x{answer.status:04X}"
                + (f": {printable(comment)}" if comment else "")
            )
        return transaction_uid

    def _next(self, association: Association) -> CommandSet:
        """Read the next message, and answer it when it is a report."""
        context_id, command = association.read_command()
        if command.field == Field.N_EVENT_REPORT_RQ:
            try:
                self._reports.serve(association, association.contexts[context_id], command)
            except InvalidActionInformation as error:
                association.send(context_id, response(command, status_of(error), comment=str(error)))
        association.skip_data_set()
        return command

    def _wait(self, association: Association, asked: Sequence[str], wait_s: float) -> dict[Reference, int]:
        """Wait for the reports, on this Association or on one that the peer opens to this node."""
        deadline, waiting = time.monotonic() + wait_s, set(asked)
        results: dict[Reference, int] = {}
        is_here = True
        while True:
            for transaction_uid in list(waiting):
                answer = self._records.answer_to(transaction_uid)
                if answer is not None:
                    results |= answer
                    waiting.discard(transaction_uid)
            if not waiting or time.monotonic() > deadline:
                return results
            self._watch()
            if not is_here:
                time.sleep(_LOOK_S)
            elif association.upper_layer.has_input(_LOOK_S):
                try:
                    self._next(association)
                except AssociationEnded:  # the report may come on another Association
                    association.finish()
                    association.close()
                    is_here = False
