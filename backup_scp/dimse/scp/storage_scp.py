"""Storage SCP: C-STORE, streamed to the disk as it arrives, without decoding (PS3.4 B)."""

from __future__ import annotations

from typing import Protocol

from backup_scp.dimse.association.association import Association, Context
from backup_scp.dimse.messages.command_set import CommandSet, Element, response
from backup_scp.dimse.messages.dimse_status import SUCCESS
from backup_scp.errors import InvalidDataSet
from backup_scp.machine import clock
from backup_scp.ports import AddResult, Arrival, Heading, StagedFile
from backup_scp.services.ingest import Accepted


class TakesDataSets(Protocol):
    """What stores Data Sets; see ``services.ingest.Ingest``."""

    def begin(self, heading: Heading) -> StagedFile: ...

    def accept(self, staged: StagedFile, arrival: Arrival) -> Accepted: ...


class StorageSCP:
    """Answers C-STORE.

    Parameters
    ----------
    ingest
        Stores the Data Sets.
    """

    def __init__(self, ingest: TakesDataSets) -> None:
        self._ingest = ingest

    def serve(self, association: Association, context: Context, command: CommandSet) -> None:
        """Answer one C-STORE-RQ: success only when the image survives a power cut and queries find it (PS3.4 B.2.2)."""
        accepted = self._store(association, context, command)
        association.tally.stored += accepted.admission is not AddResult.HELD
        association.tally.held += accepted.admission is AddResult.HELD
        if accepted.instance is not None:
            association.audit.stored(accepted.instance, is_new=accepted.admission is not AddResult.HELD)
        association.send(context.context_id, response(command, SUCCESS))

    def _store(self, association: Association, context: Context, command: CommandSet) -> Accepted:
        if not command.has_data_set:
            raise InvalidDataSet("The C-STORE request has no Data Set")
        heading = Heading(
            sop_class_uid=command.text(Element.AFFECTED_SOP_CLASS_UID) or context.abstract_syntax,
            sop_instance_uid=command.text(Element.AFFECTED_SOP_INSTANCE_UID),
            transfer_syntax_uid=context.transfer_syntax,
            source_ae_title=association.caller.ae_title,
        )
        staged = self._receive(association, heading)
        return self._ingest.accept(staged, _arrival(association))

    def _receive(self, association: Association, heading: Heading) -> StagedFile:
        """Stream the Data Set into a staged file, as it arrives."""
        staged = self._ingest.begin(heading)
        try:
            for data in association.data_set():
                staged.write(data)
        except BaseException:  # e.g. a full archive or a lost peer: leave no incomplete file
            staged.discard()
            raise
        association.tally.size_bytes += staged.size_bytes
        return staged


def _arrival(association: Association) -> Arrival:
    caller = association.caller
    return Arrival(
        received_at=clock.now(),
        service="C-STORE",
        calling_ae_title=caller.ae_title,
        called_ae_title=association.called_ae_title,
        address=caller.address,
        site=caller.site,
        remote=caller.remote.name if caller.remote else "",
    )
