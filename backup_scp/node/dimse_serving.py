"""Serve DIMSE with the settings, and go on with others without a break."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from backup_scp.node.identity_setup import identification
from backup_scp.node.opening import OpenStores
from backup_scp.node.remote_aes import access_policy, listening, local_ae
from backup_scp.node.settings import Settings
from backup_scp.ports import ReadableArchive
from backup_scp.services.audit_reporter import AuditReporter
from backup_scp.services.commitment import CommitmentTimers, StorageCommitment
from backup_scp.services.commitment_verification import CopiesNeeded
from backup_scp.services.commitment_worker import CommitmentWorker
from backup_scp.services.ingest import Ingest
from backup_scp.watch.rejection_log import RejectionLog

if TYPE_CHECKING:
    from backup_scp.dimse.association.access import AccessPolicy
    from backup_scp.dimse.association.association_count import SharedCount
    from backup_scp.dimse.association.identification import Identification
    from backup_scp.dimse.association.listener import Listener, ListenSettings
    from backup_scp.dimse.association.request_dispatch import Service
    from backup_scp.dimse.association.server import Server

_WORKER_GRACE_S = 5.0  # unfinished work continues with the next worker
_GRACE_S = 30.0  # for images that are being received when the node stops


class _Made(NamedTuple):
    """What follows from the settings alone."""

    listening: ListenSettings
    policy: AccessPolicy
    services: Mapping[int, Service]
    worker: CommitmentWorker
    users: ExitStack
    identification: Identification


class DIMSEServing:
    """The DIMSE server, and the thread that keeps Storage Commitments.

    Parameters
    ----------
    storage, ingest
        The open stores.
    outgoing
        Returns what retrieves read.
    reporter
        Reports to the audit trail.
    """

    def __init__(
        self,
        storage: OpenStores,
        ingest: Ingest,
        outgoing: Callable[[Settings], ReadableArchive],
        reporter: AuditReporter,
    ) -> None:
        self._storage = storage
        self._ingest = ingest
        self._outgoing = outgoing
        self._reporter = reporter
        self._rejections = RejectionLog(storage.index)
        self._server: Server | None = None
        self._worker: CommitmentWorker | None = None
        self._users = ExitStack()

    def start(
        self, stack: ExitStack, settings: Settings, listeners: Sequence[Listener], places: SharedCount | None
    ) -> tuple[int, ...]:
        """Begin; what must end last is put on the stack.  Return the ports.

        Raises
        ------
        InvalidSettings
        """
        from backup_scp.dimse.association.server import Server

        self._rejections.start()
        stack.callback(self._rejections.stop)
        made = self._made(settings)
        self._server = Server(
            made.listening,
            made.policy,
            made.services,
            self._rejections,
            places,
            self._reporter,
            identification=made.identification,
        )
        ports = self._server.start(listeners)
        self._begin(made)
        return ports

    def prepared(self, settings: Settings) -> Callable[[], tuple[int, ...]]:
        """Return what goes on with other settings, and returns the ports; until it is called nothing changes.

        Raises
        ------
        InvalidSettings
            A certificate cannot be used; what is returned raises it when a port cannot be opened.
        """
        made, server = self._made(settings), self._server
        assert server is not None, "started"  # noqa: S101 - for the type checker

        def go_on() -> tuple[int, ...]:
            ports = server.use(made.listening, made.policy, made.services, made.identification)
            if self._worker is not None:
                self._worker.stop(_WORKER_GRACE_S)
            self._users.close()
            self._begin(made)
            return ports

        return go_on

    @property
    def is_listening(self) -> bool:
        """Whether every port accepts connections."""
        return self._server is not None and self._server.is_listening

    def report_received(self) -> None:
        """Report to the audit trail what long Associations have received."""
        if self._server is not None:
            self._server.report_received()

    def stop(self) -> None:
        """Let current requests finish."""
        if self._server is not None:
            self._server.stop(_GRACE_S)
        if self._worker is not None:
            self._worker.stop(_WORKER_GRACE_S)
        self._users.close()

    def _begin(self, made: _Made) -> None:
        self._worker, self._users = made.worker, made.users
        made.worker.start()

    def _made(self, settings: Settings) -> _Made:
        from backup_scp.dimse.association.negotiation import is_storage
        from backup_scp.dimse.scp.service_table import services
        from backup_scp.dimse.scu.event_report import EventReporter

        storage, policy, local = self._storage, access_policy(settings), local_ae(settings)
        commitment = StorageCommitment(
            storage.archive,
            storage.index,
            is_storage,
            _pace(settings),
            needed=_copies_needed(settings),
            rejections=self._rejections,
        )
        served = services(
            self._outgoing(settings),
            storage.index,
            policy,
            local,
            commitment,
            self._rejections,
            ingest=self._ingest,
            strict=settings.node.strict_hierarchy,
            get_without_roles=settings.node.get_without_roles,
        )
        worker = CommitmentWorker(commitment, EventReporter(local, policy).report)
        heard = listening(settings)
        users = ExitStack()
        return _Made(heard, policy, served, worker, users, identification(settings, users))


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
