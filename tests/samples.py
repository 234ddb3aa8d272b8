"""Data Sets for the tests: made here, always the same, and those that ship with pydicom."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pydicom
from pydicom.config import IGNORE, settings
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    SecondaryCaptureImageStorage,
)

BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
PRIVATE_SOP_CLASS = "1.2.826.0.1.3680043.10.9999.4.1"
PRIVATE_TRANSFER_SYNTAX = "1.2.826.0.1.3680043.10.9999.2.1"
IMPLEMENTATION_CLASS = "1.2.826.0.1.3680043.10.9999.1"


@dataclass(frozen=True)
class Sample:
    """A SOP Instance of a sender: the values of the Command Set, and the exact bytes of the Data Set."""

    name: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data_set).hexdigest()

    def dataset(self) -> Dataset:
        """Decode it, for tests that want a value."""
        return pydicom.dcmread(io.BytesIO(self.file_bytes()), force=True)

    def file_bytes(self) -> bytes:
        """Return it as a PS3.10 file."""
        meta = b"".join(
            (
                struct.pack("<HH2s2xI", 2, 1, b"OB", 2) + b"\0\1",
                _meta_uid(0x02, self.sop_class_uid),
                _meta_uid(0x03, self.sop_instance_uid),
                _meta_uid(0x10, self.transfer_syntax_uid),
                _meta_uid(0x12, IMPLEMENTATION_CLASS),
            )
        )
        return bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta)) + meta + self.data_set

    def write(self, path: Path) -> Path:
        """Write it as a PS3.10 file and return the path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.file_bytes())
        return path

    @classmethod
    def of_file(cls, path: Path) -> Sample | None:
        """Read a file, however odd; None when it names no SOP Instance."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=_IDENTITY)
            meta = read.file_meta
            sop_class = str(read.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
            sop_instance = str(read.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID") or "")
            transfer_syntax = str(meta.get("TransferSyntaxUID") or _guessed_transfer_syntax(read))
        if not sop_class or not sop_instance:
            return None
        return cls(path.name, sop_class, sop_instance, transfer_syntax, data_set_bytes(path))


_IDENTITY = ["SOPClassUID", "SOPInstanceUID"]


def _meta_uid(element: int, uid: str) -> bytes:
    value = uid.encode() + b"\0" * (len(uid) % 2)
    return struct.pack("<HH2sH", 2, element, b"UI", len(value)) + value


def _guessed_transfer_syntax(read: Dataset) -> str:
    implicit, little = read.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def uid(*names: object) -> str:
    """Return the UID that these names always give, under 2.25."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"


# ------------------------------------------------------------------------------------------------- bytes and files


def data_set_bytes(path: Path) -> bytes:
    """Return the exact bytes after the File Meta Information, or all where there is none."""
    return data_set_of(path.read_bytes())


def data_set_of(raw: bytes) -> bytes:
    """Return the exact bytes after the File Meta Information of a file, or all where there is none."""
    position = 132 if raw[128:132] == b"DICM" else 0
    while raw[position : position + 2] == b"\2\0":
        vr = raw[position + 4 : position + 6]
        if vr in {b"OB", b"UN", b"UT", b"OW", b"SQ"}:
            position += 12 + struct.unpack_from("<I", raw, position + 8)[0]
        elif vr.isalpha():
            position += 8 + struct.unpack_from("<H", raw, position + 6)[0]
        else:  # a File Meta in Implicit VR, against PS3.10 7.1
            position += 8 + struct.unpack_from("<I", raw, position + 4)[0]
    return raw[position:]


@functools.cache
def pydicom_files() -> tuple[Path, ...]:
    """Return every DICOM file that ships inside the installed pydicom; nothing is downloaded."""
    data = Path(str(files("pydicom"))) / "data"
    return tuple(sorted(path for path in data.rglob("*") if path.is_file() and _looks_like_dicom(path)))


@functools.cache
def pydicom_samples() -> tuple[Sample, ...]:
    """Return those of them that carry a SOP Instance UID (a DICOMDIR is a file, not an instance)."""
    read = (Sample.of_file(path) for path in pydicom_files())
    return tuple(sample for sample in read if sample and sample.sop_class_uid != MediaStorageDirectoryStorage)


def _looks_like_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return path.suffix == ".dcm" or file.read(132)[128:] == b"DICM"


def encode(dataset: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian, *, name: str = "") -> Sample:
    """Encode a Data Set, valid or not, with the bytes that its values have."""
    written = DicomBytesIO()
    written.is_little_endian = transfer_syntax_uid != ExplicitVRBigEndian
    written.is_implicit_VR = transfer_syntax_uid == ImplicitVRLittleEndian
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_dataset(written, dataset)
    data_set = written.getvalue()
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        data_set = _deflated(data_set)
    sop_class, sop_instance = str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)
    return Sample(name or sop_instance, sop_class, sop_instance, transfer_syntax_uid, data_set)


def _deflated(data_set: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = deflate.compress(data_set) + deflate.flush()
    return packed + b"\0" * (len(packed) % 2)


# ------------------------------------------------------------------------------------------------------- Data Sets


def instance(sop_class_uid: str, *, study: str = "1", series: str = "1", number: int = 1, **elements: Any) -> Dataset:
    """Return a Data Set with the four levels' attributes; `elements` replace or add, None removes."""
    patient = str(elements.get("PatientID", "PID1"))
    ds = Dataset()
    ds.SOPClassUID = sop_class_uid
    ds.SOPInstanceUID = uid(study, series, number, sop_class_uid)
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = "20240131"
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = "101500"
    ds.AccessionNumber = f"ACC{study}"[:16]
    ds.Modality = "OT"
    ds.ReferringPhysicianName = "Referring^Rita"
    ds.StudyDescription = "Chest"
    ds.PatientName = f"Family{patient}^Given"
    ds.PatientID = patient
    ds.PatientBirthDate = "19700501"
    ds.PatientSex = "O"
    ds.StudyInstanceUID = uid(study)
    ds.SeriesInstanceUID = uid(study, series)
    ds.StudyID = f"S{study}"[:16]
    ds.SeriesNumber = series if series.isdigit() else "1"
    ds.InstanceNumber = str(number)
    replace(ds, **elements)
    return ds


def replace(ds: Dataset, **elements: Any) -> Dataset:
    """Set elements to values, valid or not; None removes."""
    before = settings.writing_validation_mode
    settings.writing_validation_mode = IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for keyword, value in elements.items():
                if value is None:
                    ds.pop(keyword, None)
                else:
                    setattr(ds, keyword, value)
    finally:
        settings.writing_validation_mode = before
    return ds


def with_pixels(ds: Dataset, rows: int = 32, columns: int = 32, *, frames: int = 1, bits: int = 16) -> Dataset:
    """Add a grey image: a ramp, so that a changed or shifted byte shows."""
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    if frames > 1:
        ds.NumberOfFrames = str(frames)
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated = bits
    ds.BitsStored = 12 if bits == 16 else 8
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = 0
    values = 1 << int(ds.BitsStored)
    raw = b"".join((pixel % values).to_bytes(bits // 8, "little") for pixel in range(rows * columns * frames))
    ds.add_new("PixelData", "OW" if bits == 16 else "OB", raw + b"\0" * (len(raw) % 2))
    return ds


def dx(**elements: Any) -> Dataset:
    """Return a small Digital X-Ray image, what a DR console sends."""
    at = {key: elements.pop(key) for key in ("study", "series", "number") if key in elements}
    ds = instance(DigitalXRayImageStorageForPresentation, **at)
    replace(
        ds,
        Modality="DX",
        BodyPartExamined="CHEST",
        ViewPosition="PA",
        ImageLaterality="U",
        ImageType="ORIGINAL\\PRIMARY",
    )
    return replace(with_pixels(ds), **elements)


def cr(**elements: Any) -> Dataset:
    """Return a small Computed Radiography image."""
    at = {key: elements.pop(key) for key in ("study", "series", "number") if key in elements}
    ds = instance(ComputedRadiographyImageStorage, **at)
    return replace(with_pixels(replace(ds, Modality="CR", BodyPartExamined="HAND")), **elements)


def ct_series(slices: int = 4, *, study: str = "1", series: str = "2", **elements: Any) -> list[Dataset]:
    """Return the slices of one CT series."""
    made = []
    for number in range(1, slices + 1):
        ds = instance(CTImageStorage, study=study, series=series, number=number)
        replace(ds, Modality="CT", ImageType="ORIGINAL\\PRIMARY\\AXIAL", SliceThickness="5")
        replace(
            ds, ImagePositionPatient=["0", "0", str(5 * number)], ImageOrientationPatient=["1", "0", "0", "0", "1", "0"]
        )
        made.append(replace(with_pixels(ds), **elements))
    return made


def secondary_capture(*, study: str = "1", series: str = "3", **elements: Any) -> Dataset:
    """Return a Secondary Capture image of 8 bits."""
    ds = instance(SecondaryCaptureImageStorage, study=study, series=series)
    return replace(with_pixels(replace(ds, Modality="OT", ConversionType="WSD"), bits=8), **elements)


def presentation_state(of: Dataset, *, series: str = "4", **elements: Any) -> Dataset:
    """Return a Grayscale Softcopy Presentation State of an image: an instance without pixels."""
    ds = instance(GrayscaleSoftcopyPresentationStateStorage, series=series)
    image, referenced_series = Dataset(), Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = of.SOPClassUID, of.SOPInstanceUID
    referenced_series.SeriesInstanceUID = of.SeriesInstanceUID
    referenced_series.ReferencedImageSequence = Sequence([image])
    replace(ds, Modality="PR", StudyInstanceUID=of.StudyInstanceUID, PatientID=of.PatientID, PatientName=of.PatientName)
    replace(ds, ContentLabel="CHEST", PresentationCreationDate="20240131", PresentationCreationTime="101500")
    ds.ReferencedSeriesSequence = Sequence([referenced_series])
    return replace(ds, **elements)


def structured_report(*, study: str = "1", series: str = "5", **elements: Any) -> Dataset:
    """Return a Basic Text SR: nested sequences and text in UTF-8."""
    ds = instance(BASIC_TEXT_SR, study=study, series=series)
    ds.SpecificCharacterSet = "ISO_IR 192"
    text, code = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "121071", "DCM", "Finding"
    text.RelationshipType, text.ValueType = "CONTAINS", "TEXT"
    text.ConceptNameCodeSequence = Sequence([code])
    text.TextValue = "Kein Befund. Größe 12 µm"
    ds.ContentSequence = Sequence([text])
    replace(ds, Modality="SR", ValueType="CONTAINER", ContinuityOfContent="SEPARATE")
    return replace(ds, CompletionFlag="COMPLETE", VerificationFlag="UNVERIFIED", **elements)


def encapsulated_pdf(*, study: str = "1", series: str = "6", **elements: Any) -> Dataset:
    """Return an Encapsulated PDF of odd length, padded."""
    ds = instance(EncapsulatedPDFStorage, study=study, series=series)
    pdf = b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF\n"
    replace(ds, Modality="DOC", MIMETypeOfEncapsulatedDocument="application/pdf", DocumentTitle="Report")
    ds.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    return replace(ds, **elements)


def one_of_each(study: str = "1", **elements: Any) -> list[Dataset]:
    """Return one study with an instance of each kind above."""
    image = dx(study=study, **elements)
    return [
        image,
        *ct_series(2, study=study, **elements),
        secondary_capture(study=study, **elements),
        presentation_state(image, **elements),
        structured_report(study=study, **elements),
        encapsulated_pdf(study=study, **elements),
    ]


def make_study(
    folder: Path,
    *,
    patients: int = 1,
    studies: int = 1,
    instances: int = 3,
    transfer_syntax_uid: str = ExplicitVRLittleEndian,
) -> list[Path]:
    """Write files of `patients` with `studies` each, one DX and further CT slices in each; return their paths."""
    paths = []
    for patient in range(1, patients + 1):
        for number in range(1, studies + 1):
            study, patient_id = f"{patient}.{number}", f"PID{patient}"
            made = [dx(study=study), *ct_series(instances - 1, study=study)][:instances]
            for position, ds in enumerate(made):
                replace(
                    ds,
                    PatientID=patient_id,
                    PatientName=f"Family{patient}^Given",
                    StudyDate=f"2024{number % 12 + 1:02}10",
                )
                path = folder / f"patient{patient}" / f"study{number}" / f"{position:04}.dcm"
                paths.append(encode(ds, transfer_syntax_uid).write(path))
    return paths


# --------------------------------------------------------------------------------------------------- odd identities


_PLAIN_UID = "1.2.826.0.1.3680043.10.9999.55"


def odd_identities() -> Iterator[Sample]:
    """Yield instances whose identity is missing, malformed or in conflict; every one must be kept."""
    yield _odd("no Patient ID", PatientID=None)
    yield _odd("empty Patient ID", PatientID="")
    yield _odd(
        "Patient ID of another person", PatientID="PID1", PatientName="Somebody^Else", PatientBirthDate="19991231"
    )
    yield _odd("no patient at all", PatientID=None, PatientName=None, PatientBirthDate=None, PatientSex=None)
    yield _odd("no study UID", StudyInstanceUID=None)
    yield _odd("no series UID", SeriesInstanceUID=None)
    yield _odd("UID with letters", SOPInstanceUID="1.2.ABC.4", StudyInstanceUID="study-one")
    yield _odd("UID with leading zeros", SOPInstanceUID="1.02.003.4", StudyInstanceUID="1.2.0003")
    yield _odd("UID over 64 characters", SOPInstanceUID="1.2." + "3" * 70, StudyInstanceUID="1.2." + "4" * 70)
    yield _odd("UID as a path", SOPInstanceUID="folder/escaped", StudyInstanceUID="folder/study")
    yield _odd("ACR-NEMA date", StudyDate="2020.01.01", PatientBirthDate="1970.05.01")
    yield _odd("no date", StudyDate="", StudyTime="")
    yield _odd("date of words", StudyDate="YESTERDAY")
    yield with_value(_odd("text where a number is"), "InstanceNumber", b"first ")
    yield _odd("private SOP Class", SOPClassUID=PRIVATE_SOP_CLASS)
    yield with_value(
        _odd("UID with trailing blanks", SOPInstanceUID=_PLAIN_UID), "SOPInstanceUID", _PLAIN_UID.encode() + b"    "
    )
    private = _odd("private Transfer Syntax")
    yield dataclasses.replace(private, transfer_syntax_uid=PRIVATE_TRANSFER_SYNTAX)
    yield unparsable()


def _odd(name: str, **elements: Any) -> Sample:
    identity = {"SOPInstanceUID": uid("odd", name), "StudyInstanceUID": uid("odd study", name)}
    return encode(dx(**{**identity, **elements}), name=name)


def with_value(sample: Sample, keyword: str, value: bytes) -> Sample:
    """Return the sample with these bytes as an element's value, whatever pydicom thinks of them (Explicit VR only)."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    header = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, dictionary_VR(tag).encode())
    start = sample.data_set.index(header) + len(header)
    old_size = struct.unpack_from("<H", sample.data_set, start)[0]
    rest = sample.data_set[start + 2 + old_size :]
    return dataclasses.replace(sample, data_set=sample.data_set[:start] + struct.pack("<H", len(value)) + value + rest)


def unparsable() -> Sample:
    """Return a Data Set that cannot be decoded: only the Command Set identifies it."""
    noise = hashlib.sha256(b"unparsable").digest() * 64
    return Sample("cannot be parsed", SecondaryCaptureImageStorage, uid("unparsable"), ExplicitVRLittleEndian, noise)
