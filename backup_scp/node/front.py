"""What one process of the node does for all: its record, its web process, its alarms, other settings."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from typing import NamedTuple

from backup_scp import __version__
from backup_scp.errors import BackupSCPError
from backup_scp.machine import clock
from backup_scp.machine.readable import count
from backup_scp.machine.service_manager import ALIVE, READY, STOPPING, tell
from backup_scp.node.alarms import start_alarms
from backup_scp.node.alert_setup import alert_channels
from backup_scp.node.audit_setup import start_forwarding
from backup_scp.node.node import Node
from backup_scp.node.reloading import RELOAD, Reloaded, changed, note, require_live
from backup_scp.node.run_record import Run, RunRecord
from backup_scp.node.settings import Settings
from backup_scp.node.start_report import Teller, ready
from backup_scp.node.web_process import WebProcess
from backup_scp.services.audit_reporter import Party

log = logging.getLogger(__name__)


class SettingsAgain(NamedTuple):
    """How a running node gets other settings.

    Attributes
    ----------
    read
        Reads them; raises InvalidSettings.
    applied
        Called with those that are used from now on.
    """

    read: Callable[[], Settings]
    applied: Callable[[Settings], object] = lambda _: None


class Front:
    """What one process does for the whole node: its record, its web process, and what the user is told."""

    def __init__(self, settings: Settings, teller: Teller, run: Run, again: SettingsAgain) -> None:
        self._settings = settings
        self._teller = teller
        self._run = run
        self._again = again
        # Now: the process ID of a parent that has died is another one.
        self._process = os.getppid() if settings.node.workers > 1 else os.getpid()
        self._beside = ExitStack()
        self._ports: tuple[int, ...] = ()

    def started(self, node: Node, ports: tuple[int, ...]) -> None:
        """Report that the node is ready; then start the web process, for which nobody waits."""
        self._node, self._ports = node, ports
        self._web = WebProcess(self._settings, node.look_for_restores)
        self._web.listen()
        self._run.write(record := self._record())
        self._teller.ready(ready(self._settings, self._node, record))
        tell(READY, f"STATUS=Consoles send to: {record.where}")
        self._web.poll()
        self._beside = self._started_beside(self._settings)

    def _started_beside(self, settings: Settings) -> ExitStack:
        """Start what tells others: alarms, and the audit log to a syslog server."""
        stack = start_alarms(settings, self._node.storage, lambda: self._node.is_listening)
        start_forwarding(settings, stack)
        return stack

    def poll(self, *, must_reload: bool = False) -> None:
        """Look after the web process, write the record if it has changed, and tell a watchdog that the node listens."""
        if must_reload:
            self.reload()
        self._web.poll()
        self._run.write(self._record())
        if self._node.is_listening:
            tell(ALIVE)

    def reload(self) -> None:
        """Go on with the settings as they are now, with all of them or with none; leave word of the outcome."""
        began_at = clock.now()
        try:
            outcome = self._reloaded(began_at)
        except BackupSCPError as error:
            outcome = Reloaded(began_at, applied=False, sentence=f"{error}. The node keeps the settings that it has")
        log.log(logging.INFO if outcome.applied else logging.ERROR, "Settings: %s", outcome.sentence)
        note(self._settings.home, outcome)

    def _reloaded(self, began_at: datetime) -> Reloaded:
        after = self._again.read()
        names = changed(self._settings, after)
        if not names:
            return Reloaded(began_at, applied=True, sentence="Nothing has changed: the node has these settings already")
        require_live(self._settings, after)
        alert_channels(after)  # what cannot be used is told before anything changes
        with ExitStack() as undo:
            web = WebProcess(after, self._node.look_for_restores)
            undo.callback(web.stop)
            web.take_over(self._web)
            self._ports = self._node.prepared(after)()
            undo.pop_all()
        before, self._web = self._web, web
        web.poll()
        before.stop()
        self._beside.close()
        self._settings = after
        self._beside = self._started_beside(after)
        self._again.applied(after)
        self._run.write(record := self._record())
        tell(f"STATUS=Consoles send to: {record.where}")
        self._node.storage.reporter.settings_changed(Party(RELOAD), names)
        sentence = f"{count(len(names), 'setting')} changed, and used from now on"
        return Reloaded(began_at, applied=True, sentence=sentence, changed=names)

    def stopped(self) -> None:
        """Report the end."""
        self._teller.stopped()

    def stopping(self) -> None:
        """Report it, and end the web process."""
        tell(STOPPING)
        self._teller.stopping()
        self._beside.close()
        self._web.stop()

    def _record(self) -> RunRecord:
        settings, node = self._settings, self._node
        port, tls_port = _named(settings, self._ports)
        return RunRecord(
            version=__version__,
            process=self._process,
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
            outages=self._run.outages,
            audit_log=node.audit_log,
        )


def _named(settings: Settings, ports: tuple[int, ...]) -> tuple[int | None, int | None]:
    """Return the port without TLS and the port with TLS; None for one that does not exist."""
    if not settings.node.plain:
        return None, ports[0]
    return ports[0], ports[1] if len(ports) > 1 else None
