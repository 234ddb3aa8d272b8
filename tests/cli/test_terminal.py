"""The commands at a keyboard: in a real pseudo-terminal, narrow and wide, with their progress bars."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.samples import make_study
from tests.terminal import Ended, terminal

WIDTHS = [40, 200]


@pytest.fixture
def type_(home, tmp_path):
    """Type a command line into a terminal of some width, and wait for its end."""

    def type_(*arguments: str | Path, columns: int) -> Ended:
        argv = (sys.executable, "-m", "backup_scp", *arguments)
        with terminal(*argv, columns=columns, env={"BACKUP_SCP_HOME": str(home)}, cwd=tmp_path) as shown:
            return shown.end()

    return type_


@pytest.mark.parametrize("columns", WIDTHS)
def test_the_long_commands_with_their_bars(type_, tmp_path, columns):
    make_study(tmp_path / "drive", instances=3)
    for arguments, label, words in (
        (["import", tmp_path / "drive"], "Importing", "3 new"),
        (["verify"], "Verifying", "3 versions intact"),
        (["restore", "--to", tmp_path / "restored", "--all"], "Restoring to", "confirmed by"),
        (["rebuild"], "Reading the archive", "3 versions"),
    ):
        ended = type_(*arguments, columns=columns)
        assert ended.code == 0, ended.text
        assert label.split()[0] in ended.text
        assert any(words in line for line in ended.lines), ended.text
