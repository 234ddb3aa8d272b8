"""A search as of a time leaves no patient's name on the disk, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backup_scp.index.connection.migrate import upgrade
from tests.index.conftest import opened
from tests.processes import clean_environment

SEARCH = """
import signal, sys
from backup_scp.index.sql_index import SQLIndex
from backup_scp.index.reading import history
from backup_scp.ports import Task
from tests.index.examples import MORNING, Level, at, query, version

history._PRAGMAS = (*history._PRAGMAS[:-1], "PRAGMA cache_size=2")
index = SQLIndex(sys.argv[1])
files = {}
for number in range(200):
    each = version(f"1.{number}", study=f"2.{number}", PatientName=f"FAMILY-OF-THEN^{number}")
    later = version(f"1.{number}", study=f"2.{number}", content="new", minute=5, PatientName="OTHER^NAME")
    files[each.location] = each
    index.add(each)
    index.add(later)
search = index.search_as_of(query(Level.STUDY, "PatientName"), at(1), files.get)
assert next(search)["PatientName"].startswith("FAMILY-OF-THEN")
print("found", flush=True)
signal.pause()
"""


def test_a_search_that_is_killed_leaves_no_name_on_the_disk(url, tmp_path):
    upgrade(url)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    root = Path(__file__).parents[2]
    environment = clean_environment() | {"TMPDIR": str(temporary), "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", SEARCH, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "found\n"
        (nameless,) = [path for path in Path(f"/proc/{process.pid}/fd").iterdir() if "as-of-" in path.readlink().name]
        assert b"FAMILY-OF-THEN" in nameless.read_bytes()  # what did not fit into memory
        process.send_signal(signal.SIGKILL)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name.partition(".")[0] for path in left} <= {"index"}
    assert list(temporary.iterdir()) == []


@pytest.fixture
def beside(url, tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_what_earlier_versions_left_is_removed(url, beside):
    left = beside / "as-of-4jjto02l"
    left.mkdir()
    for name in ("then.sqlite", "then.sqlite-wal", "then.sqlite-shm"):
        (left / name).write_bytes(b"FAMILY^GIVEN")
    (beside / "as-of-notes").mkdir()
    (beside / "as-of-file").write_text("of somebody else")
    (beside / "as-of-link").symlink_to(beside / "as-of-notes")
    with opened(url) as index:
        index.sweep()
    assert not left.exists()
    assert {path.name for path in beside.glob("as-of-*")} == {"as-of-notes", "as-of-file", "as-of-link"}
