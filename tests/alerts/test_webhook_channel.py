"""A post to a real web server."""

from __future__ import annotations

import pytest

from backup_scp.alerts.webhook_channel import WebhookChannel
from backup_scp.errors import AlertNotSent
from backup_scp.machine import clock
from backup_scp.ports import Alert
from tests.alerts.servers import Certificate, web_server
from tests.processes import LOOPBACK, free_port

ALERT = Alert("drill", "CLINIC", clock.now(), is_alarm=True, subject="CLINIC: drill FAILED", text="Look")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def test_the_alert_comes_as_json():
    with web_server() as hook:
        WebhookChannel(hook.url).send(ALERT)
    assert hook.bodies == [
        {
            "text": "CLINIC: drill FAILED\nLook",
            "kind": "drill",
            "node": "CLINIC",
            "at": ALERT.at.isoformat(),
            "is_alarm": True,
            "subject": "CLINIC: drill FAILED",
        }
    ]


def test_by_tls_only_to_a_server_that_is_trusted(tmp_path):
    certificate = Certificate.made(tmp_path)
    with web_server(certificate.server) as hook:
        WebhookChannel(hook.url, certificate.ca).send(ALERT)
        with pytest.raises(AlertNotSent, match="its certificate is not trusted"):
            WebhookChannel(hook.url).send(ALERT)
    assert len(hook.bodies) == 1


@pytest.mark.parametrize("status", [302, 307, 404, 500])
def test_another_status_is_told_without_the_secret_of_the_url(status):
    with web_server() as hook:
        hook.status, hook.location = status, "/elsewhere"
        with pytest.raises(
            AlertNotSent, match=f"The webhook at {LOOPBACK} took no alert: it answers status {status}"
        ) as told:
            WebhookChannel(hook.url).send(ALERT)
    assert "secret-token" not in str(told.value)
    assert hook.paths == ["/hooks/secret-token"]


def test_a_server_that_is_off():
    with pytest.raises(AlertNotSent, match="Connection refused"):
        WebhookChannel(f"http://{LOOPBACK}:{free_port()}/x").send(ALERT)
