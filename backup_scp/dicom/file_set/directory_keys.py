"""Choose what a DICOMDIR says of an image: the type of its record, and the keys of that type (PS3.3 F.5)."""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

from backup_scp.dicom import character_set, data_set
from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.dicom.uids import is_well_formed
from backup_scp.dicom.value_representation import to_text
from backup_scp.errors import InvalidDataSet

Value = str | list[dict[str, "Value"]]
"""A text, or the items of a sequence: by tag, eight hex digits."""


class Key(NamedTuple):
    """A key of a record; ``otherwise`` fills a Type 1 key that the image lacks."""

    tag: int
    vr: str
    otherwise: str = ""
    items: tuple[Key, ...] = ()


_CHARACTER_SET = 0x00080005
_MOST_ITEMS = 1000
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_NUMBER = Key(0x00200013, "IS", "0")
_CONTENT = (_NUMBER, Key(0x00080023, "DA", "19000101"), Key(0x00080033, "TM", "000000"))
_CODE = Key(0x0040A043, "SQ", "", (Key(0x00080100, "SH"), Key(0x00080102, "SH"), Key(0x00080104, "LO")))
_REFERENCED = Key(0x00081140, "SQ", "", (Key(0x00081150, "UI"), Key(0x00081155, "UI")))
_NAMED = (*_CONTENT, Key(0x00700080, "CS", "UNNAMED"), Key(0x00700081, "LO"), Key(0x00700084, "PN"))
KEYS: dict[str, tuple[Key, ...]] = {
    "IMAGE": (_NUMBER,),
    "PRESENTATION": (
        _NUMBER,
        Key(0x00700080, "CS", "UNNAMED"),
        Key(0x00700081, "LO"),
        Key(0x00700082, "DA", "19000101"),
        Key(0x00700083, "TM", "000000"),
        Key(0x00700084, "PN"),
        Key(0x00081115, "SQ", "", (_REFERENCED, Key(0x0020000E, "UI"))),
    ),
    "SR DOCUMENT": (
        *_CONTENT,
        Key(0x0040A491, "CS", "PARTIAL"),
        Key(0x0040A493, "CS", "UNVERIFIED"),
        _CODE,
    ),
    "KEY OBJECT DOC": (*_CONTENT, _CODE),
    "ENCAP DOC": (
        _NUMBER,
        Key(0x00080023, "DA"),
        Key(0x00080033, "TM"),
        Key(0x00420010, "ST"),
        Key(0x00420012, "LO", "application/octet-stream"),
        _CODE,
    ),
    "RT DOSE": (_NUMBER, Key(0x3004000A, "CS", "PLAN")),
    "RT STRUCTURE SET": (
        _NUMBER,
        Key(0x30060002, "SH", "UNNAMED"),
        Key(0x30060008, "DA"),
        Key(0x30060009, "TM"),
    ),
    "RT PLAN": (_NUMBER, Key(0x300A0002, "SH", "UNNAMED"), Key(0x300A0006, "DA"), Key(0x300A0007, "TM")),
    "RT TREAT RECORD": (_NUMBER, Key(0x30080250, "DA"), Key(0x30080251, "TM")),
    "WAVEFORM": _CONTENT,
    "RAW DATA": _CONTENT,
    "SURFACE": _CONTENT,
    "REGISTRATION": _NAMED,
    "FIDUCIAL": _NAMED,
    "VALUE MAP": _NAMED,
}
"""The keys of each type of record that we write."""

_TYPES = {
    f"{_STORAGE}88.59": "KEY OBJECT DOC",
    f"{_STORAGE}481.2": "RT DOSE",
    f"{_STORAGE}481.3": "RT STRUCTURE SET",
    f"{_STORAGE}481.5": "RT PLAN",
    f"{_STORAGE}481.8": "RT PLAN",
    f"{_STORAGE}481.4": "RT TREAT RECORD",
    f"{_STORAGE}481.6": "RT TREAT RECORD",
    f"{_STORAGE}481.7": "RT TREAT RECORD",
    f"{_STORAGE}481.9": "RT TREAT RECORD",
    f"{_STORAGE}66": "RAW DATA",
    f"{_STORAGE}66.1": "REGISTRATION",
    f"{_STORAGE}66.2": "FIDUCIAL",
    f"{_STORAGE}66.3": "REGISTRATION",
    f"{_STORAGE}66.5": "SURFACE",
    f"{_STORAGE}67": "VALUE MAP",
}
_FAMILIES = {"88.": "SR DOCUMENT", "11.": "PRESENTATION", "9.": "WAVEFORM", "104.": "ENCAP DOC"}


def record_type(instance: SOPInstance) -> str:
    """Return the Directory Record Type (0004,1430); empty when a DICOMDIR cannot name the image.

    That is so without valid UIDs, for a Data Set that is not encoded as its File Meta says, and for a SOP Class without
    an image whose keys we do not know.
    """
    uids = (instance.sop_instance_uid, instance.study_instance_uid, instance.series_instance_uid)
    if not instance.parsed or instance.is_mislabelled or not all(map(is_well_formed, (instance.sop_class_uid, *uids))):
        return ""
    if found := _TYPES.get(instance.sop_class_uid):
        return found
    below = instance.sop_class_uid.removeprefix(_STORAGE)
    for family, kind in _FAMILIES.items():
        if below != instance.sop_class_uid and below.startswith(family):
            return kind
    return "IMAGE" if "Rows" in instance.attributes else ""


def image_keys(instance: SOPInstance) -> dict[str, Value]:
    """Return the values of an IMAGE record's keys, by tag."""
    number = instance.attributes.get("InstanceNumber", "")
    return {"00200013": number} if number else {}


def keys_of(kind: str, instance: SOPInstance, stream: BinaryIO) -> dict[str, Value]:
    """Return the values of a record's keys, by tag.

    Parameters
    ----------
    stream
        At the first byte of the Data Set; seekable.
    """
    keys = KEYS[kind]
    try:
        wanted = frozenset(key.tag for key in keys) | {_CHARACTER_SET}
        elements = data_set.scan(stream, instance.transfer_syntax_uid, wanted).elements
    except InvalidDataSet:
        return {}
    return _values(keys, elements, character_set.DEFAULT)


def _values(
    keys: tuple[Key, ...], elements: data_set.Elements, declared: character_set.CharacterSet
) -> dict[str, Value]:
    if own := elements.get(_CHARACTER_SET):
        declared = character_set.parse(own[1])
    values: dict[str, Value] = {}
    for key in keys:
        vr, raw = elements.get(key.tag, ("", b""))
        if key.items:
            values[f"{key.tag:08X}"] = _items(key.items, raw, declared)
        elif text := to_text(vr, key.vr, raw, declared) if raw else "":
            values[f"{key.tag:08X}"] = text
    return {tag: value for tag, value in values.items() if value}


def _items(keys: tuple[Key, ...], raw: bytes, declared: character_set.CharacterSet) -> list[dict[str, Value]]:
    wanted = {key.tag for key in keys} | {_CHARACTER_SET}
    found: list[dict[str, Value]] = []
    try:
        for elements in data_set.items(raw, wanted):
            found.append(_values(keys, elements, declared))
            if len(found) == _MOST_ITEMS:
                break
    except InvalidDataSet:
        return []
    return found
