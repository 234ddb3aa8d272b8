"""Call a dead man's switch: a service outside that raises the alarm when the calls stop."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from backup_scp import __version__
from backup_scp.errors import AlertNotSent
from backup_scp.machine.https_call import CallFailed, call

_NO_POST = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})


class HeartbeatCall:
    """One call says that images can be stored; no message names the URL's path, which often is a secret."""

    name = "heartbeat"

    def __init__(self, url: str, node: str, ca: Path | None = None) -> None:
        self._url = url
        self._body = f"{node}, backup-scp {__version__}: images can be stored\n".encode()
        self._ca = ca

    def __call__(self) -> None:
        """Call by POST, and by GET where that is not taken (Uptime Kuma); a status of 2xx counts.

        Raises
        ------
        AlertNotSent
        """
        try:
            answer = call(self._url, self._body, {"Content-Type": "text/plain; charset=utf-8"}, ca=self._ca)
            if answer.status in _NO_POST:
                answer = call(self._url, ca=self._ca)
        except CallFailed as error:
            raise self._not_taken(f"{error}") from None
        if not 200 <= answer.status < 300:
            raise self._not_taken(f"it answers status {answer.status}")

    def _not_taken(self, reason: str) -> AlertNotSent:
        return AlertNotSent(f"The heartbeat was not taken by {urlsplit(self._url).hostname}: {reason}")
