"""From no settings to a console's image: `setup` at a keyboard, then what it says to type; a closed window ends it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.processes import LOOPBACK, ROOT, clean_environment, connects, free_port
from tests.samples import dx, encode
from tests.system.peers import echoscu, storescu
from tests.terminal import terminal

PROGRAM = (sys.executable, "-m", "backup_scp")
START = "Start the node: backup-scp "


@pytest.fixture
def clinic(tmp_path) -> SimpleNamespace:
    """Describe the node that is going to be."""
    return SimpleNamespace(
        file=tmp_path / "backup-scp.toml",
        home=tmp_path / "x-rays",
        host=LOOPBACK,
        port=free_port(),
        ae_title="CLINIC",
    )


def answered(clinic: SimpleNamespace, folder: Path) -> list[str]:
    """Answer the questions, and return the words after `backup-scp` with which the node is started."""
    with terminal(*PROGRAM, "--config", clinic.file, "setup", cwd=folder, columns=100) as shown:
        for words, keys in (
            ("Folder [", str(clinic.home)),
            ("AE title [", clinic.ae_title),
            ("Port [", str(clinic.port)),
            ("Its AE title:", ""),
            ("Folder:", ""),
            ("Address:", ""),
            ("Write this?", "y"),
        ):
            shown.wait_for(words)
            shown.press(f"{keys}\n".encode())
        ended = shown.end()
    assert ended.code == 0, ended.text
    return shlex.split("".join(ended.text.split(START)[1].partition("2. ")[0].splitlines()))


def said(clinic: SimpleNamespace, *arguments: str):
    done = subprocess.run(
        [*PROGRAM, *arguments, "--json", "--config", clinic.file],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(PYTHONPATH=str(ROOT)),
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("processes", [1, 2])
def test_its_settings_start_a_node_that_a_closed_window_ends(clinic, tmp_path, processes):
    words = answered(clinic, tmp_path)
    assert [finding for finding in said(clinic, "check") if finding["severity"] == "act"] == []
    image = tmp_path / "image.dcm"
    encode(dx()).write(image)
    with terminal(*PROGRAM, *words, cwd=tmp_path, env={"BACKUP_SCP_NODE__WORKERS": str(processes)}) as window:
        window.wait_for("is ready")
        echoscu(clinic)
        storescu(clinic, image)
        status = said(clinic, "status")
        assert status["node"]["running"]
        assert status["holdings"]["instances"] == 1
        assert [finding for finding in said(clinic, "check") if finding["severity"] == "act"] == []
        window.hang_up()
        assert window.end().code == 0
    assert not connects(clinic.port)
    assert not said(clinic, "status")["node"]["running"]
