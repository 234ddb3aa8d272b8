"""Files are compared as the disk has them: the page cache is dropped before the first read."""

from __future__ import annotations

import subprocess
import sys

import pytest

from backup_scp.archive.filesystem import FilesystemArchive
from tests.archive.examples import DATA_SET, digest, store
from tests.processes import ROOT, clean_environment
from tests.system.failing_calls import calls_of, require_strace

LOAD = "archive.load(location, sha256, lambda size: memoryview(bytearray(size)))"
VERIFY = "archive.verify(location, sha256)"


@pytest.fixture
def calls(tmp_path):
    """Return what a program asks of the system for a stored file, with ``reading`` done to it."""
    require_strace()
    archive = FilesystemArchive(tmp_path / "archive")
    location, program = store(archive), tmp_path / "program.py"
    path, said = archive.read(location).path, tmp_path / "calls"

    def run(reading: str, *, damaged: bool = False) -> list[str]:
        if damaged:
            path.write_bytes(path.read_bytes()[:-1] + b"?")
        program.write_text(
            "import contextlib, pathlib\n"
            "from backup_scp.archive.filesystem import FilesystemArchive\n"
            "from backup_scp.errors import DigestMismatch\n"
            f"archive = FilesystemArchive(pathlib.Path({str(tmp_path / 'archive')!r}))\n"
            f"location, sha256 = {location!r}, {digest(DATA_SET)!r}\n"
            f"with contextlib.suppress(DigestMismatch):\n    {reading}\n"
        )
        trace = "trace=openat,read,pread64,fadvise64"
        subprocess.run(
            ["strace", "-f", "-o", str(said), "-P", str(path), "-e", trace, sys.executable, str(program)],
            check=True, capture_output=True, env=clean_environment(PYTHONPATH=str(ROOT)), timeout=60,
        )  # fmt: skip
        return [
            "drop" if "DONTNEED" in call.arguments else call.name.removesuffix("64").removeprefix("p")
            for call in calls_of(said.read_text().splitlines())
        ]

    return run


@pytest.mark.parametrize("damaged", [False, True])
def test_verify(calls, damaged):
    made = calls(VERIFY, damaged=damaged)
    assert made[:3] == ["openat", "drop", "read"]
    assert made.count("openat") == 1


def test_load_takes_what_is_in_memory_where_it_is_intact(calls):
    assert "drop" not in calls(LOAD)


def test_load_calls_nothing_damaged_before_the_medium_has_said_so(calls):
    made = calls(LOAD, damaged=True)
    again = made.index("openat", 1)
    assert "drop" not in made[:again]
    assert made[again : again + 3] == ["openat", "drop", "read"]
