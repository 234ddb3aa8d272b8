"""Copies on a drive: a folder with a marker."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import warnings
from datetime import timedelta
from pathlib import Path

import pydicom
import pytest
from pydicom.fileset import FileSet

from backup_scp.copies.cloud.sealing import RecoveryKeys, make_keys
from backup_scp.copies.drive import drive_writer
from backup_scp.copies.drive.drive_connection import folder_of_url
from backup_scp.copies.drive.drive_copy import DriveCopy
from backup_scp.copies.drive.drive_marker import MARKER, fits, prepare_drive, read_marker
from backup_scp.copies.drive.drive_names import folder_of
from backup_scp.copies.sealed_drive import SealedDriveCopy
from backup_scp.errors import DestinationAway, DestinationUnavailable, InvalidSelection, InvalidSettings
from backup_scp.machine import clock
from backup_scp.machine.root_folder import RootFolder
from tests.copies.contract import IDENTITY, Snapshots, StandAloneContract, flip, put, small_archive
from tests.samples import dx, encode, odd_identities
from tests.system.peers import dcmtk

FILE_ID = re.compile(r"[A-Z0-9_]{1,8}")


def prepare(folder: Path, label: str = "Drive 1", identity: str = IDENTITY):
    return prepare_drive(folder, label, identity, folder.parent / "archive", may_share_disk=True)


def open_drive(folder: Path, identity: str | None = IDENTITY) -> DriveCopy:
    return DriveCopy("drive", folder, lambda: identity)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "drive"
    prepare(folder)
    return folder


@pytest.fixture
def made(tmp_path):
    return small_archive(tmp_path)


class TestContract(StandAloneContract):
    @pytest.fixture
    def open_place(self, folder):
        self.folder = folder
        return lambda: open_drive(folder)

    def flip(self, stored_name):
        flip(self.folder / stored_name)

    def remove(self, stored_name):
        (self.folder / stored_name).unlink()

    def names(self, place):
        return sorted(map(str, self.folder.rglob("*")))


class TestSealedContract(StandAloneContract):
    is_sealed = True

    @pytest.fixture
    def open_place(self, folder, tmp_path):
        self.folder, keys = folder, make_keys()
        arguments = ("drive", folder, lambda: IDENTITY, tmp_path / "work", [keys.public_key])
        return lambda: SealedDriveCopy(*arguments, recovery_keys=RecoveryKeys(keys.recovery_key))

    def flip(self, stored_name):
        flip(self.folder / stored_name)

    def remove(self, stored_name):
        (self.folder / stored_name).unlink()

    def names(self, place):
        return sorted(map(str, self.folder.rglob("*")))

    def test_nothing_on_the_drive_names_a_patient(self, open_place, made):
        with open_place() as place:
            put(place, made)
            place.conclude(Snapshots(), is_complete=True)
            assert (place.label, len(place.medium)) == ("Drive 1", 32)
        for path in self.folder.rglob("*"):
            assert "FAMILY" not in path.name.upper()
            assert path.is_dir() or b"FAMILY" not in path.read_bytes().upper()
        assert not list(self.folder.rglob("DICOMDIR"))
        assert list(self.folder.glob("index/*.age"))

    def test_a_look_whether_it_is_here_writes_nothing(self, open_place):
        place, before = open_place(), sorted(self.folder.rglob("*"))
        with place:
            assert sorted(self.folder.rglob("*")) == before

    def test_each_drive_stands_alone(self, open_place, made, tmp_path):
        place = open_place()
        for number in (1, 2):
            if number == 2:
                self.folder.rename(tmp_path / "away")
                prepare(self.folder, "Drive 2")
            with place:
                assert place.label == f"Drive {number}"
                put(place, made)
                place.conclude(Snapshots(), is_complete=True)
            for folder in ("images", "manifests", "index", "settings"):
                assert list((self.folder / folder).rglob("*.age"))
            assert list(self.folder.glob("README-*.txt"))


def checked(folder: Path) -> subprocess.CompletedProcess:
    command = "cat */*/SHA256*.TXT | sha256sum --check --quiet --strict"
    return subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=False)


def listed(folder: Path) -> list[str]:
    lines = [line for path in folder.glob("*/*/SHA256*.TXT") for line in path.read_text().splitlines()]
    return [line.partition("  ")[2] for line in lines if not line.startswith("#")]


class TestLayout:
    def test_names_are_file_ids_and_files_are_the_archives_own(self, folder, made):
        with open_drive(folder) as drive:
            for item in put(drive, made):
                parts = item.stored.name.split("/")
                assert len(parts) == 6
                assert all(map(FILE_ID.fullmatch, parts))
                assert (folder / item.stored.name).read_bytes() == made.bytes_of(item)

    def test_people_find_their_way(self, folder, tmp_path):
        made = small_archive(tmp_path, [encode(dx(PatientName="Doe^John", StudyDate="20261115", InstanceNumber="12"))])
        with open_drive(folder) as drive:
            (item,) = put(drive, made)
        assert re.fullmatch(r"2026/11/DOE_JOHN/15_\w{5}/DX_\w{5}/0012_\w{3}", item.stored.name)

    def test_the_lists_are_checked_by_sha256sum_before_and_after_the_run_ends(self, folder, made):
        with open_drive(folder) as drive:
            stored = put(drive, made)
            for _ in range(2):
                assert (checked(folder).returncode, checked(folder).stdout) == (0, "")
                assert sorted(listed(folder)) == sorted(item.stored.name for item in stored)
                drive.conclude(Snapshots(), is_complete=True)
        flip(folder / stored[0].stored.name)
        found = checked(folder)
        assert (found.returncode, f"{stored[0].stored.name}: FAILED" in found.stdout) == (1, True)

    @pytest.mark.parametrize("since", [None, clock.now() - timedelta(minutes=1)])
    def test_the_drive_itself_lists_what_it_has(self, folder, made, since):
        """Also images that were received long before they were copied."""
        with open_drive(folder) as drive:
            stored = {item.held.sha256: item.stored for item in put(drive, made)}
            for _ in range(2):
                assert {image.sha256: image.stored.name for image in drive.listed(since)} == {
                    sha256: one.name for sha256, one in stored.items()
                }
                drive.conclude(Snapshots(), is_complete=True)

    def test_odd_images_are_on_the_drive_and_in_the_list(self, folder, tmp_path):
        made = small_archive(tmp_path, odd_identities())
        with open_drive(folder) as drive:
            stored = put(drive, made)
            drive.conclude(Snapshots(), is_complete=True)
        assert sorted(listed(folder)) == sorted(item.stored.name for item in stored)
        texts = "".join(path.read_text() for path in folder.glob("*/*/LIST.TXT"))
        assert sum(map(int, re.findall(r"(\d+) images", texts))) == len(stored)
        assert "Somebody, Else" in texts


def named_by_dicomdirs(folder: Path) -> list[Path]:
    """Return the files that pydicom finds by the DICOMDIRs."""
    named = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for path in folder.rglob("DICOMDIR"):
            fileset = FileSet(path)
            for instance in fileset:
                assert instance.SOPInstanceUID == pydicom.dcmread(instance.path).SOPInstanceUID
                named.append(Path(instance.path).relative_to(folder))
            fileset._stage["t"].cleanup()
    return named


class TestDicomdir:
    def test_pydicom_finds_the_last_version_of_each_image(self, folder, made):
        with open_drive(folder) as drive:
            stored = put(drive, made)
            drive.conclude(Snapshots(), is_complete=True)
        latest = {item.held.sop_instance_uid: item.stored.name for item in stored}
        assert sorted(map(str, named_by_dicomdirs(folder))) == sorted(latest.values())
        assert len(latest) == len(stored) - 1

    def test_a_run_that_ended_early_is_caught_up_with(self, folder, made):
        with open_drive(folder) as drive:
            put(drive, made)
        with open_drive(folder) as drive:
            drive.conclude(Snapshots(), is_complete=True)
        assert len(named_by_dicomdirs(folder)) == len(made.items) - 1
        assert not list((folder / "BACKUPSC/NEW").iterdir())


class TestMarker:
    def test_only_the_drive_with_our_marker_is_here(self, tmp_path):
        for number in (1, 2, 3):
            (tmp_path / f"media{number}").mkdir()
        with pytest.raises(DestinationAway, match="copies init drive"):
            open_drive(tmp_path / "media*" / "x-rays").__enter__()
        prepare(tmp_path / "media1" / "x-rays", identity="f" * 32)
        with pytest.raises(DestinationAway, match="another archive"):
            open_drive(tmp_path / "media*" / "x-rays").__enter__()
        marker = prepare(tmp_path / "media3" / "x-rays", "third")
        with open_drive(tmp_path / "media*" / "x-rays") as drive:
            assert (drive.medium, drive.label) == (marker.drive, "third")

    @pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"drive": 1, "label": 2, "archive": 3}'])
    def test_a_folder_with_a_damaged_marker_is_not_written(self, folder, made, content):
        (folder / MARKER).write_bytes(content)
        with pytest.raises(DestinationAway):
            open_drive(folder).__enter__()
        with pytest.raises(InvalidSelection, match="is damaged: if the drive is ours, remove that file"):
            prepare(folder)

    def test_a_drive_whose_marker_was_removed_is_prepared_again(self, folder, made):
        with open_drive(folder) as drive:
            put(drive, made)
            drive.conclude(Snapshots(), is_complete=True)
        (folder / MARKER).unlink()
        assert prepare(folder).archive == IDENTITY

    @pytest.mark.parametrize("name", ["README.TXT", "2026", "holiday.jpg"])
    def test_a_folder_with_other_files_is_not_taken(self, tmp_path, name):
        (tmp_path / "lost+found").mkdir()
        (tmp_path / ".Trash").mkdir()
        prepare(tmp_path / "empty")
        (tmp_path / "used").mkdir()
        (tmp_path / "used" / name).write_text("mine")
        with pytest.raises(InvalidSelection, match="we replace none"):
            prepare(tmp_path / "used")
        assert [path.name for path in (tmp_path / "used").iterdir()] == [name]

    def test_a_folder_of_another_user_hides_no_drive(self, tmp_path, monkeypatch):
        for name in ("a", "b"):
            (tmp_path / name / "x-rays").mkdir(parents=True)
        prepare(tmp_path / "b" / "x-rays")
        see = Path.is_dir

        def is_dir(path):
            if path.parent.name == "a":
                raise PermissionError
            return see(path)

        monkeypatch.setattr(Path, "is_dir", is_dir)
        with open_drive(tmp_path / "*" / "x-rays") as drive:
            assert drive.label == "Drive 1"

    def test_the_folder_is_one_where_the_node_looks(self):
        pattern = Path("/media/*/x-rays")
        assert fits(Path("/media/usb/x-rays"), pattern)
        for other in ("/media/usb/xrays", "/media/x-rays", "/media/usb/x-rays/old"):
            assert not fits(Path(other), pattern)

    def test_it_is_prepared_once(self, folder):
        marker = read_marker(folder)
        assert prepare(folder, "another label") == marker
        with pytest.raises(InvalidSelection, match="another archive"):
            prepare(folder, identity="f" * 32)

    def test_the_archives_own_disk_is_refused(self, tmp_path):
        (tmp_path / "archive").mkdir()
        with pytest.raises(InvalidSelection, match="archive's own disk"):
            prepare_drive(tmp_path / "drive", "label", IDENTITY, tmp_path / "archive")
        assert not (tmp_path / "drive").exists()

    def test_without_an_archive_nothing_is_reached(self, folder):
        with pytest.raises(DestinationUnavailable, match="start the node"):
            open_drive(folder, identity=None).__enter__()

    def test_urls(self):
        assert folder_of_url("file:///media/*/x%20rays") == Path("/media/*/x rays")
        assert folder_of_url("file:///D:/x-rays") == Path("D:/x-rays")
        for url in ("file://media/drive", "file:///a/*/*", "s3://bucket"):
            with pytest.raises(InvalidSettings):
                folder_of_url(url)


class TestClinics:
    """One name, one Patient ID, even the same bytes in two clinics are two people."""

    @pytest.fixture
    def shared(self, tmp_path):
        made = small_archive(tmp_path, [])
        for site in ("north", "south"):
            made.add(encode(dx(PatientName="Doe^John", PatientID="P1")), site=site)
            made.add(encode(dx(study=site, PatientName="Doe^John", PatientID="P1")), site=site)
        return made

    def test_each_has_folders_and_records_of_its_own(self, folder, shared):
        with open_drive(folder) as drive:
            items = put(drive, shared)
            drive.conclude(Snapshots(), is_complete=True)
            assert {each.location for each in drive.listed()} == {item.held.location for item in items}
        assert len({item.stored.name for item in items}) == len(set(listed(folder))) == 4
        assert checked(folder).returncode == 0
        north, south = ({item.stored.name.split("/")[2] for item in some} for some in (items[:2], items[2:]))
        assert len(north) == len(south) == 1
        assert north.isdisjoint(south)
        assert all(re.fullmatch(r"DOE_J_\w\w", name) for name in north | south)
        month = (folder / items[0].stored.name).parents[3]
        assert sorted(map(str, named_by_dicomdirs(folder))) == sorted(item.stored.name for item in items)
        people = [one for one in pydicom.dcmread(month / "DICOMDIR").DirectoryRecordSequence if "PatientID" in one]
        assert [(one.PatientID, one.IssuerOfPatientID) for one in people] == [("P1", "north"), ("P1", "south")]
        said = dcmtk("dcmdump", "+P", "0010,0021", month / "DICOMDIR").stdout
        assert ("[north]" in said, "[south]" in said) == (True, True)
        text = (month / "LIST.TXT").read_text()
        assert ("of clinic north" in text, "of clinic south" in text) == (True, True)

    def test_what_an_earlier_version_wrote_stays_where_it_is(self, folder, shared, monkeypatch):
        with monkeypatch.context() as before:
            before.setattr(drive_writer, "folder_of", lambda instance, at, site="": folder_of(instance, at))
            with open_drive(folder) as drive:
                first = put(drive, shared, shared.items[:2])
        with open_drive(folder) as drive:
            items = put(drive, shared)
            drive.conclude(Snapshots(), is_complete=True)
        assert [item.stored.name for item in items[:2]] == [item.stored.name for item in first]
        assert sorted(listed(folder)) == sorted(item.stored.name for item in items)
        assert checked(folder).returncode == 0


class TestFaults:
    def test_what_does_not_come_back_is_not_confirmed(self, folder, made, monkeypatch):
        flush = RootFolder.flush

        def flip_on_the_way(root):
            flush(root)
            for path in (folder / "BACKUPSC/TEMP").glob("*/0000000[12]"):
                flip(path)

        monkeypatch.setattr(RootFolder, "flush", flip_on_the_way)
        with open_drive(folder) as drive:
            results = list(drive.put(made.items, made.read))
        assert [result.number for result in results if not result.stored] == [1, 2]
        assert {result.error for result in results if not result.stored} == {
            "The drive returns other bytes than were written to it: try another drive"
        }
        assert len(listed(folder)) == len(made.items) - 2
        assert checked(folder).returncode == 0

    @pytest.mark.parametrize("position", [0, 140, -1])
    def test_each_byte_that_comes_back_is_compared(self, folder, made, monkeypatch, position):
        flush = RootFolder.flush

        def change(root):
            flush(root)
            for path in (folder / "BACKUPSC/TEMP").glob("*/00000001"):
                content = bytearray(path.read_bytes())
                content[position] ^= 1
                path.write_bytes(content)

        monkeypatch.setattr(RootFolder, "flush", change)
        with open_drive(folder) as drive:
            results = list(drive.put(made.items, made.read))
        assert [result.number for result in results if not result.stored] == [1]

    def test_a_file_too_large_for_the_file_system_fails_alone(self, folder, made, monkeypatch):
        write, large = os.write, made.add(encode(dx(study="99", PixelData=bytes(3 << 20))))

        def limited(descriptor, chunk):
            if os.fstat(descriptor).st_size + len(chunk) > 2 << 20:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            return write(descriptor, chunk)

        monkeypatch.setattr(os, "write", limited)
        with open_drive(folder) as drive:
            results = {result.number: result for result in drive.put(made.items, made.read)}
        assert "use exFAT, NTFS or ext4" in results.pop(large[0].number).error
        assert all(result.stored for result in results.values())

    def test_a_full_drive_keeps_what_found_room(self, folder, made, monkeypatch):
        free = iter([(1 << 40, 1 << 40)] * 3)
        monkeypatch.setattr(RootFolder, "free_bytes", lambda _: next(free, (0, 1 << 40)))
        results: list = []
        with open_drive(folder) as drive, pytest.raises(DestinationUnavailable, match="is full"):
            results.extend(drive.put(made.items, made.read))
        assert len(listed(folder)) == 3
        assert checked(folder).returncode == 0

    def test_a_name_that_is_taken_stays_its_owners(self, folder, made):
        item = made.items[0]
        with open_drive(folder) as drive:
            (first,) = put(drive, made, [item])
            (folder / first.stored.name).write_bytes(b"somebody else's")
            (second,) = put(drive, made, [item])
        assert (folder / first.stored.name).read_bytes() == b"somebody else's"
        assert (folder / second.stored.name).read_bytes() == made.bytes_of(item)

    def test_what_a_dead_process_left_is_removed(self, folder, made):
        left = folder / "BACKUPSC/TEMP/DEAD"
        left.mkdir(parents=True)
        (left / "LOCK").touch()
        (left / "00000001").write_bytes(b"half")
        with open_drive(folder) as drive:
            put(drive, made)
        assert not list((folder / "BACKUPSC/TEMP").iterdir())

    def test_two_writers_share_a_drive(self, folder, made):
        with open_drive(folder) as one, open_drive(folder) as two:
            first = one.put(made.items[:6], made.read)
            stored = put(two, made, made.items[6:])
            results: list = list(first)
            one.conclude(Snapshots(), is_complete=True)
        assert sorted(listed(folder)) == sorted([r.stored.name for r in results] + [i.stored.name for i in stored])


class TestSnapshot:
    def test_the_index_is_written_once_a_day_and_when_all_is_there(self, folder, made, clock):
        snapshots = Snapshots()
        with open_drive(folder) as drive:
            taken = []
            for is_complete, hours in ((False, 0), (False, 1), (True, 0), (True, 1), (False, 0), (False, 23)):
                clock.jump(hours=hours)
                drive.conclude(snapshots, is_complete=is_complete)
                taken.append(snapshots.taken)
        assert taken == [1, 1, 2, 2, 2, 3]
        assert (folder / "BACKUPSC/INDEX.SQLITE").read_bytes() == snapshots.content
        assert (folder / "BACKUPSC/SETTINGS.TOML").read_text() == snapshots.settings()
        assert "DICOM viewer" in (folder / "README.TXT").read_text()
