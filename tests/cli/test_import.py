"""backup-scp import, on folders such as people have."""

from __future__ import annotations

import errno
import os

import pytest
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from backup_scp.cli import import_folders
from backup_scp.ports import Selection
from tests.samples import Sample, cr, dx, encode, make_study, pydicom_files, pydicom_samples, unparsable

EVERYTHING = Selection(all_versions=True)


@pytest.fixture
def drive(tmp_path):
    drive = tmp_path / "drive"
    drive.mkdir()
    return drive


def digests(stored):
    return sorted(held.sha256 for held in stored.index.select(EVERYTHING))


def test_a_folder_with_folders(run, stored, drive):
    make_study(drive, patients=2, studies=2, instances=3)
    ran = run("import", drive)
    assert ran.code == 0
    assert "12 new SOP Instances, 0 held already" in ran.out
    assert len(digests(stored)) == 12
    (patients,) = {stored.index.holdings().patients}
    assert patients == 2


def test_a_second_time_nothing_is_doubled(run, stored, drive):
    make_study(drive)
    run("import", drive)
    found = run("import", "--json", drive).json
    assert (found["new"], found["held"], found["failed"]) == (0, 3, [])
    assert len(digests(stored)) == 3


def test_bytes_and_facts_of_arrival(run, stored, drive):
    sample = encode(dx())
    sample.write(drive / "a")
    run("import", drive / "a")
    (held,) = stored.index.select(EVERYTHING)
    file = stored.archive.verify(held.location, sample.sha256)
    with file.data_set() as stream:
        assert stream.read() == sample.data_set
    assert file.arrival.service == "IMPORT"
    assert (file.arrival.calling_ae_title, file.arrival.address, file.arrival.site) == ("", "", "")


def test_what_is_not_dicom_is_skipped_and_listed_when_asked(run, stored, drive):
    encode(dx()).write(drive / "1")
    (drive / "readme.txt").write_text("Hello " * 100)
    (drive / "empty.dcm").touch()
    Sample("", MediaStorageDirectoryStorage, "1.2", ExplicitVRLittleEndian, b"").write(drive / "DICOMDIR")
    ran = run("import", drive)
    assert ran.code == 0
    assert "3 files skipped" in ran.out
    assert "readme.txt" not in ran.out
    listed = run("import", "-v", drive).out
    assert all(name in listed for name in ("readme.txt", "empty.dcm", "DICOMDIR"))
    assert len(digests(stored)) == 1


def test_files_without_preamble_and_file_meta(run, stored, drive):
    sample = encode(dx())
    (drive / "IM000001").write_bytes(sample.data_set)
    assert run("import", drive).code == 0
    assert digests(stored) == [sample.sha256]


def test_every_file_that_ships_with_pydicom(run, stored):
    folder = next(path for path in pydicom_files()[0].parents if path.name == "data")
    found = run("import", "--json", folder).json
    assert found["failed"] == []
    assert set(digests(stored)) == {sample.sha256 for sample in pydicom_samples()}


def test_links_are_not_followed(run, stored, drive, tmp_path):
    outside = tmp_path / "outside"
    make_study(outside)
    (drive / "folder").symlink_to(outside)
    (drive / "file").symlink_to(next(path for path in outside.rglob("*.dcm")))
    (drive / "loop").symlink_to(drive)
    assert run("import", drive).code == 0
    assert digests(stored) == []


def test_a_further_version_is_told(run, stored, drive):
    encode(dx(StudyDescription="One")).write(drive / "1")
    encode(dx(StudyDescription="Two")).write(drive / "2")
    assert "1 further version of" in run("import", drive).out
    assert len(digests(stored)) == 2


def test_a_file_of_file_meta_alone_says_what_it_is(run, stored, drive):
    sample = unparsable()
    sample.write(drive / "odd")
    assert run("import", drive).code == 0
    assert digests(stored) == [sample.sha256]


def test_a_bad_file_does_not_stop_the_rest(run, stored, drive, monkeypatch):
    encode(cr()).write(drive / "1")
    encode(dx()).write(drive / "2")
    real = import_folders._CHUNK_BYTES

    class Broken:
        reads = 0

        def __index__(self):
            Broken.reads += 1
            if Broken.reads == 1:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real

    monkeypatch.setattr(import_folders, "_CHUNK_BYTES", Broken())
    ran = run("import", drive)
    assert ran.code == 1
    assert f"{drive / '1'}: It cannot be read to its end" in ran.out
    assert digests(stored) == [encode(dx()).sha256]


def test_an_archive_that_cannot_take_it_stops_the_import(run, home, drive):
    make_study(drive)
    (home / "archive").touch()
    ran = run("import", drive)
    assert ran.code == 1
    assert "Stopped: " in ran.out
    assert "0 new SOP Instances" in ran.out


def test_a_name_of_another_times_character_set(run, stored, drive):
    (drive / os.fsdecode(b"M\xfcller.txt")).write_text("x")
    assert "M\\xfcller.txt" in run("import", "-v", drive).out
    assert run("import", "--json", drive).json["skipped"][0]["path"].endswith("M\\xfcller.txt")
