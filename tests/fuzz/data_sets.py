"""Data Sets, Identifiers and Command Sets along the grammar of PS3.5 7 and PS3.7 6.3, with lengths that may lie."""

from __future__ import annotations

import struct
import zlib
from random import Random

from tests.fuzz.mutation import lie, mutated

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, JPEG, PRIVATE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50", "1.2.3.4.5"
SYNTAXES = (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, JPEG, PRIVATE, "")

_LONG = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_UNDEFINED = 0xFFFFFFFF
_DEEPEST = 6
_PIXEL_DATA = 0x7FE00010
_TAGS = {
    0x00080005: "CS", 0x00080008: "CS", 0x00080016: "UI", 0x00080018: "UI", 0x00080020: "DA", 0x00080030: "TM",
    0x0008002A: "DT", 0x00080050: "SH", 0x00080052: "CS", 0x00080060: "CS", 0x00080061: "CS", 0x00080090: "PN",
    0x00080201: "SH", 0x00081030: "LO", 0x00081110: "SQ", 0x00081140: "SQ", 0x00100010: "PN", 0x00100020: "LO",
    0x00100021: "LO", 0x00100030: "DA", 0x00100040: "CS", 0x00101010: "AS", 0x00101030: "DS", 0x00104000: "LT",
    0x0020000D: "UI", 0x0020000E: "UI", 0x00200010: "SH", 0x00200013: "IS", 0x00280002: "US", 0x00280008: "IS",
    0x00280009: "AT", 0x00280010: "US", 0x00280011: "US", 0x00280100: "US", 0x00281050: "DS", 0x00281201: "OW",
    0x00290010: "LO", 0x00291001: "UN", 0x00400275: "SQ", 0x00400244: "DA", 0x00409096: "SQ", 0x00880140: "UI",
    0x52009230: "SQ", 0x60003000: "OW", _PIXEL_DATA: "OW", 0xFFFAFFFA: "SQ", 0xFFFCFFFC: "OB",
}  # fmt: skip
_VRS = tuple(
    sorted(
        {
            *_TAGS.values(),
            "FL",
            "FD",
            "SL",
            "SS",
            "UL",
            "UV",
            "SV",
            "UC",
            "UR",
            "UT",
            "ST",
            "AE",
            "OV",
            "OF",
            "??",
            "\0\0",
        }
    )
)
_VALUES = (
    b"",
    b"1",
    b"*",
    b"?",
    b"\\",
    b"\\\\",
    b"A\\B",
    b"ISO_IR 100",
    b"ISO 2022 IR 87\\ISO 2022 IR 13",
    b"\\ISO 2022 IR 149",
    b"ISO_IR 192",
    b"19991231",
    b"19991231-",
    b"-20240230",
    b"2024-20230",
    b"235960.999999",
    b"-",
    b"2024013112+0500",
    b"0.1",
    b"-1E400",
    b"NaN",
    b"1.2.840.10008.5.1.4.1.1.1.1",
    b"1..2",
    b"1.2\0",
    b"0" * 65,
    b"Doe^John",
    b"Doe^J=\x1b$B;3ED\x1b(B=x",
    b"\xc4\xd6\xdc",
    b"\xff\xfe\xfd",
    b"=====",
    b"^^^^^^",
    b"STUDY",
    b"PATIENT",
    b"IMAGE",
    b"SERIES",
    b"\0\0\0\0",
    b"\xff" * 8,
    b" " * 16,
    b"\x1b$)C\xb1\xe8",
    b"\x1b",
)


def value(rng: Random) -> bytes:
    kind = rng.randrange(8)
    if kind == 0:
        return rng.randbytes(rng.randrange(64))
    if kind == 1:
        return b"\\".join(rng.choice(_VALUES) for _ in range(rng.randrange(1, 6)))
    return rng.choice(_VALUES)


def element(rng: Random, tag: int, vr: str, data: bytes, syntax: str, *, length: int | None = None) -> bytes:
    order = ">" if syntax == BIG_ENDIAN else "<"
    said = lie(rng, len(data), 32) if length is None else length
    head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if syntax == IMPLICIT:
        return head + struct.pack(f"{order}I", said) + data
    if vr in _LONG:
        return head + vr.encode() + b"\0\0" + struct.pack(f"{order}I", said) + data
    return head + vr.encode() + struct.pack(f"{order}H", said & 0xFFFF) + data


def _item(rng: Random, tag: int, data: bytes, syntax: str, length: int | None = None) -> bytes:
    order = ">" if syntax == BIG_ENDIAN else "<"
    said = lie(rng, len(data), 32) if length is None else length
    return struct.pack(f"{order}HHI", tag >> 16, tag & 0xFFFF, said) + data


def _sequence(rng: Random, tag: int, syntax: str, depth: int) -> bytes:
    items = []
    for _ in range(rng.randrange(3)):
        inside = _elements(rng, syntax, depth + 1)
        if rng.random() < 0.5:
            items.append(_item(rng, 0xFFFEE000, inside + _item(rng, 0xFFFEE00D, b"", syntax), syntax, _UNDEFINED))
        else:
            items.append(_item(rng, 0xFFFEE000, inside, syntax))
    content = b"".join(items)
    if rng.random() < 0.5:
        content += _item(rng, 0xFFFEE0DD, b"", syntax) if rng.random() < 0.9 else b""
        return element(rng, tag, rng.choice(["SQ", "SQ", "UN"]), content, syntax, length=_UNDEFINED)
    return element(rng, tag, "SQ", content, syntax)


def _pixels(rng: Random, syntax: str) -> bytes:
    if rng.random() < 0.5:
        return element(rng, _PIXEL_DATA, rng.choice(["OW", "OB"]), rng.randbytes(rng.randrange(64)), syntax)
    items = b"".join(_item(rng, 0xFFFEE000, rng.randbytes(rng.randrange(16)), syntax) for _ in range(rng.randrange(4)))
    end = _item(rng, 0xFFFEE0DD, b"", syntax) if rng.random() < 0.8 else b""
    return element(rng, _PIXEL_DATA, "OB", items + end, syntax, length=_UNDEFINED)


def _elements(rng: Random, syntax: str, depth: int) -> bytes:
    tags = rng.sample(list(_TAGS), rng.randrange(1, 10 if depth == 0 else 4))
    if rng.random() < 0.9:
        tags.sort()
    made = []
    for tag in tags:
        vr = _TAGS[tag] if rng.random() < 0.9 else rng.choice(_VRS)
        if tag == _PIXEL_DATA:
            made.append(_pixels(rng, syntax))
        elif vr == "SQ" and depth < _DEEPEST:
            made.append(_sequence(rng, tag, syntax, depth))
        else:
            made.append(element(rng, tag, vr, value(rng), syntax))
    return b"".join(made)


def data_set(rng: Random, syntax: str) -> bytes:
    """Return a Data Set in the Transfer Syntax, or in another one, whole or changed."""
    encoded_as = syntax if rng.random() < 0.9 else rng.choice(SYNTAXES)
    plain = mutated(rng, _elements(rng, encoded_as if encoded_as in {IMPLICIT, BIG_ENDIAN} else EXPLICIT, 0))
    if encoded_as != DEFLATED:
        return plain
    deflate = zlib.compressobj(wbits=rng.choice([-15, -15, 15]))
    return mutated(rng, deflate.compress(plain) + deflate.flush(), 0.3)


def identifier(rng: Random, syntax: str) -> bytes:
    """Return an Identifier with a level, keys and matching of every kind (PS3.4 C.2.2.2)."""
    encoded_as = syntax if syntax in {IMPLICIT, BIG_ENDIAN} else EXPLICIT
    level = rng.choice([b"STUDY ", b"SERIES", b"IMAGE ", b"PATIENT ", b"study", b"", value(rng)])
    unique = element(rng, 0x0020000D, "UI", rng.choice([b"1.2.3\0", b"", b"*", value(rng)]), encoded_as)
    keys = element(rng, 0x00080052, "CS", level, encoded_as) + _elements(rng, encoded_as, 1) + unique
    return mutated(rng, keys, 0.3)


def command_set(rng: Random, field: int, sop_class: str, *, has_data_set: bool) -> bytes:
    """Return a Command Set, with fields that a request of its kind need not have."""
    uid = sop_class.encode()
    elements = {
        0x0002: uid + b"\0" * (len(uid) % 2),
        0x0100: struct.pack("<H", field),
        0x0110: struct.pack("<H", rng.choice([1, 1, 7, 0xFFFF])),
        0x0700: struct.pack("<H", rng.choice([0, 1, 2, 9])),
        0x0800: struct.pack("<H", 1 if has_data_set else 0x0101),
        0x1000: rng.choice([b"1.2.3.4\0", b"1.2.3.5\0", b"", value(rng)]),
    }
    if rng.random() < 0.3:
        elements[0x0600] = rng.choice([b"VIEWER", b"NOBODY", b"", value(rng)])
    if rng.random() < 0.2:
        elements[rng.choice([0x0120, 0x0900, 0x1008, 0x1030, 0x1031, 0x0001, 0xFFFF])] = value(rng)
    if rng.random() < 0.2:
        elements.pop(rng.choice(list(elements)))
    body = b"".join(element(rng, number, "UN", data, IMPLICIT) for number, data in sorted(elements.items()))
    return mutated(rng, element(rng, 0, "UL", struct.pack("<I", len(body)), IMPLICIT, length=4) + body, 0.3)
