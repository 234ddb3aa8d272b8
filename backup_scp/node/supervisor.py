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

from backup_scp.errors import InvalidSettings
from backup_scp.machine.folders import make_folders
from backup_scp.machine.heaps import share_heaps
from backup_scp.machine.readable import moment
from backup_scp.machine.thread_switching import switch_threads_often
from backup_scp.node.alarms import leave_event
from backup_scp.node.front import Front, SettingsAgain
from backup_scp.node.node import Node
from backup_scp.node.opening import require_owner
from backup_scp.node.remote_aes import listening
from backup_scp.node.run_record import Run, look
from backup_scp.node.settings import Settings
from backup_scp.node.start_report import Teller

if TYPE_CHECKING:
    from backup_scp.dimse.association.association_count import SharedCount
    from backup_scp.dimse.association.listener import Listener

log = logging.getLogger(__name__)

_WAKE_S = 1.0
_LOOK_AGAIN_S = 10.0  # interval of ``Node.look_again`` while archive or index has a problem
_STOPPED = (signal.SIGINT, signal.SIGTERM)
_HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
_HANDLED = _STOPPED if _HANGUP is None else (*_STOPPED, _HANGUP)


def serve(settings: Settings, teller: Teller, again: SettingsAgain | None = None) -> None:
    """Run the node until SIGINT or SIGTERM; on SIGHUP it goes on with the settings that ``again`` reads.

    It enables the garbage collector after everything is loaded, when the caller has disabled it.

    Raises
    ------
    BackupSCPError
        The node cannot start.
    """
    _require_interpreter_lock()
    again = again or SettingsAgain(lambda: settings)
    if _HANGUP is not None:
        signal.signal(_HANGUP, signal.SIG_IGN)  # until there is something that could read settings again
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
            _serve(settings, Node(settings), Front(settings, teller, run, again))
        elif hasattr(os, "fork"):
            _serve_with_workers(settings, teller, run, again)
        else:
            raise InvalidSettings("[node] workers: this system can have one process only; leave it at 1")


def _serve_with_workers(settings: Settings, teller: Teller, run: Run, again: SettingsAgain) -> None:
    from backup_scp.dimse.association.association_count import SharedCount
    from backup_scp.dimse.association.listener import open_ports

    _Supervisor(settings, open_ports(listening(settings)), SharedCount(settings.node.workers), teller, run, again).run()


def _require_interpreter_lock() -> None:
    """Raise on a free-threaded Python: threads here rely on the interpreter lock (docs/architecture.md)."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        raise InvalidSettings(
            "This Python is a free-threaded build, which backup-scp does not support: use the usual build, or start it "
            "with PYTHON_GIL=1"
        )


class _StopSignal:
    """Waits for SIGINT or SIGTERM, and notes SIGHUP.

    The handler acquires no lock: it runs in the waiting thread, which may hold that lock already.  The system writes
    the signal to a socket, so that the wait ends at once.
    """

    def __init__(self) -> None:
        self.came = self._hung_up = False
        self._window = _Window()
        self._woken, self._waker = socket.socketpair()
        self._woken.settimeout(0)
        self._waker.settimeout(0)
        for number in _STOPPED:
            signal.signal(number, self._note)
        if _HANGUP is not None:
            signal.signal(_HANGUP, self._note_hangup)
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

    def must_reload(self) -> bool:
        """Tell whether SIGHUP came since the last call; several at once count as one."""
        came, self._hung_up = self._hung_up, False
        return came

    def _note(self, *_: object) -> None:
        self.came = True

    def _note_hangup(self, *_: object) -> None:
        if self._window.is_closed:
            self.came = True
        else:
            self._hung_up = True


class _Window:
    """The terminal in which the node was started, if it was in one.

    When it is closed the node ends, for nobody could end it by Ctrl-C any more.
    """

    def __init__(self) -> None:
        self._was_open = self._is_open()

    @property
    def is_closed(self) -> bool:
        """Whether there was one, and it is gone."""
        return self._was_open and not self._is_open()

    @staticmethod
    def _is_open() -> bool:
        return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def _serve(
    settings: Settings,
    node: Node,
    front: Front | None,
    on_start: Callable[[], object] = lambda: None,
    parent: int = 0,
) -> None:
    """Run one process of the node until it is told to stop, or until its parent, which has forked it, has ended.

    Only one process has a front.
    """
    parent = parent or os.getppid()
    with contextlib.closing(_StopSignal()) as stop:
        if sys.platform != "win32" and settings.node.workers > 1:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        switch_threads_often()
        ports = node.start()
        gc.freeze()  # loaded modules are never garbage, so no collection needs to scan them again
        gc.enable()
        on_start()
        if settings.node.workers > 1:
            log.info("Process %d is ready", os.getpid())
        if front is not None:
            front.started(node, ports)
        look_again_at = time.monotonic() + _LOOK_AGAIN_S
        while not stop.wait(_WAKE_S):
            if node.must_look_again and time.monotonic() > look_again_at:
                node.look_again()
                look_again_at = time.monotonic() + _LOOK_AGAIN_S
            if front is not None:
                front.poll(must_reload=stop.must_reload())
            if settings.node.workers > 1 and os.getppid() != parent:
                log.error("The parent process is gone: this process ends")
                break
        if front is not None:
            front.stopping()
        node.stop()
        if front is not None:
            front.stopped()


@dataclass
class _Supervisor:
    """Starts and replaces the node's processes; the first one opens archive and index before the others start."""

    settings: Settings
    listeners: list[Listener]
    places: SharedCount
    teller: Teller
    record: Run
    again: SettingsAgain

    def __post_init__(self) -> None:
        self._numbers: dict[int, int] = {}  # by process ID
        self._stopping = False
        self._window = _Window()

    def run(self) -> None:
        """Start the processes, and replace those that end, until the node stops."""
        for each in _STOPPED:
            signal.signal(each, self._stop)
        if _HANGUP is not None:
            signal.signal(_HANGUP, self._hang_up)
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
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        if self._stopping:  # the ports are closed already
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
            return
        parent = os.getpid()
        process = os.fork()
        if process:
            self._numbers[process] = number
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
            return
        self._numbers.clear()
        self.places.begin(number)
        node = Node(self.settings, self.listeners, self.places, keeps_up=number == 0)
        front = Front(self.settings, self.teller, self.record, self.again) if number == 0 else None
        _serve(self.settings, node, front, on_start, parent)
        sys.exit(0)

    def _stop(self, *_: object) -> None:
        self._stopping = True
        for listener in self.listeners:
            listener.close()  # otherwise callers would wait in this queue while the processes close the ports
        for process in list(self._numbers):
            with contextlib.suppress(ProcessLookupError):  # it ended a moment ago
                os.kill(process, signal.SIGTERM)

    def _hang_up(self, number: int, _: object) -> None:
        """End the node whose window was closed; else let the process with the front read the settings again."""
        if self._window.is_closed:
            self._stop()
            return
        for process in [process for process, place in self._numbers.items() if place == 0]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)


def _how_it_ended(status: int) -> str:
    """Describe in words how a process ended, from the status of ``waitpid``."""
    code = os.waitstatus_to_exitcode(status)
    return f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
