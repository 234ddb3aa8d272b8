"""The running node: one process, or several that share its ports (docs/adr/0021).

Several do not share memory: a thread of one never waits for a lock of another, and each has a core.  They are made by
``fork`` from a process that has opened the ports and does nothing else but to replace one that ended.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backup_scp import __version__
from backup_scp.errors import InvalidSettings
from backup_scp.node import Node
from backup_scp.remotes import listening
from backup_scp.settings import Settings

if TYPE_CHECKING:
    from backup_scp.network.listener import Listener
    from backup_scp.network.places import Places

log = logging.getLogger(__name__)

_WAKE_S = 1.0
_LOOK_AGAIN_S = 10.0  # at archive and index, when one of them was in trouble
_STOPPED = (signal.SIGINT, signal.SIGTERM)

Say = Callable[[str], None]


def serve(settings: Settings, say: Say) -> None:
    """Run the node until SIGINT or SIGTERM; ``say`` tells a person, line by line, what is there.

    Garbage is collected when all is loaded, where the caller has put it off until then.

    Raises
    ------
    BackupSCPError
        It cannot start.
    """
    from backup_scp.network.places import Places
    from backup_scp.network.server import open_ports

    if settings.node.workers == 1:
        _serve(settings, Node(settings), say)
    elif hasattr(os, "fork"):
        _Supervisor(settings, open_ports(listening(settings)), Places(settings.node.workers), say).run()
    else:
        raise InvalidSettings("[node] workers: this system can have one process only; leave it at 1")


def _serve(settings: Settings, node: Node, say: Say, on_start: Callable[[], object] = lambda: None) -> None:
    """Be a process of the node until it is told to stop, or the one that it came of is gone."""
    stopped, parent = threading.Event(), os.getppid()
    for number in _STOPPED:
        signal.signal(number, lambda *_: stopped.set())
    if settings.node.workers > 1:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPED)
    ports = node.start()
    gc.freeze()  # what was loaded is never garbage: no collection looks through it again
    gc.enable()
    on_start()
    if settings.node.workers > 1:
        log.info("Process %d is ready", os.getpid())
    _tell(settings, node, ports, say)
    look_again_at = time.monotonic() + _LOOK_AGAIN_S
    while not stopped.wait(_WAKE_S):  # on Windows a wait without end does not notice Ctrl-C
        if node.troubles and time.monotonic() > look_again_at:
            node.look_again()
            look_again_at = time.monotonic() + _LOOK_AGAIN_S
        if settings.node.workers > 1 and os.getppid() != parent:
            log.error("The process that this one came of is gone: it ends")
            break
    node.stop()


def _tell(settings: Settings, node: Node, ports: tuple[int, ...], say: Say) -> None:
    port, *secured = ports
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


@dataclass
class _Supervisor:
    """Has the processes of the node: the first one sees to archive and index before there are others."""

    settings: Settings
    listeners: list[Listener]
    places: Places
    say: Say

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
            log.error("Process %d of the node ended (%s): another takes its place", number + 1, status)
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
        """Let there be a process; what it raises at its start goes the usual way to a person."""
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
        _serve(self.settings, node, self.say if number == 0 else lambda _: None, on_start)
        sys.exit(0)

    def _stop(self, *_: object) -> None:
        self._stopping = True
        for listener in self.listeners:
            listener.close()  # else callers wait here while the processes let go of the ports
        for process in list(self._numbers):
            with contextlib.suppress(ProcessLookupError):  # its end was just heard of
                os.kill(process, signal.SIGTERM)
