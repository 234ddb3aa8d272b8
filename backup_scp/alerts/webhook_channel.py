"""Post alerts as JSON to a URL: a chat, a pager, a program of the clinic's own."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from backup_scp.errors import AlertNotSent
from backup_scp.ports import Alert

_TIMEOUT_S = 30.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follow no redirection: it would ask another server by GET, without the alert."""

    def redirect_request(self, *_: Any) -> None:
        return None


class WebhookChannel:
    """Implements ``ports.AlertChannel``; no message names the URL's path, which often is a secret."""

    name = "webhook"

    def __init__(self, url: str, ca: Path | None = None) -> None:
        self._url = url
        self._ca = ca

    def send(self, alert: Alert) -> None:
        """Post it; a status of 2xx counts."""
        body = {
            "text": f"{alert.subject}\n{alert.text}",  # what chats show
            "kind": alert.kind,
            "node": alert.node,
            "at": alert.at.isoformat(),
            "is_alarm": alert.is_alarm,
            "subject": alert.subject,
        }
        request = urllib.request.Request(  # noqa: S310 - the settings allow https, and http to this computer
            self._url, json.dumps(body).encode(), {"Content-Type": "application/json", "User-Agent": "backup-scp"}
        )
        try:
            context = ssl.create_default_context(cafile=self._ca)
            opener = urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=context))
            with opener.open(request, timeout=_TIMEOUT_S):
                return
        except urllib.error.HTTPError as error:
            error.close()
            raise self._not_sent(f"it answers status {error.code}") from None
        except urllib.error.URLError as error:
            reason = error.reason
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise self._not_sent("its certificate is not trusted: name its CA in ca of [alerts]") from None
            raise self._not_sent(getattr(reason, "strerror", None) or type(reason).__name__) from None
        except OSError as error:
            raise self._not_sent(error.strerror or type(error).__name__) from None

    def _not_sent(self, reason: str) -> AlertNotSent:
        return AlertNotSent(f"The webhook at {urlsplit(self._url).hostname} took no alert: {reason}")
