"""What `check` says of the provider of logins."""

from __future__ import annotations

import datetime as dt

import pytest

from backup_scp.machine import clock
from backup_scp.node.health.finding import Severity
from backup_scp.node.health.openid_findings import openid_connect
from backup_scp.node.settings import load
from tests.openid.forger import Forger
from tests.processes import LOOPBACK, free_port


@pytest.fixture
def forger():
    with Forger().running() as running:
        yield running


@pytest.fixture
def read(tmp_path):
    (tmp_path / "secret").write_text("secret\n")
    (tmp_path / "secret").chmod(0o600)

    def read(issuer: str, web: str = ""):
        file = tmp_path / "settings.toml"
        file.write_text(
            f'[web]\n{web}\n[web.openid_connect]\nissuer = "{issuer}"\nlabel = "Clinic login"\nclient_id = "a"\n'
            'client_secret_file = "secret"\nroles = [{role = "see", group = "radiology"}]\n'
        )
        return load(file, {"BACKUP_SCP_HOME": str(tmp_path)})

    return read


def told(settings, port: int = 0) -> list[tuple[Severity, str]]:
    return [(finding.severity, finding.sentence) for finding in openid_connect(settings, port)]


def test_without_a_provider_it_says_nothing(tmp_path):
    assert told(load(None, {"BACKUP_SCP_HOME": str(tmp_path)})) == []


@pytest.mark.parametrize(
    ("web", "port", "redirect"),
    [
        ("", 0, "http://127.0.0.1:8042"),
        ("port = 0", 4711, "http://127.0.0.1:4711"),
        ('public_url = "https://pacs.example/backup/"', 0, "https://pacs.example/backup"),
    ],
)
def test_the_redirect_address_to_enter(forger, read, web, port, redirect):
    said = f"Clinic login answers. Its redirect address for this node: {redirect}/login/openid/callback"
    assert told(read(forger.issuer, web), port) == [(Severity.OK, said)]


def test_an_address_without_https_is_worth_a_note(forger, read):
    (_, (severity, said)) = told(read(forger.issuer, 'host = "192.0.2.1"\ntoken_file = "secret"'))
    assert (severity, "has no https" in said) == (Severity.NOTE, True)


def test_another_issuer(forger, read):
    forger.metadata = {"issuer": "https://login.example/"}
    ((severity, said),) = told(read(forger.issuer))
    assert (severity, "it calls itself https://login.example/: write exactly this" in said) == (Severity.ACT, True)


def test_no_keys(forger, read):
    forger.answers["/keys"] = (500, b"")
    assert "Clinic login does not tell its keys: it answers status 500" in told(read(forger.issuer))[0][1]


def test_a_provider_that_is_off(read):
    ((severity, said),) = told(read(f"http://{LOOPBACK}:{free_port()}"))
    assert (severity, said) == (Severity.ACT, f"Clinic login does not answer at {LOOPBACK}: Connection refused")


def test_a_clock_that_is_wrong(forger, read, monkeypatch):
    real = clock.source
    monkeypatch.setattr(clock, "source", lambda: real() + dt.timedelta(minutes=5))
    severity, said = told(read(forger.issuer))[0]
    assert severity is Severity.ACT
    assert said.startswith("this computer's clock and that of Clinic login differ by ")


def test_a_secret_that_others_can_read(forger, read, tmp_path):
    settings = read(forger.issuer)
    (tmp_path / "secret").chmod(0o644)
    assert told(settings)[1] == (Severity.NOTE, "others on this computer can read secret, which has the secret")
    (tmp_path / "secret").unlink()
    ((severity, said),) = told(settings)
    assert (severity, "client_secret_file: secret cannot be read" in said) == (Severity.ACT, True)
