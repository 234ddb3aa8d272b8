"""Encode an Inventory (PS3.3 A.88, C.38): one SOP Instance that lists studies, series and instances, item by item."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from pydicom.uid import ExplicitVRLittleEndian

from backup_scp.dicom.attributes import BY_KEYWORD
from backup_scp.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

INVENTORY_STORAGE = "1.2.840.10008.5.1.4.1.1.201.1"
LEVEL = "INSTANCE"

_PURPOSE = "All that this archive holds, for migration and proof"
_LONG = frozenset({"OB", "SQ", "UC", "UN", "UR", "UT", "UV"})
_PACKED = {"UL": "<I", "US": "<H", "SS": "<h", "SL": "<i", "UV": "<Q"}
_UNDEFINED = 0xFFFFFFFF
_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, _UNDEFINED)
_END_OF_ITEM = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
_END_OF_SEQUENCE = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
_STUDIES, _SERIES, _INSTANCES = 0x00080423, 0x00080424, 0x00080425

Values = Mapping[str, str]
"""Values as text, by keyword of the table of attributes."""


class InstanceRecord(NamedTuple):
    """One listed instance."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    sha256: str


@dataclass(frozen=True, slots=True)
class SeriesRecord:
    """One listed series."""

    values: Values
    instances: tuple[InstanceRecord, ...]


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """One listed study."""

    values: Values
    updated_at: datetime
    series: tuple[SeriesRecord, ...]


@dataclass(slots=True)
class Count:
    """How many studies were listed, and whether some instance could not be.

    Attributes
    ----------
    is_complete
        False when some instance names no study or series.
    """

    studies: int = 0
    is_complete: bool = True


def file_meta(uid: str) -> bytes:
    """Return preamble and File Meta Information (PS3.10 7.1)."""
    meta = b"".join(
        (
            _element(0x00020001, "OB", b"\0\1"),
            text_element(0x00020002, "UI", INVENTORY_STORAGE),
            text_element(0x00020003, "UI", uid),
            text_element(0x00020010, "UI", ExplicitVRLittleEndian),
            text_element(0x00020012, "UI", IMPLEMENTATION_CLASS_UID),
            text_element(0x00020013, "SH", IMPLEMENTATION_VERSION_NAME),
        )
    )
    return bytes(128) + b"DICM" + _element(0x00020000, "UL", struct.pack("<I", len(meta))) + meta


def data_set(uid: str, at: datetime, studies: Iterable[StudyRecord], count: Count) -> Iterator[bytes]:
    """Yield the Data Set, a study at a time.

    Parameters
    ----------
    uid
        SOP Instance UID.
    at
        The moment of which it tells; UTC.
    studies
        What is listed.
    count
        Counts them; it is read when the last one was listed.
    """
    moment = _date_time(at)
    yield b"".join(
        (
            text_element(0x00080005, "CS", "ISO_IR 192"),
            text_element(0x00080016, "UI", INVENTORY_STORAGE),
            text_element(0x00080018, "UI", uid),
            text_element(0x00080023, "DA", moment[:8]),
            text_element(0x00080033, "TM", moment[8:21]),
            text_element(0x00080070, "LO", "backup-scp"),
            text_element(0x00080201, "SH", "+0000"),
            _element(0x00080400, "SQ", b""),  # Scope of Inventory: everything
            text_element(0x00080401, "LT", _PURPOSE),
            text_element(0x00080403, "CS", LEVEL),
            _element(0x00080420, "SQ", b""),  # Inventory Access End Points
            _element(0x00080422, "SQ", b""),  # Incorporated Inventory Instances
            _open(_STUDIES),
        )
    )
    for study in studies:
        count.studies += 1
        yield _study(study, moment)
    yield b"".join(
        (
            _END_OF_SEQUENCE,
            text_element(0x00080426, "CS", "COMPLETE" if count.is_complete else "PARTIAL"),
            text_element(0x00080427, "UL", str(count.studies)),
            text_element(0x00080428, "UV", str(count.studies)),
            text_element(0x00181020, "LO", IMPLEMENTATION_VERSION_NAME),
        )
    )


def _study(study: StudyRecord, moment: str) -> bytes:
    elements = _of(study.values)
    elements[0x00080404] = text_element(0x00080404, "DT", moment)
    elements[0x00080405] = text_element(0x00080405, "CS", "N")  # Removed from Operational Use
    elements[0x0008041F] = text_element(0x0008041F, "DT", _date_time(study.updated_at))
    elements[0x00080421] = _element(0x00080421, "SQ", b"")  # Study Access End Points
    elements[_SERIES] = _sequence(_SERIES, map(_series, study.series))
    return _item(elements)


def _series(series: SeriesRecord) -> bytes:
    elements = _of(series.values)
    elements[_INSTANCES] = _sequence(_INSTANCES, map(_instance, series.instances))
    return _item(elements)


def _instance(instance: InstanceRecord) -> bytes:
    """Encode an instance, with the SHA-256 of its Data Set as a MAC without a key."""
    return b"".join(
        (
            _ITEM,
            text_element(0x00080016, "UI", instance.sop_class_uid),
            text_element(0x00080018, "UI", instance.sop_instance_uid),
            text_element(0x00083002, "UI", instance.transfer_syntax_uid),
            text_element(0x04000010, "UI", instance.transfer_syntax_uid),
            text_element(0x04000015, "CS", "SHA256"),
            _element(0x04000404, "OB", bytes.fromhex(instance.sha256)),
            _END_OF_ITEM,
        )
    )


def _of(values: Values) -> dict[int, bytes]:
    attributes = ((BY_KEYWORD[keyword], text) for keyword, text in values.items())
    return {attribute.tag: text_element(attribute.tag, attribute.vr, text) for attribute, text in attributes}


def _item(elements: Mapping[int, bytes]) -> bytes:
    return b"".join((_ITEM, *(elements[tag] for tag in sorted(elements)), _END_OF_ITEM))


def _sequence(tag: int, items: Iterable[bytes]) -> bytes:
    return b"".join((_open(tag), *items, _END_OF_SEQUENCE))


def _open(tag: int) -> bytes:
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"SQ", 0, _UNDEFINED)


@lru_cache(maxsize=4096)
def text_element(tag: int, vr: str, text: str) -> bytes:
    """Encode an element whose value is text, or numbers as text, in Explicit VR Little Endian."""
    if vr in _PACKED:
        numbers = [int(each) for each in text.split("\\") if each.isdecimal()]
        return _element(tag, vr, b"".join(struct.pack(_PACKED[vr], number) for number in numbers))
    data = text.encode("utf-8", "replace")
    return _element(tag, vr, data + (b"\0" if vr == "UI" else b" ") * (len(data) % 2))


def _element(tag: int, vr: str, data: bytes) -> bytes:
    form = "<HH2sxxI" if vr in _LONG else "<HH2sH"
    return struct.pack(form, tag >> 16, tag & 0xFFFF, vr.encode("ascii"), len(data)) + data


def _date_time(at: datetime) -> str:
    return at.strftime("%Y%m%d%H%M%S.%f")
