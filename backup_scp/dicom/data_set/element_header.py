"""Decode element headers (PS3.5 7.1, A), and detect their encoding when the Transfer Syntax is wrong."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from backup_scp.dicom.attributes import BY_TAG

Elements = dict[int, tuple[str, bytes]]
"""Value Representation and value bytes by tag, in the order of the Data Set; binary numbers are Little Endian."""

UNDEFINED = 0xFFFFFFFF
"""Undefined length, PS3.5 7.1.1."""

# PS3.5 7.1.2: Value Representations with a length of 16 bits; those with 32 bits after two reserved bytes.
SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
KNOWN = SHORT | LONG
NAMES = {vr: vr.decode("ascii") for vr in KNOWN - {b"UN"}}
"""Names of Value Representations, without ``UN``, for which the dictionary may have a better one."""

_SWAPPED = {b"AT": 2, b"OW": 2, b"SS": 2, b"US": 2, b"FL": 4, b"SL": 4, b"UL": 4, b"FD": 8, b"SV": 8, b"UV": 8}
_IMPLICIT_LE_UID = "1.2.840.10008.1.2"
_EXPLICIT_BE_UID = "1.2.840.10008.1.2.2"


class HeaderEncoding(NamedTuple):
    """One of three encodings of element headers.

    Attributes
    ----------
    explicit
        Whether the header has a Value Representation.
    header
        Format: group, element, VR, 16-bit length, 32-bit length; without VR: group, element and length.
    item
        Format of items and delimiters: group, element and length.
    """

    explicit: bool
    header: Struct
    item: Struct


EXPLICIT_LE = HeaderEncoding(explicit=True, header=Struct("<HH2sHI"), item=Struct("<HHI"))
EXPLICIT_BE = HeaderEncoding(explicit=True, header=Struct(">HH2sHI"), item=Struct(">HHI"))
IMPLICIT_LE = HeaderEncoding(explicit=False, header=Struct("<HHI"), item=Struct("<HHI"))
HEADER_BYTES = 12


class Header(NamedTuple):
    """The header of a value: its VR (empty when implicit), the start of the value, and its length."""

    vr: bytes
    start: int
    length: int


def read_header(encoding: HeaderEncoding, buffer: bytes, at: int) -> Header:
    """Read a header; ``buffer`` has at least twelve bytes from ``at``."""
    if not encoding.explicit:
        return Header(b"", at + 8, encoding.header.unpack_from(buffer, at)[2])
    _, _, vr, short, long = encoding.header.unpack_from(buffer, at)
    if vr in SHORT:
        return Header(vr, at + 8, short)
    if vr in LONG:
        return Header(vr, at + 12, long)
    return _read_odd_header(encoding, buffer, at)


def _read_odd_header(encoding: HeaderEncoding, buffer: bytes, at: int) -> Header:
    """Read a header with an unknown VR: choose the format after which the next element makes sense.

    If none does: an upper-case VR has a 32-bit length, as PS3.5 7.1.2 defines for future VRs.  ``??`` and similar
    ones have a 16-bit length.  Other bytes are part of the length of an element without VR.
    """
    group, element, vr, short, long = encoding.header.unpack_from(buffer, at)
    implicit = Header(b"", at + 8, encoding.item.unpack_from(buffer, at)[2])
    ways = [Header(b"UN", at + 8, short), Header(b"UN", at + 12, long), implicit]
    for way in ways:
        if way.length != UNDEFINED and _makes_sense(encoding, buffer, way.start + way.length, (group, element)):
            return way
    if vr.isalpha() and vr.isupper():
        return ways[1]
    return ways[0] if vr.isascii() and vr.decode("ascii").isprintable() else implicit


def _makes_sense(encoding: HeaderEncoding, buffer: bytes, end: int, tag: tuple[int, int]) -> bool:
    """Tell whether an element with a higher tag, or the end, follows."""
    if end + 8 > len(buffer):
        return end == len(buffer)
    group, element, _ = encoding.item.unpack_from(buffer, end)
    vr = buffer[end + 4 : end + 6]
    return tag < (group, element) and (vr in KNOWN or vr == b"??" or group == 0xFFFE)


def detect(buffer: bytes, transfer_syntax_uid: str) -> HeaderEncoding:
    """Detect the encoding of a Data Set from its first bytes; they overrule the Transfer Syntax."""
    declared = {_IMPLICIT_LE_UID: IMPLICIT_LE, _EXPLICIT_BE_UID: EXPLICIT_BE}.get(transfer_syntax_uid, EXPLICIT_LE)
    if len(buffer) < HEADER_BYTES:
        return declared
    if buffer[4:6] in KNOWN:  # read as a length, these bytes would be over 16 KiB, too long for a first element
        return EXPLICIT_BE if buffer[0] == 0 < buffer[1] else EXPLICIT_LE
    group, element, length = IMPLICIT_LE.item.unpack_from(buffer)
    if 8 + length + 8 > len(buffer):
        return declared
    following = IMPLICIT_LE.item.unpack_from(buffer, 8 + length)[:2]
    return IMPLICIT_LE if (group, element) < following else declared


def is_plain(buffer: bytes) -> bool:
    """Tell whether bytes that should be deflated begin like a Data Set that is not deflated.

    As a deflate stream (RFC 1951) they would begin a stored block whose length has a wrong complement.
    """
    return buffer[:2] in (b"\x08\0", b"\x02\0") and buffer[4:6] in KNOWN


def detect_item(buffer: bytes, at: int, encoding: HeaderEncoding) -> HeaderEncoding:
    """Detect the encoding of an item's elements from the VR of the first one."""
    vr = buffer[at + 4 : at + 6]
    if vr in KNOWN:
        return encoding if encoding.explicit else EXPLICIT_LE
    return encoding if vr.isalpha() or buffer[at : at + 2] in (b"\xfe\xff", b"\xff\xfe") else IMPLICIT_LE


def little_endian(vr: bytes, value: bytes) -> bytes:
    """Convert a Big Endian value to Little Endian."""
    width = _SWAPPED.get(vr, 1)
    if width == 1 or len(value) % width:
        return value
    return b"".join(value[i : i + width][::-1] for i in range(0, len(value), width))


def vr_name(tag: int, vr: bytes) -> str:
    """Return the name of the Value Representation; the dictionary's when the Data Set has none."""
    if vr and vr != b"UN":
        return vr.decode("ascii")
    if attribute := BY_TAG.get(tag):
        return attribute.vr
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    return dictionary_VR(tag)[:2] if dictionary_has_tag(tag) else "UN"
