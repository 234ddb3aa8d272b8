"""The lists and DICOMDIRs of a drive, as months grow."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path

import pydicom
import pytest

from backup_scp.copies.drive import drive_lists
from backup_scp.copies.drive.drive_catalog import decode, encode
from backup_scp.copies.drive.drive_names import file_names, folder_of, patient_folder
from backup_scp.dicom.file_set import Entry, Image, Patient, Series, Study, dicomdir, record_type
from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.machine.root_folder import RootFolder
from tests.copies.contract import Snapshots, put, small_archive
from tests.copies.test_drive import FILE_ID, checked, listed, named_by_dicomdirs, open_drive, prepare
from tests.samples import Sample, ct_series, dx, encapsulated_pdf, one_of_each, secondary_capture, with_value
from tests.samples import encode as encoded
from tests.stored import FIRST_ARRIVAL


def sop_instance(sample: Sample) -> SOPInstance:
    return SOPInstance.read(io.BytesIO(sample.data_set), sample.transfer_syntax_uid)


def entry(number: int, **changed) -> Entry:
    """Return an entry of a list: ten images a series, one series a study, two studies a patient."""
    series, patient = number // 10, number // 20
    return Entry(
        changed.get("path", f"2026/11/P{patient:07}/15_{series:05}/CT_{series:05}/{number:04}_AAA"),
        f"{number:064x}",
        Patient(changed.get("name", f"Name{patient}^X"), f"ID{patient}", "19700101", "O"),
        Study(f"1.2.3.{series}", "20261115", "101500", f"S{series}", "ACC", changed.get("description", "Chest")),
        Series(f"1.2.3.{series}.1", "CT", "1", "", ""),
        Image(
            "1.2.840.10008.5.1.4.1.1.2",
            f"1.2.3.{series}.1.{changed.get('instance', number)}",
            "1.2.840.10008.1.2.1",
            changed.get("received", "2026-11-15T10:00:00.000000"),
            f"{number:064x}",
            "IMAGE",
            {"00200013": str(number)},
        ),
    )


def records(raw: bytes) -> list[pydicom.Dataset]:
    return list(pydicom.dcmread(io.BytesIO(raw)).DirectoryRecordSequence)


def kinds(raw: bytes) -> list[str]:
    return [record.DirectoryRecordType for record in records(raw)]


class TestNames:
    @pytest.mark.parametrize(
        ("name", "patient_id", "folder"),
        [
            ("Doe^John", "1", "DOE_JOHN"),
            ("Schmidlin^Anna Maria", "1", "SCHMID_A"),
            ("Müller-Weiß^Jörg", "1", "MULLER_J"),
            ("Li^Xiaoming", "1", "LI_XIAOM"),
            ("Mononym", "1", "MONONYM"),
            ("Yamada^Tarou=山田^太郎=やまだ^たろう", "1", "YAMADA_T"),
            ("Иванов^Иван", "A-12345678", "ID_45678"),
            ("", "4", "ID_4"),
            ("^^^", "", "NO_NAME"),
            ("Con", "1", "CON_"),
            ("Dicomdir", "1", "DICOMDI_"),
            ("/../etc^passwd", "1", "ETC_PASS"),
        ],
    )
    def test_patients(self, name, patient_id, folder):
        assert patient_folder(name, patient_id) == folder
        assert FILE_ID.fullmatch(folder)

    @pytest.mark.parametrize("date", ["", "YESTERDAY", "20261315", "18001115", "2026"])
    def test_without_a_date_the_month_of_arrival(self, date):
        sample = with_value(encoded(dx()), "StudyDate", date.encode().ljust(8)[:8])
        assert folder_of(sop_instance(sample), FIRST_ARRIVAL).startswith("NO_DATE/202601/FAMILY_G/00_")

    def test_further_names_differ(self):
        names = list(file_names(sop_instance(encoded(dx())), "0" * 64))
        assert len(set(names)) == len(names) == 17
        assert all(map(FILE_ID.fullmatch, names))


class TestCatalog:
    def test_what_was_written_is_read(self):
        entries = [entry(number) for number in range(50)]
        lines = b"".join(encode(entries)).splitlines(keepends=True)
        assert list(decode(lines)) == entries
        assert len([line for line in lines if line.startswith(b"#P")]) == 3

    def test_without_sites_a_list_is_as_before_there_were_sites(self):
        lines = b"".join(encode([entry(1)])).splitlines()
        assert [len(json.loads(line[3:])) for line in lines if line.startswith((b"#P", b"#I"))] == [4, 7]

    def test_the_site_of_a_patient_and_the_location_of_an_image(self):
        plain = entry(1)
        patient, image = plain.patient._replace(site="north"), plain.image._replace(location="a/b")
        of_site = plain._replace(patient=patient, image=image)
        lines = b"".join(encode([entry(0), of_site])).splitlines(keepends=True)
        assert list(decode(lines)) == [entry(0), of_site]

    def test_a_damaged_list_is_told(self):
        lines = b"".join(encode([entry(1)])).replace(b'#P ["', b"#P [").splitlines(keepends=True)
        with pytest.raises(ValueError):
            list(decode(lines))


class TestDicomdir:
    def test_records_lead_to_each_other(self):
        raw = dicomdir([entry(number) for number in range(40)], "2026/11", "2026_11")
        directory = pydicom.dcmread(io.BytesIO(raw))
        at = {record.seq_item_tell: record for record in directory.DirectoryRecordSequence}

        def chain(offset: int) -> list[pydicom.Dataset]:
            found = []
            while offset:
                found.append(at[offset])
                offset = found[-1].OffsetOfTheNextDirectoryRecord
            return found

        def tree(offset: int) -> list:
            return [tree(record.OffsetOfReferencedLowerLevelDirectoryEntity) for record in chain(offset)]

        first = directory.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity
        assert tree(first) == [[[[[]] * 10], [[[]] * 10]]] * 2
        assert chain(first)[-1].seq_item_tell == directory.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity

    def test_one_study_that_is_described_in_two_ways_has_one_record(self):
        raw = dicomdir([entry(0), entry(1, description="Abdomen")], "2026/11", "X")
        assert kinds(raw) == ["PATIENT", "STUDY", "SERIES", "IMAGE", "IMAGE"]

    def test_the_version_that_was_received_last_is_named(self):
        later = entry(2, instance=1, received="2026-11-16T10:00:00.000000")
        for entries in ([entry(1), later], [later, entry(1)]):
            (image,) = (record for record in records(dicomdir(entries, "2026/11", "X")) if "ReferencedFileID" in record)
            assert "\\".join(image.ReferencedFileID) == later.path.removeprefix("2026/11/").replace("/", "\\")

    def test_two_patients_with_one_id_stay_two(self):
        raw = dicomdir([entry(0), entry(10, name="Somebody^Else")], "2026/11", "X")
        assert kinds(raw).count("PATIENT") == 2

    def test_an_empty_one(self):
        assert kinds(dicomdir([], "2026/11", "X")) == []

    def test_its_time_and_memory_grow_with_the_number(self):
        entries = [entry(number) for number in range(10_000)]
        tracemalloc.start()
        raw = dicomdir(entries, "2026/11", "X")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (len(raw) < 3e6, peak < 20e6) == (True, True), (len(raw), peak)

    def test_type_1_keys_are_filled_in_the_record_alone(self, tmp_path):
        lacking: dict = dict.fromkeys(
            ["StudyDate", "StudyTime", "StudyID", "Modality", "SeriesNumber", "InstanceNumber", "PatientID"]
        )
        made_of = [dx(**lacking), *ct_series(2, **lacking), secondary_capture(**lacking), encapsulated_pdf(**lacking)]
        made = small_archive(tmp_path, [encoded(ds) for ds in made_of])
        prepare(tmp_path / "drive")
        with open_drive(tmp_path / "drive") as drive:
            stored = put(drive, made)
            drive.conclude(Snapshots(), is_complete=True)
        (path,) = (tmp_path / "drive").rglob("DICOMDIR")
        found = records(path.read_bytes())
        assert not [
            element.keyword
            for record in found
            for element in record
            if element.keyword in lacking and element.value in (None, "")
        ]
        assert len([record for record in found if "ReferencedFileID" in record]) == len(stored)
        for item in stored:
            assert (tmp_path / "drive" / item.stored.name).read_bytes() == made.bytes_of(item)

    def test_text_of_any_script_is_utf_8(self):
        raw = dicomdir([entry(0, name="Иванов^Иван=山田^太郎"), entry(20)], "2026/11", "X")
        patients = [record for record in records(raw) if record.DirectoryRecordType == "PATIENT"]
        assert {str(record.PatientName) for record in patients} == {"Иванов^Иван=山田^太郎", "Name1^X"}
        assert [record.get("SpecificCharacterSet") for record in patients] == [None, "ISO_IR 192"]

    def test_kinds_of_records(self):
        kinds = {record_type(sop_instance(encoded(ds))) for ds in one_of_each()}
        assert kinds == {"IMAGE", "PRESENTATION", "SR DOCUMENT", "ENCAP DOC"}


class TestGrowth:
    """A month with more images than one DICOMDIR takes."""

    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        prepare(tmp_path / "drive")
        return tmp_path / "drive"

    def bring(self, folder, made, items):
        with open_drive(folder) as drive:
            stored = put(drive, made, items)
            drive.conclude(Snapshots(), is_complete=True)
        return stored

    def test_dicomdirs_move_down_to_patients_and_series(self, folder, tmp_path, monkeypatch):
        monkeypatch.setattr(drive_lists, "MOST_ENTRIES", 8)
        small = [encoded(dx(study=str(number), PatientID=str(number), PatientName=f"P{number}^X")) for number in (1, 2)]
        large = [encoded(ds) for ds in ct_series(11, study="3", PatientID="3", PatientName="Large^X")]
        made = small_archive(tmp_path, small + large)
        stored = self.bring(folder, made, made.items[:4])
        assert [str(path.relative_to(folder)) for path in folder.rglob("DICOMDIR")] == ["2024/01/DICOMDIR"]
        stored += self.bring(folder, made, made.items[4:])
        places = sorted(len(path.relative_to(folder).parts) for path in folder.rglob("DICOMDIR"))
        assert places == [4, 4, 6]
        assert sorted(map(str, named_by_dicomdirs(folder))) == sorted(item.stored.name for item in stored)
        assert sorted(listed(folder)) == sorted(item.stored.name for item in stored)
        assert len(list(folder.glob("2024/01/SHA256*.TXT"))) == 2
        assert checked(folder).returncode == 0

    @pytest.mark.parametrize("most_written", [1, drive_lists._MOST_WRITTEN_BYTES], ids=["little room", "as usual"])
    def test_many_months_share_flushes(self, folder, tmp_path, monkeypatch, most_written):
        dates = [f"2026{month:02}15" for month in range(1, 9)]
        made = small_archive(tmp_path, [encoded(dx(study=date, StudyDate=date)) for date in dates])
        flushes, flush = [0], RootFolder.flush

        def counted(root):
            flushes[0] += 1
            flush(root)

        monkeypatch.setattr(drive_lists, "_MOST_WRITTEN_BYTES", most_written)
        with open_drive(folder) as drive:
            stored = put(drive, made)
            monkeypatch.setattr(RootFolder, "flush", counted)
            drive.conclude(Snapshots(), is_complete=True)
        assert (flushes[0] <= 6) is (most_written > 1)
        assert len(list(folder.glob("2026/*/DICOMDIR"))) == len(dates)
        assert sorted(map(str, named_by_dicomdirs(folder))) == sorted(item.stored.name for item in stored)
        assert sorted(listed(folder)) == sorted(item.stored.name for item in stored)
        assert not list(folder.glob("BACKUPSC/NEW/*"))

    def test_what_is_brought_again_is_listed_once(self, folder, tmp_path, monkeypatch):
        monkeypatch.setattr(drive_lists, "MOST_ENTRIES", 4)
        made = small_archive(tmp_path, [encoded(ds) for ds in ct_series(11)])
        for _ in range(3):
            stored = self.bring(folder, made, made.items)
        assert sorted(listed(folder)) == sorted(item.stored.name for item in stored)

    def test_a_damaged_file_that_was_written_again_is_listed_under_its_new_name(self, folder, tmp_path):
        made = small_archive(tmp_path, [encoded(dx())])
        (first,) = self.bring(folder, made, made.items)
        path = folder / first.stored.name
        path.write_bytes(path.read_bytes()[:-1])
        (second,) = self.bring(folder, made, made.items)
        assert listed(folder) == [second.stored.name] != [first.stored.name]
        assert [str(path) for path in named_by_dicomdirs(folder)] == listed(folder)
        assert checked(folder).returncode == 0

    def test_a_damaged_new_list_is_kept(self, folder, tmp_path):
        made = small_archive(tmp_path, [encoded(dx())])
        with open_drive(folder) as drive:
            (item,) = put(drive, made)
        (path,) = folder.glob("BACKUPSC/NEW/*")
        path.write_bytes(path.read_bytes().replace(b'#P ["', b"#P ["))
        with open_drive(folder) as drive:
            drive.conclude(Snapshots(), is_complete=True)
        assert (listed(folder), checked(folder).returncode) == ([item.stored.name], 0)

    def test_files_that_other_systems_leave_stop_nothing(self, folder, tmp_path):
        made = small_archive(tmp_path, [encoded(dx())])
        self.bring(folder, made, made.items)
        for place in ("", "2024", "2024/01", "BACKUPSC", "BACKUPSC/NEW", "BACKUPSC/TEMP"):
            for name in (".DS_Store", "._SHA256.TXT", "desktop.ini", "SHA256_x.TXT"):
                (folder / place / name).write_bytes(b"\0\1")
        self.bring(folder, made, made.items)
        assert len(named_by_dicomdirs(folder)) == 1

    def test_a_damaged_list_stops_nothing(self, folder, tmp_path, caplog):
        made = small_archive(tmp_path, [encoded(dx(study=str(number))) for number in range(3)])
        stored = self.bring(folder, made, made.items[:2])
        (path,) = folder.glob("2024/01/SHA256.TXT")
        path.write_bytes(path.read_bytes().replace(b'#P ["', b"#P ["))
        stored += self.bring(folder, made, made.items[2:])
        assert "the list is damaged" in caplog.text
        assert sorted(listed(folder)) == sorted(item.stored.name for item in stored)
        assert checked(folder).returncode == 0
