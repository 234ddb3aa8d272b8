"""Data Sets of odd length are sent with one more byte, where the standard requires it (PS3.5 7.1.1, PS3.8 E.1)."""

from __future__ import annotations

import io
import struct
import zlib

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_scp.dicom.transcode import Edit, applied, element_walk, padding
from backup_scp.dicom.transcode.element_walk import Kind, OpenLevel, Token
from backup_scp.dicom.transcode.padding import _edits, _Odd

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, JPEG = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50"
LONG = {"OB", "OW", "SQ", "UN", "UT"}
UNDEFINED = 0xFFFFFFFF


def element(tag: int, vr: str, value: bytes, syntax: str = EXPLICIT, length: int | None = None) -> bytes:
    order = ">" if syntax == BIG_ENDIAN else "<"
    length = len(value) if length is None else length
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if syntax == IMPLICIT or tag >> 16 == 0xFFFE:
        return head + struct.pack(order + "L", length) + value
    if vr in LONG:
        return head + vr.encode() + b"\0\0" + struct.pack(order + "L", length) + value
    return head + vr.encode() + struct.pack(order + "H", length) + value


def padded(data_set: bytes, syntax: str, size: int = 7) -> bytes:
    pieces = [data_set[start : start + size] for start in range(0, len(data_set), size)]
    edits = padding(io.BytesIO(data_set), syntax, len(data_set))
    return b"".join(map(bytes, applied(pieces, edits)))


def item(value: bytes, syntax: str) -> bytes:
    return element(0xFFFEE000, "", value, syntax)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize(
    ("tag", "vr", "value", "there"),
    [
        (0x7FE00010, "OB", b"\1" * 5, b"\1" * 5 + b"\0"),
        (0x00100020, "LO", b"ID1", b"ID1 "),
        (0x00080018, "UI", b"1.2", b"1.2\0"),
        (0x00091001, "UN", b"x", b"x\0"),
    ],
)
def test_the_value_and_its_length_and_nothing_else(syntax, tag, vr, value, there):
    before, behind = element(0x00080008, "CS", b"AB", syntax), element(0x7FE10010, "LO", b"MINE", syntax)
    odd = before + element(tag, vr, value, syntax) + behind
    assert padded(odd, syntax) == before + element(tag, vr, there, syntax) + behind


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_the_lengths_around_it_count_the_byte(syntax):
    def nested(text: bytes) -> bytes:
        inner = element(0x00081155, "UI", b"1.2\0", syntax) + element(0x00080104, "LO", text, syntax)
        items = item(inner, syntax) + element(0xFFFEE0DD, "", b"", syntax)
        undefined = element(0x00081140, "SQ", items, syntax, UNDEFINED)
        return element(0x00081115, "SQ", item(undefined, syntax), syntax) + element(0x00100010, "PN", b"AB", syntax)

    assert padded(nested(b"odd"), syntax) == nested(b"odd ")


def test_of_several_the_last_one():
    odd = element(0x00080008, "CS", b"A") + element(0x00080060, "CS", b"B") + element(0x00100010, "PN", b"C")
    there = element(0x00080008, "CS", b"A") + element(0x00080060, "CS", b"B") + element(0x00100010, "PN", b"C ")
    assert padded(odd, EXPLICIT) == there


def test_the_last_fragment_of_pixel_data():
    def pixels(fragment: bytes) -> bytes:
        items = item(b"", JPEG) + item(b"\xff\xd8", JPEG) + item(fragment, JPEG) + element(0xFFFEE0DD, "", b"")
        return element(0x7FE00010, "OB", items, length=UNDEFINED)

    assert padded(pixels(b"\xff\xd8\xd9"), JPEG) == pixels(b"\xff\xd8\xd9\0")


def test_implicit_inside_explicit_as_some_write_it():
    def nested(text: bytes) -> bytes:
        return element(0x00081115, "SQ", item(element(0x00100020, "LO", text, IMPLICIT), EXPLICIT))

    assert padded(nested(b"odd"), EXPLICIT) == nested(b"odd ")


def test_a_deflated_stream_is_padded_behind_its_end():
    """PS3.5 A.5; the inflated Data Set is not checked."""
    for number in range(20):
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        stream = deflater.compress(element(0x00100020, "LO", b"x" * number)) + deflater.flush()
        assert padded(stream, DEFLATED) == stream + b"\0" * (len(stream) % 2)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, JPEG, "1.2.3"])
@pytest.mark.parametrize("data_set", [b"", b"\1", b"no Data Set", element(0x00100020, "LO", b"AB")[:-1]])
def test_what_cannot_be_read_goes_as_it_is(syntax, data_set):
    assert padded(data_set, syntax) == data_set


@pytest.mark.parametrize(("length", "there"), [(0xFFFD, 0xFFFE), (0xFFFF, 0xFFFF)])
def test_a_value_that_is_as_long_as_its_length_can_say_goes_as_it_is(length, there):
    assert padded(element(0x00104000, "LT", b"x" * length), EXPLICIT) == element(
        0x00104000, "LT", (b"x" * length).ljust(there)
    )


@pytest.mark.parametrize(("length", "number_of_edits"), [(0xFFFFFFFD, 2), (0xFFFFFFFE, 0), (0xFFFFFFFF, 0)])
def test_no_length_becomes_the_one_that_means_undefined(length, number_of_edits):
    """Such a Data Set has 4 GiB; here only its first header is read."""
    header = struct.pack("<HHL", 0x7FE0, 0x0010, length)
    level = OpenLevel(0, None, 0, element_walk.IMPLICIT, None)
    token = Token(Kind.ELEMENT, level, 0x7FE00010, "OW", len(header), length)
    odd = _Odd(token, len(header) + length, b"\0", len(header))
    assert len(_edits(io.BytesIO(header), 0, odd)) == number_of_edits


def test_pydicom_reads_the_same_values():
    odd = element(0x00100020, "LO", b"ID1") + element(0x00280010, "US", b"\1\0")
    read = pydicom.dcmread(io.BytesIO(padded(odd, EXPLICIT)), force=True)
    assert (read.PatientID, read.Rows) == ("ID1", 1)


@given(st.binary(max_size=60), st.integers(1, 70), st.data())
def test_edits_are_made_wherever_the_parts_are_cut(data_set, size, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(data_set)), max_size=6, unique=True)))
    edits, expected, at = [], b"", 0
    for start, end in zip(cuts, [*cuts[1:], len(data_set)], strict=False):
        length = data.draw(st.integers(0, end - start))
        edits.append(Edit(start, length, b"<new>"))
        expected += data_set[at:start] + b"<new>"
        at = start + length
    pieces = [data_set[start : start + size] for start in range(0, len(data_set), size)]
    made = list(applied(pieces, edits))
    assert b"".join(made) == expected + data_set[at:]
    assert all(len(part) % 2 == 0 for part in made[:-1])
