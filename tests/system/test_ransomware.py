"""A virus with all the rights of the node's user: the drive that was away brings every image back."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from tests.processes import wait_until
from tests.samples import ct_series, encode
from tests.system.contents import digests, visible

SAMPLES = [encode(ds) for ds in ct_series(20)]
SENT = {sample.sha256: 1 for sample in SAMPLES}


class Drives:
    """Two drives that take turns, and a node that copies to the one that is here."""

    def __init__(self, folder: Path, make_node) -> None:
        self.media, self.vault = folder / "media", folder / "vault"
        for place in (self.media, self.vault):
            place.mkdir()
        self.node = make_node(copies=[{"name": "drive", "url": f"file://{self.media}/*"}])
        self.node.start()

    def prepare(self, name: str) -> None:
        self.node.cli("copies", "init", "drive", self.media / name, "--label", name, "--same-disk")

    def take_away(self, name: str) -> Path:
        return (self.media / name).rename(self.vault / name)

    def wait_until_full(self, name: str) -> None:
        wait_until(lambda: self.is_full(name), timeout_s=60, what=f"{name} has everything")

    def is_full(self, name: str) -> bool:
        found = {state["label"]: state for state in self.node.json("copies")}.get(name)
        return bool(found and found["held"] == len(SAMPLES) and not found["due"] and found["complete_at"])

    def trouble(self) -> str:
        return self.node.json("copies")[0]["trouble"]


@pytest.fixture
def drives(tmp_path, make_node):
    return Drives(tmp_path, make_node)


def encrypt(file: Path) -> None:
    file.chmod(0o600)
    file.write_bytes(bytes(byte ^ 0xA5 for byte in file.read_bytes()))


def everything_below(folder: Path) -> dict[Path, str]:
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.mark.timeout(300)
def test_the_drive_that_was_away_brings_every_image_back(drives, start_node):
    node = drives.node
    drives.prepare("Monday")
    assert not any(answer.status for answer in node.send(SAMPLES))
    drives.wait_until_full("Monday")
    monday = drives.take_away("Monday")
    drives.prepare("Tuesday")
    drives.wait_until_full("Tuesday")

    for reached in (node.home, drives.media):
        for file in [path for path in reached.rglob("*") if path.is_file()]:
            encrypt(file)
    node.kill()
    shutil.rmtree(node.home)
    shutil.rmtree(drives.media)

    again = start_node()
    again.cli("import", monday)
    assert digests(visible(again)) == SENT


@pytest.mark.timeout(300)
def test_files_encrypted_in_the_archive_stop_the_copying_and_are_healed_from_the_drive(drives):
    """The node looks every half minute, at some files drawn at random."""
    node = drives.node
    drives.prepare("Monday")
    assert not any(answer.status for answer in node.send(SAMPLES))
    drives.wait_until_full("Monday")
    before = everything_below(drives.media)

    for file in visible(node):
        encrypt(file)

    wait_until(lambda: "Stopped by an alarm" in drives.trouble(), timeout_s=120, what="the alarm")
    new = encode(ct_series(21)[20])
    assert node.send([new])[0].status == 0
    stopped = node.json("copies", "sync", exit_code=1)
    assert "stored images were changed or are gone" in stopped["copies"][0]["trouble"]
    assert everything_below(drives.media) == before

    node.cli("verify", exit_code=1)  # which finds the rest of them
    went_on = node.json("copies", "sync", "--despite-alarm")
    assert went_on["copies"][0]["copied"] + went_on["copies"][0]["healed"] >= len(SAMPLES)
    wait_until(lambda: digests(visible(node)) == SENT | {new.sha256: 1}, timeout_s=90, what="everything healed")
    kept = everything_below(drives.media)
    images = {path: digest for path, digest in before.items() if is_image(path)}
    assert len(images) == len(SAMPLES)
    assert images.items() <= kept.items()


def is_image(path: Path) -> bool:
    return path.name != "DICOMDIR" and path.read_bytes()[128:132] == b"DICM"
