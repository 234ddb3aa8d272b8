"""Verification SCU: C-ECHO a remote AE (PS3.4 A)."""

from __future__ import annotations

from backup_scp.dimse.association.association import Association, AssociationEnded, InvalidResponse, LocalAE
from backup_scp.dimse.association.negotiation import NATIVE, VERIFICATION
from backup_scp.dimse.messages.command_set import Element, Field, encode
from backup_scp.errors import DestinationUnavailable

_MESSAGE_ID = 1


def echo(local: LocalAE, called: str, host: str, port: int, *, tls: bool = False) -> None:
    """Verify that a remote AE answers C-ECHO.

    Raises
    ------
    DestinationUnavailable
        The text has the reason and what to check.
    """
    association = Association.request_from(
        local=local,
        called=called,
        host=host,
        port=port,
        contexts=[(VERIFICATION, NATIVE[:2])],
        tls=tls,
    )
    try:
        (context_id,) = association.contexts
        request: dict[Element, str | int] = {
            Element.AFFECTED_SOP_CLASS_UID: VERIFICATION,
            Element.COMMAND_FIELD: Field.C_ECHO_RQ,
            Element.MESSAGE_ID: _MESSAGE_ID,
        }
        association.send(context_id, encode(request))
        status = association.read_response(Field.C_ECHO_RSP, _MESSAGE_ID).status
    except InvalidResponse as error:
        association.close()
        raise DestinationUnavailable(f"{called} at {host}:{port} did not answer C-ECHO: it sent {error}") from None
    except AssociationEnded:
        association.close()
        raise DestinationUnavailable(f"{called} at {host}:{port} broke off instead of answering C-ECHO") from None
    association.release()
    if status:
        raise DestinationUnavailable(f"{called} at {host}:{port} answered C-ECHO with status 0x{status:04X}")
