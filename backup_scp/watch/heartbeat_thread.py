"""Call somebody outside at intervals, as long as images can be stored: when the calls stop, he raises the alarm."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from backup_scp.errors import AlertNotSent
from backup_scp.watch.unforeseen import place_of

log = logging.getLogger(__name__)

_GRACE_S = 5.0


class HeartbeatThread:
    """A thread of its own: a mail server that is slow must not look like a dead node.

    Parameters
    ----------
    call
        Calls; raises ``AlertNotSent``.
    why_not
        Returns why no image can be stored now; empty when one can.
    every_s
        Interval in seconds.
    """

    def __init__(self, call: Callable[[], None], why_not: Callable[[], str], every_s: float) -> None:
        self._call = call
        self._why_not = why_not
        self._every_s = every_s
        self._trouble = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Call for the first time at once."""
        self._thread.start()

    def stop(self) -> None:
        """End, or leave a call that hangs."""
        self._stop.set()
        self._thread.join(_GRACE_S)

    def _run(self) -> None:
        while True:
            try:
                self.beat()
            except Exception as unforeseen:  # noqa: BLE001 - the next one may do better
                log.error("Heartbeat: %s. This should not have happened; please report it", place_of(unforeseen))
            if self._stop.wait(self._every_s):
                return

    def beat(self) -> None:
        """Call, if an image could be stored."""
        trouble = ""
        if reason := self._why_not():
            trouble = f"No heartbeat is sent, so that somebody outside notices: {reason}"
        else:
            try:
                self._call()
            except AlertNotSent as error:
                trouble = str(error)
        if trouble and trouble != self._trouble:
            log.warning("%s", trouble)
        self._trouble = trouble
