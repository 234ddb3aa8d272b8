"""The archive's disk is full, missing, another one, or read-only: stored images are served, nothing is lost."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import wait_until
from tests.samples import Sample, dx, encode, replace
from tests.system.contents import MARKER, digests, is_journal, notes, staged, stored_file, visible
from tests.system.mounts import fill
from tests.system.node import Node
from tests.system.pynetdicom_peers import Sink, find, move

OUT_OF_RESOURCES = 0xA700
SMALL_RESERVE = {"archive": {"reserve_mb": 4}}


def image(number: int, megabytes: float = 0.1) -> Sample:
    return encode(replace(dx(study=str(number)), PixelData=bytes(round(megabytes * 500_000) * 2)))


class StoredVersion:
    """A node, and where it sends."""

    def __init__(self, node: Node, sink: Sink) -> None:
        self.node, self._sink = node, sink

    def refuses(self, sample: Sample, comment: str) -> None:
        (answer,) = self.node.send([sample])
        assert (answer.status, comment in answer.error_comment) == (OUT_OF_RESOURCES, True), answer

    def takes(self, sample: Sample) -> None:
        (answer,) = self.node.send([sample])
        assert answer.status == 0, answer

    def serves(self, *samples: Sample) -> None:
        """C-ECHO, C-FIND and C-MOVE."""
        assert self.node.echo()
        for sample in samples:
            keys = {"SOPInstanceUID": sample.sop_instance_uid}
            assert len(find(self.node, "IMAGE", keys).matches) == 1
            before = len(self._sink.stored)
            final = move(self.node, "SINK", "IMAGE", keys)[-1]
            assert (final.status, final.completed) == (0, 1), final
            assert self._sink.stored[before].data_set == sample.data_set


@pytest.fixture
def sink() -> Iterator[Sink]:
    sample = encode(dx())
    with Sink({sample.sop_class_uid: [sample.transfer_syntax_uid]}) as sink:
        yield sink


@pytest.fixture
def held(mounts, make_node, sink) -> StoredVersion:
    """Return a node that is not started; its mounts are the test's own."""
    return StoredVersion(make_node(remotes=[sink.remote], settings=SMALL_RESERVE), sink)


# ------------------------------------------------------------------------------------------------------------- full


@pytest.mark.parametrize("leave_bytes", [2_000_000, 0])
def test_a_node_starts_on_a_full_disk_and_goes_on_when_there_is_room(mounts, held, leave_bytes):
    node, first, second = held.node, image(1), image(2)
    mounts.disk(node.home, "24m")
    node.start()
    held.takes(first)
    node.stop()
    filler = fill(node.home, leave_bytes)

    node.start()
    assert "Archive full" in node.output
    held.serves(first)
    held.refuses(second, "Archive full: less than 4 MB are free")
    held.refuses(first, "Archive full")  # also what it has
    said = node.json("status", exit_code=1)
    assert said["refusing"] == "Archive full: less than 4 MB are free"
    assert "make room" in node.cli("check", exit_code=1).stdout

    filler.unlink()
    held.takes(second)
    held.serves(first, second)
    assert node.json("status", exit_code=None)["refusing"] == ""
    node.cli("verify")


def test_the_reserve_is_kept_while_a_data_set_comes_in(mounts, held):
    node, first, large = held.node, image(1), image(2, 30)
    mounts.disk(node.home, "32m")
    node.start()
    held.takes(first)
    held.refuses(large, "Archive full")
    assert staged(node) == []
    held.takes(image(3))
    held.serves(first)
    assert "written" not in node.json("status", exit_code=None)["refusing"]


def test_an_index_that_is_full_costs_no_room_in_the_archive(mounts, held, tmp_path):
    """A console tries again every minute, for days: it costs one file, which is entered as soon as there is room."""
    disk, node, first, second = tmp_path / "index disk", held.node, image(1), image(2, 5)
    mounts.disk(disk, "8m")
    node.settings["index"] = {"url": f"sqlite:///{disk}/index.sqlite"}
    node.start()
    held.takes(first)
    filler = fill(disk, 0)
    for _ in range(6):
        held.refuses(second, "")
        assert len([note for note in notes(node) if note.samefile(stored_file(node, second))]) == 1
    assert disk_usage_of(node.home / "archive") < 2 * len(second.data_set)
    filler.unlink()
    wait_until(lambda: notes(node) == [], what="the image to be entered")
    held.serves(first, second)
    assert "1 stored images that were missing in the index were added" in node.output
    node.cli("verify")


def disk_usage_of(folder: Path) -> int:
    """Return what the files of a folder take on the disk, without the journal."""
    paths = [path for path in folder.rglob("*") if not is_journal(path)]
    return 512 * sum({(s := path.stat()).st_ino: s.st_blocks for path in paths}.values())


def test_no_room_for_further_files(mounts, held):
    node, first, second = held.node, image(1), image(2)
    mounts.disk(node.home, "64m", files=400)
    node.start()
    held.takes(first)
    used = node.home / "used"
    used.mkdir()
    with contextlib.suppress(OSError):
        for number in range(1000):
            (used / str(number)).touch()
    held.refuses(second, "no room for further files")
    held.serves(first)
    shutil.rmtree(used)
    held.takes(second)


# ------------------------------------------------------------------------------------------------- gone, or another


@pytest.fixture
def drive(mounts, held, tmp_path) -> Path:
    """Plug in the archive's drive, and return where it can be seen when it is not."""
    disk = tmp_path / "disk"
    mounts.disk(disk, "64m")
    mounts.bind(disk, held.node.home / "archive")
    return disk


def test_nothing_is_written_where_the_drive_is_missing(mounts, held, drive):
    node, first, second = held.node, image(1), image(2)
    folder = node.home / "archive"
    node.start()
    held.takes(first)
    mounts.pull(folder)

    held.refuses(second, "is the archive's drive connected?")
    assert node.echo()
    assert len(find(node, "STUDY", {"StudyInstanceUID": ""}).matches) == 1
    final = move(node, "SINK", "IMAGE", {"SOPInstanceUID": first.sop_instance_uid})[-1]
    assert "drive" in final.error_comment
    for command in ("verify", "rebuild", "check", "status"):
        assert "drive connected" in "".join(_said(node, command)), command
    assert list(folder.iterdir()) == []
    assert node.json("status", exit_code=1)["holdings"]["damaged"] == 0

    mounts.bind(drive, folder)
    held.takes(second)
    held.serves(first, second)
    node.cli("verify")


def _said(node: Node, command: str) -> tuple[str, str]:
    done = node.cli(command, exit_code=1)
    return done.stdout, done.stderr


def test_a_node_starts_without_the_drive(mounts, held, drive):
    node, first, second = held.node, image(1), image(2)
    folder = node.home / "archive"
    node.start()
    held.takes(first)
    node.stop()
    mounts.pull(folder)

    node.start()
    held.refuses(second, "drive connected")
    assert list(folder.iterdir()) == []
    mounts.bind(drive, folder)
    held.takes(second)
    held.serves(first, second)
    wait_until(lambda: "can be used again" in node.output, what="the node noticing by itself")


def test_another_archives_drive_is_refused(mounts, held, drive, make_node, tmp_path):
    node, first, second = held.node, image(1), image(2)
    folder = node.home / "archive"
    other = make_node()
    other.start()
    other.send([image(7)])
    other.stop()
    node.start()
    held.takes(first)
    mounts.pull(folder)
    mounts.bind(other.home / "archive", folder)
    before = _all_below(folder)

    held.refuses(second, "another archive")
    assert _all_below(folder) == before
    assert "backup-scp rebuild" in node.cli("check", exit_code=1).stdout
    assert len(find(node, "STUDY", {"StudyInstanceUID": ""}).matches) == 1

    node.cli("rebuild")  # which says that it shall be this one from now on
    held.serves(image(7))
    held.takes(second)
    assert (drive / MARKER).exists()
    assert tmp_path in drive.parents


def _all_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.name != "lock"}


@pytest.mark.parametrize("how", ["with the marker", "without the marker"])
def test_an_archive_that_was_moved_to_another_drive(held, how, tmp_path):
    node, first, second = held.node, image(1), image(2)
    node.start()
    held.takes(first)
    node.stop()
    moved = tmp_path / "larger"
    leave_out = shutil.ignore_patterns(*([MARKER] if how == "without the marker" else []))
    shutil.copytree(node.home / "archive", moved, ignore=leave_out)
    marker = (node.home / "archive" / MARKER).read_text()
    shutil.rmtree(node.home / "archive")

    node.settings["archive"] = {"url": str(moved), "reserve_mb": 4}
    node.start()
    held.takes(second)
    held.serves(first, second)
    assert (moved / MARKER).read_text() == marker


def test_an_archive_and_an_index_that_know_of_no_marker(held):
    """As a version before this one has left them."""
    node, first, second = held.node, image(1), image(2)
    node.start()
    held.takes(first)
    node.stop()
    (node.home / "archive" / MARKER).unlink()
    for path in node.home.glob("index.sqlite*"):
        path.unlink()
    node.cli("rebuild")
    (node.home / "archive" / MARKER).unlink()

    node.start()
    held.takes(second)
    held.serves(first, second)
    assert (node.home / "archive" / MARKER).exists()


# --------------------------------------------------------------------------------------------------------- read only


def test_a_disk_that_turns_read_only(mounts, held, drive):
    node, first, second = held.node, image(1), image(2)
    node.start()
    held.takes(first)
    folder = node.home / "archive"
    mounts.read_only(drive, folder)

    held.refuses(second, "Read-only file system")
    held.serves(first)
    node.restart()
    wait_until(lambda: "nothing can be stored now" in node.output, what="what a person is told")
    held.serves(first)
    node.cli("verify")
    assert "Read-only" in node.cli("check", exit_code=1).stdout

    mounts.pull(folder)
    mounts.bind(drive, folder)
    held.takes(second)
    assert digests(visible(node)).keys() >= {first.sha256, second.sha256}


def test_a_node_starts_where_nothing_can_be_written_at_all(mounts, held, tmp_path):
    """The index lies on that disk, too."""
    node, first, second = held.node, image(1), image(2)
    disk = tmp_path / "disk"
    mounts.disk(disk, "64m")
    mounts.bind(disk, node.home)
    node.start()
    held.takes(first)
    node.stop()
    mounts.read_only(disk, node.home)

    node.start()
    held.serves(first)
    held.refuses(second, "Read-only file system")

    mounts.pull(node.home)
    mounts.bind(disk, node.home)
    held.takes(second)
    held.serves(first, second)
    node.cli("verify", exit_code=0)
