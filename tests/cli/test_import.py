"""backup-scp import, with folders as people have them."""

from __future__ import annotations

import errno
import os
import zipfile

import pytest
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from backup_scp.cli import import_folders
from backup_scp.ports import Selection
from backup_scp.services import import_result
from backup_scp.services.import_files import ZIP_IN_ZIP
from tests.samples import Sample, cr, ct_series, dx, encode, make_study, pydicom_files, pydicom_samples, unparsable

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
    assert "12 new images, 0 already stored" in ran.out
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
    assert "Skipped: 3" in ran.out
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


def test_links_are_followed_once(run, stored, drive, tmp_path):
    outside = tmp_path / "outside"
    make_study(outside)
    (drive / "folder").symlink_to(outside)
    (drive / "file").symlink_to(next(path for path in outside.rglob("*.dcm")))
    (drive / "loop").symlink_to(drive)
    (drive / "gone").symlink_to(tmp_path / "gone")
    ran = run("import", "-v", drive)
    assert ran.code == 0
    assert "3 new images, 0 already stored" in ran.out
    assert all(f"{drive / name}: A link to" in ran.out for name in ("file", "loop", "gone"))
    assert len(digests(stored)) == 3


class TestZip:
    @pytest.fixture
    def samples(self):
        return [encode(ds) for ds in ct_series(3)]

    def test_the_images_in_it(self, run, stored, drive, samples):
        with zipfile.ZipFile(drive / "cd.zip", "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("../../images/1", samples[0].file_bytes())
            file.writestr("bare", samples[1].data_set)
            file.writestr("without preamble", samples[2].file_bytes()[128:])
            file.writestr("readme.txt", "Hello")
            file.writestr("inner.zip", (drive / "cd.zip").read_bytes()[:30] + bytes(200))
            file.writestr(
                "DICOMDIR", Sample("", MediaStorageDirectoryStorage, "1.2", "1.2.840.10008.1.2.1", b"").file_bytes()
            )
        before = sorted(drive.parent.rglob("*"))

        ran = run("import", "-v", drive)

        assert ran.code == 0
        assert "3 new images" in ran.out
        assert digests(stored) == sorted(sample.sha256 for sample in samples)
        for name, reason in (("readme.txt", "Not a DICOM file"), ("inner.zip", ZIP_IN_ZIP), ("DICOMDIR", "A DICOMDIR")):
            assert f"{drive / 'cd.zip'}: {name}: {reason}" in ran.out
        assert [path for path in sorted(drive.parent.rglob("*")) if "home" not in path.parts] == [
            path for path in before if "home" not in path.parts
        ]

    def test_one_with_nothing_for_us_is_one_file(self, run, stored, drive):
        with zipfile.ZipFile(drive / "letter.docx", "w") as file:
            file.writestr("a.xml", "<a/>")
            file.writestr("b.xml", "<b/>")
        found = run("import", "--json", drive).json
        assert found["skipped_by_reason"] == {"A zip file without DICOM files": 1}

    def test_what_cannot_be_read_in_it_is_counted_and_the_rest_brought_in(self, run, stored, drive, samples):
        path = drive / "cd.zip"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("damaged", samples[0].file_bytes())
            file.writestr("encrypted", samples[1].file_bytes())
            file.writestr("whole", samples[2].file_bytes())
        content = bytearray(path.read_bytes())
        content[len(samples[0].file_bytes()) - 10] ^= 1
        for magic, flags in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
            second = content.index(magic, content.index(magic) + 1)
            content[second + flags] |= 1
        path.write_bytes(content)

        ran = run("import", drive)
        found = run("import", "--json", drive).json

        assert ran.code == 1
        assert "Not imported: 2\n" in ran.out
        assert f"{path}: encrypted: It is encrypted in its zip file" in ran.out
        assert digests(stored) == [samples[2].sha256]
        assert list(found["failed_by_reason"].values()) == [1, 1]
        assert found["held"] == 1

    def test_a_damaged_one_may_hold_images(self, run, home, drive):
        (drive / "cd.zip").write_bytes(b"PK\3\4" + bytes(100))
        ran = run("import", drive)
        assert ran.code == 1
        assert "The zip file cannot be read" in ran.out


def test_what_was_passed_over_is_counted_by_reason(run, home, drive):
    for name in ("1", "2"):
        (drive / name).write_text("x")
    Sample("", MediaStorageDirectoryStorage, "1.2", ExplicitVRLittleEndian, b"").write(drive / "DICOMDIR")
    os.mkfifo(drive / "pipe")
    ran = run("import", drive)
    assert ran.code == 0
    assert "Skipped: 4 (-v lists them)\n  2  Not a DICOM file\n" in ran.out
    assert "  1  A DICOMDIR: a list of files" in ran.out
    assert "  1  Neither a file nor a folder" in ran.out
    found = run("import", "--json", drive).json
    assert sum(found["skipped_by_reason"].values()) == len(found["skipped"]) == 4


def test_very_many_are_counted_and_not_all_listed(run, home, drive, monkeypatch):
    monkeypatch.setattr(import_result, "_MOST_LISTED", 2)
    for name in ("1", "2", "3"):
        (drive / name).write_text("x")
    found = run("import", "--json", drive).json
    assert (len(found["skipped"]), found["skipped_by_reason"]) == (2, {"Not a DICOM file": 3})


def test_a_repair_is_told(run, stored, drive):
    make_study(drive)
    run("import", drive)
    first, second, _ = stored.index.select(EVERYTHING)
    stored.flip(first.location)
    stored.path(second.location).unlink()
    ran = run("import", drive)
    assert ran.code == 0
    assert "0 new images, 3 already stored" in ran.out
    assert "2 images damaged or missing in the archive: repaired from these files" in ran.out
    assert run("import", "--json", drive).json["repaired"] == 0
    assert run("verify").code == 0


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
    assert "0 new images" in ran.out


def test_a_name_of_another_times_character_set(run, stored, drive):
    (drive / os.fsdecode(b"M\xfcller.txt")).write_text("x")
    assert "M\\xfcller.txt" in run("import", "-v", drive).out
    assert run("import", "--json", drive).json["skipped"][0]["path"].endswith("M\\xfcller.txt")


def test_a_copy_that_is_cut_off_is_named_and_displaces_nothing(run, stored, drive):
    whole = encode(dx())
    whole.write(drive / "whole")
    content = (drive / "whole").read_bytes()
    (drive / "half").write_bytes(content[:-1000])
    found = run("import", "--json", drive).json
    assert (found["new"] + found["version"], found["truncated_count"]) == (2, 1)
    assert found["truncated"] == [str(drive / "half")]
    (answering,) = stored.index.select(Selection())
    assert answering.sha256 == whole.sha256
    (remark,) = stored.index.remarks(9)
    assert remark.flags == ("truncated",)
    said = run("import", drive / "half").out
    assert "1 image cut off: the file ends too early" in said
    assert str(drive / "half") in said
