"""The composition root: settings made into archive, index, services and server."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from backup_scp.errors import Unavailable
from backup_scp.machine import clock
from backup_scp.node.opening import OpenStores, set_aside_damaged_index, upgrade_index
from backup_scp.node.remote_aes import access_policy, listening, local_ae
from backup_scp.node.run_record import Maintenance
from backup_scp.node.settings import Settings
from backup_scp.ports import Heading, Index, IndexRecords, MassChange, Task
from backup_scp.services import rebuild
from backup_scp.services.commitment import CommitmentTimers, StorageCommitment, Worker
from backup_scp.services.ingest import Ingest
from backup_scp.watch.maintenance import MaintenanceThread
from backup_scp.watch.rejection_log import RejectionLog

if TYPE_CHECKING:
    from backup_scp.dimse.association.association_count import SharedCount
    from backup_scp.dimse.association.listener import Listener
    from backup_scp.dimse.association.server import Server

log = logging.getLogger(__name__)

_WORKER_GRACE_S = 5.0  # what it has not done by then it does after the next start
_GRACE_S = 30.0  # what an image under way may take when the node stops


class Node:
    """The running node, or one of its processes: storage, services and the DIMSE server.

    Parameters
    ----------
    settings
        Everything it needs to know.
    listeners
        Its ports, open already; by default they are opened when it starts.
    places
        Counts the Associations of all its processes.
    keeps_up
        Whether it sees to what only one process of a node should: the index's file, and what is done by itself.

    Attributes
    ----------
    troubles
        What is wrong with archive and index, one sentence each, as of the start or of the last ``look_again``.
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
        self._worker: Worker | None = None
        self._maintenance: MaintenanceThread | None = None
        self._storage: OpenStores | None = None
        self._ingest: Ingest | None = None
        self.troubles: list[str] = []
        self.remarks: list[str] = []

    def start(self) -> tuple[int, ...]:
        """Open the storage, take in what a crash left, and listen.

        Returns
        -------
        tuple of int
            The ports: the plain one, and that with TLS, as far as there are such.

        Raises
        ------
        BackupSCPError
            What cannot be had, with a fix; nothing is left open.
        """
        from backup_scp.dimse.association.negotiation import is_storage
        from backup_scp.dimse.association.server import Server
        from backup_scp.dimse.scp.service_table import services
        from backup_scp.dimse.scu.event_report import EventReporter

        settings = self._settings
        with ExitStack() as stack:
            reasons = list(set_aside_damaged_index(settings)) if self._keeps_up else []
            storage = self._storage = stack.enter_context(OpenStores(settings, create=True))
            ingest = self._ingest = Ingest(storage.archive, storage.index)
            self.look_again()
            self.remarks = list(_lost_index(storage, "".join(reasons))) if self._keeps_up else []
            for remark in self.remarks:
                log.error("%s", remark)
            if self._keeps_up:
                storage.index.sweep()
                _tell_of_connections(storage.index, settings)
            policy, local = access_policy(settings), local_ae(settings)
            commitment = StorageCommitment(storage.archive, storage.index, is_storage, _pace(settings))
            reporter = EventReporter(local, policy)
            rejections = RejectionLog(storage.index)
            rejections.start()
            stack.callback(rejections.stop)
            served = services(
                storage.archive,
                storage.index,
                policy,
                local,
                commitment,
                rejections,
                ingest=ingest,
                strict=settings.node.strict_hierarchy,
                get_without_roles=settings.node.get_without_roles,
            )
            self._server = Server(listening(settings), policy, served, rejections, self._places)
            ports = self._server.start(self._listeners)
            self._worker = Worker(commitment, reporter.report)
            self._worker.start()
            if self._keeps_up:
                upkeep = self._maintenance = MaintenanceThread(
                    storage.archive,
                    storage.index,
                    settings.verify.full_pass_days,
                    renew=functools.partial(_renew_index, storage),
                    storms=functools.partial(storms, settings, storage.index),
                )
                upkeep.start()
                stack.callback(upkeep.stop)
            self._open = stack.pop_all()
        return ports

    @property
    def is_listening(self) -> bool:
        """Whether connections are taken at every port."""
        return self._server is not None and self._server.is_listening

    @property
    def maintenance(self) -> Maintenance:
        """What the thread that works by itself is doing."""
        if self._maintenance is None:
            return Maintenance(alive=False)
        return Maintenance(self._maintenance.is_alive, self._maintenance.active_at, self._maintenance.trouble)

    @property
    def must_look_again(self) -> bool:
        """Whether something was in trouble: archive, index, or an image that could not be entered into the index."""
        return bool(self.troubles) or (self._storage is not None and self._storage.archive.has_leftovers)

    def look_again(self) -> None:
        """Try archive and index once more, and take in what could not be taken in until now."""
        assert self._storage is not None, "not started"  # noqa: S101 - for the type checker
        assert self._ingest is not None, "not started"  # noqa: S101 - for the type checker
        before, self.troubles = self.troubles, list(_recover(self._storage, self._ingest))
        for trouble in self.troubles:
            if trouble not in before:
                log.error("Nothing can be stored now: %s", trouble)
        if before and not self.troubles:
            log.warning("Archive and index can be used again")

    def stop(self) -> None:
        """Let what is under way end, then close everything."""
        if self._server is not None:
            self._server.stop(_GRACE_S)
        if self._worker is not None:
            self._worker.stop(_WORKER_GRACE_S)
        self._open.close()


def _recover(storage: OpenStores, ingest: Ingest) -> Iterator[str]:
    """Enter what a crash left, and try archive and index; yield what is wrong with them.

    A volume that cannot be written, or a database that does not answer, is no reason not to start: it may come back,
    and what can be served meanwhile is.
    """
    steps: tuple[Callable[[], object], ...] = (
        lambda: _take_in(ingest),  # first, for on a full volume what a crash left takes room
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
        log.warning("%d files that had no row in the index were entered", recovered)


def _pace(settings: Settings) -> CommitmentTimers:
    given = settings.commitment
    return CommitmentTimers(
        images=timedelta(seconds=given.wait_s),
        retry=timedelta(seconds=given.retry_s),
        give_up=timedelta(days=given.retry_days),
    )


def _lost_index(storage: OpenStores, reason: str) -> Iterator[str]:
    """Let an index be made from the files, where it knows nothing and the archive holds something.

    It takes what comes in meanwhile from the first moment on.  Where the archive is empty too, it is a first start.
    """
    try:
        is_lost = storage.expect_rebuild(reason or "It knew nothing of the files in the archive")
        task = storage.index.tasks().get(rebuild.NAME)
        if task:
            what = "was lost" if is_lost else "is not whole yet"
            yield f"The index {what}. {task.note}. It is made from the files; what is found is not all until it is done"
        elif reason:
            yield f"A new index was begun. {reason}"
    except Unavailable as error:
        log.warning("Nobody knows whether the index is whole: %s", error)


def _tell_of_connections(index: Index, settings: Settings) -> None:
    """Say so before the day when all consoles send at once, and the server turns some away."""
    with suppress(Unavailable):  # whoever needs it will say what is wrong with it
        if too_few := index.too_few_connections(settings.node.workers):
            log.warning("%s", too_few)


def _renew_index(storage: OpenStores, damage: str) -> None:
    """Set aside an index that was found to be damaged while the node runs, and begin a new one.

    Where there is no damage, somebody else has made a new file, or put one there: what it knows is not known.
    """
    settings = storage.settings
    reasons = set_aside_damaged_index(settings, damage) if damage else ["Its file was replaced while the node ran"]
    for reason in reasons:
        log.error("%s", reason)
        upgrade_index(settings)
        if rebuild.NAME not in storage.index.tasks():
            storage.index.record_task(Task(rebuild.NAME, clock.now(), note=reason))


def storms(settings: Settings, index: IndexRecords) -> list[MassChange]:
    """List the senders that changed more than the settings find usual."""
    alerts = settings.alerts
    since = clock.now() - timedelta(days=alerts.changed_studies_days)
    return index.storms(since, alerts.changed_studies) if alerts.changed_studies else []
