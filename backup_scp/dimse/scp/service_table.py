"""Map requests to services."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from backup_scp.dicom.query.information_model import MODELS
from backup_scp.dimse.association.access import AccessPolicy
from backup_scp.dimse.association.association import LocalAE
from backup_scp.dimse.association.information_reader import InformationReader
from backup_scp.dimse.association.negotiation import STORAGE_COMMITMENT, VERIFICATION, is_storage
from backup_scp.dimse.association.request_dispatch import Service
from backup_scp.dimse.messages.command_set import Field
from backup_scp.dimse.scp.query_scp import QuerySCP
from backup_scp.dimse.scp.retrieve_scp import RetrieveSCP
from backup_scp.dimse.scp.storage_commitment_scp import StorageCommitmentSCP
from backup_scp.dimse.scp.storage_scp import StorageSCP
from backup_scp.dimse.scp.verification_scp import VerificationSCP
from backup_scp.dimse.scu.remote_ae_destination import RemoteAEDestination
from backup_scp.dimse.scu.storage_commitment_scu import EventReportSCU
from backup_scp.dimse.scu.storage_scu import MoveOriginator
from backup_scp.ports import Index, ReadableArchive, RejectionRecorder, RemoteAE, ServiceKind
from backup_scp.services.commitment import StorageCommitment
from backup_scp.services.ingest import Ingest
from backup_scp.services.permissions import Right

_FIND = frozenset(model.find_uid for model in MODELS.values())
_MOVE = frozenset(model.move_uid for model in MODELS.values())
_GET = frozenset(model.get_uid for model in MODELS.values())


def services(  # noqa: PLR0913 - each by its name
    archive: ReadableArchive,
    index: Index,
    policy: AccessPolicy,
    local: LocalAE,
    commitment: StorageCommitment,
    rejections: RejectionRecorder,
    *,
    ingest: Ingest,
    strict: bool = False,
    get_without_roles: bool = False,
) -> Mapping[int, Service]:
    """Return the node's services by Command Field; see ``RetrieveSCP`` for the keywords."""

    def open_destination(
        remote: RemoteAE, originator: MoveOriginator, watch: Callable[[], None], ae_title: str
    ) -> RemoteAEDestination:
        return RemoteAEDestination(dataclasses.replace(local, ae_title=ae_title), remote, originator, watch)

    reader = InformationReader()
    commitments = StorageCommitmentSCP(commitment, reader)
    retrieve = RetrieveSCP(
        archive,
        index.seen_by,
        index.record_verification,
        policy,
        open_destination,
        rejections,
        strict=strict,
        get_without_roles=get_without_roles,
    )
    store = StorageSCP(ingest)
    find = QuerySCP(index.seen_by, strict=strict)
    return {
        Field.C_ECHO_RQ: Service(VERIFICATION.__eq__, VerificationSCP().serve, Right.ECHO),
        Field.C_STORE_RQ: Service(is_storage, store.serve, Right.STORE, kind=ServiceKind.STORE),
        Field.C_FIND_RQ: Service(_FIND.__contains__, find.serve, Right.FIND, kind=ServiceKind.QUERY),
        Field.C_MOVE_RQ: Service(_MOVE.__contains__, retrieve.serve_move, Right.MOVE, kind=ServiceKind.RETRIEVE),
        Field.C_GET_RQ: Service(_GET.__contains__, retrieve.serve_get, Right.RETRIEVE, kind=ServiceKind.RETRIEVE),
        Field.N_ACTION_RQ: Service(
            STORAGE_COMMITMENT.__eq__, commitments.serve, Right.COMMIT, kind=ServiceKind.COMMITMENT
        ),
        Field.N_EVENT_REPORT_RQ: reports_service(index, reader),
        Field.N_EVENT_REPORT_RSP: Service(STORAGE_COMMITMENT.__eq__, commitments.serve_response, Right.REPORT),
    }


def reports_service(index: Index, reader: InformationReader | None = None) -> Service:
    """Return the service that receives Storage Commitment reports; ``restore --commit`` runs it when no node runs."""
    return Service(STORAGE_COMMITMENT.__eq__, EventReportSCU(index.commitments, reader).serve, Right.REPORT)
