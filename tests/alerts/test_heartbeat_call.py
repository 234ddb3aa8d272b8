"""Calls of a dead man's switch, at a real web server."""

from __future__ import annotations

import pytest

from backup_scp.alerts.heartbeat_call import HeartbeatCall
from backup_scp.errors import AlertNotSent
from tests.alerts.servers import Certificate, web_server
from tests.processes import LOOPBACK


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def test_it_posts_who_calls(tmp_path):
    certificate = Certificate.made(tmp_path)
    with web_server(certificate.server) as hook:
        HeartbeatCall(hook.url, "CLINIC", certificate.ca)()
    assert hook.paths == ["/hooks/secret-token"]
    assert hook.bodies[0]["text"].startswith("CLINIC, backup-scp ")


@pytest.mark.parametrize("status", [404, 405])
def test_where_nobody_takes_a_post_it_gets(status):
    with web_server() as hook:
        hook.status = status
        HeartbeatCall(hook.url, "CLINIC")()
    assert hook.gets == ["/hooks/secret-token"]


@pytest.mark.parametrize("status", [301, 410, 500])
def test_what_is_not_taken_is_told_without_the_secret_of_the_url(status):
    with web_server() as hook:
        hook.status = status
        with pytest.raises(AlertNotSent, match=f"not taken by {LOOPBACK}: it answers status {status}") as told:
            HeartbeatCall(hook.url, "CLINIC")()
    assert "secret-token" not in str(told.value)
