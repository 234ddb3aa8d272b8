"""Parse a Data Set once, for its identity and query attributes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from io import SEEK_END
from itertools import islice
from typing import BinaryIO, NamedTuple

from backup_scp.dicom import character_set, data_set
from backup_scp.dicom.attributes import BY_TAG, READ_FROM_DATA_SET, Attribute
from backup_scp.dicom.character_set import CharacterSet
from backup_scp.dicom.uids import is_well_formed
from backup_scp.dicom.value_representation import items_text, to_text
from backup_scp.errors import InvalidDataSet

VALUE_CHARACTERS = 1024
"""Limit for values, so that a row of the index stays small; the file keeps them as received."""

MOST_ITEMS = 32
"""Limit for items of a sequence, for the same reason."""

_REMEMBERED_BYTES = 128
_PATIENT_ID_CHARACTERS = 64
_OF_NO_PATIENT = frozenset(
    (
        "1.2.840.10008.5.1.4.38.1",  # Hanging Protocol
        "1.2.840.10008.5.1.4.39.1",  # Color Palette
        "1.2.840.10008.5.1.4.43.1",  # Generic Implant Template
        "1.2.840.10008.5.1.4.44.1",  # Implant Assembly Template
        "1.2.840.10008.5.1.4.45.1",  # Implant Template Group
        "1.2.840.10008.5.1.4.1.1.200.1",  # CT Defined Procedure Protocol
        "1.2.840.10008.5.1.4.1.1.200.3",  # Protocol Approval
        "1.2.840.10008.5.1.4.1.1.200.7",  # XA Defined Procedure Protocol
        "1.2.840.10008.5.1.4.1.1.201.1",  # Inventory
    )
)
_SPECIFIC_CHARACTER_SET = 0x00080005
_WANTED = READ_FROM_DATA_SET | {_SPECIFIC_CHARACTER_SET}


@dataclass(frozen=True, slots=True)
class SOPInstance:
    """The attributes of a Data Set that the node uses.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid, study_instance_uid, series_instance_uid
        As written, without padding (trailing NUL and spaces); empty when the Data Set has none.
    transfer_syntax_uid
        The encoding of the Data Set.
    attributes
        By keyword, the attributes of the table in ``attributes.py`` that have a value: Unicode, several values joined
        by a backslash, padding removed; a sequence as text of ``items_text``.
    parsed
        False when the Data Set cannot be read, or has no attribute of the table; then all values are from the Command
        Set.
    is_whole
        False when the Data Set ends in the middle of an element.
    is_mislabelled
        Whether its Transfer Syntax says that it is deflated, and it is not.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    parsed: bool = True
    is_whole: bool = True
    is_mislabelled: bool = False

    @classmethod
    def read(
        cls, stream: BinaryIO, transfer_syntax_uid: str, sop_class_uid: str = "", sop_instance_uid: str = ""
    ) -> SOPInstance:
        """Read a Data Set without its Pixel Data; its content never makes it raise.

        Parameters
        ----------
        stream
            At the Data Set's first byte; seekable.
        transfer_syntax_uid
            As negotiated, or from the File Meta Information.
        sop_class_uid, sop_instance_uid
            From the Command Set; used when the Data Set has no such UID.
        """
        header = _Header.read(stream, transfer_syntax_uid)
        attributes = _similar.attributes(header)
        encoded_as, is_whole, is_parsed = transfer_syntax_uid, True, True
        if attributes is None:
            elements, is_whole, encoded_as = _scanned(stream, transfer_syntax_uid)
            named = elements.pop(_SPECIFIC_CHARACTER_SET, ("CS", b""))[1]
            attributes, is_parsed = _attributes(elements, named), bool(elements)
            if is_whole and is_parsed and encoded_as == transfer_syntax_uid:
                _similar.learn(header, elements, attributes, named)
        return cls(
            attributes.get("SOPClassUID", sop_class_uid),
            attributes.get("SOPInstanceUID", sop_instance_uid),
            encoded_as,
            attributes.get("StudyInstanceUID", ""),
            attributes.get("SeriesInstanceUID", ""),
            attributes,
            parsed=is_parsed,
            is_whole=is_whole,
            is_mislabelled=encoded_as != transfer_syntax_uid,
        )

    @property
    def is_identified(self) -> bool:
        """Whether Patient ID and all UIDs are present and valid (PS3.5 6.2, 9.1).

        Non-patient objects (PS3.4 GG) need only SOP Class and Instance UID.
        """
        if not (is_well_formed(self.sop_class_uid) and is_well_formed(self.sop_instance_uid)):
            return False
        if self.sop_class_uid in _OF_NO_PATIENT:
            return True
        patient_id = self.attributes.get("PatientID", "")
        if not (0 < len(patient_id) <= _PATIENT_ID_CHARACTERS and "\\" not in patient_id):
            return False
        return is_well_formed(self.study_instance_uid) and is_well_formed(self.series_instance_uid)


def _scanned(stream: BinaryIO, transfer_syntax_uid: str) -> data_set.Scanned:
    try:
        return data_set.scan(stream, transfer_syntax_uid, _WANTED)
    except InvalidDataSet:
        return data_set.Scanned({}, is_whole=True, transfer_syntax_uid=transfer_syntax_uid)


class _Header(NamedTuple):
    """The beginning of a Data Set, and its length in bytes."""

    buffer: bytes
    size: int
    transfer_syntax_uid: str

    @classmethod
    def read(cls, stream: BinaryIO, transfer_syntax_uid: str) -> _Header:
        """Read it, and put the stream back."""
        start = stream.tell()
        buffer = stream.read(data_set.CHUNK_BYTES)
        size = stream.seek(0, SEEK_END) - start
        stream.seek(start)
        return cls(buffer, size, transfer_syntax_uid)


class _SimilarHeaders(threading.local):
    """The headers that this thread has read last: the next one is mostly of the same series."""

    def __init__(self) -> None:
        self._transfer_syntax_uid = ""
        self._parts: list[data_set.Part] | None = None
        self._varying: set[int] = set()
        self._pattern: data_set.Pattern | None = None
        self._attributes: dict[str, str] = {}  # of the last Data Set
        self._values: list[bytes] = []  # its values of the elements that vary
        self._read: list[tuple[Attribute | None, str]] = []  # how they are read: attribute and VR
        self._named = b""
        self._useless = self._pause = 0

    def attributes(self, header: _Header) -> dict[str, str] | None:
        """Return the attributes of a Data Set, as a scan does; None when its header is not similar."""
        if self._pattern is None or header.transfer_syntax_uid != self._transfer_syntax_uid:
            return None
        values = self._pattern.values(header.buffer, header.size)
        if values is None:
            return None
        attributes = self._attributes.copy()
        for (attribute, vr), data, before in zip(self._read, values, self._values, strict=True):
            if data != before and attribute:
                if value := _value(attribute, vr, data, self._named):
                    attributes[attribute.keyword] = value
                else:
                    attributes.pop(attribute.keyword, None)
        self._attributes, self._values = attributes, values
        return attributes

    def learn(self, header: _Header, elements: data_set.Elements, attributes: dict[str, str], named: bytes) -> None:
        """Compare a Data Set that a scan has read with the one before; rarely, while that is of no use."""
        if self._pause:
            self._pause -= 1
            return
        before, self._parts = self._parts, data_set.parts_of(*header)
        is_encoded_alike = header.transfer_syntax_uid == self._transfer_syntax_uid
        differing = data_set.varying(before, self._parts) if before and self._parts and is_encoded_alike else None
        self._useless = min(self._useless + 1, _MOST_USELESS) if differing is None else 0
        self._pause = (1 << self._useless >> _TRIES) - 1 if self._useless > _TRIES else 0
        self._transfer_syntax_uid = header.transfer_syntax_uid
        self._varying = self._varying | differing if differing else set()
        self._pattern = None
        if self._parts and self._varying and _SPECIFIC_CHARACTER_SET not in self._varying:
            self._pattern = data_set.Pattern(self._parts, self._varying, header.size)
            self._read = [
                (BY_TAG[tag] if tag in READ_FROM_DATA_SET else None, elements.get(tag, ("", b""))[0])
                for tag in self._pattern.tags
            ]
            self._values = self._pattern.values(header.buffer, header.size) or []
            self._attributes, self._named = attributes, named


_similar = _SimilarHeaders()
_TRIES = 4  # so many times in a row a comparison may be of no use; then there are pauses, up to 31 Data Sets long
_MOST_USELESS = 9


def _attributes(elements: data_set.Elements, named: bytes) -> dict[str, str]:
    values = {}
    for tag, (vr, data) in elements.items():
        attribute = BY_TAG[tag]
        if value := _value(attribute, vr, data, named):
            values[attribute.keyword] = value
    return values


def _value(attribute: Attribute, vr: str, data: bytes, named: bytes) -> str:
    if attribute.items:
        return _items(attribute, data, character_set.parse(named))
    if len(data) <= _REMEMBERED_BYTES:
        return _remembered(attribute, vr, data, named)
    return _text(attribute, vr, data, character_set.parse(named))


@lru_cache(maxsize=4096)
def _remembered(attribute: Attribute, vr: str, data: bytes, named: bytes) -> str:
    """Read a short value, with a cache, since the images of a series have mostly the same values."""
    return _text(attribute, vr, data, character_set.parse(named))


def _text(attribute: Attribute, vr: str, data: bytes, declared: CharacterSet) -> str:
    is_one = not attribute.has_several_values
    return to_text(vr, attribute.vr, data, declared, is_one=is_one)[:VALUE_CHARACTERS] if data else ""


def _items(attribute: Attribute, data: bytes, declared: CharacterSet) -> str:
    """Read the item keys of a sequence; an item may have its own Specific Character Set (PS3.5 7.5.3)."""
    keys = {key.tag: key for key in attribute.items}
    try:
        items = list(islice(data_set.items(data, {*keys, _SPECIFIC_CHARACTER_SET}), MOST_ITEMS))
    except InvalidDataSet:
        return ""
    return items_text(_item(keys, elements, declared) for elements in items)


def _item(keys: Mapping[int, Attribute], elements: data_set.Elements, declared: CharacterSet) -> dict[str, str]:
    own = elements.pop(_SPECIFIC_CHARACTER_SET, None)
    declared = character_set.parse(own[1]) if own else declared
    texts = {keys[tag].keyword: _text(keys[tag], vr, data, declared) for tag, (vr, data) in elements.items()}
    return {keyword: text for keyword, text in texts.items() if text}
