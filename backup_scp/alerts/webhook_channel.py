"""Post alerts as JSON to a URL: a chat, a pager, a program of the clinic's own."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from backup_scp.alerts.webhook_forms import posted
from backup_scp.errors import AlertNotSent
from backup_scp.machine.https_call import CallFailed, call
from backup_scp.ports import Alert


class WebhookChannel:
    """Implements ``ports.AlertChannel``; no message names the URL's path, which often is a secret."""

    name = "webhook"

    def __init__(self, url: str, ca: Path | None = None, form: str = "json") -> None:
        self._url = url
        self._form = form
        self._ca = ca

    def send(self, alert: Alert) -> None:
        """Post it; a status of 2xx counts."""
        url, body = posted(self._form, self._url, alert)
        try:
            answer = call(url, body, {"Content-Type": "application/json"}, ca=self._ca)
        except CallFailed as error:
            raise self._not_sent(f"{error}") from None
        if not 200 <= answer.status < 300:
            raise self._not_sent(f"it answers status {answer.status}")

    def _not_sent(self, reason: str) -> AlertNotSent:
        return AlertNotSent(f"The webhook at {urlsplit(self._url).hostname} took no alert: {reason}")
