"""An empty computer becomes a working node from a further copy."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from backup_scp.machine.process_lock import Lock
from tests.processes import Process, wait_until
from tests.samples import Sample, ct_series, dx, encode, replace, secondary_capture
from tests.system.contents import digests, visible
from tests.system.node import Node

SAMPLES = [
    *(encode(ds) for ds in ct_series(12)),
    *(encode(dx(study=str(number), PixelData=bytes(2**20))) for number in range(4)),
    *(encode(secondary_capture(study="sc", series=str(100 + number))) for number in range(30)),
]
NEW = [encode(replace(ds, PatientID="LATER")) for ds in ct_series(3, study="later")]


class Clinic:
    """A clinic with a node and a drive, that loses the node."""

    def __init__(self, folder: Path, make_node) -> None:
        self.media = folder / "media"
        self.media.mkdir()
        self.make_node = make_node
        self.drive = self.media / "x-rays"
        self.node: Node = make_node(copies=[{"name": "drive", "url": f"file://{self.drive}"}], ae_title="CLINIC")
        self.node.start()

    def copy(self, samples: Iterable[Sample]) -> None:
        """Send samples, and wait until they are on the drive, which is prepared after the first ones."""
        assert not any(answer.status for answer in self.node.send(samples))
        if not self.drive.exists():
            self.node.cli("copies", "init", "drive", "--label", "blue", "--same-disk")
        wait_until(self._is_complete, timeout_s=60, what="the drive has everything")

    def _is_complete(self) -> bool:
        states, there = self.node.json("copies", exit_code=None), len(visible(self.node))
        return all(state["held"] == there and not state["due"] and state["complete_at"] for state in states)

    def lose(self) -> dict[str, bytes]:
        """Lose the computer; return what was in its archive, by location."""
        self.node.stop()
        before = files(self.node)
        shutil.rmtree(self.node.home)
        return before

    def empty(self, **more) -> Node:
        """Return a node on an empty computer, with the settings that the clinic has on paper."""
        return self.make_node(copies=self.node.copies, ae_title="CLINIC", **more)


def files(node: Node) -> dict[str, bytes]:
    """Return every file of the archive, by location."""
    return {path.relative_to(node.home / "archive").as_posix(): path.read_bytes() for path in visible(node)}


def rows(node: Node) -> list[str]:
    """Return what the index says of each version."""
    lines = node.cli("find", "--versions", "all", "--json", exit_code=None).stdout.splitlines()
    return sorted(lines)


@pytest.fixture
def clinic(tmp_path, make_node) -> Clinic:
    return Clinic(tmp_path, make_node)


@pytest.fixture
def run(processes, tmp_path):
    """Return `run(node, ...)`: the running command."""

    def start(node: Node, *arguments: str | Path) -> Process:
        node.write_settings()
        argv = node._argv("recover", *map(str, arguments), "--yes")
        process = Process(argv, tmp_path / f"recover{random.getrandbits(32)}.log", node.env)
        processes.add(process)
        process.launch(node.echo, 60)
        return process

    return start


def recover(node: Node, *arguments: str | Path, exit_code: int | None = 0) -> str:
    """Recover, and stop when all is back; return what was said."""
    return node.cli("recover", *arguments, "--yes", "--stop-when-done", exit_code=exit_code).stdout


def test_what_was_copied_after_the_index_was_written_comes_by_the_lists(clinic):
    clinic.copy(SAMPLES[:12])
    clinic.copy(NEW)  # the index on the drive is renewed once a day
    before = clinic.lose()
    node = clinic.empty()
    said = recover(node, clinic.drive)
    assert "The drive blue at" in said
    assert "3 of them by the copy's lists" in said
    assert files(node) == before
    node.cli("copies", "sync")  # which finds that nothing is to be written again
    (state,) = node.json("copies")
    assert (state["label"], state["held"], state["due"]) == ("blue", 15, 0)
    node.cli("verify")


@pytest.mark.parametrize("lost", ["INDEX.SQLITE", "INDEX.TXT"])
def test_without_an_index_everything_comes_by_the_lists(clinic, lost):
    clinic.copy(SAMPLES)
    told = rows(clinic.node)
    before = clinic.lose()
    (clinic.drive / "BACKUPSC" / lost).unlink()
    node = clinic.empty()
    recover(node, clinic.drive)
    assert files(node) == before
    assert rows(node) == told


def test_the_settings_come_from_the_copy(clinic, tmp_path, make_node):
    clinic.node.settings["alerts"] = {"lost_images": 7} | dict.fromkeys(
        ("webhook", "heartbeat"), "https://chat.example/hooks/secret-token"
    )
    clinic.node.restart()
    clinic.copy(SAMPLES[:12])
    clinic.lose()
    home = tmp_path / "new home"
    other = make_node()
    env = other.env | {"BACKUP_SCP_NODE__PORT": str(other.port), "BACKUP_SCP_NODE__HOST": "127.0.0.1"}
    env.pop("BACKUP_SCP_HOME")
    argv = [other.python, "-m", "backup_scp", "recover", str(clinic.drive), "--home", str(home)]
    done = subprocess.run(
        [*argv, "--yes", "--stop-when-done"], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    assert "AE title CLINIC" in done.stdout
    written = (home / "backup-scp.toml").read_text()
    assert "lost_images = 7" in written
    on_the_drive = [path.read_bytes() for path in clinic.drive.glob("BACKUPSC/*") if path.is_file()]
    assert any(b"lost_images" in content for content in on_the_drive)
    assert not any(b"secret-token" in content for content in on_the_drive)
    assert str(clinic.drive) in written
    assert (home / "backup-scp.toml").stat().st_mode & 0o077 == 0


def test_the_node_answers_and_sends_what_has_not_come_yet(clinic, run, start_storescp):
    clinic.copy(SAMPLES)
    clinic.lose()
    storescp = start_storescp()
    node = clinic.empty(remotes=[storescp.remote])

    process = run(node, clinic.media, "--throttle", "0.000001")

    assert files(node) == {}
    assert len(node.cli("find", "--json").stdout.splitlines()) == 5
    node.cli("restore", "--to", storescp.remote.name, "--modality", "DX")
    assert len(storescp.files()) == 4
    assert node.send(NEW)[0].status == 0  # it receives meanwhile
    assert len(files(node)) < 12 + len(SAMPLES)
    assert "being recovered" in node.cli("status", exit_code=None).stdout
    assert "being recovered" in node.cli("verify", exit_code=1).stderr
    assert node.json("status", exit_code=None)["holdings"]["damaged"] == 0
    process.terminate()
    assert process.running is False


def test_a_damaged_piece_is_taken_from_another_drive(clinic):
    clinic.copy(SAMPLES[:40])
    second = clinic.media / "second"
    clinic.node.copies.append({"name": "second", "url": f"file://{second}"})
    clinic.node.restart()
    clinic.node.cli("copies", "init", "second", "--same-disk")
    clinic.copy(SAMPLES[40:])
    clinic.node.cli("copies", "sync")
    before = clinic.lose()
    flip(*sorted((clinic.drive / "2024").rglob("CT*/*"))[:1])
    flip(*sorted((clinic.drive / "2024").rglob("OT*/*"))[-1:])
    node = clinic.empty()
    recover(node, clinic.drive)
    assert files(node) == before


def test_what_no_copy_has_is_told_by_name(clinic):
    clinic.copy(SAMPLES)
    clinic.lose()
    flip(*sorted((clinic.drive / "2024").rglob("CT*/*"))[:1])
    node = clinic.empty()
    said = recover(node, clinic.drive, exit_code=1)
    assert f"{len(SAMPLES) - 1} images came back" in said
    assert "1 image MISSING" in said
    assert node.json("status", exit_code=1)["holdings"]["damaged"] == 1
    receipt = json.loads((node.home / "recovery-receipt.json").read_text())
    assert not receipt["complete"]
    assert [row["missing"] for row in receipt["rows"]].count(1) == 1
    assert "is damaged on the drive" in receipt["problems"][0]
    assert (node.home / "recovery-receipt.pdf").read_bytes().startswith(b"%PDF-")
    text = node.home / "recovery-receipt.txt"
    assert "NOT complete" in text.read_text()
    assert text.stat().st_mode & 0o077 == 0


def flip(path: Path) -> None:
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_home_that_holds_something_is_refused(clinic):
    clinic.copy(SAMPLES[:12])
    refused = clinic.node.cli("recover", clinic.drive, "--yes", exit_code=1)
    assert re.search(r"There is an archive in .*: recover needs an empty home", refused.stderr)


def test_a_folder_without_a_copy_is_refused(make_node, tmp_path):
    node = make_node()
    refused = node.cli("recover", tmp_path / "nothing", "--yes", exit_code=1)
    assert "cannot be read (No such file or directory)" in refused.stderr
    assert not node.home.exists()


def test_a_missing_file_is_brought_back_when_it_is_asked_for(clinic, start_storescp):
    storescp = start_storescp()
    clinic.node.remotes = [storescp.remote]
    clinic.node.restart()
    clinic.copy(SAMPLES[:12])
    for path in visible(clinic.node)[:3]:
        path.unlink()
    flip(visible(clinic.node)[0])
    clinic.node.cli("restore", "--to", storescp.remote.name, "--all")
    assert len(storescp.files()) == 12
    assert digests(visible(clinic.node)) == {sample.sha256: 1 for sample in SAMPLES[:12]}


def test_fetch_brings_back_what_is_damaged_or_missing(clinic):
    clinic.copy(SAMPLES[:12])
    damaged, gone, *_ = visible(clinic.node)
    flip(damaged)
    gone.unlink()
    fetched = clinic.node.json("copies", "fetch", "--all")
    assert fetched == {"intact": 10, "fetched": 2, "missing": {}}
    assert digests(visible(clinic.node)) == {sample.sha256: 1 for sample in SAMPLES[:12]}
    gone.unlink()
    clinic.drive.rename(clinic.media / "away")
    away = clinic.node.json("copies", "fetch", "--modality", "CT", exit_code=1)
    assert list(away["missing"]) == [gone.relative_to(clinic.node.home / "archive").as_posix()]


def test_a_recovery_whose_index_is_lost_goes_on(clinic, run):
    clinic.copy(SAMPLES)
    before = clinic.lose()
    node = clinic.empty()
    process = run(node, clinic.media, "--throttle", "1")
    wait_until(lambda: files(node))
    process.kill()
    for file in node.home.glob("index.sqlite*"):
        file.unlink()
    node.start()
    wait_until(lambda: "whole again" in node.output, timeout_s=60, what="everything is back")
    assert files(node) == before
    node.cli("verify")
    assert not (node.home / "recovery.json").exists()


def test_two_commands_do_not_recover_into_one_home(clinic):
    clinic.copy(SAMPLES[:12])
    clinic.lose()
    node = clinic.empty()
    node.home.mkdir(parents=True)
    with closing(Lock(node.home / "recovery.lock")):
        refused = node.cli("recover", clinic.drive, "--yes", "--stop-when-done", exit_code=1)
    assert "Another command recovers into" in refused.stderr
    recover(node, clinic.drive)
