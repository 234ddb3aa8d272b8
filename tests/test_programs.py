"""Programs of peers are looked for where Debian puts them, also in a shell with an activated environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.processes import ROOT, outside_virtual_environments


def test_folders_of_virtual_environments_are_left_out(tmp_path):
    programs = tmp_path / "environment" / "bin"
    programs.mkdir(parents=True)
    (programs.parent / "pyvenv.cfg").touch()
    path = os.pathsep.join([str(programs), "/usr/bin", str(tmp_path)])
    assert outside_virtual_environments(path) == os.pathsep.join(["/usr/bin", str(tmp_path)])


def test_no_test_finds_the_programs_of_an_activated_environment():
    programs = str(Path(sys.prefix) / "bin")
    code = "import os, tests.conftest; print(os.environ['PATH'])"
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PATH": f"{programs}{os.pathsep}/usr/bin"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "/usr/bin"
