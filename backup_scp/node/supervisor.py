"""Run the node: one process, or several that share its ports (docs/adr/0021).

Several processes do not share memory: a thread of one never waits for a lock of another, and each can use a core.  A
supervisor opens the ports and forks them.  Then it only replaces a process that has ended.
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
from typing import TYPE_CHECKING

from backup_scp import __version__
from backup_scp.errors import InvalidSettings
from backup_scp.machine import clock
from backup_scp.machine.folders import make_folders
from backup_scp.machine.heaps import share_heaps
from backup_scp.machine.readable import moment
from backup_scp.machine.service_manager import ALIVE, READY, STOPPING, tell
from backup_scp.node.alarms import leave_event, start_alarms
from backup_scp.node.node import Node
from backup_scp.node.opening import require_owner
from backup_scp.node.remote_aes import listening
from backup_scp.node.run_record import Run, RunRecord, look
from backup_scp.node.settings import Settings
from backup_scp.node.start_report import Teller, ready
from backup_scp.node.web_process import WebProcess

if TYPE_CHECKING:
    from backup_scp.dimse.association.association_count import SharedCount
    from backup_scp.dimse.association.listener import Listener

log = logging.getLogger(__name__)

_WAKE_S = 1.0
_LOOK_AGAIN_S = 10.0  # interval of ``Node.look_again`` while archive or index has a problem
_STOPPED = (signal.SIGINT, signal.SIGTERM)


def serve(settings: Settings, teller: Teller) -> None:
    """Run the node until SIGINT or SIGTERM.

    It enables the garbage collector after everything is loaded, when the caller has disabled it.

    Raises
    ------
    BackupSCPError
        The node cannot start.
    """
    _require_interpreter_lock()
    share_heaps()
    require_owner(settings)  # before the lock file is created, which would belong to another user
    with contextlib.suppress(OSError):  # the code that needs the folder reports this
        make_folders(settings.home, 0o700)  # private: the index names patients
    before = look(settings.home)
    with contextlib.closing(Run(settings.home)) as run:
        if before.record is not None:  # its end would have removed it
            ended = f"The node ended unexpectedly, after {moment(before.record.alive_at)}; it runs again"
            leave_event(settings, ended)
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
    """Raise on a free-threaded Python: threads here rely on the interpreter lock (docs/architecture.md)."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        raise InvalidSettings(
            "This Python is a free-threaded build, which backup-scp does not support: use the usual build, or start it "
            "with PYTHON_GIL=1"
        )


class _StopSignal:
    """Waits for SIGINT or SIGTERM.

    The handler acquires no lock: it runs in the waiting thread, which may hold that lock already.  The system writes
    the signal to a socket, so that the wait ends at once.
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
        """Wait for a signal; True when one came, now or before."""
        if not self.came and select.select([self._woken], [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(64)
        return self.came

    def close(self) -> None:
        """Close the sockets that receive signals."""
        signal.set_wakeup_fd(-1)
        self._woken.close()
        self._waker.close()

    def _note(self, *_: object) -> None:
        self.came = True


def _serve(
    settings: Settings, node: Node, teller: Teller, run: Run | None, on_start: Callable[[], object] = lambda: None
) -> None:
    """Run one process of the node until it is told to stop, or until its parent has ended.

    Only one process gets ``run``: see ``_Front``.
    """
    parent = os.getppid()
    front = _Front(settings, node, teller, run) if run is not None else None
    with contextlib.closing(_StopSignal()) as stop:
        if sys.platform != "win32" and settings.node.workers > 1:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPED)
        ports = node.start()
        gc.freeze()  # loaded modules are never garbage, so no collection needs to scan them again
        gc.enable()
        on_start()
        if settings.node.workers > 1:
            log.info("Process %d is ready", os.getpid())
        if front is not None:
            front.started(ports)
        look_again_at = time.monotonic() + _LOOK_AGAIN_S
        while not stop.wait(_WAKE_S):
            if node.must_look_again and time.monotonic() > look_again_at:
                node.look_again()
                look_again_at = time.monotonic() + _LOOK_AGAIN_S
            if front is not None:
                front.poll()
            if settings.node.workers > 1 and os.getppid() != parent:
                log.error("The parent process is gone: this process ends")
                break
        if front is not None:
            front.stopping()
        node.stop()
        if front is not None:
            teller.stopped()


class _Front:
    """What one process does for the whole node: its record, its web process, and what the user is told."""

    def __init__(self, settings: Settings, node: Node, teller: Teller, run: Run) -> None:
        self._settings = settings
        self._node = node
        self._teller = teller
        self._run = run
        self._web = WebProcess(settings, node.look_for_restores)
        self._alarms = contextlib.ExitStack()
        self._ports: tuple[int, ...] = ()

    def started(self, ports: tuple[int, ...]) -> None:
        """Report that the node is ready; then start the web process, for which nobody waits."""
        self._ports = ports
        self._web.listen()
        self._run.write(record := self._record())
        self._teller.ready(ready(self._settings, self._node, record))
        tell(READY, f"STATUS=Consoles send to: {record.where}")
        self._web.poll()
        self._alarms = start_alarms(self._settings, self._node.storage, lambda: self._node.is_listening)

    def poll(self) -> None:
        """Look after the web process, write the record if it has changed, and tell a watchdog that the node listens."""
        self._web.poll()
        self._run.write(self._record())
        if self._node.is_listening:
            tell(ALIVE)

    def stopping(self) -> None:
        """Report it, and end the web process."""
        tell(STOPPING)
        self._teller.stopping()
        self._alarms.close()
        self._web.stop()

    def _record(self) -> RunRecord:
        settings, node = self._settings, self._node
        port, tls_port = _named(settings, self._ports)
        several = settings.node.workers > 1
        return RunRecord(
            version=__version__,
            process=os.getppid() if several else os.getpid(),
            user=os.getuid() if hasattr(os, "getuid") else None,
            since=self._run.since,
            ae_title=settings.node.ae_title,
            host=settings.node.host,
            port=port,
            tls_port=tls_port,
            workers=settings.node.workers,
            alive_at=clock.now(),
            listening=node.is_listening,
            maintenance=node.maintenance,
            web_address=self._web.address,
            web_trouble=self._web.trouble,
        )


def _named(settings: Settings, ports: tuple[int, ...]) -> tuple[int | None, int | None]:
    """Return the port without TLS and the port with TLS; None for one that does not exist."""
    if not settings.node.plain:
        return None, ports[0]
    return ports[0], ports[1] if len(ports) > 1 else None


@dataclass
class _Supervisor:
    """Starts and replaces the node's processes; the first one opens archive and index before the others start."""

    settings: Settings
    listeners: list[Listener]
    places: SharedCount
    teller: Teller
    record: Run

    def __post_init__(self) -> None:
        self._numbers: dict[int, int] = {}  # by process ID
        self._stopping = False

    def run(self) -> None:
        """Start the processes, and replace those that end, until the node stops."""
        for each in _STOPPED:
            signal.signal(each, self._stop)
        if not self._first_is_ready():
            for process in self._numbers:
                sys.exit(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))  # that process has reported the reason
            return  # told to stop before the first process was ready
        for number in range(1, self.settings.node.workers):
            self._fork(number)
        gc.enable()
        while self._numbers:
            process, status = os.waitpid(-1, 0)
            if process not in self._numbers:  # process 1 of a container also gets orphaned processes
                continue
            number = self._numbers.pop(process)
            if self._stopping:
                continue
            ended = f"Process {number + 1} of the node ended {_how_it_ended(status)}: a new one replaces it"
            log.error("%s", ended)
            leave_event(self.settings, ended)
            time.sleep(_WAKE_S)  # limits the rate when a process cannot start
            self._fork(number)

    def _first_is_ready(self) -> bool:
        ready, tell = os.pipe()
        self._fork(0, lambda: os.write(tell, b"1"))
        os.close(tell)  # only the first process keeps the other end, so the pipe closes when it ends
        is_ready = os.read(ready, 1)
        os.close(ready)
        return bool(is_ready)

    def _fork(self, number: int, on_start: Callable[[], object] = lambda: None) -> None:
        """Fork a process; errors at its start are reported as usual."""
        if sys.platform == "win32":
            raise NotImplementedError  # ``serve`` has raised before
        # Block until the parent has recorded the new process, and in that one until it has its own handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPED)
        if self._stopping:  # the ports are closed already
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
            listener.close()  # otherwise callers would wait in this queue while the processes close the ports
        for process in list(self._numbers):
            with contextlib.suppress(ProcessLookupError):  # it ended a moment ago
                os.kill(process, signal.SIGTERM)


def _how_it_ended(status: int) -> str:
    """Describe in words how a process ended, from the status of ``waitpid``."""
    code = os.waitstatus_to_exitcode(status)
    return f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
