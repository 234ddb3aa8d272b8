"""Copies on real file systems: what is confirmed is on the medium, whatever happens to the drive."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from backup_scp.copies.drive import drive_writer
from backup_scp.copies.drive.drive_copy import DriveCopy
from backup_scp.copies.drive.drive_marker import prepare_drive
from backup_scp.errors import DestinationAway, DestinationUnavailable
from backup_scp.machine.root_folder import RootFolder
from backup_scp.ports import Contents
from tests.copies.contract import IDENTITY, Snapshots, put, small_archive
from tests.copies.test_drive import checked, listed, named_by_dicomdirs
from tests.processes import wait_until
from tests.samples import ct_series, dx, encode, one_of_each
from tests.system.drives import FILE_SYSTEMS, Drives
from tests.system.peers import dcmtk


@pytest.fixture
def drives(tmp_path, mounts) -> Iterator[Drives]:
    drives = Drives(tmp_path, mounts)
    try:
        yield drives
    finally:
        drives.close()


@pytest.fixture
def media(tmp_path) -> Path:
    """Return where drives are mounted: an empty folder of this computer when none is."""
    return tmp_path / "media"


@pytest.fixture
def made(tmp_path):
    return small_archive(tmp_path)


def prepare(media: Path, label: str = "first"):
    return prepare_drive(media / "x-rays", label, IDENTITY, media.parent / "archive", may_share_disk=True)


def open_drive(media: Path) -> DriveCopy:
    return DriveCopy("drive", media / "x-rays", lambda: IDENTITY)


class IndexSnapshot(Snapshots):
    """A real copy of a database, as the index makes it."""

    def index(self, path):
        with closing(sqlite3.connect(":memory:")) as database:
            database.execute("CREATE TABLE version (number INTEGER)")
            database.execute("INSERT INTO version VALUES (42)")
            database.commit()
            database.execute("VACUUM INTO ?", (str(path),))
        return Contents()


@pytest.mark.parametrize("kind", FILE_SYSTEMS)
def test_a_drive_keeps_everything(drives, media, made, kind):
    drive = drives.make(kind, 300)
    drive.plug(media)
    prepare(media)
    with open_drive(media) as place:
        stored = put(place, made)
        place.conclude(IndexSnapshot(), is_complete=True)
    drive.pull()
    assert list(media.iterdir()) == []
    drive.plug(media)
    with open_drive(media) as place:
        assert all(result.stored for result in place.compare(stored))
        assert [item.stored for item in put(place, made)] == [item.stored for item in stored]
        place.conclude(IndexSnapshot(), is_complete=True)
    assert (checked(media / "x-rays").returncode, len(listed(media / "x-rays"))) == (0, len(stored))
    assert len(named_by_dicomdirs(media / "x-rays")) == len(stored) - 1  # of two versions one
    with closing(sqlite3.connect(media / "x-rays/BACKUPSC/INDEX.SQLITE")) as database:
        assert database.execute("SELECT number FROM version").fetchall() == [(42,)]


@pytest.mark.parametrize("kind", ["ext4", "exfat", "ntfs"])
def test_what_the_medium_lost_is_not_confirmed(drives, media, tmp_path, monkeypatch, kind):
    """Neither the page cache nor a file system in user space hides it."""
    samples = [encode(dx(study=str(number), PixelData=bytes([number]) * 2**20)) for number in (1, 2)]
    made = small_archive(tmp_path, samples)
    drive = drives.make(kind)
    drive.plug(media)
    prepare(media)
    flush = RootFolder.flush

    def lose(root):
        flush(root)
        drive.flip(made.items[0].held.sop_instance_uid.encode())

    with open_drive(media) as place:
        monkeypatch.setattr(RootFolder, "flush", lose)
        results = {result.number: result for result in place.put(made.items, made.read)}
        assert {number: bool(result.stored) for number, result in results.items()} == {1: False, 2: True}
        monkeypatch.undo()
        stored = put(place, made)
        assert drive.flip(made.items[1].held.sop_instance_uid.encode()) > 0
        assert [result.number for result in place.compare(stored) if not result.stored] == [2]


@pytest.fixture
def before_image(monkeypatch):
    """Let something happen just before an image is written, counted from 1; its original may be open already."""
    require_room = drive_writer.DriveWriter._require_room

    def before_image(number, happens):
        images = itertools.count(1)

        def first_happens(writer, file):
            if next(images) == number:
                happens()
            require_room(writer, file)

        monkeypatch.setattr(drive_writer.DriveWriter, "_require_room", first_happens)

    return before_image


@pytest.mark.parametrize("kind", ["ext4", "exfat", "ntfs"])
def test_a_drive_that_is_pulled_in_the_middle_catches_up(drives, media, made, monkeypatch, before_image, kind):
    monkeypatch.setattr(drive_writer, "_MOST_FILES", 2)
    drive = drives.make(kind)
    drive.plug(media)
    prepare(media)

    before_image(5, drive.pull)
    confirmed: list = []
    with open_drive(media) as place, pytest.raises(DestinationAway, match="connect it again"):
        confirmed.extend(place.put(made.items, made.read))
    assert len(confirmed) == 2  # the second batch was written, and was being read back
    assert list(media.iterdir()) == []
    with pytest.raises(DestinationAway):
        open_drive(media).__enter__()
    drive.plug(media)
    with open_drive(media) as place:
        there = [made.items[result.number - 1]._replace(stored=result.stored) for result in confirmed]
        assert all(result.stored for result in place.compare(there))
        stored = put(place, made)
        place.conclude(IndexSnapshot(), is_complete=True)
    assert checked(media / "x-rays").returncode == 0
    assert sorted(listed(media / "x-rays")) == sorted(item.stored.name for item in stored)


@pytest.mark.parametrize("is_ours", [True, False])
def test_another_drive_that_takes_its_place_is_not_written(drives, media, made, monkeypatch, before_image, is_ours):
    monkeypatch.setattr(drive_writer, "_MOST_FILES", 2)
    first, second = drives.make("ext4"), drives.make("exfat")
    second.plug(media)
    before = prepare(media, "second").drive if is_ours else ""
    files = sorted(media.rglob("*"))
    second.pull()
    first.plug(media)
    prepare(media)

    def exchange():
        first.pull()
        second.plug(media)

    before_image(5, exchange)
    with open_drive(media) as place, pytest.raises(DestinationAway):
        list(place.put(made.items, made.read))
    assert sorted(media.rglob("*")) == files
    if is_ours:
        with open_drive(media) as place:
            assert (place.medium, place.label) == (before, "second")
            put(place, made)
    else:
        with pytest.raises(DestinationAway):
            open_drive(media).__enter__()


def test_a_drive_that_dies_confirms_nothing_more(drives, media, tmp_path, monkeypatch, before_image):
    monkeypatch.setattr(drive_writer, "_MOST_FILES", 1)
    made = small_archive(tmp_path, [encode(dx(study=str(number), PixelData=bytes(2**20))) for number in range(20)])
    drive = drives.make("ext4")
    drive.plug(media)
    prepare(media)

    before_image(5, lambda: drive.shrink(1))
    confirmed: list = []
    with open_drive(media) as place, pytest.raises(DestinationUnavailable, match=r"fails|write-protected|connect"):
        confirmed.extend(result for result in place.put(made.items, made.read) if result.stored)
    assert len(confirmed) == 3  # the fourth was written, and was being read back


@pytest.mark.parametrize("kind", ["ext4", "exfat"])
def test_a_full_drive_says_so_and_stays_readable(drives, media, tmp_path, kind):
    made = small_archive(tmp_path, [encode(dx(study=str(number), PixelData=bytes(2**20))) for number in range(24)])
    drive = drives.make(kind, 16)
    drive.plug(media)
    prepare(media)
    confirmed: list = []
    with open_drive(media) as place:
        with pytest.raises(DestinationUnavailable, match="is full: take it away, and prepare another"):
            confirmed.extend(place.put(made.items, made.read))
        place.conclude(IndexSnapshot(), is_complete=False)
    assert 4 < len(confirmed) < 24
    assert len(named_by_dicomdirs(media / "x-rays")) == len(listed(media / "x-rays")) == len(confirmed)
    assert checked(media / "x-rays").returncode == 0


def _has(folder: Path, count: int) -> bool:
    return len(named_by_dicomdirs(folder)) == count


def test_a_running_node_fills_drives_that_take_turns(drives, media, make_node):
    media.mkdir()
    node = make_node(settings={"[copy]": {"name": "drive", "url": f"file://{media}/x-rays"}})
    node.start()
    samples = [encode(dataset) for dataset in ct_series(6)]
    turns = {"blue": drives.make("ext4"), "red": drives.make("exfat")}

    for label, count in (("blue", 2), ("red", 4), ("blue", 6)):
        node.send(samples[count - 2 : count])
        turns[label].plug(media)
        if count < 6:
            node.cli("copies", "init", "drive", "--label", label)
        wait_until(partial(_has, media / "x-rays", count))
        wait_until((media / "x-rays/BACKUPSC/INDEX.TXT").exists)
        wait_until(partial(_is_up_to_date, node, label, count))
        assert checked(media / "x-rays").returncode == 0
        turns[label].pull()
    assert _held_and_due(node) == {"blue": (6, 0), "red": (4, 2)}
    assert "Traceback" not in node.output


def _is_up_to_date(node, label: str, count: int) -> bool:
    return _held_and_due(node)[label] == (count, 0)


def _held_and_due(node) -> dict[str, tuple[int, int]]:
    """Return what the node counts of each drive, by its label."""
    return {state["label"]: (state["held"], state["due"]) for state in node.json("copies", exit_code=None)}


class TestReaders:
    """Other programs read DICOMDIRs and files."""

    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        datasets = [*one_of_each(), *ct_series(9, study="2"), dx(study="3", PatientID="X", PatientName="Иванов^Иван")]
        datasets[-1].SpecificCharacterSet = "ISO_IR 192"
        del datasets[5]  # dcmmkdir asks for keys that this report lacks
        made = small_archive(tmp_path, [encode(dataset) for dataset in datasets])
        (tmp_path / "media").mkdir()
        prepare(tmp_path / "media")
        with open_drive(tmp_path / "media") as place:
            put(place, made)
            place.conclude(IndexSnapshot(), is_complete=True)
        return tmp_path / "media/x-rays/2024/01"

    def kinds(self, folder: Path) -> list[str]:
        lines = dcmtk("dcmdump", "+P", "0004,1430", folder / "DICOMDIR").stdout.splitlines()
        return sorted(line.partition("[")[2].partition("]")[0] for line in lines)

    def test_dcmtk_makes_the_same_records_of_the_files(self, folder):
        ours = self.kinds(folder)
        assert set(ours) == {"PATIENT", "STUDY", "SERIES", "IMAGE", "PRESENTATION", "ENCAP DOC"}
        (folder / "DICOMDIR").rename(folder.parent / "OURS")
        files = [str(path.relative_to(folder)) for path in folder.glob("*/*/*/*")]
        made = dcmtk("dcmmkdir", "-Nxc", "+I", "+id", folder, "+D", folder / "DICOMDIR", *files)
        assert "cannot be added" not in made.stdout
        assert self.kinds(folder) == ours

    def test_dcmtk_finds_no_damage(self, folder):
        said = dcmtk("dcmdump", folder / "DICOMDIR").stdout
        assert said.count("refFileID=") == 16
        assert not [line for line in said.splitlines() if line.startswith(("E:", "W:"))]

    def test_orthanc_takes_every_file_that_a_dicomdir_names(self, folder, orthanc):
        drive = folder.parents[1]
        paths = [drive / path for path in named_by_dicomdirs(drive)]
        assert len(set(orthanc.upload(*paths))) == len(paths) == 16
