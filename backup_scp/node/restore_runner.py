"""Carry out restores that were ordered on the page: each in a process of its own, which goes on after a restart.

Such a process sends as ``backup-scp restore`` does (``cli/restore_job.py``).  Reading, sending and making a receipt
neither slow the DICOM service down nor keep memory there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from backup_scp.errors import BackupSCPError, Unavailable
from backup_scp.machine import clock
from backup_scp.node.settings import Settings
from backup_scp.ports import Index
from backup_scp.services import restore_jobs
from backup_scp.services.restore_jobs import RestoreJob
from backup_scp.watch.unforeseen import place_of

log = logging.getLogger(__name__)

MODULE = "backup_scp.cli.restore_job"
_AT_ONCE = 4  # the others wait their turn
_RECORD_EVERY_S = 1.0
_LONGEST_PAUSE_S = 60.0
_END_S = 20.0


class RestoreOrder(Struct, frozen=True):
    """What such a process reads first.

    Attributes
    ----------
    settings
        All settings, as the node has read them.
    to
        Name of a ``[[remote]]``.
    studies
        Study Instance UIDs.
    receipt
        File of the receipt.
    scope
        The clinics whose images are sent, as ``str`` of a ``SiteScope``.
    """

    settings: Settings
    to: str
    studies: tuple[str, ...]
    receipt: Path
    scope: str = ""


class RestoreTold(Struct, frozen=True):
    """What such a process tells, one JSON object a line.

    Attributes
    ----------
    kind
        ``progress``: images done, of how many.  ``waits``: why.  ``end``: what came of it.
    done, total
        Images.
    sentence
        For a person.
    is_complete
        Whether all have arrived.
    receipt
        Name of the file of the receipt; empty while there is none.
    """

    kind: Literal["progress", "waits", "end"]
    done: int = 0
    total: int = 0
    sentence: str = ""
    is_complete: bool = False
    receipt: str = ""


def receipts_folder(settings: Settings) -> Path:
    """Return the folder of the receipts, which name patients."""
    return settings.home / "restores" / "receipts"


def node_name(settings: Settings) -> str:
    """Name this node among those that share an index."""
    return f"{platform.node()} {settings.home}"


class RestoreRunner:
    """Starts a process for each order.

    Parameters
    ----------
    settings
        Of the node.
    index
        Has the orders.
    """

    def __init__(self, settings: Settings, index: Index) -> None:
        self._settings = settings
        self._index = index
        self._places = threading.Semaphore(_AT_ONCE)
        self._lock = threading.Lock()
        self._running: dict[str, threading.Thread] = {}
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._stopping = threading.Event()

    def use(self, settings: Settings) -> None:
        """Begin later orders with other settings."""
        self._settings = settings

    def look(self) -> None:
        """Begin with the orders that are new, or that were not finished when the node ended."""
        with self._lock:  # else a restore that ends just now would begin again
            try:
                orders = restore_jobs.jobs(self._index)
            except Unavailable as error:
                log.warning("It is unknown whether somebody ordered a restore: %s", error)
                return
            for job in reversed(orders):
                if not job.is_running or job.node != node_name(self._settings) or self._stopping.is_set():
                    continue
                if job.place not in self._running:
                    thread = threading.Thread(target=self._run, args=[job], name=job.place, daemon=True)
                    self._running[job.place] = thread
                    thread.start()

    def stop(self) -> None:
        """End after the current images; the next start continues."""
        with self._lock:
            self._stopping.set()
            for process in self._processes:
                _close(process)
        for thread in list(self._running.values()):
            thread.join(_END_S)
        for process in list(self._processes):
            process.kill()

    def _run(self, job: RestoreJob) -> None:
        try:
            with self._places:
                job = self._carry_out(job)
        except Exception as unforeseen:  # noqa: BLE001 - its text may hold a patient's data
            log.error("A restore ended: %s. This should not have happened; please report it", place_of(unforeseen))
            job = restore_jobs.ended(job, "It ended unexpectedly; the log of the node has the place", clock.now())
        if not job.is_running:
            self._record_end(job)
            log.info("A restore to %s, ordered on the page, has ended: %d images", job.to, job.done)
        with self._lock:
            del self._running[job.place]

    def _carry_out(self, job: RestoreJob) -> RestoreJob:
        """Run its process; return what came of it, which has not ended when the node is being stopped."""
        recorded_at = 0.0
        with self._process(job) as process:
            if process is None:
                return job
            for told in _lines(process):
                if told.kind == "end":
                    job = replace(job, receipt=told.receipt, done=told.done, total=told.total)
                    return restore_jobs.ended(job, told.sentence, clock.now(), is_complete=told.is_complete)
                job = replace(job, done=told.done or job.done, total=told.total or job.total, note=told.sentence)
                if told.kind == "waits" or time.monotonic() - recorded_at > _RECORD_EVERY_S:
                    recorded_at = time.monotonic()
                    self._record(job)
            code = process.wait()
        if self._stopping.is_set():
            return job
        return restore_jobs.ended(job, f"Its process was ended (exit code {code}): send it again", clock.now())

    @contextlib.contextmanager
    def _process(self, job: RestoreJob) -> Iterator[subprocess.Popen[bytes] | None]:
        order = RestoreOrder(self._settings, job.to, job.studies, self._receipt(job), str(job.scope))
        with self._lock:
            if self._stopping.is_set():
                yield None
                return
            process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=None if sys.platform == "win32" else 0,  # Ctrl-C is for the node, which ends this one
            )
            self._processes.add(process)
        try:
            with contextlib.suppress(OSError):  # it has ended already
                assert process.stdin is not None  # noqa: S101 - for the type checker
                process.stdin.write(msgspec.json.encode(order, enc_hook=str) + b"\n")
                process.stdin.flush()
            yield process
        finally:
            with self._lock:
                _close(process)
                self._processes.discard(process)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def _receipt(self, job: RestoreJob) -> Path:
        has_pdf = importlib.util.find_spec("reportlab") is not None
        name = f"{job.began_at:%Y%m%dT%H%M%SZ}-{job.place}"
        return receipts_folder(self._settings) / f"{name}{'.pdf' if has_pdf else '.txt'}"

    def _record(self, job: RestoreJob) -> bool:
        try:
            restore_jobs.record(self._index, job)
        except BackupSCPError as error:
            log.warning("The progress of a restore cannot be recorded: %s", error)
            return False
        return True

    def _record_end(self, job: RestoreJob) -> None:
        """Record the end, when the index is back: without it the restore would begin again."""
        pause_s = _RECORD_EVERY_S
        while not self._record(job) and not self._stopping.wait(pause_s):
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _lines(process: subprocess.Popen[bytes]) -> Iterator[RestoreTold]:
    for line in process.stdout or ():
        with contextlib.suppress(msgspec.MsgspecError):
            yield msgspec.json.decode(line, type=RestoreTold)


def _close(process: subprocess.Popen[bytes]) -> None:
    """Tell a process to end: it reads standard input until that closes."""
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
