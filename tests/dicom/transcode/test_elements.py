"""A Data Set with a broken structure is never encoded again as if it were complete."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from pydicom import uid

from backup_scp.dicom.transcode import transcode
from backup_scp.dicom.transcode.element_walk import EXPLICIT, Kind, Walk, vr_of
from backup_scp.errors import InstanceRefused

EXPLICIT_UID, IMPLICIT_UID = str(uid.ExplicitVRLittleEndian), str(uid.ImplicitVRLittleEndian)
DEFLATED = str(uid.DeflatedExplicitVRLittleEndian)
UNDEFINED = 0xFFFFFFFF
MODALITY = struct.pack("<HH2sH", 0x0008, 0x0060, b"CS", 2) + b"DX"


def sequence(content: bytes, length: int | None = UNDEFINED, vr: bytes = b"SQ") -> bytes:
    return struct.pack("<HH2s2xL", 0x0008, 0x1140, vr, len(content) if length is None else length) + content


def part(tag: int, length: int = 0, content: bytes = b"") -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, length) + content


ITEM, ITEM_END, SEQUENCE_END, NO_ITEM = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0x00280010
CLOSED = part(ITEM_END) + part(SEQUENCE_END)
FRAGMENTS = struct.pack("<HH2s2xL", 0x7FE0, 0x0010, b"OB", UNDEFINED)

WHOLE = {
    "sequence of undefined length": sequence(part(ITEM, UNDEFINED, MODALITY) + CLOSED),
    "sequence of defined length": sequence(part(ITEM, len(MODALITY), MODALITY), None),
    "empty sequence": sequence(part(SEQUENCE_END)),
    "empty item": sequence(part(ITEM) + part(SEQUENCE_END)),
}
BROKEN = {
    "something else than an item": (sequence(part(NO_ITEM) + part(SEQUENCE_END)), "something else than items"),
    "the end of an item as an item": (sequence(CLOSED), "something else than items"),
    "the end of a sequence whose length is defined": (
        sequence(part(ITEM, len(MODALITY), MODALITY) + part(SEQUENCE_END), None),
        "something else than items",
    ),
    "a delimiter as an element": (MODALITY + part(ITEM, 2, b"\0\0") + MODALITY, "delimiter where an element"),
    "the end of a sequence as an element": (MODALITY + part(SEQUENCE_END), "delimiter where an element"),
    "the end of an item whose length is defined": (
        sequence(part(ITEM, len(MODALITY) + 8, MODALITY + part(ITEM_END)), None),
        "delimiter where an element",
    ),
    "the end of an item outside of any": (MODALITY + part(ITEM_END), "delimiter where an element"),
    "an element of undefined length": (sequence(CLOSED, vr=b"OB"), "undefined length that is no sequence"),
    "an element longer than its item": (
        sequence(part(ITEM, len(MODALITY) - 1, MODALITY), None),
        "longer than what holds it",
    ),
    "an item longer than its sequence": (sequence(part(ITEM, len(MODALITY), MODALITY), 12), "longer than what holds"),
    "a sequence longer than its item": (
        sequence(part(ITEM, 14, sequence(bytes(4), None))[:-2], None),
        "longer than what holds it",
    ),
    "an element cut short": (MODALITY[:-1], "ends too early"),
    "a header cut short": (MODALITY + MODALITY[:5], "ends too early"),
    "a sequence without an end": (sequence(part(ITEM, UNDEFINED, MODALITY)), "ends too early"),
    "fragments without an end": (FRAGMENTS + part(ITEM), "ends too early"),
    "something else than a fragment": (FRAGMENTS + part(NO_ITEM), "fragments of Pixel Data"),
    "a fragment of undefined length": (FRAGMENTS + part(ITEM, UNDEFINED), "fragments of Pixel Data"),
    "too deep": (sequence(part(ITEM, UNDEFINED)) * 200, "nests more than"),
}


def converted(data_set: bytes, stored: str = EXPLICIT_UID, target: str = IMPLICIT_UID) -> bytes:
    with transcode(io.BytesIO(data_set), stored, [target], len(data_set), Path("absent")).data_set as result:
        return result.read()


@pytest.mark.parametrize("name", WHOLE)
def test_a_structure_that_holds_is_written_anew(name):
    assert converted(converted(WHOLE[name] + MODALITY), IMPLICIT_UID, EXPLICIT_UID).endswith(MODALITY)


@pytest.mark.parametrize("name", BROKEN)
def test_a_structure_that_does_not_hold_is_refused(name):
    data_set, reason = BROKEN[name]
    with pytest.raises(InstanceRefused, match=reason):
        converted(data_set)


@pytest.mark.parametrize("too_much", range(1, 10))
def test_an_element_that_is_a_few_bytes_longer_than_what_holds_it_is_refused(too_much):
    element = struct.pack("<HH2sH", 0x0008, 0x0060, b"CS", 2 + too_much) + b"DX"
    data_set = sequence(part(ITEM, len(element), element), None) + MODALITY
    with pytest.raises(InstanceRefused, match="longer than what holds it"):
        converted(data_set)


@pytest.mark.parametrize("raw", [b"A1", b"1A", b"ab", b"aB", b"\2\0"])
def test_what_is_no_vr_begins_a_length(raw):
    """Some writers use implicit VR inside sequences of an explicit Data Set."""
    length = int.from_bytes(raw, "little")
    data_set = struct.pack("<HHL", 0x0008, 0x0060, length) + bytes(length)
    (token,) = Walk(io.BytesIO(data_set), EXPLICIT, len(data_set))
    assert (token.vr, token.length) == ("CS", length)


@pytest.mark.parametrize(
    ("tag", "vr"),
    [
        (0x00080060, "CS"),
        (0x0040A010, "CS"),
        (0x00080002, "UN"),  # in no dictionary
        (0x0009000F, "UN"),
        (0x00090010, "LO"),  # PS3.5 7.8.1: a private creator
        (0x000900FF, "LO"),
        (0x00090100, "UN"),
        (0x00091010, "UN"),
    ],
)
def test_the_vr_of_an_element_that_has_none(tag, vr):
    assert vr_of(tag) == vr


def test_the_place_is_told_and_not_what_stands_there():
    nested = sequence(part(ITEM, UNDEFINED, MODALITY + part(ITEM)))
    for data_set, place in ((MODALITY + part(ITEM), 14), (nested, 12 + 8 + 14)):
        stream = io.BytesIO(b"before" + data_set)
        stream.seek(6)
        with pytest.raises(InstanceRefused, match=f"near byte {place} it has a delimiter"):
            list(Walk(stream, EXPLICIT, len(data_set)))


def test_a_file_that_is_cut_before_or_while_it_is_read():
    with pytest.raises(InstanceRefused, match="shorter than it was"):
        Walk(io.BytesIO(MODALITY), EXPLICIT, len(MODALITY) + 1)
    stream = io.BytesIO(MODALITY + MODALITY)
    walk = iter(Walk(stream, EXPLICIT, 2 * len(MODALITY)))
    next(walk)
    stream.truncate(len(MODALITY) + 3)
    with pytest.raises(InstanceRefused, match="ends too early"):
        next(walk)


@pytest.mark.parametrize("further", [0, 1])
def test_so_deep_and_no_deeper(further):
    """The 128 sequences and their items are 256 levels."""
    innermost = sequence(part(SEQUENCE_END)) * further
    data_set = sequence(part(ITEM, UNDEFINED)) * 128 + innermost + CLOSED * 128
    tokens = Walk(io.BytesIO(data_set), EXPLICIT, len(data_set))
    if further:
        with pytest.raises(InstanceRefused, match="nests more than 256 levels"):
            list(tokens)
    else:
        assert len(list(tokens)) == 4 * 128


@pytest.mark.parametrize(("value", "is_sequence"), [(b"\xfe\xff\0", False), (b"\xfe\xff\0\xe0", True)])
def test_an_unknown_value_is_a_sequence_when_it_begins_with_an_item(value, is_sequence):
    """PS3.5 6.2.2."""
    data_set = struct.pack("<HH2s2xL", 0x0009, 0x1001, b"UN", len(value)) + value
    token = next(iter(Walk(io.BytesIO(data_set), EXPLICIT, len(data_set), into_unknown=True)))
    assert (token.kind is Kind.SEQUENCE) == is_sequence


def deflated_of(parity: int) -> bytes:
    """Return a Data Set whose deflated length is odd or even."""
    for number in range(2, 100, 2):
        data_set = MODALITY + struct.pack("<HH2sH", 0x0020, 0x4000, b"LT", number) + bytes(range(65, 65 + number))
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        if len(deflater.compress(data_set) + deflater.flush()) % 2 == parity:
            return data_set
    raise AssertionError


@pytest.mark.parametrize("parity", [0, 1])
def test_what_is_deflated_has_an_even_length(parity):
    """PS3.5 A.5."""
    data_set = deflated_of(parity)
    deflated = converted(data_set, target=DEFLATED)
    assert len(deflated) % 2 == 0
    assert converted(deflated, DEFLATED, EXPLICIT_UID) == data_set
