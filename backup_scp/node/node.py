"""The composition root: build archive, index, services and server from the settings."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from backup_scp.errors import Unavailable
from backup_scp.machine import clock
from backup_scp.node.audit_setup import audit_thread
from backup_scp.node.mass_changes import mass_changes
from backup_scp.node.opening import OpenStores, set_aside_damaged_index, upgrade_index
from backup_scp.node.recovering import ReadingCopies
from backup_scp.node.remote_aes import access_policy, listening, local_ae
from backup_scp.node.restore_runner import RestoreRunner
from backup_scp.node.run_record import Maintenance
from backup_scp.node.settings import Settings
from backup_scp.ports import Heading, Index, ReadableArchive, Task
from backup_scp.services import rebuild
from backup_scp.services.audit_reporter import AuditReporter
from backup_scp.services.commitment import CommitmentTimers, StorageCommitment
from backup_scp.services.commitment_verification import CopiesNeeded
from backup_scp.services.commitment_worker import CommitmentWorker
from backup_scp.services.ingest import Ingest
from backup_scp.watch.checkpoints import CheckpointThread
from backup_scp.watch.maintenance import MaintenanceThread
from backup_scp.watch.rejection_log import RejectionLog

if TYPE_CHECKING:
    from backup_scp.dimse.association.association_count import SharedCount
    from backup_scp.dimse.association.listener import Listener
    from backup_scp.dimse.association.server import Server

log = logging.getLogger(__name__)

_WORKER_GRACE_S = 5.0  # unfinished work continues after the next start
_GRACE_S = 30.0  # for images that are being received when the node stops


class Node:
    """The running node, or one of its processes: storage, services and the DIMSE server.

    Parameters
    ----------
    settings
        All settings of the node.
    listeners
        Its open ports; by default it opens them at the start.
    places
        Counts the Associations of all processes of the node.
    keeps_up
        Whether this process does what only one process of a node must do: care for the index file, and maintenance.

    Attributes
    ----------
    troubles
        Problems of archive and index, one sentence each, found at the start or by the last ``look_again``.
    remarks
        Notes that need no action.
    """

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[Listener] = (),
        places: SharedCount | None = None,
        *,
        keeps_up: bool = True,
    ) -> None:
        self._settings = settings
        self._listeners = listeners
        self._places = places
        self._keeps_up = keeps_up
        self._open = ExitStack()
        self._server: Server | None = None
        self._worker: CommitmentWorker | None = None
        self._maintenance: MaintenanceThread | None = None
        self._storage: OpenStores | None = None
        self._ingest: Ingest | None = None
        self._restores: RestoreRunner | None = None
        self._reporter = AuditReporter()
        self.troubles: list[str] = []
        self.remarks: list[str] = []

    def start(self) -> tuple[int, ...]:
        """Open archive and index, add the files that a crash left to the index, and listen.

        Returns
        -------
        tuple of int
            The ports: the one without TLS and the one with TLS, those that exist.

        Raises
        ------
        BackupSCPError
            The node cannot start; the text has a fix.  Nothing is left open.
        """
        with ExitStack() as stack:
            storage, ingest = self._open_storage(stack)
            self._start_audit(stack, storage)
            reading = ReadingCopies(storage, ingest)
            ports = self._serve(stack, storage, ingest, reading.archive)
            if self._keeps_up:
                self._start_maintenance(stack, storage)
                self._start_copies(stack, storage, ingest, reading)
                self._restores = RestoreRunner(self._settings, storage.index)
                stack.callback(self._restores.stop)
                self._restores.look()
            self._open = stack.pop_all()
        self._reporter.node_started()
        return ports

    def _start_audit(self, stack: ExitStack, storage: OpenStores) -> None:
        """Start the thread of the audit trail, which outlasts what reports to it."""
        self._audit = audit_thread(self._settings, storage.index)
        self._reporter = AuditReporter(self._audit, self._settings.node.ae_title)
        self._audit.start()
        stack.callback(self._audit.stop)
        stack.callback(self._reporter.node_stopped)

    def _open_storage(self, stack: ExitStack) -> tuple[OpenStores, Ingest]:
        """Open archive and index, add the files that a crash left, and log problems."""
        settings = self._settings
        reasons = list(set_aside_damaged_index(settings)) if self._keeps_up else []
        storage = self._storage = stack.enter_context(OpenStores(settings, create=True))
        ingest = self._ingest = Ingest(storage.archive, storage.index)
        self.look_again()
        checkpoints = CheckpointThread(ingest)
        checkpoints.start()
        stack.callback(checkpoints.stop)
        self.remarks = list(_lost_index(storage, "".join(reasons))) if self._keeps_up else []
        for remark in self.remarks:
            log.error("%s", remark)
        if self._keeps_up:
            storage.index.sweep()
            _tell_of_connections(storage.index, settings)
        return storage, ingest

    def _serve(
        self, stack: ExitStack, storage: OpenStores, ingest: Ingest, outgoing: ReadableArchive
    ) -> tuple[int, ...]:
        """Start the DIMSE server and the Storage Commitment threads; return the ports."""
        from backup_scp.dimse.association.negotiation import is_storage
        from backup_scp.dimse.association.server import Server
        from backup_scp.dimse.scp.service_table import services
        from backup_scp.dimse.scu.event_report import EventReporter

        settings = self._settings
        policy, local = access_policy(settings), local_ae(settings)
        commitment = StorageCommitment(
            storage.archive, storage.index, is_storage, _pace(settings), needed=_copies_needed(settings)
        )
        rejections = RejectionLog(storage.index)
        rejections.start()
        stack.callback(rejections.stop)
        served = services(
            outgoing,
            storage.index,
            policy,
            local,
            commitment,
            rejections,
            ingest=ingest,
            strict=settings.node.strict_hierarchy,
            get_without_roles=settings.node.get_without_roles,
        )
        self._server = Server(listening(settings), policy, served, rejections, self._places, self._reporter)
        self._audit.before = self._server.report_received
        ports = self._server.start(self._listeners)
        self._worker = CommitmentWorker(commitment, EventReporter(local, policy).report)
        self._worker.start()
        return ports

    def _start_maintenance(self, stack: ExitStack, storage: OpenStores) -> None:
        """Start the maintenance thread, which only one process of the node has."""
        self._maintenance = MaintenanceThread(
            storage.archive,
            storage.index,
            self._settings.verify.full_pass_days,
            renew=functools.partial(_renew_index, storage),
            storms=functools.partial(mass_changes, self._settings, storage.index),
        )
        self._maintenance.start()
        stack.callback(self._maintenance.stop)

    def _start_copies(self, stack: ExitStack, storage: OpenStores, ingest: Ingest, reading: ReadingCopies) -> None:
        """Start a thread for each further copy; while the archive comes back from one, all of them wait."""
        copies = ExitStack()
        stack.callback(copies.close)

        def start() -> None:
            if not self._settings.copy:
                return
            from backup_scp.node.copy_setup import copy_threads
            from backup_scp.node.drills import drill_thread

            for thread in copy_threads(self._settings, storage, ingest):
                thread.start()
                copies.callback(thread.stop)
            drills = drill_thread(self._settings, storage, lambda: ingest.received_at)
            if drills is not None:
                drills.start()
                copies.callback(drills.stop)

        if (recovery := reading.thread(start)) is not None:
            recovery.start()
            stack.callback(recovery.stop)
        else:
            start()

    def look_for_restores(self) -> None:
        """Begin with restores that were ordered on the page."""
        if self._restores is not None:
            self._restores.look()

    @property
    def is_listening(self) -> bool:
        """Whether every port accepts connections."""
        return self._server is not None and self._server.is_listening

    @property
    def maintenance(self) -> Maintenance:
        """The state of the maintenance thread."""
        if self._maintenance is None:
            return Maintenance(alive=False)
        return Maintenance(self._maintenance.is_alive, self._maintenance.active_at, self._maintenance.trouble)

    @property
    def storage(self) -> OpenStores:
        """Archive and index of the running node."""
        assert self._storage is not None, "not started"  # noqa: S101 - for the type checker
        return self._storage

    @property
    def must_look_again(self) -> bool:
        """Whether archive or index had a problem, or an image could not be added to the index."""
        return bool(self.troubles) or (self._storage is not None and self._storage.archive.has_leftovers)

    def look_again(self) -> None:
        """Try archive and index once more, and add images that could not be added before."""
        assert self._storage is not None, "not started"  # noqa: S101 - for the type checker
        assert self._ingest is not None, "not started"  # noqa: S101 - for the type checker
        before, self.troubles = self.troubles, list(_recover(self._storage, self._ingest))
        for trouble in self.troubles:
            if trouble not in before:
                log.error("Nothing can be stored now: %s", trouble)
        if before and not self.troubles:
            log.warning("Archive and index can be used again")

    def stop(self) -> None:
        """Let current requests finish, then close everything."""
        if self._server is not None:
            self._server.stop(_GRACE_S)
        if self._worker is not None:
            self._worker.stop(_WORKER_GRACE_S)
        self._open.close()


def _recover(storage: OpenStores, ingest: Ingest) -> Iterator[str]:
    """Add the files that a crash left to the index, and test archive and index; yield their problems.

    The node starts even when the volume cannot be written or the database does not answer: they may come back, and
    it serves what it can meanwhile.
    """
    steps: tuple[Callable[[], object], ...] = (
        lambda: _take_in(ingest),  # first, because leftovers of a crash take room on a full volume
        lambda: ingest.begin(Heading("", "", "")).discard(),
        lambda: storage.index.remarks(1),
    )
    said: set[str] = set()
    for step in steps:
        try:
            step()
        except Unavailable as error:
            if str(error) not in said:
                yield str(error)
            said.add(str(error))


def _take_in(ingest: Ingest) -> None:
    recovered = ingest.recover()
    if recovered:
        log.warning("%d stored images that were missing in the index were added", recovered)


def _pace(settings: Settings) -> CommitmentTimers:
    given = settings.commitment
    return CommitmentTimers(
        images=timedelta(seconds=given.wait_s),
        retry=timedelta(seconds=given.retry_s),
        give_up=timedelta(days=given.retry_days),
    )


def _copies_needed(settings: Settings) -> CopiesNeeded:
    names = frozenset(copy.name for copy in settings.copy)
    off_site = frozenset(copy.name for copy in settings.copy if copy.is_off_site)
    return CopiesNeeded(settings.commitment.copies, settings.commitment.off_site_copies, names, off_site)


def _lost_index(storage: OpenStores, reason: str) -> Iterator[str]:
    """Request a rebuild of an index that is empty while the archive is not; yield remarks about it.

    The index stores new images meanwhile.  When the archive is empty too, it is the node's first start.
    """
    try:
        is_lost = storage.expect_rebuild(reason or "It was empty, and the archive was not")
        task = storage.index.tasks().get(rebuild.NAME)
        if task:
            what = "was lost" if is_lost else "is incomplete"
            told = "It is being rebuilt from the files; searches are incomplete until then"
            yield f"The index {what}. {task.note}. {told}"
        elif reason:
            yield f"A new index was created. {reason}"
    except Unavailable as error:
        log.warning("It is unknown whether the index is complete: %s", error)


def _tell_of_connections(index: Index, settings: Settings) -> None:
    """Warn when the database server allows too few connections, before all consoles send at once."""
    with suppress(Unavailable):  # the code that needs the index reports this
        if too_few := index.too_few_connections(settings.node.workers):
            log.warning("%s", too_few)


def _renew_index(storage: OpenStores, damage: str) -> None:
    """Rename an index that was found damaged while the node runs, make a new one and request its rebuild.

    Without damage, another process or a person has replaced the file: nobody knows whether its rows are complete, so
    this requests a rebuild too.
    """
    settings = storage.settings
    reasons = set_aside_damaged_index(settings, damage) if damage else ["Its file was replaced while the node ran"]
    for reason in reasons:
        log.error("%s", reason)
        upgrade_index(settings)
        if rebuild.NAME not in storage.index.tasks():
            storage.index.record_task(Task(rebuild.NAME, clock.now(), note=reason))
