"""Pass each request of an Association to its service, and answer a request whose service raises an error."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from backup_scp.dimse.association.access import AccessPolicy, Caller
from backup_scp.dimse.association.association import Association, AssociationEnded, Context
from backup_scp.dimse.messages.command_set import CommandSet, Field, response
from backup_scp.dimse.messages.dimse_status import (
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    UNRECOGNISED_OPERATION,
    fix_of,
    status_of,
)
from backup_scp.errors import BackupSCPError
from backup_scp.ports import RejectionRecorder, ServiceKind
from backup_scp.services.permissions import Right

log = logging.getLogger(__name__)

_NOT_SUITED = "report it to the maker of the caller's program"

_SETTLED_ELSEWHERE = (None, ServiceKind.STORE, ServiceKind.RETRIEVE)
"""Images at the end of the Association, if none was refused; a retrieve where it is known what was taken."""

Serve = Callable[[Association, Context, CommandSet], tuple[str, str] | None]


@dataclass(frozen=True, slots=True)
class Service:
    """A service for one kind of request.

    Attributes
    ----------
    suits
        Tells whether an Abstract Syntax belongs to the service.
    serve
        Reads the rest of the request and answers it.  When it raises an error of ours, the dispatcher sends the
        answer.  When it has refused the request itself, it returns the reason in a sentence, and the fix.
    right
        What a caller must be allowed to use it.
    kind
        The kind under which a refusal is recorded; None when it is not recorded.
    """

    suits: Callable[[str], bool]
    serve: Serve
    right: Right
    kind: ServiceKind | None = None


class RequestDispatcher:
    """Answers requests.

    Parameters
    ----------
    services
        The services by Command Field.
    policy
        Tells who may do what.
    rejections
        Records refusals and successes.
    """

    def __init__(self, services: Mapping[int, Service], policy: AccessPolicy, rejections: RejectionRecorder) -> None:
        self._services = services
        self._policy = policy
        self._rejections = rejections

    def answer(self, association: Association, context: Context, command: CommandSet) -> None:
        """Answer one request, or ignore an unexpected response; on return the message is read to its end.

        Raises
        ------
        AssociationEnded
        """
        field = command.field
        service = self._services.get(field)
        is_suitable = service is not None and service.suits(context.abstract_syntax)
        if field == Field.C_CANCEL_RQ or (command.is_response and not is_suitable):
            association.skip_data_set()  # the operation has ended already
            return
        if service is None or not is_suitable:
            self._reply_unsuitable(association, context, command, service)
            return
        try:
            self._policy.require(association.caller, service.right)
            refused = service.serve(association, context, command)
        except AssociationEnded:
            raise
        except BackupSCPError as error:
            self._refuse(association, context, command, error)
        except Exception as error:  # noqa: BLE001 - one request failed: tell the peer, and continue
            log.error("A request of %s failed through an error in the node: %s", association.caller, place_of(error))
            association.skip_data_set()
            association.send(context.context_id, response(command, PROCESSING_FAILURE, comment="Internal error"))
            self._note_refusal(association, service, "Internal error", "check the log of the node, and report it")
        else:
            if refused:
                self._note_refusal(association, service, *refused)
            elif service.kind not in _SETTLED_ELSEWHERE:
                caller = association.caller
                self._rejections.succeeded(service.kind, caller.ae_title, caller.address)

    def _reply_unsuitable(
        self, association: Association, context: Context, command: CommandSet, service: Service | None
    ) -> None:
        association.skip_data_set()
        status = UNRECOGNISED_OPERATION if service is None else SOP_CLASS_NOT_SUPPORTED
        association.send(context.context_id, response(command, status))
        if service is not None:
            self._note_refusal(association, service, "The request does not suit its Presentation Context", _NOT_SUITED)

    def _refuse(self, association: Association, context: Context, command: CommandSet, error: BackupSCPError) -> None:
        """Answer a request that ended with an error of ours."""
        association.skip_data_set()
        association.tally.refused += 1
        association.send(context.context_id, response(command, status_of(error), comment=str(error)))
        level = self._note_refusal(association, self._services[command.field], str(error), fix_of(error))
        log.log(level, "%s of %s refused: %s", Field(command.field).name, association.caller, error)

    def _note_refusal(self, association: Association, service: Service, reason: str, fix: str) -> int:
        if service.kind is None:
            return logging.WARNING
        if service.kind is ServiceKind.STORE:
            association.audit.not_stored(reason)
        else:
            association.audit.refused(reason)
        association.tally.refused_to_store |= service.kind is ServiceKind.STORE
        return note_rejection(
            self._rejections, service.kind, association.caller, association.called_ae_title, reason, fix
        )


def note_rejection(
    rejections: RejectionRecorder, kind: ServiceKind, caller: Caller, called: str, reason: str, fix: str
) -> int:
    """Count a rejection; return the level for its log line, which is lower for a repetition."""
    is_first = rejections.rejected(kind, caller.ae_title, called, caller.address, reason, fix)
    return logging.WARNING if is_first else logging.DEBUG


def place_of(error: Exception) -> str:
    """Describe an error by type and place, without its text, which may contain patient data."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at " + " < ".join(f"{f.name}:{f.lineno}" for f in reversed(frames[-6:]))
