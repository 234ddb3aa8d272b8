"""What only a journal holds after a crash: `status` counts it, `import` reads it, the next start adds it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.system.contents import digests, is_journal, left_by_a_crash, staged, visible, whole
from tests.system.intake_journal import use_journal


@pytest.fixture
def crashed(start_node):
    """Return a node that was killed after its journal took an image whose file and row a power cut then undid."""
    node = start_node()
    node.sent = use_journal(node)
    node.kill()
    held = left_by_a_crash(node, journals_only=True)
    for file in visible(node):
        if whole([file]) <= held:
            file.write_bytes(b"")  # and so its staged name, which is the same file
    for path in node.home.glob("index.sqlite*"):
        path.unlink()
    return node


def journals(node):
    return [path for path in (node.home / "archive" / ".staging").rglob("*") if is_journal(path)]


def test_status_counts_it_and_the_next_start_adds_it(crashed):
    held = left_by_a_crash(crashed, journals_only=True)
    assert held

    said = crashed.json("status", exit_code=1)

    assert said["left_by_a_crash"] == len(held)
    assert "came just before a node died" in crashed.cli("status", exit_code=1).stdout
    crashed.start()
    assert digests(visible(crashed)) == dict.fromkeys((sample.sha256 for sample in crashed.sent), 1)
    assert crashed.json("status", exit_code=None)["left_by_a_crash"] == 0
    assert staged(crashed) == []
    crashed.stop()
    assert journals(crashed) == []
    crashed.cli("verify")


def test_import_reads_it(crashed, make_node, tmp_path):
    held = left_by_a_crash(crashed, journals_only=True)
    other = make_node()

    done = other.json("import", tmp_path / "node1" / "data" / "archive")

    assert done["new"] == len(set(digests(visible(other))))
    assert held <= set(digests(visible(other)))


def test_any_tar_program_reads_it(crashed, tmp_path):
    held = left_by_a_crash(crashed, journals_only=True)
    out = tmp_path / "out"
    out.mkdir()
    for journal in journals(crashed):
        subprocess.run([shutil.which("tar") or "tar", "-xf", journal, "-C", out], check=True)

    assert held <= set(digests(out.iterdir()))
