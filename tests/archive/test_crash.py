"""A process that dies at any moment, or whose computer does, loses nothing that it has acknowledged."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from backup_scp.archive import FilesystemArchive, layout
from tests.archive.dying_process import OTHER
from tests.archive.examples import DATA_SET, KEY, digest, store
from tests.archive.intake import WAYS, files, run, staged_files, swept, take


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process of its own for each step would take minutes")
@pytest.mark.parametrize("links", [True, False], ids=["links", "nolinks"])
@pytest.mark.parametrize("before", ["nothing", "the same", "damaged"])
def test_a_crash_at_every_step(tmp_path, monkeypatch, way, before, links):
    take(way, monkeypatch.setattr)
    location = layout.location_of(KEY, digest(DATA_SET))
    done = run("dying_process", tmp_path, before, way, *([] if links else ["nolinks"]))
    assert done.returncode == 0, done.stderr
    steps = sorted(tmp_path.glob("*.said"))
    assert 10 < len(steps) < 100
    assert (tmp_path / f"{len(steps)}.said").read_text().endswith("forgotten\n")
    for step in steps:
        root, cut, said = step.with_suffix(""), step.with_suffix(".cut"), step.read_text()
        if links and "committed" in said and not is_place_durable(root / location, said):
            subprocess.run(["cp", "-a", root, cut], check=True)  # with its hard links
            lose_what_is_not_durable(cut, location, before, way)
            check_after_crash(cut, location, before, said)
        check_after_crash(root, location, before, said)


def is_place_durable(final: Path, said: str) -> bool:
    """Tell whether its folder was flushed since it has its name."""
    lines = said.splitlines()
    shown = [number for number, line in enumerate(lines) if line.endswith(f" {final}") and not line.startswith("fsync")]
    after = lines[max(shown, default=0) :]
    return f"fsync {final.parent}" in after or any(line.startswith("syncfs") for line in after)


def lose_what_is_not_durable(root: Path, location: str, before: str, way: str) -> None:
    """Do what a power cut may do: the visible name is lost, and with it bytes that are durable in a journal only."""
    final = root / location
    for staged in staged_files(root):
        if final.exists() and staged.samefile(final):
            final.unlink()
            if before == "damaged":
                final.write_bytes(b"damaged")
        if way == "journal":
            staged.write_bytes(b"")


def check_after_crash(root: Path, location: str, before: str, said: str) -> None:
    archive = FilesystemArchive(root)
    root.mkdir(exist_ok=True)
    visible = set(archive.locations())
    assert visible <= {location, OTHER}
    found = set(swept(archive))
    assert visible | found == set(archive.locations()) <= {location, OTHER}
    if "committed" in said and "settled" not in said:
        assert location in found
    if "committed" in said or (before == "nothing" and location in found):
        archive.verify(location, digest(DATA_SET))
    if before != "nothing":
        assert location in visible | found
    if before == "the same":
        archive.verify(location, digest(DATA_SET))
    if before == "damaged":
        assert b"damaged" in [path.read_bytes() for path in (*files(root, ".damaged"), *files(root))]
    assert files(root, ".staging") == []
    assert [path for path in root.glob(".staging/*") if path.is_dir()] == []
    archive.verify(store(archive), digest(DATA_SET))
