"""backup-scp check, while a node runs, before its first start, and with problems; it creates nothing."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
import trustme

from backup_scp.index.connection.migrate import move_to
from tests.processes import LOOPBACK, free_port
from tests.samples import dx, encode


@pytest.fixture(autouse=True)
def port(home, monkeypatch):
    """Use a port that no other node on this computer has."""
    port = free_port()
    monkeypatch.setenv("BACKUP_SCP_NODE__PORT", str(port))
    return port


@pytest.fixture
def files(home):
    """Tell which files and folders there are, and when each changed."""
    return lambda: {path: path.stat().st_mtime_ns for path in (home, *home.rglob("*"))}


def findings(ran):
    return {finding["what"]: finding for finding in ran.json}


def test_before_the_first_start_it_makes_nothing(run, home, files, monkeypatch):
    monkeypatch.setenv("BACKUP_SCP_LOG__FILE", "logs/node.log")
    monkeypatch.setenv("BACKUP_SCP_ARCHIVE__URL", str(home / "elsewhere"))
    before = files()
    ran = run("check")
    assert ran.code == 1
    assert "There is no archive" in ran.out
    assert "node.log can be written" in ran.out
    assert files() == before


@pytest.mark.parametrize(("place", "code"), [("new", 0), ("a-file/new", 1)])
def test_an_archive_that_the_settings_want_need_not_be_there_yet(run, home, monkeypatch, place, code):
    (home / "a-file").touch()
    file = home / "backup-scp.toml"
    file.write_text(f"[node]\nhome = '{place}'\nport = {free_port()}\n[web]\nenabled = false\n")
    monkeypatch.delenv("BACKUP_SCP_HOME")
    ran = run("--config", file, "check", "--json")
    assert (findings(ran)["archive"]["severity"], ran.code) == (("note", 0), ("act", 1))[code]


@pytest.fixture
def kept(home, stored, node_run):
    """Keep an image; the node has ended."""
    stored.put(encode(dx()))
    node_run.close()
    stored.index.close()
    return stored


@pytest.mark.usefixtures("free_ports")
def test_beside_an_archive_it_changes_nothing(run, kept, files):
    """SQLite has files beside the index as long as it is open."""
    before = files()
    assert run("check").code == 0
    after = files()
    changed = {path for path in after if after[path] != before.get(path)}
    assert {path.name for path in changed if not path.name.startswith("index.sqlite-")} <= {"home"}


def test_it_tells_when_certificates_end_and_goes_on(run, kept, home, monkeypatch):
    leaf = trustme.CA().issue_cert("node.clinic.example")
    leaf.private_key_and_cert_chain_pem.write_to_path(home / "both.pem")
    monkeypatch.setenv("BACKUP_SCP_TLS__CERTIFICATE", "both.pem")
    monkeypatch.setenv("BACKUP_SCP_TLS__PORT", str(free_port()))
    found = findings(run("check", "--json"))
    assert re.fullmatch(r"\[tls\] can be used, until \d{4}-\d\d-\d\d", found["certificate"]["sentence"])
    assert found["index"]["severity"] == "ok"


def test_an_index_that_is_lost_is_not_made(run, kept, home):
    for path in home.glob("index.sqlite*"):
        path.unlink()
    found = findings(run("check", "--json"))
    assert found["index"]["severity"] == "note"
    assert "creates it when it starts" in found["index"]["sentence"]
    assert not list(home.glob("index.sqlite*"))


def test_an_older_index_is_not_brought_up_to_date(run, kept, home):
    url = f"sqlite:///{home / 'index.sqlite'}"
    move_to(url, "0008")
    ran = run("check", "--json")
    assert "older than this version" in findings(ran)["index"]["sentence"]
    assert "older than this version" in findings(run("check", "--json"))["index"]["sentence"]
    assert ran.code == 0


def test_the_port_of_dicomweb(run, kept, monkeypatch):
    monkeypatch.setenv("BACKUP_SCP_WEB__PORT", str(free_port()))
    assert "is free" in findings(run("check", "--json"))["web"]["sentence"]
    with socket.create_server((LOOPBACK, 0)) as other:
        monkeypatch.setenv("BACKUP_SCP_WEB__PORT", str(other.getsockname()[1]))
        ran = run("check", "--json")
    found = findings(ran)["web"]
    assert (ran.code, found["severity"]) == (0, "note")
    assert "DICOMweb would be off" in found["sentence"]
    monkeypatch.setenv("BACKUP_SCP_WEB__ENABLED", "false")
    assert "web" not in findings(run("check", "--json"))


def test_a_node_that_does_not_run_is_no_failure(run, kept):
    ran = run("check", "--json")
    assert ran.code == 0
    found = findings(ran)["node"]
    assert found["severity"] == "note"
    assert "backup-scp serve" in found["fix"]


def test_a_node_that_runs_and_does_not_answer(run, stored, node_run, monkeypatch):
    monkeypatch.setenv("BACKUP_SCP_NODE__CONNECT_TIMEOUT_S", "1")
    monkeypatch.setenv("BACKUP_SCP_NODE__PORT", "11112")
    ran = run("check", "--json")
    assert ran.code == 1
    assert findings(ran)["node"]["severity"] == "act"
    assert findings(ran)["port 11112"]["severity"] == "ok", "it is this very node's"
    assert "open it in this computer's firewall" in findings(ran)["port 11112"]["sentence"]
    monkeypatch.setenv("BACKUP_SCP_NODE__HOST", LOOPBACK)
    assert "firewall" not in findings(run("check", "--json"))["port 11112"]["sentence"], "nobody else can call it"
    monkeypatch.setenv("BACKUP_SCP_NODE__PORT", str(port := free_port()))
    assert findings(run("check", "--json"))[f"port {port}"]["fix"] == "restart the node"


def test_a_port_of_another_program(run, kept, monkeypatch):
    with socket.create_server((LOOPBACK, 0)) as other:
        monkeypatch.setenv("BACKUP_SCP_NODE__HOST", LOOPBACK)
        monkeypatch.setenv("BACKUP_SCP_NODE__PORT", str(other.getsockname()[1]))
        ran = run("check")
    assert ran.code == 1
    assert "is already in use" in ran.out


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("NODE__HOST", "not an address", "is no address of this computer"),
        ("TLS__CERTIFICATE", "cert.pem", "No such file"),
        ("LOG__FILE", "index.sqlite/node.log", "choose another"),
    ],
)
def test_what_keeps_the_node_from_starting(run, kept, monkeypatch, variable, value, words):
    monkeypatch.setenv(f"BACKUP_SCP_{variable}", value)
    ran = run("check")
    assert ran.code == 1
    assert words in ran.out


def test_a_drive_that_is_gone_is_not_taken_for_the_systems_own(run, kept, home):
    (home / "archive").rename(home / "unplugged")
    (home / "archive").mkdir()
    found = findings(run("check", "--json"))
    assert "drive connected" in found["archive"]["sentence"]
    assert "drive connected" in found["free disk"]["sentence"]
    assert "left" not in found["free disk"]["sentence"]
    assert "reconnect the old drive" in found["archive"]["fix"]
    assert Path(home / "archive").exists()
    assert "Free disk      unknown" in run("status").out
    assert run("status", "--json").json["free_bytes"] is None
