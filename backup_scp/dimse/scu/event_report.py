"""Send N-EVENT-REPORTs of Storage Commitment, as SCP on an Association of ours (PS3.4 J.3.3, PS3.7 D.3.3.4)."""

from __future__ import annotations

import dataclasses

from backup_scp.dimse.association.access import AccessPolicy, printable
from backup_scp.dimse.association.association import Association, AssociationEnded, Context, InvalidResponse, LocalAE
from backup_scp.dimse.association.negotiation import NATIVE, STORAGE_COMMITMENT
from backup_scp.dimse.messages.command_set import CommandSet, Element, Field, encode
from backup_scp.dimse.messages.commitment_data_sets import event_information, event_type
from backup_scp.dimse.messages.dimse_status import is_warning
from backup_scp.errors import DestinationUnavailable, DestinationUnreachable, InvalidDataSet, NothingAccepted
from backup_scp.ports import Commitment, RemoteAE
from backup_scp.services.commitment import RenewLease

WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
_MESSAGE_ID = 1
TRANSFER_SYNTAXES = (NATIVE[1], NATIVE[0])
"""The proposed Transfer Syntaxes: first Implicit VR, which every AE must accept (PS3.5 10.1)."""


class EventReporter:
    """Delivers reports to the configured addresses of the requesters.

    Parameters
    ----------
    local
        Our AE title and TLS context.
    policy
        Has the addresses.
    """

    def __init__(self, local: LocalAE, policy: AccessPolicy) -> None:
        self._local = local
        self._policy = policy

    def report(self, commitment: Commitment, confirm: RenewLease) -> None:
        """Deliver one report; on return its requester has accepted it.

        Raises
        ------
        DestinationUnavailable
            The text has the reason and what to do.
        """
        requester = commitment.request.requester
        remote = self._policy.find(requester.ae_title, requester.address)
        if remote is None:
            raise DestinationUnavailable(
                f"{printable(requester.ae_title)} at {requester.address} has no address for reports: "
                f"{self._policy.fix_for(requester.ae_title, requester.address)}, with the port where it listens"
            )
        local = dataclasses.replace(self._local, ae_title=commitment.request.called_ae_title or self._local.ae_title)
        association = _associate(local, remote)
        try:
            confirm()
            _send(association, commitment, local.ae_title)
        except InvalidResponse as error:
            association.close()
            raise DestinationUnavailable(f"{remote.ae_title} did not take the report: it sent {error}") from None
        except AssociationEnded:
            association.close()
            raise DestinationUnavailable(f"{remote.ae_title} broke off instead of answering the report") from None
        finally:
            association.release()


def _associate(local: LocalAE, remote: RemoteAE) -> Association:
    port = remote.commitment_port or remote.port
    try:
        return Association.request_from(
            local=local,
            called=remote.ae_title,
            host=remote.host,
            port=port,
            contexts=[(STORAGE_COMMITMENT, TRANSFER_SYNTAXES)],
            tls=remote.tls,
            as_scp=[STORAGE_COMMITMENT],
        )
    except DestinationUnreachable as error:
        raise DestinationUnreachable(*unreachable_for_reports(remote, error)) from None
    except NothingAccepted:
        raise NothingAccepted(
            f"{remote.ae_title} at {remote.host}:{port} takes no Storage Commitment reports there; set commitment_port "
            f"of [[remote]] {remote.name} to the port at which it waits for them"
        ) from None


def unreachable_for_reports(remote: RemoteAE, error: DestinationUnreachable) -> tuple[str, str, str]:
    """Return sentence, reason and fix for an AE that cannot be told what is committed."""
    port = remote.commitment_port or remote.port
    fix = f"open port {port} in the firewall of {remote.ae_title}"
    if not remote.commitment_port:
        fix += f"; if it waits for reports at another one, set commitment_port of [[remote]] {remote.name}"
    where = f"Storage Commitment port {port} of {remote.ae_title} at {remote.host}"
    return f"{where} cannot be reached: {error.reason}; {fix}", error.reason, fix


def _send(association: Association, commitment: Commitment, ae_title: str) -> None:
    # Many peers do not answer the proposed role, and accept the report nevertheless.
    if not association.we_are_scp.get(STORAGE_COMMITMENT, True):
        raise DestinationUnavailable(f"{association.called_ae_title} does not accept us as SCP of Storage Commitment")
    (context,) = association.contexts.values()
    report = event_report(commitment, ae_title, context, _MESSAGE_ID)
    association.send(context.context_id, *report)
    require_taken(association.read_response(Field.N_EVENT_REPORT_RSP, _MESSAGE_ID, WELL_KNOWN_INSTANCE), _MESSAGE_ID)


def event_report(commitment: Commitment, ae_title: str, context: Context, message_id: int) -> tuple[bytes, bytes]:
    """Encode an N-EVENT-REPORT-RQ: its Command Set and its Data Set."""
    command: dict[Element, str | int] = {
        Element.AFFECTED_SOP_CLASS_UID: STORAGE_COMMITMENT,
        Element.COMMAND_FIELD: Field.N_EVENT_REPORT_RQ,
        Element.MESSAGE_ID: message_id,
        Element.AFFECTED_SOP_INSTANCE_UID: WELL_KNOWN_INSTANCE,
        Element.EVENT_TYPE_ID: event_type(commitment),
    }
    return encode(command, data_set=True), event_information(commitment, ae_title, context.transfer_syntax)


def require_taken(answer: CommandSet, message_id: int) -> None:
    """Raise unless an N-EVENT-REPORT-RSP confirms the report (PS3.7 10.1.1.1.8).

    Raises
    ------
    DestinationUnavailable
        The response has a failure Status, or none.
    """
    try:
        answer.require_answer(message_id, WELL_KNOWN_INSTANCE)
    except InvalidDataSet as error:
        raise DestinationUnavailable(f"The report was not taken: the other side sent {error}") from None
    status, comment = answer.status, answer.text(Element.ERROR_COMMENT)
    if status and not is_warning(status):
        sentence = f"The report was answered with status 0x{status:04X}"
        raise DestinationUnavailable(f"{sentence}: {printable(comment)}" if comment else sentence)
