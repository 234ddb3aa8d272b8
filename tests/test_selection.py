"""`make unit` and `make system` select by mark: each test is in exactly one of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = [
    "tests/system/test_readme.py",
    "tests/system/test_start.py",
    "tests/machine/test_folders.py",
    "tests/services/test_read_back.py",
]


def collected(*options: str) -> set[str]:
    """Return the files of which pytest collects tests."""
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *options, *SMALL]
    env = os.environ | {"PYTEST_ADDOPTS": ""}  # its own options would change what is printed
    found = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, env=env)
    assert found.returncode == 0, found.stdout + found.stderr
    return {line.split("::")[0] for line in found.stdout.splitlines() if "::" in line}


@pytest.mark.parametrize(("mark", "folder"), [("system", True), ("not system", False)])
def test_a_mark_selects_what_lies_in_its_folder(mark, folder):
    assert collected("-m", mark) == {name for name in SMALL if name.startswith("tests/system/") is folder}
