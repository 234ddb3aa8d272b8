"""Write a DICOMDIR (PS3.3 F, PS3.10 8) in time that grows with the number of its records, not with its square.

A record has a Type 1 key also when the image lacks it: the record is filled, never the image.  One Patient ID in two
clinics is two people: Issuer of Patient ID names the clinic in the record (PS3.3 C.2.1).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby

from backup_scp.dicom.file_set.directory_keys import KEYS, Key, Value
from backup_scp.dicom.file_set.entries import Entry, patient_key, sort_key, study_date
from backup_scp.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_SOP_CLASS_UID = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage
_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_LONG = frozenset({"OB", "SQ", "UT"})
_LONGEST = {"AE": 16, "CS": 16, "DA": 8, "IS": 12, "LO": 64, "PN": 64, "SH": 16, "ST": 1024, "TM": 14, "UI": 64}
_POINTERS = 12 + 10 + 12  # bytes of next record, in-use flag and lower-level record
_BEFORE_FIRST = 12 + 12 + 10 + 12  # bytes of first and last record, consistency flag, and the sequence's header


@dataclass(slots=True)
class _Record:
    """A record without its offsets, and the records below it."""

    body: bytes
    below: list[_Record] = field(default_factory=list)
    offset: int = 0


def dicomdir(entries: Iterable[Entry], folder: str, file_set_id: str) -> bytes:
    """Return the bytes of a DICOMDIR.

    Of several versions of an image it names the one that was received last.

    Parameters
    ----------
    entries
        What it names; those without a record are left out.
    folder
        Where the DICOMDIR will be: all entries are below it.
    file_set_id
        File-set ID (0004,1130): up to 16 capitals, digits and underscores.
    """
    latest: dict[tuple[str, str, str, str], Entry] = {}
    for entry in entries:
        key = (entry.patient.site, entry.study.uid, entry.series.uid, entry.image.sop_instance_uid)
        if entry.image.record and (key not in latest or latest[key].image.received <= entry.image.received):
            latest[key] = entry
    patients = _tree(sorted(latest.values(), key=sort_key), len(folder) + 1 if folder else 0)
    prefix = _file_meta(file_set_id, len(latest)) + _element(0x00041130, "CS", file_set_id)
    first_item = len(prefix) + _BEFORE_FIRST
    records = list(_depth_first(patients))
    end = first_item
    for record in records:
        record.offset = end
        end += 8 + _POINTERS + len(record.body)
    roots = (patients[0].offset, patients[-1].offset) if patients else (0, 0)
    parts = [
        prefix,
        _number(0x00041200, roots[0]),
        _number(0x00041202, roots[1]),
        _element(0x00041212, "US", struct.pack("<H", 0)),
        struct.pack("<HH2sHI", 0x0004, 0x1220, b"SQ", 0, end - first_item),
    ]
    _write(patients, parts)
    return b"".join(parts)


def _tree(entries: Sequence[Entry], root_length: int) -> list[_Record]:
    patients: list[_Record] = []
    for _, of_patient in groupby(entries, patient_key):
        studies: list[_Record] = []
        for _, of_study in groupby(of_patient, lambda entry: entry.study.uid):
            series: list[_Record] = []
            for _, of_series in groupby(of_study, lambda entry: entry.series.uid):
                images = list(of_series)
                series.append(_Record(_series(images[0]), [_Record(_image(image, root_length)) for image in images]))
            studies.append(_Record(_study(images[0]), series))
        patients.append(_Record(_patient(images[0]), studies))
    return patients


def _depth_first(records: Iterable[_Record]) -> Iterable[_Record]:
    for record in records:
        yield record
        yield from _depth_first(record.below)


def _write(records: Sequence[_Record], parts: list[bytes]) -> None:
    for number, record in enumerate(records):
        following = records[number + 1].offset if number + 1 < len(records) else 0
        lower = record.below[0].offset if record.below else 0
        parts += (
            struct.pack("<HHI", 0xFFFE, 0xE000, _POINTERS + len(record.body)),
            _number(0x00041400, following),
            b"\x04\x00\x10\x14US\x02\x00\xff\xff",  # Record In-use Flag
            _number(0x00041420, lower),
            record.body,
        )
        _write(record.below, parts)


def _patient(entry: Entry) -> bytes:
    patient = entry.patient
    known = patient.patient_id or f"NO_ID_{sha256(repr((patient, entry.study.uid)).encode()).hexdigest()[:8].upper()}"
    values = {"00100010": patient.name, "00100020": known, "00100030": patient.birth_date, "00100040": patient.sex}
    keys: tuple[Key, ...] = (Key(0x00100010, "PN"), Key(0x00100020, "LO"), Key(0x00100030, "DA"), Key(0x00100040, "CS"))
    if patient.site:
        keys += (Key(0x00100021, "LO"),)
        values["00100021"] = patient.site
    return _body("PATIENT", keys, values)


def _study(entry: Entry) -> bytes:
    study = entry.study
    date = study_date(study.date)
    received = entry.image.received.partition("T")[0].replace("-", "")
    time = study.time if study.time[:2].isdecimal() else ""
    values = {
        "00080020": "".join(date) if date else received,
        "00080030": time.replace(":", ""),
        "00080050": study.accession_number,
        "00081030": study.description,
        "0020000D": study.uid,
        "00200010": study.study_id,
    }
    keys = (
        Key(0x00080020, "DA"),
        Key(0x00080030, "TM", "000000"),
        Key(0x00080050, "SH"),
        Key(0x00081030, "LO"),
        Key(0x0020000D, "UI"),
        Key(0x00200010, "SH", "NONE"),
    )
    return _body("STUDY", keys, values)


def _series(entry: Entry) -> bytes:
    series = entry.series
    values = {
        "00080060": series.modality,
        "0008103E": series.description,
        "00180015": series.body_part,
        "0020000E": series.uid,
        "00200011": series.number,
    }
    keys = (
        Key(0x00080060, "CS", "OT"),
        Key(0x0008103E, "LO"),
        Key(0x00180015, "CS"),
        Key(0x0020000E, "UI"),
        Key(0x00200011, "IS", "0"),
    )
    return _body("SERIES", keys, values)


def _image(entry: Entry, root_length: int) -> bytes:
    image = entry.image
    file_id = entry.path[root_length:].replace("/", "\\")
    file = (
        _element(0x00041500, "CS", file_id),
        _element(0x00041510, "UI", image.sop_class_uid),
        _element(0x00041511, "UI", image.sop_instance_uid),
        _element(0x00041512, "UI", image.transfer_syntax_uid),
    )
    return _body(image.record, KEYS[image.record], image.keys, b"".join(file))


def _body(kind: str, keys: Iterable[Key], values: Mapping[str, Value], file: bytes = b"") -> bytes:
    """Encode a record from its type on; with a Specific Character Set when a text needs one."""
    character_set = b"" if all(map(_is_plain, values.values())) else _element(0x00080005, "CS", "ISO_IR 192")
    return b"".join((_element(0x00041430, "CS", kind), file, character_set, _elements(keys, values)))


def _is_plain(value: Value) -> bool:
    if isinstance(value, str):
        return value.isascii()
    return all(_is_plain(below) for item in value for below in item.values())


def _elements(keys: Iterable[Key], values: Mapping[str, Value]) -> bytes:
    parts = []
    for key in sorted(keys):
        value = values.get(f"{key.tag:08X}", "")
        if isinstance(value, str):
            parts.append(_element(key.tag, key.vr, b"" if key.items else _text(key, value)))
        else:
            items = [_elements(key.items, item) for item in value]
            packed = [struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items]
            parts.append(_element(key.tag, key.vr, b"".join(packed)))
    return b"".join(parts)


def _text(key: Key, value: str) -> str:
    """Return a value that its Value Representation allows (PS3.5 6.2); an impossible number or date is left out."""
    text = value.replace("\\", " ")
    if key.vr in ("IS", "DA") and not text.removeprefix("-").isdecimal():
        text = ""
    if key.vr == "PN":
        return "=".join(group[: _LONGEST["PN"]] for group in text.split("=")[:3]) or key.otherwise
    return text[: _LONGEST[key.vr]].strip() or key.otherwise


def _number(tag: int, value: int) -> bytes:
    return _element(tag, "UL", struct.pack("<I", value))


def _element(tag: int, vr: str, value: bytes | str) -> bytes:
    raw = value.encode("utf-8", "replace") if isinstance(value, str) else value
    if len(raw) % 2:
        raw += b"\0" if vr in ("UI", "OB") else b" "
    if vr in _LONG:
        return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, len(raw)) + raw
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(raw)) + raw


def _file_meta(file_set_id: str, count: int) -> bytes:
    number = int(sha256(f"{file_set_id}\n{count}".encode()).hexdigest()[:24], 16)
    elements = b"".join(
        (
            _element(0x00020001, "OB", b"\0\1"),
            _element(0x00020002, "UI", _SOP_CLASS_UID),
            _element(0x00020003, "UI", f"{IMPLEMENTATION_CLASS_UID}.{number}"[:64].rstrip(".")),
            _element(0x00020010, "UI", _EXPLICIT_VR_LITTLE_ENDIAN),
            _element(0x00020012, "UI", IMPLEMENTATION_CLASS_UID),
            _element(0x00020013, "SH", IMPLEMENTATION_VERSION_NAME),
        )
    )
    return bytes(128) + b"DICM" + _element(0x00020000, "UL", struct.pack("<I", len(elements))) + elements
