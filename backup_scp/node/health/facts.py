"""Collect facts about the node, its disks and its index, without changing anything."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime

from backup_scp.audit.log_forwarding import ForwardState
from backup_scp.errors import ArchiveUnavailable, BackupSCPError
from backup_scp.machine import clock
from backup_scp.machine.addresses import console_addresses
from backup_scp.node.audit_setup import FOLDER
from backup_scp.node.health import surroundings
from backup_scp.node.health.certificates import CertificateState, certificate_states
from backup_scp.node.health.silence_findings import look_for_silences
from backup_scp.node.mass_changes import mass_changes
from backup_scp.node.opening import OpenStores, require_archive, require_owner
from backup_scp.node.run_record import NodeState, look
from backup_scp.node.settings import Settings
from backup_scp.ports import (
    Archive,
    ClockDoubt,
    CopyState,
    DiskFault,
    DrillResult,
    FlaggedVersion,
    Holdings,
    Index,
    MassChange,
    OwedReports,
    Rejection,
    Task,
)
from backup_scp.watch.alert_state import ChannelTrouble, SentAlert, read_alert_state
from backup_scp.watch.forecast import Forecast, forecast
from backup_scp.watch.silence import Silence

_MOST_LISTED = 1000  # remarks and rejections
_LAST_TOLD = 5


@dataclass(frozen=True, slots=True)
class Known:
    """Facts from the index.

    Attributes
    ----------
    holdings
        Counts of stored patients, studies and images.
    forecast
        When the archive's disk will be full; null where its free room is not known.
    trouble
        The last time that the archive's disk did not keep what it was given; null where there was none.
    remarks
        Images that are flagged or damaged, the newest first; 1,000 at most.
    rejections
        Rejected callers, the latest first; 1,000 at most.
    commitments
        Storage Commitment reports that are pending, for each requester.
    tasks
        Long work: ``verify`` and ``rebuild`` while they run, ``verified`` and ``rebuilt`` after their end;
        ``restore-N`` are restores that were ordered on the page.
    storms
        Senders that changed unusually many studies.
    clock_doubt
        What tells that the clock was wrong, or is.
    copies
        The state of each further copy, and of each drive of it.
    drills
        The last drill of each of these.
    silences
        Consoles that have been silent for longer than their habit.
    """

    holdings: Holdings
    forecast: Forecast | None
    trouble: DiskFault | None
    remarks: list[FlaggedVersion] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    commitments: list[OwedReports] = field(default_factory=list)
    tasks: dict[str, Task] = field(default_factory=dict)
    storms: list[MassChange] = field(default_factory=list)
    clock_doubt: ClockDoubt = field(default_factory=ClockDoubt)
    copies: list[CopyState] = field(default_factory=list)
    drills: list[DrillResult] = field(default_factory=list)
    silences: list[Silence] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """All facts, collected at one moment.

    Attributes
    ----------
    at
        That moment, by this computer's clock.
    index_trouble
        Why the index cannot be asked; empty when it can.
    left_by_a_crash
        How many images a node left in staging when it died, and its next start adds.
    refusing
        Why a C-STORE would be refused now; empty when it would not.
    closed_folders
        Folders of the archive that belong to another user than the node's.
    certificates
        The state of the certificates that the settings name.
    alert_troubles
        Why a channel takes no alert, by its name.
    told
        The last messages that were taken, the newest first; 5 at most.
    forwarded
        How far the syslog server has the audit log.
    """

    settings: Settings
    at: datetime
    node: NodeState
    addresses: list[str]
    known: Known | None
    index_trouble: str
    free_bytes: int | None
    left_by_a_crash: int
    refusing: str
    closed_folders: list[str]
    certificates: list[CertificateState]
    alert_troubles: dict[str, ChannelTrouble] = field(default_factory=dict)
    told: list[SentAlert] = field(default_factory=list)
    forwarded: ForwardState = field(default_factory=ForwardState)


def gather(settings: Settings, opened: OpenStores | None = None, *, counts: bool = True) -> NodeFacts:
    """Collect all facts; that something cannot be read is a fact as well.

    Parameters
    ----------
    settings
        Of the node.
    opened
        Its archive and index, when they are open already; by default this opens them.
    counts
        Count all that is stored, which takes seconds for millions of images; else only what is damaged.

    Raises
    ------
    NoArchive, NotOwner
        There is no archive, or it is another user's.
    """
    require_owner(settings)
    require_archive(settings)
    at = clock.now()
    state = look(settings.home)
    known, index_trouble, free_bytes, left, refusing = None, "", None, 0, ""
    try:
        with OpenStores(settings) if opened is None else nullcontext(opened) as storage:
            free_bytes = _free_bytes(storage.archive)
            left = storage.archive.left_by_the_dead()
            known = _ask(settings, storage.index, free_bytes, at, state, counts=counts)
            refusing = _refusing(settings, storage.archive, known.trouble)
    except BackupSCPError as error:
        index_trouble = str(error)
    alerts = read_alert_state(settings.home)
    host = state.record.host if state.running and state.record else settings.node.host
    return NodeFacts(
        settings=settings,
        at=at,
        node=state,
        addresses=console_addresses(host),
        known=known,
        index_trouble=index_trouble,
        free_bytes=free_bytes,
        left_by_a_crash=left,
        refusing=refusing,
        closed_folders=surroundings.closed_folders(settings, state),
        certificates=certificate_states(settings, at),
        alert_troubles=alerts.troubles,
        told=alerts.sent[: -_LAST_TOLD - 1 : -1],
        forwarded=ForwardState.load(settings.home / FOLDER),
    )


def why_refused(settings: Settings, storage: OpenStores) -> str:
    """Return why an image would be refused now; empty when it would be stored."""
    try:
        require_archive(settings)
        return _refusing(settings, storage.archive, storage.index.archive_trouble())
    except BackupSCPError as error:
        return str(error)


def _ask(
    settings: Settings, index: Index, free_bytes: int | None, at: datetime, state: NodeState, *, counts: bool
) -> Known:
    reserve = settings.archive.reserve_bytes
    copies = index.copies.states(at) if settings.copy else []
    return Known(
        holdings=index.holdings() if counts else _damaged_only(index),
        forecast=None if free_bytes is None else forecast(index, free_bytes, reserve, at),
        trouble=index.archive_trouble(),
        remarks=index.remarks(_MOST_LISTED),
        rejections=index.rejections(_MOST_LISTED),
        commitments=index.commitments.owed(),
        tasks=index.tasks(),
        storms=mass_changes(settings, index),
        clock_doubt=index.clock_doubt(),
        copies=copies,
        drills=_drills(index, copies),
        silences=look_for_silences(index, at, state.record.outages if state.record else ()) if state.running else [],
    )


def _damaged_only(index: Index) -> Holdings:
    return Holdings(0, 0, 0, 0, 0, 0, 0, index.count_damaged(), None, None, 0)


def _drills(index: Index, copies: list[CopyState]) -> list[DrillResult]:
    """Return the last drill of each copy that is in the settings."""
    known = {(state.name, state.medium) for state in copies}
    return [result for result in index.drills.latest() if (result.copy, result.medium) in known] if known else []


def _free_bytes(archive: Archive) -> int | None:
    """Return the free bytes on the archive's disk; None when the disk is missing."""
    try:
        return archive.free_bytes()
    except ArchiveUnavailable:
        return None


def _refusing(settings: Settings, archive: Archive, trouble: DiskFault | None) -> str:
    """Return why a C-STORE would be refused now; empty when it would succeed."""
    try:
        archive.require_ready()
    except ArchiveUnavailable as error:
        return str(error)
    if trouble is not None and trouble.ended_at is None:
        return trouble.sentence
    return surroundings.why_not_writable(settings)
