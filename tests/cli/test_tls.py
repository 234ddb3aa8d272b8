"""`tls`: the settings that it writes after a look, and what it leaves alone."""

from __future__ import annotations

import io
import json
import re
import socket

import pytest

from backup_scp.node import tls_setup
from backup_scp.node.settings import load


@pytest.fixture
def file(home, monkeypatch):
    monkeypatch.delenv("BACKUP_SCP_CONFIG")
    return home / "backup-scp.toml"


def loaded(file, home):
    return load(file, {"BACKUP_SCP_HOME": str(home)})


def test_it_prints_the_lines_and_they_are_settings(run, home, file):
    told = run("tls", "init", "--name", "pacs.clinic.example")
    assert told.code == 0
    assert not file.exists()
    lines = [line.strip() for line in re.findall(r"^    (\S.*)$", told.out, re.MULTILINE)]
    file.write_text("\n".join(lines))
    settings = loaded(file, home)
    pair = (home / "tls" / "node.pem", home / "tls" / "node-key.pem", None)
    assert (settings.tls_files, settings.web_tls_files) == (pair, pair)
    assert "have certificate and key already" in run("tls", "init").out


def test_the_words_for_the_console(run, home, file):
    file.write_text('[node]\nae_title = "CLINIC"\n[tls]\nport = 2763\n')
    told = " ".join(run("tls", "init", "--name", "pacs.clinic.example").out.split())
    (fingerprint,) = re.findall(r"([0-9A-F]{2}(?::[0-9A-F]{2}){31})", told)
    assert "AE title CLINIC, host pacs.clinic.example, port 2763" in told
    assert fingerprint == json.loads(run("tls", "init", "--json").out)["authority"]["fingerprint"]


def test_written_after_a_look(run, home, file, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    file.write_text('# ours\n[tls]\n# the port\nport = 2763\n\n[log]\nlevel = "DEBUG"\n')
    told = run("tls", "init", "--write")
    assert '+certificate = "tls/node.pem"' in told.out
    assert told.code == 0
    text = file.read_text()
    assert text.startswith("# ours\n[tls]\n# the port\nport = 2763\ncertificate = ")
    settings = loaded(file, home)
    assert (settings.tls.port, settings.log.level) == (2763, "DEBUG")
    assert settings.web_tls_files == settings.tls_files
    (kept,) = home.glob("backup-scp.toml.*")
    assert "certificate" not in kept.read_text()


def test_not_written_when_the_answer_is_no(run, home, file, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    file.write_text("[log]\njson = false\n")
    run("tls", "init", "--write")
    assert file.read_text() == "[log]\njson = false\n"


def test_with_json_it_asks_nobody(run, home, file):
    result = json.loads(run("tls", "init", "--write", "--json").out)
    assert (result["written"], result["settings"], result["certificate"]["made"]) == (True, [], True)
    assert loaded(file, home).tls.certificate == "tls/node.pem"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[tls]\ncertificate = "theirs.pem"\n', "[tls] has another certificate"),
        ('tls = {certificate = ""}\n', "edit it by hand"),
        ('[tls]\nport = "x"\n', None),
    ],
)
def test_what_it_cannot_write_stays_as_it_is(run, home, file, text, words):
    file.write_text(text)
    told = run("tls", "init", "--write", "--yes")
    assert told.code == 1
    assert words is None or words in told.err
    assert file.read_text() == text


def test_a_variable_that_wins_is_named(run, file, monkeypatch):
    monkeypatch.setenv("BACKUP_SCP_TLS__KEY", "")
    told = run("tls", "init", "--write", "--yes")
    assert (told.code, "a variable of the environment sets key of [tls]" in told.err) == (1, True)
    assert not file.exists()


def test_behind_a_proxy_the_page_stays_without(run, home, file):
    file.write_text('[web]\npublic_url = "https://pacs.example"\n')
    run("tls", "init", "--write", "--yes")
    settings = loaded(file, home)
    assert settings.tls.certificate
    assert not settings.web.certificate


def test_another_folder(run, home, file, tmp_path):
    told = run("tls", "init", "--folder", str(tmp_path / "keys"), "--write", "--yes")
    assert told.code == 0
    assert loaded(file, home).tls.certificate == (tmp_path / "keys" / "node.pem").as_posix()
    assert run("tls", "renew", "--folder", str(tmp_path / "keys")).code == 0
    assert "backup-scp tls init" in run("tls", "renew").err


def test_a_console_gets_its_certificate(run, home, file):
    assert "tls init" in run("tls", "client", "DR-1").err
    run("tls", "init")
    told = run("tls", "client", "DR-1")
    assert re.search(r"shown only now: (\w{4}-){4}\w{4}\n", told.out)
    result = json.loads(run("tls", "client", "DR-1", "--json").out)
    assert result["bundle"] == str(home / "tls" / "clients" / "DR-1.p12")
    assert result["password"] not in told.out


@pytest.mark.parametrize("host", ["pacs", "PACS", "pacs_1", "pacs.clinic.example", "localhost", "-"])
def test_the_names_of_this_computer(monkeypatch, host):
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    monkeypatch.setattr(socket, "getfqdn", lambda: host)
    names = tls_setup.own_names()
    assert names[-3:] == ["localhost", "127.0.0.1", "::1"]
    assert ("pacs.local" in names) == (host.lower() == "pacs")
    assert not [name for name in names if "_" in name or name == "-"]
