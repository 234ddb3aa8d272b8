"""A study to take along as DICOM files: exact bytes, a DICOMDIR, digests, and nothing of other clinics."""

from __future__ import annotations

import io
import re
import tracemalloc
import warnings
import zipfile
from hashlib import sha256
from itertools import islice
from pathlib import Path

import pydicom
import pytest
from pydicom.fileset import FileSet
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from backup_scp.errors import Damaged
from backup_scp.ports import SiteScope
from backup_scp.services.parcels import Parcel, ParcelKind, Seen, StudyParcels
from backup_scp.services.verified_files import VerifiedFiles
from backup_scp.web.pages.page_texts import texts_in
from tests.samples import ct_series, data_set_of, dx, encode, instance, odd_identities, one_of_each, with_pixels

STUDY = dx().StudyInstanceUID
FILE_ID = re.compile(r"[A-Z0-9_]{1,8}")


def seen_in(stored, scope: SiteScope | None = None) -> Seen:
    files = VerifiedFiles(stored.archive, stored.index, stored.index.record_verification)
    if scope is None:
        return Seen(stored.index, files)
    index = stored.index.seen_by(scope)
    return Seen(index, files.seen_by(index))


def parcel(stored, study: str = STUDY, scope: SiteScope | None = None) -> Parcel | None:
    return StudyParcels().make(ParcelKind.DICOM, seen_in(stored, scope), study, texts_in("en"))


def files_in(made: Parcel | None) -> dict[str, bytes]:
    assert made is not None
    with zipfile.ZipFile(io.BytesIO(b"".join(made.parts))) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def unpacked(made: Parcel | None, folder: Path) -> dict[str, bytes]:
    files = files_in(made)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return files


def found_by_pydicom(folder: Path) -> set[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        fileset = FileSet(folder / "DICOMDIR")
        found = {pydicom.dcmread(one.path).SOPInstanceUID for one in fileset}
        fileset._stage["t"].cleanup()
    return found


class TestFileSet:
    def test_each_image_is_there_byte_for_byte_and_found_by_the_dicomdir(self, stored, tmp_path):
        samples = [encode(ds, syntax) for ds, syntax in zip(one_of_each(), [ImplicitVRLittleEndian] * 7, strict=True)]
        for sample in samples:
            stored.put(sample)
        files = unpacked(parcel(stored), tmp_path / "out")
        images = {name: content for name, content in files.items() if name.startswith("DICOM/")}
        assert {sha256(data_set_of(content)).hexdigest() for content in images.values()} == {s.sha256 for s in samples}
        for content in images.values():
            read = pydicom.dcmread(io.BytesIO(content))
            assert read.file_meta.MediaStorageSOPInstanceUID == read.SOPInstanceUID
            assert read.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
            assert "SENDER" not in str(read.file_meta)
        assert found_by_pydicom(tmp_path / "out") == {sample.sop_instance_uid for sample in samples}

    def test_the_transfer_syntax_stays(self, stored):
        stored.put(encode(dx(), ExplicitVRBigEndian))
        content = files_in(parcel(stored))["DICOM/S0000001/I0000001"]
        assert pydicom.dcmread(io.BytesIO(content)).file_meta.TransferSyntaxUID == ExplicitVRBigEndian

    def test_names_are_file_ids_and_say_nothing(self, stored):
        for ds in ct_series(12, study="1", PatientName="Secret^Name", PatientID="SECRET"):
            stored.put(encode(ds))
        stored.put(encode(dx(PatientName="Secret^Name", PatientID="SECRET")))
        made = parcel(stored)
        assert made is not None
        files = files_in(made)
        names = [name for name in files if "." not in name]
        assert len(names) == 14
        assert all(FILE_ID.fullmatch(part) for name in names for part in name.split("/"))
        assert (made.name, made.media_type) == ("study.zip", "application/zip")
        assert "Secret" not in files["README.TXT"].decode()
        assert "SECRET" not in str(sorted(files)).upper()

    def test_each_digest_is_that_of_its_file(self, stored):
        for ds in one_of_each():
            stored.put(encode(ds))
        files = files_in(parcel(stored))
        lines = files["SHA256.TXT"].decode().splitlines()
        listed = {name: digest for digest, _, name in (x.partition("  ") for x in lines if not x.startswith("#"))}
        others = {"README.TXT", "SHA256.TXT"}
        assert listed == {n: sha256(content).hexdigest() for n, content in files.items() if n not in others}
        data_sets = {line.removeprefix("# Data Set: ") for line in lines if line.startswith("# Data Set: ")}
        assert data_sets == {one.sha256 for one in stored.index.versions()}

    @pytest.mark.parametrize("sample", list(odd_identities()), ids=lambda sample: sample.name)
    def test_an_image_that_a_dicomdir_cannot_name_is_there(self, stored, tmp_path, sample):
        accepted = stored.put(sample)
        (held,) = [one for one in stored.index.versions() if one.location == accepted.location]
        made = parcel(stored, held.study_instance_uid)
        if not held.study_instance_uid:
            assert made is None
            return
        files = unpacked(made, tmp_path / "out")
        assert data_set_of(files["DICOM/S0000001/I0000001"]) == sample.data_set
        assert found_by_pydicom(tmp_path / "out") <= {held.sop_instance_uid}

    def test_two_studies_have_two_file_sets(self, stored):
        for study in ("1", "2"):
            stored.put(encode(dx(study=study)))
        directories = [files_in(parcel(stored, dx(study=study).StudyInstanceUID))["DICOMDIR"] for study in ("1", "2")]
        read = [pydicom.dcmread(io.BytesIO(content)) for content in directories]
        assert read[0].file_meta.MediaStorageSOPInstanceUID != read[1].file_meta.MediaStorageSOPInstanceUID
        assert read[0].FileSetID != read[1].FileSetID


class TestWhatIsSeen:
    @pytest.mark.parametrize("study", ["", "1.2.3", "*", "1.2\\1.3"])
    def test_a_study_that_is_not_there(self, stored, study):
        stored.put(encode(dx()))
        assert parcel(stored, study) is None

    def test_of_two_clinics_each_gets_its_own_part(self, stored):
        north, south = ct_series(2, PatientID="NORTH"), ct_series(2, series="9", PatientID="SOUTH")
        for number, ds in enumerate(north + south):
            stored.put(encode(ds), number, site="north" if ds in north else "south")
        for site, own in (("north", north), ("south", south)):
            files = files_in(parcel(stored, STUDY, SiteScope(frozenset({site}))))
            images = [pydicom.dcmread(io.BytesIO(files[name])) for name in files if name.startswith("DICOM/")]
            assert {each.SOPInstanceUID for each in images} == {each.SOPInstanceUID for each in own}
            other = b"SOUTH" if site == "north" else b"NORTH"
            assert [name for name, content in files.items() if other in content] == []
        assert parcel(stored, STUDY, SiteScope(frozenset({"west"}))) is None
        assert len(files_in(parcel(stored))) == 7

    def test_one_name_and_patient_id_in_two_clinics_are_two_people_for_who_sees_both(self, stored):
        for number, site in enumerate(("north-clinic", "south-clinic")):
            stored.put(encode(dx(series=site)), number, site=site)
        whole = files_in(parcel(stored))["DICOMDIR"]
        people = [
            record for record in pydicom.dcmread(io.BytesIO(whole)).DirectoryRecordSequence if "PatientID" in record
        ]
        assert [record.IssuerOfPatientID for record in people] == ["north-clinic", "south-clinic"]
        part = files_in(parcel(stored, STUDY, SiteScope(frozenset({"north-clinic"}))))
        assert [name for name, content in part.items() if b"clinic" in content and name != "README.TXT"] == []


class TestSending:
    def test_with_a_damaged_image_it_has_no_end(self, stored):
        slices = ct_series(9)
        places = [stored.put(encode(ds), number).location for number, ds in enumerate(slices)]
        stored.flip(places[4])
        made, came = parcel(stored), list[bytes]()
        assert made is not None
        with pytest.raises(Damaged):
            came.extend(made.parts)
        assert not zipfile.is_zipfile(io.BytesIO(b"".join(came)))
        assert b"DICOMDIR" not in b"".join(came)

    def test_a_long_image_takes_little_memory(self, stored):
        ds = with_pixels(instance(dx().SOPClassUID), 4096, 4096)
        sample = encode(ds)
        stored.put(sample)
        del ds
        made = parcel(stored)
        assert made is not None
        tracemalloc.start()
        try:
            length = sum(map(len, made.parts))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert length > len(sample.data_set) > 32 << 20
        assert peak < 8 << 20

    def test_it_can_be_left_in_the_middle(self, stored):
        stored.put(encode(with_pixels(instance(dx().SOPClassUID), 1024, 1024)))
        made = parcel(stored)
        assert made is not None
        assert len(list(islice(made.parts, 2))) == 2
        made.parts.close()  # type: ignore[attr-defined]
        assert list(made.parts) == []
