"""The output of --json of every command is exactly as in docs/cli.md; errors too."""

from __future__ import annotations

import json

import msgspec
import pytest

from backup_scp import __version__
from backup_scp.cli.failure import EXIT_CODES, Failure
from backup_scp.cli.results import RESULTS
from backup_scp.errors import IndexUnavailable
from backup_scp.node import opening
from backup_scp.ports import Rejection, ServiceKind
from tests.cli.test_keeping import owe
from tests.cli.test_network import Peer
from tests.samples import dx, encode, make_study, unparsable
from tests.stored import FIRST_ARRIVAL

NOW = FIRST_ARRIVAL


def strictly(kind, out: str):
    """Read it as its type; what the type does not have, or has and was not printed, is missed in what it writes."""
    found = msgspec.json.decode(out, type=kind, strict=True)
    assert json.loads(msgspec.json.encode(found)) == json.loads(out)
    return found


@pytest.fixture
def full(stored):
    """Let there be one of everything that is listed somewhere."""
    stored.put(unparsable())
    location = stored.put(encode(dx())).location
    stored.flip(location)
    for number, service in enumerate(ServiceKind):
        stored.index.record_rejections([Rejection(service, "CT1", "OLD", f"192.0.2.{number}", "Why", "Mend", 3, NOW)])
    stored.index.record_archive_trouble("The disk did not keep data")
    owe(stored, "DR1", NOW, "DR1 cannot be reached")
    return stored


@pytest.mark.parametrize(
    "command", ["status", "check", "verify", "rebuild", "import", "index backup", "db upgrade", "restore"]
)
def test_results(run, full, tmp_path, command):
    make_study(tmp_path / "drive")
    (tmp_path / "drive" / "read me.txt").write_text("no image")
    arguments = {
        "import": [tmp_path / "drive"],
        "index backup": [tmp_path / "copy"],
        "restore": ["--all", "--to", tmp_path],
    }.get(command, [])
    run("verify")
    ran = run(*command.split(), *arguments, "--json")
    assert ran.code in EXIT_CODES
    assert ran.out.count("\n") == 1
    strictly(RESULTS[command].kind, ran.out)


def test_status_without_an_index_that_answers(run, stored, monkeypatch):
    monkeypatch.setattr(opening, "open_index", failing(IndexUnavailable("It is on holiday")))
    ran = run("status", "--json")
    found = strictly(RESULTS["status"].kind, ran.out)
    assert (ran.code, found.index_trouble, found.holdings) == (1, "It is on holiday", None)
    assert found.node.record.version == __version__


def test_echo(run):
    peer = Peer()
    try:
        assert (
            strictly(RESULTS["echo"].kind, run("echo", f"CONSOLE@127.0.0.1:{peer.port}", "--json").out).port
            == peer.port
        )
    finally:
        peer.stop()


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


class TestErrors:
    def failure(self, ran, exit_code: int) -> Failure:
        found = strictly(Failure, ran.out.splitlines()[-1])
        assert (ran.code, found.exit_code) == (exit_code, exit_code)
        return found

    @pytest.mark.parametrize("command", ["find", "verify", "rebuild", "restore --to ./x --all", "db upgrade"])
    def test_ours(self, run, stored, monkeypatch, command):
        for name in ("open_index", "upgrade_index"):
            monkeypatch.setattr(opening, name, failing(IndexUnavailable("It is on holiday")))
        ran = run(*command.split(), "--json")
        assert self.failure(ran, 1).error == "It is on holiday"
        assert ran.err == "backup-scp: It is on holiday\n"

    def test_settings_that_cannot_work(self, run, stored, monkeypatch):
        monkeypatch.setenv("BACKUP_SCP_NODE__PORT", "x")
        assert "BACKUP_SCP_NODE__PORT" in self.failure(run("status", "--json"), 1).error
        assert "BACKUP_SCP_NODE__PORT" in self.failure(run("serve", "--json"), 1).error

    def test_one_that_nobody_expected_names_no_patient(self, run, stored, monkeypatch):
        monkeypatch.setattr(opening, "open_index", failing(ValueError("Müller^Hans")))
        assert "Müller" not in self.failure(run("find", "--json"), 1).error

    @pytest.mark.parametrize(
        "arguments",
        [["nonsense"], ["status", "--nonsense"], ["restore"], ["import", "/no/such/folder"], ["db", "none"]],
    )
    def test_a_wrong_command_line(self, run, arguments):
        ran = run(*arguments, "--json")
        assert self.failure(ran, 2).error
        assert ran.err.startswith("Usage: backup-scp")

    def test_an_interruption(self, run, stored, monkeypatch):
        monkeypatch.setattr(opening, "open_index", failing(KeyboardInterrupt()))
        ran = run("find", "--json")
        assert self.failure(ran, 130).error == "Interrupted"
        assert ran.err == ""

    def test_without_json_there_is_none(self, run, stored, monkeypatch):
        monkeypatch.setattr(opening, "open_index", failing(IndexUnavailable("It is on holiday")))
        assert run("find").out == ""
        assert run("nonsense").out == ""
