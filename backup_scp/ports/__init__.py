"""The interfaces that services use: archive, index and destination, and the values that they exchange.

Each Protocol is the contract; one contract suite in ``tests/`` runs on every implementation.
"""

from backup_scp.dicom.file_meta import Heading
from backup_scp.ports.archive import IMPORT, Archive, ArchivedFile, Arrival, InstanceKey, StagedFile
from backup_scp.ports.commitments import (
    Commitment,
    CommitmentRequest,
    Commitments,
    FailureReason,
    OwedReports,
    Reference,
    Requester,
)
from backup_scp.ports.destination import (
    Destination,
    Inventory,
    Meanwhile,
    RemoteAE,
    RestoreDestination,
    Upcoming,
    do_nothing,
)
from backup_scp.ports.holdings import ClockDoubt, DiskFault, Holdings, IntakeTotals, MassChange, Progress, Task
from backup_scp.ports.index import Index, IndexReader, IndexRecords, IndexWriter
from backup_scp.ports.rejections import Rejection, RejectionRecorder, ServiceKind
from backup_scp.ports.versions import (
    AddResult,
    Flag,
    FlaggedVersion,
    Lookup,
    Match,
    ReadVersion,
    Selection,
    StoredVersion,
    VerificationResult,
    Version,
    VersionMatch,
    flags_of,
)

__all__ = [
    "IMPORT",
    "AddResult",
    "Archive",
    "ArchivedFile",
    "Arrival",
    "ClockDoubt",
    "Commitment",
    "CommitmentRequest",
    "Commitments",
    "Destination",
    "DiskFault",
    "FailureReason",
    "Flag",
    "FlaggedVersion",
    "Heading",
    "Holdings",
    "Index",
    "IndexReader",
    "IndexRecords",
    "IndexWriter",
    "InstanceKey",
    "IntakeTotals",
    "Inventory",
    "Lookup",
    "MassChange",
    "Match",
    "Meanwhile",
    "OwedReports",
    "Progress",
    "ReadVersion",
    "Reference",
    "Rejection",
    "RejectionRecorder",
    "RemoteAE",
    "Requester",
    "RestoreDestination",
    "Selection",
    "ServiceKind",
    "StagedFile",
    "StoredVersion",
    "Task",
    "Upcoming",
    "VerificationResult",
    "Version",
    "VersionMatch",
    "do_nothing",
    "flags_of",
]
