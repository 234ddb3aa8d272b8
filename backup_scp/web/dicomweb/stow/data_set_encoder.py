"""Encode DICOM JSON (PS3.18 Annex F) in Explicit VR Little Endian, with bulk data that is never in memory.

pydicom would hold each value in memory, and its warnings have values in them.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from backup_scp.errors import InvalidDataSet

Element = Mapping[str, Any]

_PIXEL_DATA = "7FE00010"
_SPECIFIC_CHARACTER_SET = "00080005"
_UTF_8 = {"vr": "CS", "Value": ["ISO_IR 192"]}

_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_TEXT = frozenset(["AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"])
_NUMBERS = frozenset({"DS", "IS"})
_BINARY = {"FD": "d", "FL": "f", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}
_BYTES = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "UN"])
_LONG = _BYTES | {"SQ", "SV", "UC", "UR", "UT", "UV"}
_MOST_DEPTH = 32
_LONGEST = 0xFFFFFFFE
_LONGEST_SHORT = 0xFFFE
_UNDEFINED = 0xFFFFFFFF
_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, _UNDEFINED)
_END_OF_ITEM = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
_END_OF_SEQUENCE = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
_DS_CHARACTERS = 16


class Bulk(NamedTuple):
    """The bytes of one bulk data part.

    Attributes
    ----------
    size_bytes
        How many.
    chunks
        Reads them.
    """

    size_bytes: int
    chunks: Callable[[], Iterator[bytes]]


FindBulk = Callable[[str], Sequence[Bulk]]
"""Returns the parts of a URI, in their order; raises InvalidDataSet when there is none."""


def encode(data_set: Element, find: FindBulk, *, is_encapsulated: bool) -> Iterator[bytes]:
    """Yield the bytes of a Data Set.

    Parameters
    ----------
    data_set
        Without File Meta Information; what it has of it is left out.
    find
        Finds the bulk data.
    is_encapsulated
        Whether Pixel Data are frames of a compressed Transfer Syntax, a part each; else they are native.

    Raises
    ------
    InvalidDataSet
        It has no such form, or has a value that cannot be encoded.
    """
    if not isinstance(data_set, dict):
        raise _wrong("an instance")
    is_ascii = _is_ascii(data_set)
    if not is_ascii:
        data_set = data_set | {_SPECIFIC_CHARACTER_SET: _UTF_8}
    return _Encoder(find, is_encapsulated=is_encapsulated, is_ascii=is_ascii).data_set(data_set, 0)


class _Encoder:
    def __init__(self, find: FindBulk, *, is_encapsulated: bool, is_ascii: bool) -> None:
        self._find = find
        self._is_ascii = is_ascii
        self._is_encapsulated = is_encapsulated

    def data_set(self, data_set: Element, depth: int) -> Iterator[bytes]:
        if not isinstance(data_set, dict) or depth > _MOST_DEPTH:
            raise _wrong("an item of a sequence")
        if not all(map(_TAG.fullmatch, data_set)):
            raise _wrong("a tag")
        for tag in sorted(data_set, key=str.upper):
            element = data_set[tag]
            if not isinstance(element, dict) or tag[:4] in ("0000", "FFFE"):
                raise _wrong(f"element {tag}")
            if depth and tag == _SPECIFIC_CHARACTER_SET and not self._is_ascii:
                continue  # all text is in that of the whole Data Set
            if tag[:4] != "0002" and tag[4:] != "0000":  # File Meta, and group lengths, which are retired
                yield from self._element(tag.upper(), element, depth)

    def _element(self, tag: str, element: Element, depth: int) -> Iterator[bytes]:
        vr = element.get("vr")
        if vr == "SQ":
            yield _header(tag, vr, _UNDEFINED)
            for item in _values(element, tag):
                yield _ITEM
                yield from self.data_set(item or {}, depth + 1)
                yield _END_OF_ITEM
            yield _END_OF_SEQUENCE
        elif "BulkDataURI" in element:
            yield from self._bulk(tag, vr, self._find(str(element["BulkDataURI"])), depth)
        else:
            value = _encoded(tag, vr, element)
            yield _header(tag, vr, len(value)) + value

    def _bulk(self, tag: str, vr: Any, parts: Sequence[Bulk], depth: int) -> Iterator[bytes]:
        if tag == _PIXEL_DATA and depth == 0 and self._is_encapsulated:
            yield _header(tag, "OB", _UNDEFINED) + struct.pack("<HHI", 0xFFFE, 0xE000, 0)  # an empty Offset Table
            for part in parts:
                yield struct.pack("<HHI", 0xFFFE, 0xE000, part.size_bytes + part.size_bytes % 2)
                yield from _padded(part.chunks(), part.size_bytes, b"\0")
            yield _END_OF_SEQUENCE
            return
        size = sum(part.size_bytes for part in parts)
        yield _header(tag, vr, size + size % 2)
        yield from _padded((chunk for part in parts for chunk in part.chunks()), size, b"\0" if vr in _BYTES else b" ")


def _header(tag: str, vr: Any, length: int) -> bytes:
    number = struct.pack("<HH", int(tag[:4], 16), int(tag[4:], 16))
    if vr in _LONG:
        if length > _LONGEST and length != _UNDEFINED:
            raise InvalidDataSet(f"Element {tag} is too long")
        return number + str(vr).encode() + struct.pack("<HI", 0, length)
    if vr not in _TEXT and vr not in _NUMBERS and vr not in _BINARY and vr != "AT":
        raise _wrong(f"the VR of element {tag}")
    if length > _LONGEST_SHORT:
        raise InvalidDataSet(f"Element {tag} is too long for its VR")
    return number + str(vr).encode() + struct.pack("<H", length)


def _padded(chunks: Iterable[bytes], size: int, padding: bytes) -> Iterator[bytes]:
    yield from chunks
    if size % 2:
        yield padding


def _values(element: Element, tag: str) -> list[Any]:
    values = element.get("Value", [])
    if not isinstance(values, list):
        raise _wrong(f"element {tag}")
    return values


def _encoded(tag: str, vr: Any, element: Element) -> bytes:
    """Encode the value of an element that is in the JSON itself."""
    try:
        if "InlineBinary" in element:
            data = base64.b64decode(element["InlineBinary"], validate=True)
            return data + b"\0" * (len(data) % 2)
        values = _values(element, tag)
        if vr in _BINARY:
            return b"".join(struct.pack(f"<{_BINARY[vr]}", _number(vr, value)) for value in values)
        if vr == "AT":
            return b"".join(struct.pack("<HH", int(value[:4], 16), int(value[4:], 16)) for value in values)
        data = "\\".join(_text(vr, value) for value in values).encode()
    except (ValueError, TypeError, KeyError, AttributeError, struct.error, OverflowError, binascii.Error):
        raise _wrong(f"the value of element {tag}") from None
    if vr in _BYTES and data:
        raise _wrong(f"the value of element {tag}")
    return data + (b"\0" if vr == "UI" else b" ") * (len(data) % 2)


def _number(vr: str, value: Any) -> float:
    """Return a number; JSON has no infinity, and large integers may be text (PS3.18 F.2.3)."""
    return float(value) if vr in ("FD", "FL") else int(value)


def _text(vr: str, value: Any) -> str:
    if value is None:
        return ""
    if vr == "PN":
        return value if isinstance(value, str) else _name(value)
    if vr in _NUMBERS and isinstance(value, (int, float)) and not isinstance(value, bool):
        return _decimal(value)
    if not isinstance(value, str):
        raise TypeError
    return value


def _name(value: Mapping[str, str]) -> str:
    groups = [value.get(group, "") for group in ("Alphabetic", "Ideographic", "Phonetic")]
    return "=".join(groups).rstrip("=")


def _decimal(value: float) -> str:
    """Write a number in the 16 characters of a Decimal String, as precisely as they allow (PS3.5 6.2)."""
    text = repr(value)
    digits = 16
    while len(text) > _DS_CHARACTERS and digits > 1:
        digits -= 1
        text = f"{value:.{digits}g}"
    return text


def _is_ascii(value: Any) -> bool:
    """Tell whether all text is ASCII; without recursion, since nobody has looked at the depth yet."""
    values = [value]
    while values:
        found = values.pop()
        if isinstance(found, str) and not found.isascii():
            return False
        if isinstance(found, dict):
            values += found.values()
        elif isinstance(found, list):
            values += found
    return True


def _wrong(what: str) -> InvalidDataSet:
    return InvalidDataSet(f"The metadata cannot be encoded (PS3.18 Annex F, PS3.19 A.1): {what} cannot be read")
