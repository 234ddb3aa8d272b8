"""The object that ``status --json`` prints."""

from __future__ import annotations

from dataclasses import dataclass

from backup_scp.node.health.certificates import CertificateState
from backup_scp.node.health.facts import NodeFacts
from backup_scp.node.health.finding import Finding, needs_a_person
from backup_scp.node.run_record import NodeState
from backup_scp.ports import (
    CopyState,
    DiskFault,
    DrillResult,
    FlaggedVersion,
    Holdings,
    MassChange,
    OwedReports,
    Rejection,
    Task,
)
from backup_scp.watch.alert_state import SentAlert
from backup_scp.watch.forecast import Forecast
from backup_scp.watch.silence import Silence


@dataclass(frozen=True, slots=True)
class Status:
    """State of the node and its archive.

    Attributes
    ----------
    ae_title
        AE title of the node, from the settings.
    home
        The data folder.
    node
        Whether the node runs, and where.
    addresses
        Addresses of this computer at which consoles reach the node; empty when no other computer can.
    findings
        Problems and notes for a person, the most serious first; empty when there is nothing to do.
    needs_a_person
        Whether a finding asks a person to act; the exit code is 1 then.
    index_trouble
        Why the index cannot be read; then all fields below are null or empty. Empty when it can be read.
    holdings
        Counts of stored patients, studies and images.
    free_bytes
        Free bytes on the archive's disk; null when the disk is missing.
    left_by_a_crash
        How many images a node left in staging when it died. Their senders may have been told of success, and none of
        them is lost: the node adds them when it starts.
    forecast
        When the archive's disk will be full.
    refusing
        Why the node would refuse an image now; empty when it would accept it.
    trouble
        The last fault of the archive's disk.
    remarks
        Images that are flagged or damaged, the newest first; 1,000 at most.
    rejections
        Who was refused, the latest first; 1,000 at most.
    commitments
        Storage Commitment reports that are pending, for each requester.
    tasks
        Long work: ``verify`` and ``rebuild`` while they run, ``verified`` and ``rebuilt`` after their end;
        ``restore-N`` are restores that were ordered on the page.
    storms
        Senders that changed unusually many studies.
    copies
        The state of each further copy that was ever reached, and of each drive of it.
    drills
        The last drill of each of these, which proves that it comes back.
    silences
        Consoles that have been silent for longer than their habit.
    received_in_future
        How many images are dated in the future: the clock was wrong then, or is now.
    certificates
        When the certificates end that the settings name, and what is wrong with them.
    told
        The last messages of [alerts] that were taken, the newest first; 5 at most.
    """

    ae_title: str
    home: str
    node: NodeState
    addresses: list[str]
    findings: list[Finding]
    needs_a_person: bool
    index_trouble: str
    holdings: Holdings | None
    free_bytes: int | None
    left_by_a_crash: int
    forecast: Forecast | None
    refusing: str
    trouble: DiskFault | None
    remarks: list[FlaggedVersion]
    rejections: list[Rejection]
    commitments: list[OwedReports]
    tasks: dict[str, Task]
    storms: list[MassChange]
    copies: list[CopyState]
    drills: list[DrillResult]
    silences: list[Silence]
    received_in_future: int
    certificates: list[CertificateState]
    told: list[SentAlert]


def status_of(found: NodeFacts, listed: list[Finding]) -> Status:
    """Combine facts and findings."""
    known = found.known
    return Status(
        ae_title=found.settings.node.ae_title,
        home=str(found.settings.home),
        node=found.node,
        addresses=found.addresses,
        findings=listed,
        needs_a_person=needs_a_person(listed),
        index_trouble=found.index_trouble,
        holdings=known.holdings if known else None,
        free_bytes=found.free_bytes,
        left_by_a_crash=found.left_by_a_crash,
        forecast=known.forecast if known else None,
        refusing=found.refusing,
        trouble=known.trouble if known else None,
        remarks=known.remarks if known else [],
        rejections=known.rejections if known else [],
        commitments=known.commitments if known else [],
        tasks=known.tasks if known else {},
        storms=known.storms if known else [],
        copies=known.copies if known else [],
        drills=known.drills if known else [],
        silences=known.silences if known else [],
        received_in_future=known.clock_doubt.images if known else 0,
        certificates=found.certificates,
        told=found.told,
    )
