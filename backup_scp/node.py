"""The composition root: settings made into archive, index, destinations and servers."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Self

from backup_scp import __version__, rebuild
from backup_scp.commitment import Pace, StorageCommitment, Worker
from backup_scp.errors import IndexUnavailable, InvalidSelection, InvalidSettings, Unavailable
from backup_scp.folders import make_folders
from backup_scp.ingest import Ingest
from backup_scp.ports import Archive, Destination, Heading, Index, RemoteAE, Storm, Task, Version
from backup_scp.restore import Commit, Journal
from backup_scp.settings import Settings
from backup_scp.upkeep import Upkeep

if TYPE_CHECKING:
    from backup_scp.network.association import LocalAE, Timing
    from backup_scp.network.server import Listening, Server, Service

log = logging.getLogger(__name__)

_WAKE_S = 1.0
_WORKER_GRACE_S = 5.0  # what it has not done by then it does after the next start
_LOOK_AGAIN_S = 10.0  # at archive and index, when one of them was in trouble
_TO_BEGIN_WITH = 5  # batches
_GRACE_S = 30.0  # what an image under way may take when the node stops


def open_archive(settings: Settings) -> Archive:
    """Open the archive; its folder is made when it is missing.

    Raises
    ------
    ArchiveUnavailable
    """
    from backup_scp.archive.filesystem import FilesystemArchive

    return FilesystemArchive(settings.archive_path, settings.archive.reserve_bytes)


def open_index(settings: Settings, *, migrate: bool | None = None) -> Index:
    """Open the index.

    Parameters
    ----------
    settings
        Where it is.
    migrate
        Bring its tables up to date first.  By default only those of the embedded database: a shared one is migrated
        by ``db upgrade``, when its owner says so.

    Raises
    ------
    IndexUnavailable
    """
    from backup_scp.index.sql_index import SQLIndex

    if settings.index_is_embedded if migrate is None else migrate:
        upgrade_index(settings)
    return SQLIndex(settings.index_url)


def set_aside_damaged_index(settings: Settings, seen: str = "") -> Iterator[str]:
    """Rename an SQLite index that is damaged: an empty one is made when it is opened, and filled by a rebuild.

    Parameters
    ----------
    settings
        Where it is.
    seen
        What was met in it; by default its file is looked at.

    Yields
    ------
    str
        What was wrong, and what the file is called now.

    Raises
    ------
    IndexUnavailable
    """
    from backup_scp.index.file_care import damage_of, set_aside

    if damage := seen or damage_of(settings.index_url):
        aside = set_aside(settings.index_url)
        yield f"Its file was damaged ({damage}) and set aside as {aside}"


def back_up_index(settings: Settings, to: Path) -> int:
    """Copy an SQLite index to a new file, while it is used; return the copy's size in bytes.

    Raises
    ------
    IndexUnavailable
    """
    from backup_scp.index.file_care import backup

    return backup(settings.index_url, to)


def upgrade_index(settings: Settings) -> bool:
    """Bring the index's tables up to date; True when there was work.

    Raises
    ------
    IndexUnavailable
    """
    from backup_scp.index.migrate import upgrade

    return upgrade(settings.index_url)


class Storage:
    """Archive and index, open as long as the ``with`` block.

    Attributes
    ----------
    archive, index
        The ports.
    settings
        Where they are.

    Parameters
    ----------
    settings
        Where they are.
    any_archive
        Read the archive that is there, also when the index was made of another.
    """

    archive: Archive
    index: Index

    def __init__(self, settings: Settings, *, any_archive: bool = False) -> None:
        self.settings = settings
        self._any_archive = any_archive
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):  # whoever needs it will say what is wrong with it
            make_folders(self.settings.home, 0o700)  # the index names patients
        self.archive = open_archive(self.settings)
        was_upgraded = self.settings.index_is_embedded and upgrade_index(self.settings)
        self.index = open_index(self.settings, migrate=False)
        self._open.callback(self.index.close)
        if not self._any_archive:
            self._expect_the_archive()
        if was_upgraded:
            self.expect_rebuild("It knew nothing of the files in the archive")
        return self

    def _expect_the_archive(self) -> None:
        with contextlib.suppress(IndexUnavailable):  # whoever needs it will say what is wrong with it
            identity = self.index.archive_identity()
            if identity is not None:
                self.archive.expect(identity)

    def expect_rebuild(self, reason: str) -> bool:
        """Let the node make the index from the files, where it knows nothing and the archive holds something."""
        if not self.index.is_empty() or not self._holds_something():
            return False
        self.index.record_task(Task(rebuild.NAME, datetime.now(UTC), note=reason))
        return True

    def _holds_something(self) -> bool:
        try:
            return next(self.archive.locations(), None) is not None
        except Unavailable:
            return False

    def __exit__(self, *exc: object) -> None:
        self._open.close()


@contextlib.contextmanager
def reader(settings: Settings) -> Iterator[rebuild.Read]:
    """Give what reads the headers of many files: other processes, one for each processor but this one's."""
    with ExitStack() as stack:
        yield functools.partial(_read_in_processes, settings, stack)


def _read_in_processes(settings: Settings, stack: ExitStack, batches: Iterable[rebuild.Folders]) -> rebuild.Found:
    workers = max(1, (os.cpu_count() or 2) - 1)
    under_way: deque[tuple[rebuild.Folders, Future[list[Version | rebuild.LeftOut]]]] = deque()
    pool: ProcessPoolExecutor | None = None
    for number, batch in enumerate(batches):
        if number < _TO_BEGIN_WITH:  # what is few is read before a process has started
            yield batch, rebuild.read_files(open_archive(settings), batch.locations)
            continue
        pool = pool or stack.enter_context(
            ProcessPoolExecutor(workers, get_context("spawn"), initializer=_ignore_interrupt)
        )
        under_way.append((batch, pool.submit(_read_files, settings, batch.locations)))
        if len(under_way) > 2 * workers:
            first, found = under_way.popleft()
            yield first, found.result()
    for batch, found in under_way:
        yield batch, found.result()


def _read_files(settings: Settings, locations: list[str]) -> list[Version | rebuild.LeftOut]:
    return rebuild.read_files(open_archive(settings), locations)


def _ignore_interrupt() -> None:
    """Ctrl-C goes to every process of the terminal; the one that asked for this work will end it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def destination(settings: Settings, to: str) -> Destination:
    """Find where ``restore --to`` sends.

    The name or AE title of a configured remote AE; else a folder that exists, or a path with a separator in it
    (``./folder``), whose last folder is made.

    Raises
    ------
    InvalidSelection
        It is neither, or the remote AE may not be sent to.
    """
    remote = settings.find_remote(to)
    if remote is not None:
        return _remote_destination(settings, remote)
    folder = Path(to).expanduser()
    if folder.is_dir() or "/" in to or "\\" in to:
        from backup_scp.destinations.directory import DirectoryDestination

        return DirectoryDestination(folder.absolute())
    known = ", ".join(r.name for r in settings.remotes) or "none is configured"
    raise InvalidSelection(f"{to} is no remote AE ({known}) and no folder: for a new folder write ./{to}")


def _remote_destination(settings: Settings, remote: RemoteAE) -> Destination:
    from backup_scp.network.storage_scu import RemoteAEDestination

    if not remote.destination:
        raise InvalidSelection(f"{remote.name} has destination = false in the settings: nothing is sent to it")
    return RemoteAEDestination(local_ae(settings), remote)


@contextlib.contextmanager
def committer(settings: Settings, to: str, index: Index) -> Iterator[Commit]:
    """Ask a remote AE to commit what it was sent; its reports are taken here when no node is running to take them.

    Raises
    ------
    InvalidSelection
        It is a folder.
    """
    from backup_scp.network.access import AccessPolicy
    from backup_scp.network.command_set import Field
    from backup_scp.network.server import Server
    from backup_scp.network.services import reports_service
    from backup_scp.network.storage_commitment_scu import StorageCommitmentSCU

    remote = settings.find_remote(to)
    if remote is None:
        raise InvalidSelection("--commit is for a remote AE: a folder's files can be looked at")
    scu = StorageCommitmentSCU(local_ae(settings), remote, index.commitments)
    services: dict[int, Service] = {Field.N_EVENT_REPORT_RQ: reports_service(index)}
    server = Server(_listening(settings), AccessPolicy(settings.remotes), services, index.record_rejection)
    with ExitStack() as stack:
        with contextlib.suppress(InvalidSettings):  # the port is taken: by the node, which takes them
            server.start()
            stack.callback(server.stop, _WORKER_GRACE_S)
        yield lambda references: scu.commit(references, settings.commitment.answer_s)


def journal(settings: Settings, to: str) -> Journal | None:
    """Open what a remote AE confirmed in earlier restores; a folder needs none, for its files can be looked at.

    A remote AE that was moved to another host or port begins a new one.
    """
    remote = settings.find_remote(to)
    if remote is None:
        return None
    identity = f"{remote.name}\n{remote.ae_title}\n{remote.host}\n{remote.port}"
    name = re.sub(r"[^A-Za-z0-9-]", "_", remote.name)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    return Journal(settings.home / "restores" / f"{name}.{digest}.txt")


def echo(settings: Settings, ae_title: str, host: str, port: int, *, tls: bool = False) -> None:
    """C-ECHO a remote AE.

    Raises
    ------
    DestinationUnavailable
        With the reason, and what to look at.
    """
    from backup_scp.network.verification_scu import echo as verification_echo

    verification_echo(local_ae(settings), ae_title, host, port, tls=tls)


def local_ae(settings: Settings) -> LocalAE:
    """Say who we are to those whom we call.

    Raises
    ------
    InvalidSettings
        The certificate cannot be used.
    """
    from backup_scp.network.association import LocalAE

    secured = None
    if (files := settings.tls_files) is not None:
        from backup_scp.network.tls import Credentials, requestor_context

        secured = requestor_context(Credentials(*files))
    return LocalAE(settings.node.ae_title, timing(settings), secured)


def timing(settings: Settings) -> Timing:
    """Say how long the network may take."""
    from backup_scp.network.association import Timing

    node = settings.node
    return Timing(
        connect_s=node.connect_timeout_s,
        association_s=node.association_timeout_s,
        idle_s=node.idle_timeout_s,
        network_s=node.network_timeout_s,
    )


class Node:
    """The running node: storage, services and the DIMSE server.

    Parameters
    ----------
    settings
        Everything it needs to know.

    Attributes
    ----------
    troubles
        What is wrong with archive and index, one sentence each, as of the start or of the last ``look_again``.
    remarks
        What a person should know, and need not act on.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open = ExitStack()
        self._server: Server | None = None
        self._worker: Worker | None = None
        self._storage: Storage | None = None
        self.troubles: list[str] = []
        self.remarks: list[str] = []

    def start(self) -> tuple[int, ...]:
        """Open the storage, take in what a crash left, and listen.

        Returns
        -------
        tuple of int
            The ports: the plain one, and that with TLS when there is one.

        Raises
        ------
        BackupSCPError
            What cannot be had, with a fix; nothing is left open.
        """
        from backup_scp.network.access import AccessPolicy
        from backup_scp.network.negotiation import is_storage
        from backup_scp.network.server import Server
        from backup_scp.network.services import services
        from backup_scp.network.storage_commitment_report import EventReporter

        settings = self._settings
        with ExitStack() as stack:
            reasons = list(set_aside_damaged_index(settings))
            storage = self._storage = stack.enter_context(Storage(settings))
            self.look_again()
            self.remarks = list(_lost_index(storage, "".join(reasons)))
            for remark in self.remarks:
                log.error("%s", remark)
            policy, local = AccessPolicy(settings.remotes), local_ae(settings)
            commitment = StorageCommitment(storage.archive, storage.index, is_storage, _pace(settings))
            reporter = EventReporter(local, policy)
            served = services(
                storage.archive,
                storage.index,
                policy,
                local,
                commitment,
                strict=settings.node.strict_hierarchy,
            )
            self._server = Server(_listening(settings), policy, served, storage.index.record_rejection)
            ports = self._server.start()
            self._worker = Worker(commitment, reporter.report)
            self._worker.start()
            upkeep = Upkeep(
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

    def look_again(self) -> None:
        """Try archive and index once more, and take in what could not be taken in until now."""
        assert self._storage is not None, "not started"  # noqa: S101 - for the type checker
        before, self.troubles = self.troubles, list(_recover(self._storage))
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


def _recover(storage: Storage) -> Iterator[str]:
    """Enter what a crash left, and try archive and index; yield what is wrong with them.

    A volume that cannot be written, or a database that does not answer, is no reason not to start: it may come back,
    and what can be served meanwhile is.
    """
    ingest = Ingest(storage.archive, storage.index)
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
        log.warning("%d files without an index row, left by a crash, were entered", recovered)


def _pace(settings: Settings) -> Pace:
    given = settings.commitment
    return Pace(
        images=timedelta(seconds=given.wait_s),
        retry=timedelta(seconds=given.retry_s),
        give_up=timedelta(days=given.retry_days),
    )


def _lost_index(storage: Storage, reason: str) -> Iterator[str]:
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


def _renew_index(storage: Storage, damage: str) -> None:
    """Set aside an index that was found to be damaged while the node runs, and begin a new one."""
    settings = storage.settings
    for reason in set_aside_damaged_index(settings, damage):
        log.error("%s", reason)
        upgrade_index(settings)
        storage.index.record_task(Task(rebuild.NAME, datetime.now(UTC), note=reason))


def storms(settings: Settings, index: Index) -> list[Storm]:
    """List the senders that changed more than the settings find usual."""
    alerts = settings.alerts
    since = datetime.now(UTC) - timedelta(days=alerts.changed_studies_days)
    return index.storms(since, alerts.changed_studies) if alerts.changed_studies else []


def _listening(settings: Settings) -> Listening:
    from backup_scp.network.server import Listening

    node, secured = settings.node, None
    if (files := settings.tls_files) is not None:
        from backup_scp.network.tls import Credentials, acceptor_context

        secured = acceptor_context(Credentials(*files))
    return Listening(
        ae_title=node.ae_title,
        host=node.host,
        port=node.port,
        check_called_ae_title=node.check_called_ae_title,
        maximum_associations=node.maximum_associations,
        reserved_associations=node.reserved_associations,
        maximum_pdu_length=node.maximum_pdu_length,
        timing=timing(settings),
        tls=secured,
        tls_port=settings.tls.port,
    )


def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Run the node until SIGINT or SIGTERM; ``say`` tells a person, line by line, what is there.

    Raises
    ------
    BackupSCPError
        It cannot start.
    """
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    node = Node(settings)
    port, *secured = node.start()
    where = "all addresses" if settings.node.host in ("0.0.0.0", "::") else settings.node.host  # noqa: S104
    with_tls = "".join(f" and with TLS port {each}" for each in secured)
    engine = "SQLite" if settings.index_is_embedded else "PostgreSQL"
    say(f"backup-scp {__version__} is ready: AE title {settings.node.ae_title}, port {port}{with_tls} on {where}")
    say(f"Images are kept in {settings.archive_path}, the index is {engine}")
    say("Stop it with Ctrl-C; README.md says how to point a DR console at it")
    for remark in node.remarks:
        say(f"Attention: {remark}")
    for trouble in node.troubles:
        say(f"Attention: nothing can be stored now. {trouble}")
    look_again_at = time.monotonic() + _LOOK_AGAIN_S
    while not stopped.wait(_WAKE_S):  # on Windows a wait without end does not notice Ctrl-C
        if node.troubles and time.monotonic() > look_again_at:
            node.look_again()
            look_again_at = time.monotonic() + _LOOK_AGAIN_S
    node.stop()
