"""The running node: one process, or several that share its ports (docs/adr/0021).

Several do not share memory: a thread of one never waits for a lock of another, and each has a core.  They are made by
``fork`` from a process that has opened the ports and does nothing else but to replace one that ended.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from backup_scp import __version__
from backup_scp.errors import InvalidSettings
from backup_scp.machine import clock
from backup_scp.machine.addresses import console_addresses
from backup_scp.machine.folders import make_folders
from backup_scp.node.node import Node
from backup_scp.node.opening import require_owner
from backup_scp.node.remote_aes import listening
from backup_scp.node.run_record import Run, RunRecord
from backup_scp.node.settings import Settings

if TYPE_CHECKING:
    from backup_scp.dimse.association.association_count import SharedCount
    from backup_scp.dimse.association.listener import Listener

log = logging.getLogger(__name__)

_WAKE_S = 1.0
_LOOK_AGAIN_S = 10.0  # at archive and index, when one of them was in trouble
_STOPPED = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Ready:
    """A node that serves from now on.

    Attributes
    ----------
    record
        Start, addresses and AE title of this run.
    addresses
        Addresses of this computer at which consoles reach it; empty when no other computer can.
    archive
        The folder of the images.
    index
        ``SQLite`` or ``PostgreSQL``.
    remarks
        Notes that need no action.
    troubles
        Why nothing can be stored now; empty when the node can store.
    """

    record: RunRecord
    addresses: list[str]
    archive: str
    index: str
    remarks: list[str]
    troubles: list[str]


class Teller(Protocol):
    """Reports to whoever started the node."""

    def ready(self, ready: Ready) -> None:
        """Say that it serves from now on."""

    def stopping(self) -> None:
        """Say that it was told to stop."""

    def stopped(self) -> None:
        """Say that it has ended."""


def serve(settings: Settings, teller: Teller) -> None:
    """Run the node until SIGINT or SIGTERM.

    Garbage is collected when all is loaded, where the caller has put it off until then.

    Raises
    ------
    BackupSCPError
        It cannot start.
    """
    _require_interpreter_lock()
    require_owner(settings)  # else the lock would be another user's
    with contextlib.suppress(OSError):  # whoever needs it will say what is wrong with it
        make_folders(settings.home, 0o700)  # the index names patients
    with contextlib.closing(Run(settings.home)) as run:
        if settings.node.workers == 1:
            _serve(settings, Node(settings), teller, run)
        elif hasattr(os, "fork"):
            _serve_with_workers(settings, teller, run)
        else:
            raise InvalidSettings("[node] workers: this system can have one process only; leave it at 1")


def _serve_with_workers(settings: Settings, teller: Teller, run: Run) -> None:
    from backup_scp.dimse.association.association_count import SharedCount
    from backup_scp.dimse.association.listener import open_ports

    _Supervisor(settings, open_ports(listening(settings)), SharedCount(settings.node.workers), teller, run).run()


def _require_interpreter_lock() -> None:
    """Refuse a free-threaded Python: shared data here relies on the interpreter lock (docs/architecture.md)."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        raise InvalidSettings(
            "This Python is a free-threaded build, for which backup-scp is not made: use the usual build, or start it "
            "with PYTHON_GIL=1"
        )


class _StopSignal:
    """Waits for SIGINT or SIGTERM.

    The handler takes no lock: it runs in the thread that waits here, which may hold whatever lock it would want.  The
    system writes the signal to a socket, so that the wait ends at once.
    """

    def __init__(self) -> None:
        self.came = False
        self._woken, self._waker = socket.socketpair()
        self._woken.settimeout(0)
        self._waker.settimeout(0)
        for number in _STOPPED:
            signal.signal(number, self._note)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)

    def wait(self, seconds: float) -> bool:
        """Wait for a signal for so long; True when one came, now or before."""
        if not self.came and select.select([self._woken], [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(64)
        return self.came

    def close(self) -> None:
        """Close the sockets that signals wake."""
        signal.set_wakeup_fd(-1)
        self._woken.close()
        self._waker.close()

    def _note(self, *_: object) -> None:
        self.came = True


def _serve(
    settings: Settings, node: Node, teller: Teller, run: Run | None, on_start: Callable[[], object] = lambda: None
) -> None:
    """Run one process of the node until it is told to stop, or until its parent is gone.

    ``run`` is given to the one process that tells people, and the run's record, what there is.
    """
    parent = os.getppid()
    with contextlib.closing(_StopSignal()) as stop:
        if sys.platform != "win32" and settings.node.workers > 1:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPED)
        ports = node.start()
        gc.freeze()  # what was loaded is never garbage: no collection looks through it again
        gc.enable()
        on_start()
        if settings.node.workers > 1:
            log.info("Process %d is ready", os.getpid())
        if run is not None:
            run.write(record := _record(settings, node, ports, run))
            teller.ready(_ready(settings, node, record))
        look_again_at = time.monotonic() + _LOOK_AGAIN_S
        while not stop.wait(_WAKE_S):
            if node.must_look_again and time.monotonic() > look_again_at:
                node.look_again()
                look_again_at = time.monotonic() + _LOOK_AGAIN_S
            if run is not None:
                run.write(_record(settings, node, ports, run))
            if settings.node.workers > 1 and os.getppid() != parent:
                log.error("The process that this one came of is gone: it ends")
                break
        if run is not None:
            teller.stopping()
        node.stop()
        if run is not None:
            teller.stopped()


def _record(settings: Settings, node: Node, ports: tuple[int, ...], run: Run) -> RunRecord:
    port, tls_port = _named(settings, ports)
    several = settings.node.workers > 1
    return RunRecord(
        version=__version__,
        process=os.getppid() if several else os.getpid(),
        user=os.getuid() if hasattr(os, "getuid") else None,
        since=run.since,
        ae_title=settings.node.ae_title,
        host=settings.node.host,
        port=port,
        tls_port=tls_port,
        workers=settings.node.workers,
        alive_at=clock.now(),
        listening=node.is_listening,
        maintenance=node.maintenance,
    )


def _named(settings: Settings, ports: tuple[int, ...]) -> tuple[int | None, int | None]:
    """Say which port is plain and which with TLS, None for one that there is not."""
    if not settings.node.plain:
        return None, ports[0]
    return ports[0], ports[1] if len(ports) > 1 else None


def _ready(settings: Settings, node: Node, record: RunRecord) -> Ready:
    return Ready(
        record=record,
        addresses=console_addresses(settings.node.host),
        archive=str(settings.archive_path),
        index="SQLite" if settings.index_is_embedded else "PostgreSQL",
        remarks=list(node.remarks),
        troubles=list(node.troubles),
    )


@dataclass
class _Supervisor:
    """Starts and replaces the processes of the node; the first one opens archive and index before the others start."""

    settings: Settings
    listeners: list[Listener]
    places: SharedCount
    teller: Teller
    record: Run

    def __post_init__(self) -> None:
        self._numbers: dict[int, int] = {}  # by process ID
        self._stopping = False

    def run(self) -> None:
        """Start them, replace those that end, until the node stops."""
        for each in _STOPPED:
            signal.signal(each, self._stop)
        if not self._first_is_ready():
            for process in self._numbers:
                sys.exit(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))  # it has said why
            return  # it was told to stop before there was one
        for number in range(1, self.settings.node.workers):
            self._fork(number)
        gc.enable()
        while self._numbers:
            process, status = os.waitpid(-1, 0)
            if process not in self._numbers:  # the first process of a container is given orphans, too
                continue
            number = self._numbers.pop(process)
            if self._stopping:
                continue
            log.error("Process %d of the node ended %s: another takes its place", number + 1, _how_it_ended(status))
            time.sleep(_WAKE_S)  # one that cannot start is not tried a thousand times a second
            self._fork(number)

    def _first_is_ready(self) -> bool:
        ready, tell = os.pipe()
        self._fork(0, lambda: os.write(tell, b"1"))
        os.close(tell)  # the other end is the first process's: it ends with it
        is_ready = os.read(ready, 1)
        os.close(ready)
        return bool(is_ready)

    def _fork(self, number: int, on_start: Callable[[], object] = lambda: None) -> None:
        """Fork a process; errors at its start are reported as usual."""
        if sys.platform == "win32":
            raise NotImplementedError  # ``serve`` has refused it
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPED)  # until it is known, and until it heeds them itself
        if self._stopping:  # the ports are closed
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPED)
            return
        process = os.fork()
        if process:
            self._numbers[process] = number
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPED)
            return
        self._numbers.clear()
        self.places.begin(number)
        node = Node(self.settings, self.listeners, self.places, keeps_up=number == 0)
        _serve(self.settings, node, self.teller, self.record if number == 0 else None, on_start)
        sys.exit(0)

    def _stop(self, *_: object) -> None:
        self._stopping = True
        for listener in self.listeners:
            listener.close()  # else callers wait here while the processes let go of the ports
        for process in list(self._numbers):
            with contextlib.suppress(ProcessLookupError):  # its end was just heard of
                os.kill(process, signal.SIGTERM)


def _how_it_ended(status: int) -> str:
    """Write what ``waitpid`` says of a process in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
