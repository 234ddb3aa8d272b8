"""The composition root: build archive, index, services and server from the settings."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from backup_scp.errors import Unavailable
from backup_scp.machine import clock
from backup_scp.node.audit_setup import audit_thread
from backup_scp.node.dimse_serving import DIMSEServing
from backup_scp.node.mass_changes import mass_changes
from backup_scp.node.opening import OpenStores, set_aside_damaged_index, upgrade_index
from backup_scp.node.recovering import ReadingCopies
from backup_scp.node.restore_runner import RestoreRunner
from backup_scp.node.run_record import AuditLogState, Maintenance
from backup_scp.node.running_copies import RunningCopies
from backup_scp.node.settings import Settings
from backup_scp.ports import Heading, Index, Task
from backup_scp.services import rebuild
from backup_scp.services.audit_reporter import AuditReporter
from backup_scp.services.ingest import Ingest
from backup_scp.watch.checkpoints import CheckpointThread
from backup_scp.watch.maintenance import MaintenanceThread

if TYPE_CHECKING:
    from backup_scp.dimse.association.association_count import SharedCount
    from backup_scp.dimse.association.listener import Listener

log = logging.getLogger(__name__)


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
        self._serving: DIMSEServing | None = None
        self._copies: RunningCopies | None = None
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
            self._serving = DIMSEServing(storage, ingest, reading.archive, self._reporter)
            ports = self._serving.start(stack, self._settings, self._listeners, self._places)
            self._audit.before = self._serving.report_received
            if self._keeps_up:
                self._start_maintenance(storage)
                stack.callback(self._stop_maintenance)
                self._copies = RunningCopies(self._settings, storage, ingest)
                stack.callback(self._copies.close)
                self._copies.start(reading)
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
        storage.report_to(self._reporter)
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

    def _start_maintenance(self, storage: OpenStores) -> None:
        """Start the maintenance thread, which only one process of the node has."""
        self._maintenance = MaintenanceThread(
            storage.archive,
            storage.index,
            self._settings.verify.full_pass_days,
            renew=functools.partial(_renew_index, storage),
            storms=functools.partial(mass_changes, self._settings, storage.index),
        )
        self._maintenance.start()

    def _stop_maintenance(self) -> None:
        if self._maintenance is not None:
            self._maintenance.stop()

    def prepared(self, settings: Settings) -> Callable[[], tuple[int, ...]]:
        """Return what goes on with other settings, and returns the ports; until it is called nothing changes.

        Associations that run stay.  Archive, index and number of processes stay as well: see ``reloading``.

        Raises
        ------
        InvalidSettings
            The settings cannot be used; what is returned raises it when a port cannot be opened.
        """
        assert self._serving is not None, "started"  # noqa: S101 - for the type checker
        serve = self._serving.prepared(settings)
        copy = self._copies.prepared(settings) if self._copies is not None else lambda: None

        def go_on() -> tuple[int, ...]:
            ports = serve()  # first: it is what may fail
            before, self._settings = self._settings, settings
            self.storage.settings = settings
            if self._restores is not None:
                self._restores.use(settings)
            if self._maintenance is not None and (before.verify, before.alerts) != (settings.verify, settings.alerts):
                self._maintenance.stop()
                self._start_maintenance(self.storage)
            copy()
            return ports

        return go_on

    def look_for_restores(self) -> None:
        """Begin with restores that were ordered on the page."""
        if self._restores is not None:
            self._restores.look()

    @property
    def is_listening(self) -> bool:
        """Whether every port accepts connections."""
        return self._serving is not None and self._serving.is_listening

    @property
    def maintenance(self) -> Maintenance:
        """The state of the maintenance thread."""
        if self._maintenance is None:
            return Maintenance(alive=False)
        return Maintenance(self._maintenance.is_alive, self._maintenance.active_at, self._maintenance.trouble)

    @property
    def audit_log(self) -> AuditLogState:
        """Whether entries of the audit log can be written."""
        return AuditLogState(self._audit.failing_since, self._audit.waiting, self._audit.lost)

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
        if self._serving is not None:
            self._serving.stop()
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
