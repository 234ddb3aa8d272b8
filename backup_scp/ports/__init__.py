"""The ports: what the services ask of an archive, an index and a destination, and the values that they exchange.

Each Protocol is the contract; one contract suite in ``tests/`` runs on every implementation.
"""

from backup_scp.ports.archive import IMPORT, Archive, ArchivedFile, Arrival, Heading, InstanceKey, StagedFile
from backup_scp.ports.commitments import (
    Commitment,
    CommitmentRequest,
    Commitments,
    FailureReason,
    OwedReports,
    Reference,
    Requester,
)
from backup_scp.ports.destination import Destination, Meanwhile, RemoteAE, Upcoming, nothing
from backup_scp.ports.holdings import (
    Admission,
    Checked,
    ClockDoubt,
    Flag,
    Held,
    Holdings,
    Match,
    Met,
    Progress,
    Read,
    Received,
    Remark,
    Selection,
    Storm,
    Task,
    Trouble,
    Version,
    VersionMatch,
    flags_of,
)
from backup_scp.ports.index import Index
from backup_scp.ports.rejections import Rejection, RejectionRecorder, ServiceKind

__all__ = [
    "IMPORT",
    "Admission",
    "Archive",
    "ArchivedFile",
    "Arrival",
    "Checked",
    "ClockDoubt",
    "Commitment",
    "CommitmentRequest",
    "Commitments",
    "Destination",
    "FailureReason",
    "Flag",
    "Heading",
    "Held",
    "Holdings",
    "Index",
    "InstanceKey",
    "Match",
    "Meanwhile",
    "Met",
    "OwedReports",
    "Progress",
    "Read",
    "Received",
    "Reference",
    "Rejection",
    "RejectionRecorder",
    "Remark",
    "RemoteAE",
    "Requester",
    "Selection",
    "ServiceKind",
    "StagedFile",
    "Storm",
    "Task",
    "Trouble",
    "Upcoming",
    "Version",
    "VersionMatch",
    "flags_of",
    "nothing",
]
