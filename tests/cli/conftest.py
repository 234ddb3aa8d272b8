"""The command line, run in this process as `python -m backup_scp` runs it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backup_scp import __version__
from backup_scp.cli import main
from backup_scp.node.run_record import Run, RunRecord
from tests.processes import free_port
from tests.stored import Stored, stored_in

OUR_USER = os.getuid() if hasattr(os, "getuid") else None


@dataclass
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """Give this test a home of its own, and no settings from outside."""
    for variable in [name for name in os.environ if name.startswith("BACKUP_SCP_")]:
        monkeypatch.delenv(variable)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("BACKUP_SCP_HOME", str(home))
    monkeypatch.setenv("BACKUP_SCP_CONFIG", "")  # and none of this machine's
    return home


@pytest.fixture
def free_ports(home, monkeypatch) -> None:
    """Have ports of its own: another node on this computer may hold the usual ones."""
    monkeypatch.setenv("BACKUP_SCP_NODE__PORT", str(free_port()))
    monkeypatch.setenv("BACKUP_SCP_WEB__PORT", str(free_port()))


@pytest.fixture
def node_run(home) -> Iterator[Run]:
    """Let a node run, as far as its lock and its record tell."""
    now = datetime.now(UTC)
    with contextlib.closing(Run(home)) as run:
        run.write(RunRecord(__version__, os.getpid(), OUR_USER, now, "BACKUP_SCP", "127.0.0.1", 11112, None, 1, now))
        yield run


@pytest.fixture
def stored(home, node_run) -> Iterator[Stored]:
    """Open what the commands see, beside a node that runs."""
    with stored_in(home) as stored:
        yield stored


@pytest.fixture
def run(home, monkeypatch, capsys):
    """Run a command line."""
    ours = logging.getLogger("backup_scp")
    before = (ours.handlers[:], ours.level, ours.propagate)

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["backup-scp", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return Ran(int(code or 0), captured.out, captured.err)

    yield run
    for handler in ours.handlers:
        handler.close()
    ours.handlers, ours.level, ours.propagate = before[0], before[1], before[2]
