"""Elements encoded byte by byte, valid or invalid."""

from __future__ import annotations

import struct

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
UNDEFINED = 0xFFFFFFFF

SOP_CLASS, SOP_INSTANCE, STUDY, SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
MODALITY, PATIENT_NAME, PATIENT_ID, ROWS = 0x00080060, 0x00100010, 0x00100020, 0x00280010
PIXEL_DATA = 0x7FE00010
LONG = {"OB", "OD", "OF", "OW", "SQ", "UC", "UN", "UT"}


def element(tag, vr, value=b"", syntax=EXPLICIT, *, length=None):
    order = ">" if syntax == BIG_ENDIAN else "<"
    length = len(value) if length is None else length
    header = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if syntax == IMPLICIT:
        return header + struct.pack("<I", length) + value
    if vr in LONG:
        return header + vr.encode() + struct.pack(f"{order}HI", 0, length) + value
    return header + vr.encode() + struct.pack(f"{order}H", length) + value


def delimiter(number, length=0, syntax=EXPLICIT):
    return struct.pack(">HHI" if syntax == BIG_ENDIAN else "<HHI", 0xFFFE, number, length)


def sequence(tag, *items, syntax=EXPLICIT, vr="SQ", inside=None):
    """A sequence of undefined length, with items of undefined length."""
    order = BIG_ENDIAN if syntax == BIG_ENDIAN and inside is None else EXPLICIT
    open_, end = delimiter(0xE000, UNDEFINED, order), delimiter(0xE00D, 0, order)
    body = b"".join(open_ + item + end for item in items) + delimiter(0xE0DD, 0, order)
    return element(tag, vr, body, syntax, length=UNDEFINED)


def identity(syntax=EXPLICIT):
    return element(SOP_CLASS, "UI", b"1.2\0", syntax) + element(SOP_INSTANCE, "UI", b"1.22", syntax)


def places(syntax=EXPLICIT):
    return element(STUDY, "UI", b"1.23", syntax) + element(SERIES, "UI", b"1.24", syntax)


def patient(syntax=EXPLICIT, name=b"Doe^John"):
    return element(PATIENT_NAME, "PN", name, syntax)
