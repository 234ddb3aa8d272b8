"""Query/Retrieve SCP: C-MOVE and C-GET with sub-operations of our own (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backup_scp.dicom.query.identifier import Identifier
from backup_scp.dicom.query.information_model import MODELS, NOTHING, Query, read_retrieve
from backup_scp.dimse.association.access import AccessPolicy, Caller, printable
from backup_scp.dimse.association.association import Association, Context
from backup_scp.dimse.association.request_dispatch import note_rejection
from backup_scp.dimse.messages.command_set import CommandSet, Element
from backup_scp.dimse.messages.dimse_status import fix_of
from backup_scp.dimse.scp.destination_fixes import told_of_destination
from backup_scp.dimse.scp.retrieve_operation import RetrieveOperation, Retriever, SameAssociation
from backup_scp.dimse.scu.storage_scu import MEDIUM_PRIORITY, MoveOriginator
from backup_scp.errors import IndexUnavailable, MatchesUncounted, MoveDestinationUnknown
from backup_scp.ports import (
    ReadableArchive,
    RejectionRecorder,
    RemoteAE,
    SeenBy,
    ServiceKind,
    SiteScope,
    StoredVersion,
)
from backup_scp.services.audit_reporter import Party
from backup_scp.services.delivery import RecordVerification, others_of

OpenDestination = Callable[[RemoteAE, MoveOriginator, Callable[[], None], str], Retriever]
"""Arguments: the Move Destination, the originator, a function to call while waiting, our AE title."""

_PRIORITIES = range(3)  # medium, high, low: PS3.7 9.3.1.1


class RetrieveSCP:
    """Answers C-MOVE and C-GET.

    Parameters
    ----------
    archive
        Holds the images.
    seen_by
        Returns what answers a caller: ``StudyReader.seen_by``.
    record
        Records damage that was found: ``IndexRecords.record_verification``.
    policy
        Lists the Move Destinations.
    open_destination
        Creates the Storage SCU of a C-MOVE.
    rejections
        Records Move Destinations that refuse images.
    strict
        See ``read_retrieve``.
    get_without_roles
        Whether C-GET sends even when the requestor has not proposed the SCP role for a SOP Class (PS3.4 C.5.3).
    """

    def __init__(
        self,
        archive: ReadableArchive,
        seen_by: SeenBy,
        record: RecordVerification,
        policy: AccessPolicy,
        open_destination: OpenDestination,
        rejections: RejectionRecorder,
        *,
        strict: bool,
        get_without_roles: bool,
    ) -> None:
        self._archive = archive
        self._seen_by = seen_by
        self._record_damage = record
        self._policy = policy
        self._open_destination = open_destination
        self._rejections = rejections
        self._strict = strict
        self._get_without_roles = get_without_roles

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
        operation: Callable[[RetrieveOperation, Query, Sequence[StoredVersion]], None],
    ) -> None:
        association.forget_cancelled()
        identifier = Identifier.read(association.read_identifier(), context.transfer_syntax)
        negotiated = association.negotiated.get(context.abstract_syntax, NOTHING)
        model = MODELS[context.abstract_syntax]
        query = read_retrieve(identifier, model, negotiated, strict=self._strict)
        held = self._retrieve(query, association.caller.scope)
        operation(RetrieveOperation(association, context, command, held), query, held)

    def _retrieve(self, query: Query, scope: SiteScope) -> list[StoredVersion]:
        try:
            return self._seen_by(scope).retrieve(query)
        except IndexUnavailable as error:
            raise MatchesUncounted(str(error)) from error

    def _require_allowed(self, remote: RemoteAE, query: Query, held: Sequence[StoredVersion], caller: Caller) -> None:
        """Refuse to move images to a destination that may not have them all.

        Raises
        ------
        MoveDestinationUnknown
        """
        if remote.scope.covers(caller.scope):
            return
        allowed = {one.location for one in self._retrieve(query, remote.scope)}
        if any(one.location not in allowed for one in held):
            raise MoveDestinationUnknown(
                f"Move Destination {printable(remote.ae_title)} may not have images of this clinic",
                f"sites of [[remote]] {remote.name} names the clinics whose images it may have",
            )

    def _move(self, operation: RetrieveOperation, query: Query, held: Sequence[StoredVersion]) -> None:
        caller, command = operation.association.caller, operation.command
        remote = self._policy.move_destination(command.text(Element.MOVE_DESTINATION), caller.scope)
        self._require_allowed(remote, query, held, caller)
        originator = MoveOriginator(caller.ae_title, command.message_id, _priority(command))
        where = f"{printable(remote.ae_title)} at {remote.host}:{remote.port}"
        ae_title = operation.association.our_ae_title
        operation.report_beginning(held, Party(remote.ae_title, remote.host, is_ae=True))
        with operation.keeps_telling():
            with self._open_destination(remote, originator, operation.look_up, ae_title) as destination:
                self._run(operation, held, destination)
                self._record_destination(operation, remote)
                if operation.is_cancelled:  # do not wait for the release of the Association with the destination
                    operation.conclude(destination.sent, where)
                    return
            operation.conclude(destination.sent, where)

    def _run(self, operation: RetrieveOperation, held: Sequence[StoredVersion], destination: Retriever) -> None:
        others = others_of(self._archive, self._seen_by(operation.association.caller.scope))
        operation.run(self._archive, self._record_damage, others, held, destination)

    def _record_destination(self, operation: RetrieveOperation, remote: RemoteAE) -> None:
        """Record whether the Move Destination took the images."""
        caller, refusal = operation.association.caller, operation.refusal
        if refusal is not None:
            facts = (ServiceKind.DESTINATION, caller.ae_title, remote.ae_title, caller.address)
            self._rejections.rejected(*facts, *told_of_destination(remote, refusal))
        elif operation.has_sent:
            self._rejections.succeeded(ServiceKind.DESTINATION, remote.ae_title, "")
        self._rejections.succeeded(ServiceKind.RETRIEVE, caller.ae_title, caller.address)

    def _record_requestor(self, operation: RetrieveOperation) -> None:
        """Record whether the requestor of a C-GET took the images."""
        caller, refusal = operation.association.caller, operation.refusal
        if refusal is None:
            self._rejections.succeeded(ServiceKind.RETRIEVE, caller.ae_title, caller.address)
            return
        called = operation.association.called_ae_title
        fix = fix_of(refusal) or f"let {printable(caller.ae_title)} propose this, or use C-MOVE"
        note_rejection(self._rejections, ServiceKind.RETRIEVE, caller, called, str(refusal), fix)

    def _get(self, operation: RetrieveOperation, _query: Query, held: Sequence[StoredVersion]) -> None:
        destination = SameAssociation(
            operation.association,
            _priority(operation.command),
            operation.tell,
            without_roles=self._get_without_roles,
        )
        operation.report_beginning(held)
        with operation.keeps_telling():
            self._run(operation, held, destination)
            self._record_requestor(operation)
            operation.conclude(destination.sent)


def _priority(command: CommandSet) -> int:
    """Read the Priority of a retrieve, which is that of its sub-operations (PS3.4 C.4.2.1.2, C.4.3.1.2)."""
    priority = command.number(Element.PRIORITY)
    return priority if priority in _PRIORITIES else MEDIUM_PRIORITY
