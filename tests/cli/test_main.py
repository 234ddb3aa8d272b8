"""What all commands share: help, settings, errors, exit codes."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from backup_scp import __version__
from backup_scp.errors import IndexUnavailable
from backup_scp.node import opening
from backup_scp.node.settings import reading

COMMANDS = [
    "serve",
    "status",
    "check",
    "echo",
    "find",
    "import",
    "restore",
    "verify",
    "rebuild",
    "db upgrade",
    "index backup",
]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(run, command):
    ran = run(*command.split(), "--help")
    assert ran.code == 0
    assert "--config" in ran.out
    assert "Usage: backup-scp" in ran.out
    assert not re.search(r"<(list|int|str|float|path|Path|bool)", ran.out), "a type of the programming language"


def test_the_main_help_names_every_command(run):
    out = run("--help").out
    assert all(f"\n  {command.split()[0]} " in out for command in COMMANDS)


def test_version(run):
    assert run("--version").out == f"backup-scp {__version__}\n"


def test_help_waits_for_no_heavy_library():
    code = (
        "import sys; sys.argv = ['backup-scp', '--help']\n"
        "from backup_scp.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "typer" in done.stderr
    for heavy in ("sqlalchemy", "alembic", "pydicom", "pynetdicom", "numpy", "msgspec"):
        assert f"'{heavy}'" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["status", "--nonsense"], ["restore"], ["import"], ["import", "/no/such/folder"], ["db"]],
)
def test_a_wrong_command_line(run, arguments):
    ran = run(*arguments)
    assert ran.code == 2


class TestConfig:
    @pytest.fixture
    def files(self, tmp_path, stored):
        for title in ("BEFORE", "AFTER", "ENV", "SYSTEM"):
            (tmp_path / f"{title}.toml").write_text(f"[node]\nae_title = '{title}'\n")
        return tmp_path

    def ae_title(self, ran):
        assert ran.code in {0, 1}, ran.err  # no node runs
        return ran.json["ae_title"]

    def test_before_or_after_the_command(self, run, files):
        assert self.ae_title(run("--config", files / "BEFORE.toml", "status", "--json")) == "BEFORE"
        assert self.ae_title(run("status", "--json", "--config", files / "AFTER.toml")) == "AFTER"
        both = run("--config", files / "BEFORE.toml", "status", "--json", "--config", files / "AFTER.toml")
        assert self.ae_title(both) == "AFTER"

    def test_from_the_environment(self, run, files, monkeypatch):
        monkeypatch.setenv("BACKUP_SCP_CONFIG", str(files / "ENV.toml"))
        assert self.ae_title(run("status", "--json")) == "ENV"
        assert self.ae_title(run("--config", files / "BEFORE.toml", "status", "--json")) == "BEFORE"

    def test_the_one_of_the_system_where_none_is_named(self, run, files, monkeypatch):
        monkeypatch.setattr(reading, "SYSTEM_FILE", files / "SYSTEM.toml")
        assert self.ae_title(run("status", "--json")) == "BACKUP_SCP"  # BACKUP_SCP_CONFIG is set, and empty
        monkeypatch.delenv("BACKUP_SCP_CONFIG")
        assert self.ae_title(run("status", "--json")) == "SYSTEM"
        assert self.ae_title(run("--config", files / "BEFORE.toml", "status", "--json")) == "BEFORE"
        monkeypatch.setenv("BACKUP_SCP_CONFIG", str(files / "ENV.toml"))
        assert self.ae_title(run("status", "--json")) == "ENV"

    @pytest.mark.parametrize(
        "arguments",
        [
            ["serve", "--config", "{file}"],
            ["--config", "{file}", "serve"],
            ["--config={file}", "serve"],
            ["--config", "other.toml", "serve", "--config", "{file}"],
        ],
    )
    def test_of_the_node_wherever_it_is_written(self, run, tmp_path, monkeypatch, arguments):
        monkeypatch.setenv("BACKUP_SCP_CONFIG", "not-this.toml")
        file = tmp_path / "not-there.toml"
        ran = run(*(each.format(file=file) for each in arguments))
        assert ran.code == 1
        assert ran.err.startswith(f"backup-scp: The settings file {file} cannot be read")

    def test_of_the_node_from_the_environment(self, run, monkeypatch):
        monkeypatch.setenv("BACKUP_SCP_CONFIG", "not-there.toml")
        assert "not-there.toml cannot be read" in run("serve").err
        assert "not-there.toml" not in run("serve", "--config", "").err  # an empty one is a mistake, and none of ours
        monkeypatch.setenv("BACKUP_SCP_CONFIG", "")
        monkeypatch.setenv("BACKUP_SCP_NODE__PORT", "x")
        assert "BACKUP_SCP_NODE__PORT" in run("serve").err

    def test_a_wrong_setting_is_one_sentence(self, run, files):
        (files / "wrong.toml").write_text("[node]\nport = 'x'\n")
        ran = run("status", "--config", files / "wrong.toml")
        assert ran.code == 1
        assert ran.out == ""
        assert ran.err.startswith("backup-scp: ")
        assert "[node] port" in ran.err
        assert ran.err.count("\n") == 1


@pytest.mark.usefixtures("stored")
class TestErrors:
    def failing(self, monkeypatch, error):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(opening, "open_index", fail)

    def test_an_error_of_ours(self, run, monkeypatch):
        self.failing(monkeypatch, IndexUnavailable("The index is on holiday: call it back\x1b[31m"))
        ran = run("find")
        assert (ran.code, ran.out, ran.err) == (
            1,
            "",
            "backup-scp: The index is on holiday: call it back\\x1b[31m\n",
        )

    def test_an_error_that_nobody_expected_tells_its_place_and_no_value(self, run, monkeypatch):
        self.failing(monkeypatch, ValueError("PatientName is Müller^Hans"))
        ran = run("find")
        assert ran.code == 1
        assert "Müller" not in ran.err
        assert "ValueError" in ran.err
        assert ran.err.count("\n") == 1

    def test_an_interruption(self, run, monkeypatch):
        self.failing(monkeypatch, KeyboardInterrupt())
        ran = run("find")
        assert (ran.code, ran.out, ran.err) == (130, "", "")


def test_db_upgrade(run, home):
    (home / "archive").mkdir()
    ran = run("db", "upgrade")
    assert ran.code == 0
    assert (home / "index.sqlite").exists()
    assert run("db", "upgrade").code == 0
