"""Send the audit log to a syslog server while the node runs; nobody waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

_EVERY_S = 1.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 60.0


class SyslogThread:
    """One thread.

    Parameters
    ----------
    send_some
        Sends some entries, and tells whether there may be more; it may wait, and raise.
    """

    def __init__(self, send_some: Callable[[], bool]) -> None:
        self._send_some = send_some
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="syslog", daemon=True)
        self._trouble = ""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, wait_s: float = 5.0) -> None:
        """End; what was not sent is sent by the next start."""
        self._is_stopping.set()
        self._thread.join(wait_s)

    def _run(self) -> None:
        pause_s, failed_s = _EVERY_S, _FIRST_PAUSE_S
        while not self._is_stopping.wait(pause_s):
            try:
                pause_s, failed_s = (0.0 if self._send_some() else _EVERY_S), _FIRST_PAUSE_S
                self._tell("")
            except Exception as error:  # noqa: BLE001 - it goes on when the cause is gone
                self._tell(str(error) or type(error).__name__)
                pause_s, failed_s = failed_s, min(2 * failed_s, _LONGEST_PAUSE_S)

    def _tell(self, trouble: str) -> None:
        """Log why nothing can be sent, once."""
        if trouble != self._trouble:
            if trouble:
                log.error("The audit log goes no further: %s", trouble)
            else:
                log.warning("The syslog server takes the audit log again")
            self._trouble = trouble
