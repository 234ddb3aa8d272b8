"""The scan of a Data Set: every encoding, mistakes of senders, and hostile bytes."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backup_scp.dicom import data_set
from backup_scp.dicom.attributes import READ_FROM_DATA_SET
from backup_scp.errors import InvalidDataSet
from tests.elements import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    MODALITY,
    PATIENT_NAME,
    PIXEL_DATA,
    ROWS,
    SERIES,
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY,
    UNDEFINED,
    delimiter,
    element,
    identity,
    patient,
    places,
    sequence,
)
from tests.samples import pydicom_samples

ENCODINGS = [IMPLICIT, EXPLICIT, BIG_ENDIAN]
WANTED = READ_FROM_DATA_SET | {0x00080005}


def scan(data, syntax=EXPLICIT):
    return data_set.scan(io.BytesIO(data), syntax, WANTED).elements


def test_bytes_are_given_as_they_are():
    assert scan(identity() + patient() + places()) == {
        SOP_CLASS: ("UI", b"1.2\0"),
        SOP_INSTANCE: ("UI", b"1.22"),
        PATIENT_NAME: ("PN", b"Doe^John"),
        STUDY: ("UI", b"1.23"),
        SERIES: ("UI", b"1.24"),
    }


@pytest.mark.parametrize("syntax", ENCODINGS)
def test_every_encoding_gives_the_same(syntax):
    rows = struct.pack(">H" if syntax == BIG_ENDIAN else "<H", 2022)
    data = identity(syntax) + patient(syntax) + places(syntax) + element(ROWS, "US", rows, syntax)
    assert scan(data, syntax) == scan(identity() + patient() + places() + element(ROWS, "US", b"\xe6\x07"))


@pytest.mark.parametrize("actual", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("declared", [*ENCODINGS, "1.2.840.10008.1.2.4.50", "1.2.3.private", ""])
def test_a_data_set_that_is_not_encoded_as_declared(declared, actual):
    data = identity(actual) + patient(actual) + places(actual)
    assert scan(data, declared) == scan(identity() + patient() + places())


def deflate(data, wbits=-15):
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("wbits", [-15, 15])
def test_deflated_with_and_without_header(wbits):
    data = identity() + element(0x00091010, "OB", bytes(200_000)) + patient() + places()
    assert scan(deflate(data, wbits), DEFLATED) == scan(data)


@pytest.mark.parametrize("syntax", ENCODINGS)
def test_sequences_are_passed_over(syntax):
    inner = sequence(0x00081140, patient(syntax, b"inner^"), b"", syntax=syntax)
    items = [patient(syntax, b"outer^") + inner, element(0x00080100, "SH", b"code", syntax)]
    for nested in (sequence(0x00081115, *items, syntax=syntax), element(0x00081115, "SQ", b"".join(items), syntax)):
        data = identity(syntax) + nested + patient(syntax) + places(syntax)
        assert scan(data, syntax)[PATIENT_NAME] == ("PN", b"Doe^John")


@pytest.mark.parametrize("outer", [EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("inner", [IMPLICIT, EXPLICIT])
def test_un_of_undefined_length_is_implicit_inside_or_what_senders_make_of_it(outer, inner):
    item = element(0x00080100, "SH", b"code", inner) + sequence(0x00081140, patient(inner), syntax=inner, inside=inner)
    nested = sequence(0x00091010, item, item, syntax=outer, vr="UN", inside=inner)
    for whole in (nested, sequence(0x00081115, nested, syntax=outer)):
        data = identity(outer) + whole + patient(outer) + places(outer)
        assert scan(data, outer)[PATIENT_NAME] == ("PN", b"Doe^John")


def test_encapsulated_bytes_inside_a_sequence():
    fragments = delimiter(0xE000) + delimiter(0xE000, 6) + b"\xfe\xff\xdd\xe0\0\0" + delimiter(0xE0DD)
    icon = element(PIXEL_DATA, "OB", fragments, length=UNDEFINED)
    assert PATIENT_NAME in scan(identity() + sequence(0x00081140, icon) + patient() + places())


@pytest.mark.parametrize(
    "body",
    [
        delimiter(0xE000, UNDEFINED) + delimiter(0xE0DD),
        delimiter(0xE000, UNDEFINED) + delimiter(0xE000, UNDEFINED) + delimiter(0xE00D) + delimiter(0xE0DD),
        delimiter(0xE00D) + delimiter(0xE0DD),
        delimiter(0xE000, UNDEFINED) + delimiter(0xE00D, 77) + delimiter(0xE0DD, 99),
        delimiter(0xE000, 0) + delimiter(0xE0DD) + delimiter(0xE0DD),
    ],
    ids=["item not ended", "first item not ended", "nothing to end", "delimiters with length", "one too many"],
)
def test_delimiters_missing_or_too_many(body):
    data = identity() + element(0x00081115, "SQ", body, length=UNDEFINED) + patient() + places()
    assert scan(data)[PATIENT_NAME] == ("PN", b"Doe^John")


def test_pixel_data_is_never_read():
    class Watched(io.BytesIO):
        amount = 0

        def read(self, size=-1):
            data = super().read(size)
            self.amount += len(data)
            return data

    start = identity() + patient() + places()
    watched = Watched(start + element(PIXEL_DATA, "OW", bytes(1_000_000)))
    found = set(data_set.scan(watched, EXPLICIT, WANTED).elements)
    assert found == {SOP_CLASS, SOP_INSTANCE, PATIENT_NAME, STUDY, SERIES}
    assert watched.amount <= 21_000


def test_what_is_broken_behind_the_last_wanted_tag_does_not_matter():
    for rest in (b"\x50\x00\x00\x00no more of this matters", element(0x00510010, "SQ", patient(), length=UNDEFINED)):
        assert len(scan(identity() + patient() + places() + rest)) == 5


def test_tags_out_of_order_are_found_up_to_pixel_data():
    late = identity() + element(0x00400244, "DA", b"20240101") + patient() + element(0x00410010, "LO", b"x ") + places()
    data = late + element(MODALITY, "CS", b"DX") + element(PIXEL_DATA, "OW", b"ab")
    assert set(scan(data)) == {SOP_CLASS, SOP_INSTANCE, 0x00400244, PATIENT_NAME, STUDY, SERIES, MODALITY}


def test_a_disorder_ahead_of_the_first_tag_that_nobody_wants_is_noticed():
    """All that an early end needs is there by then; but what does not ascend may go back once more."""
    disorder = identity() + places() + element(MODALITY, "CS", b"DX")
    data = disorder + element(0x00410010, "LO", b"x ") + patient() + element(PIXEL_DATA, "OW", b"ab")
    assert scan(data)[PATIENT_NAME] == ("PN", b"Doe^John")


def test_what_is_broken_behind_a_disorder_is_no_data_set():
    """Where the tags ascended nothing that is wanted can follow; where they did not it might."""
    broken = element(0x00410010, "LO", b"x ") + element(0x00420010, "SQ", patient(), length=UNDEFINED)
    whole = identity() + patient() + places()
    assert scan(whole + broken) == scan(whole)
    with pytest.raises(InvalidDataSet):
        scan(whole + element(MODALITY, "CS", b"DX") + broken)


def test_it_does_not_stop_early_without_the_identity():
    data = identity() + element(0x00410010, "LO", b"x ") + places()
    assert set(scan(data)) == {SOP_CLASS, SOP_INSTANCE, STUDY, SERIES}


def test_the_first_of_a_repeated_tag_counts():
    assert scan(identity() + patient() + patient(name=b"Other^") + places())[PATIENT_NAME] == ("PN", b"Doe^John")


@pytest.mark.parametrize("syntax", ENCODINGS)
def test_file_meta_information_inside_is_passed_over(syntax):
    meta = element(0x00020001, "OB", b"\0\1") + element(0x00020010, "UI", syntax.encode())
    assert scan(meta + identity(syntax) + places(syntax), syntax) == scan(identity() + places())


@pytest.mark.parametrize("vr", [b"??", b"ui", b"XX", b"\0\0", b"\x08\0"])
@pytest.mark.parametrize("form", ["<2sH", "<2s2xI"])
def test_value_representations_that_do_not_exist(vr, form):
    odd = struct.pack("<HH", 0x0009, 0x1010) + struct.pack(form, vr, 4) + b"odd "
    assert PATIENT_NAME in scan(identity() + odd + patient() + places())


@pytest.mark.parametrize(("vr", "form"), [(b"??", "<2sH"), (b"XX", "<2s2xI")])
def test_a_long_value_of_a_representation_that_does_not_exist(vr, form):
    odd = struct.pack("<HH", 0x0009, 0x1010) + struct.pack(form, vr, 20_000) + b"odd " * 5000
    assert PATIENT_NAME in scan(identity() + odd + patient() + places())


def test_an_element_without_value_representation_among_explicit_ones():
    odd = element(0x00091010, "", b"odd " * 5, IMPLICIT)
    wanted = element(MODALITY, "", b"DX", IMPLICIT)
    assert scan(identity() + odd + patient() + places())[PATIENT_NAME] == ("PN", b"Doe^John")
    assert scan(identity() + wanted + patient() + places())[MODALITY] == ("CS", b"DX")


def test_values_at_the_edges_of_what_is_read_at_once():
    for size in range(16_300, 16_400, 2):
        data = identity() + element(0x00091010, "OB", bytes(size)) + patient() + places()
        for syntax, encoded in ((EXPLICIT, data), (DEFLATED, deflate(data))):
            assert scan(encoded, syntax)[PATIENT_NAME] == ("PN", b"Doe^John")


def test_values_over_64_kib_are_passed_over():
    data = identity() + element(0x00104000, "UT", b"x" * 65_537) + places()
    assert set(scan(data)) == {SOP_CLASS, SOP_INSTANCE, STUDY, SERIES}


def test_blank_bytes_at_the_end():
    assert scan(identity() + bytes(6)) == scan(identity())
    assert scan(b"") == {}


@pytest.mark.parametrize("syntax", ENCODINGS)
@pytest.mark.parametrize("size", [7, 8, 9, 12, 16, 1000, 1023])
@pytest.mark.parametrize("blank", [b"\0", b" "])
def test_zeros_and_blanks_behind_a_data_set_are_padding(syntax, size, blank):
    """Some senders fill up a buffer of fixed length."""
    if blank == b" " and size < 8:
        size += 8
    data = identity(syntax) + patient(syntax)
    found = data_set.read(data + blank * size, syntax, 1 << 16)
    assert {tag: value for tag, value in found.items() if tag} == data_set.read(data, syntax, 1 << 16)
    assert set(scan(data + places(syntax) + blank * size, syntax)) == set(scan(data + places(syntax), syntax))


@pytest.mark.parametrize("syntax", ENCODINGS)
@pytest.mark.parametrize("behind", [b" " * 8 + b"x", b" " * 100 + b"\0" * 8, b"\0" * 9 + b"\1" * 3])
def test_what_is_not_all_blank_is_no_padding(syntax, behind):
    with pytest.raises(InvalidDataSet):
        data_set.read(identity(syntax) + patient(syntax) + behind, syntax, 1 << 16)


@pytest.mark.parametrize(
    "data",
    [
        element(SOP_CLASS, "UI", b"1.2\0")[:-1],
        b"\x10\0\x10",
        element(PATIENT_NAME, "PN", b"Doe", length=4000),
        element(0x00091010, "OB", b"", length=0xFFFFFFF0) + patient(),
        element(0x00081115, "SQ", delimiter(0xE000, UNDEFINED), length=UNDEFINED),
        identity() + element(0x00081115, "SQ", patient(), length=UNDEFINED),
    ],
    ids=["cut off", "cut in a tag", "value too long", "length of 4 GiB", "sequence without end", "no item"],
)
def test_what_is_no_data_set(data):
    with pytest.raises(InvalidDataSet):
        scan(data)
    with pytest.raises(InvalidDataSet):
        scan(deflate(data), DEFLATED)


def test_damaged_deflate():
    with pytest.raises(InvalidDataSet, match="damaged"):
        scan(b"\xff" * 100, DEFLATED)


# The items of a sequence.

REQUESTS, STEP = 0x00400275, 0x00400009


def found_items(data, syntax=EXPLICIT):
    got = scan(data, syntax)[REQUESTS]
    assert got[0] == "SQ"
    return list(data_set.items(got[1], {STEP, 0x00080005}))


def defined(syntax, *items):
    return element(REQUESTS, "SQ", b"".join(delimiter(0xE000, len(item), syntax) + item for item in items), syntax)


@pytest.mark.parametrize("syntax", ENCODINGS)
def test_items_of_both_kinds_of_length(syntax):
    inner = sequence(0x00400008, element(STEP, "SH", b"no", syntax), syntax=syntax)
    item = inner + element(STEP, "SH", b"S1", syntax) + element(STEP, "SH", b"S2", syntax)
    other = element(0x00401001, "SH", b"R1", syntax)
    for written in (
        defined(syntax, item, other, b""),
        sequence(REQUESTS, item, other, b"", syntax=syntax),
    ):
        data = identity(syntax) + places(syntax) + written
        assert found_items(data, syntax) == [{STEP: ("SH", b"S1")}, {}, {}]
        assert [list(each) for each in data_set.items(scan(data, syntax)[REQUESTS][1], range(1 << 32))] == [
            [0x00400008, STEP],
            [0x00401001],
            [],
        ]


def test_items_without_their_delimiters():
    """The last item ends with its sequence; an item ends where the sequence does."""
    item = element(STEP, "SH", b"S1")
    cut = element(REQUESTS, "SQ", delimiter(0xE000, UNDEFINED) + item + delimiter(0xE0DD), length=UNDEFINED)
    assert found_items(identity() + places() + cut) == [{STEP: ("SH", b"S1")}]
    inside = element(REQUESTS, "SQ", delimiter(0xE000, UNDEFINED) + item)
    assert found_items(identity() + places() + inside) == [{STEP: ("SH", b"S1")}]


@pytest.mark.parametrize("syntax", [EXPLICIT, BIG_ENDIAN])
def test_a_sequence_of_unknown_representation_is_implicit_little_endian(syntax):
    items = delimiter(0xE000, 10) + element(STEP, "SH", b"S1", IMPLICIT)
    known = element(REQUESTS, "UN", items, syntax)
    unknown = element(REQUESTS, "UN", items + delimiter(0xE0DD), syntax, length=UNDEFINED)
    for written in (known, unknown):
        assert found_items(identity(syntax) + places(syntax) + written, syntax) == [{STEP: ("SH", b"S1")}]


def test_a_sequence_in_a_deflated_data_set():
    data = (
        identity()
        + element(0x00091010, "OB", bytes(100_000))
        + places()
        + sequence(REQUESTS, element(STEP, "SH", b"S1"))
        + element(0x00400280, "ST", b"x")
    )
    assert found_items(deflate(data), DEFLATED) == [{STEP: ("SH", b"S1")}]


def test_a_sequence_over_64_kib_is_passed_over():
    item = element(0x00400007, "LO", b"x" * 60_000) + element(STEP, "SH", b"S1")
    written = sequence(REQUESTS, item, item) + element(0x00400280, "ST", b"x")
    assert found_items(identity() + places() + written) == []
    assert REQUESTS not in scan(identity() + places() + defined(EXPLICIT, item, item))
    assert len(data_set.read(identity() + written, EXPLICIT, 1 << 20)[REQUESTS][1]) > 120_000


@pytest.mark.parametrize(("too_many", "kept"), [(0, True), (1, False)])
def test_a_sequence_of_64_kib_is_kept_whole(too_many, kept):
    around = len(sequence(REQUESTS, element(STEP, "UT")))
    written = sequence(REQUESTS, element(STEP, "UT", b"x" * ((64 << 10) + 12 + 8 - around + too_many)))
    _, value = scan(identity() + places() + written + element(0x00400280, "ST", b"x"))[REQUESTS]
    assert len(value) == ((64 << 10) if kept else 0)


@pytest.mark.parametrize("syntax", ENCODINGS)
def test_items_that_are_none(syntax):
    for written in (
        element(STEP, "SH", b"S1", syntax),
        delimiter(0xE000, 40, syntax) + element(STEP, "SH", b"S1", syntax),
        delimiter(0xE000, 12, syntax) + element(STEP, "SH", b"S1", syntax, length=4000) + bytes(2),
        delimiter(0xE000, UNDEFINED, syntax) + element(REQUESTS, "SQ", b"", syntax, length=UNDEFINED),
    ):
        with pytest.raises(InvalidDataSet):
            list(data_set.items(written, {STEP}))


# What is meant to break it.


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_items_that_are_deep(syntax):
    depth = 1_600 if syntax == EXPLICIT else 2_000
    open_ = element(REQUESTS, "SQ", delimiter(0xE000, UNDEFINED), syntax, length=UNDEFINED)
    close = delimiter(0xE00D) + delimiter(0xE0DD)
    item = open_ * depth + close * depth + element(STEP, "SH", b"S1", syntax)
    data = identity(syntax) + places(syntax) + sequence(REQUESTS, item, syntax=syntax)
    assert found_items(data, syntax) == [{STEP: ("SH", b"S1")}]


def test_many_sequences_in_an_item():
    many = b"".join(sequence(0x00400008) for _ in range(3_000)) + element(STEP, "SH", b"S1")
    data = scan(identity() + places() + defined(EXPLICIT, many))[REQUESTS][1]
    assert list(data_set.items(data, {STEP})) == [{STEP: ("SH", b"S1")}]


def test_an_implicit_item_whose_length_looks_like_a_representation_is_implicit():
    """0x4853 bytes: "SH" in Little Endian."""
    size = int.from_bytes(b"SH", "little")
    inside = element(0x00081000, "", bytes(size), IMPLICIT) + element(STEP, "SH", b"S1", IMPLICIT)
    data = identity(IMPLICIT) + sequence(0x00081115, inside, syntax=IMPLICIT) + patient(IMPLICIT) + places(IMPLICIT)
    assert scan(data, IMPLICIT)[PATIENT_NAME] == ("PN", b"Doe^John")


@given(st.binary(max_size=200), st.sampled_from([b"", delimiter(0xE000, UNDEFINED), delimiter(0xE000, 60)]))
def test_any_bytes_are_items_or_none(data, before):
    with contextlib.suppress(InvalidDataSet):
        for found in data_set.items(before + data, range(1 << 32)):
            assert isinstance(found, dict)


def peak_bytes(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_sequences_100_000_deep(syntax):
    depth = 100_000
    open_ = element(0x00081115, "SQ", delimiter(0xE000, UNDEFINED), syntax, length=UNDEFINED)
    close = delimiter(0xE00D) + delimiter(0xE0DD)
    data = identity(syntax) + open_ * depth + close * depth + patient(syntax) + places(syntax)
    assert scan(data, syntax)[PATIENT_NAME] == ("PN", b"Doe^John")
    assert data_set.read(data, syntax, len(data))[PATIENT_NAME] == ("PN", b"Doe^John")


def test_sequences_without_end_are_given_up():
    open_ = element(0x00081115, "SQ", delimiter(0xE000, UNDEFINED), length=UNDEFINED)
    endless = io.BytesIO(identity() + open_ * (data_set.WORK_BYTES // len(open_) + 1000))
    with pytest.raises(InvalidDataSet, match="too many elements"):
        data_set.scan(endless, EXPLICIT, WANTED)


def test_elements_without_end_are_given_up():
    endless = io.BytesIO(identity() + element(0x00090010, "LO") * (data_set.WORK_BYTES // 8 + 1000))
    with pytest.raises(InvalidDataSet, match="too many elements"):
        data_set.scan(endless, EXPLICIT, WANTED)


def test_a_deflate_bomb_costs_little_memory():
    packer = zlib.compressobj(9, wbits=-15)
    head = packer.compress(identity() + element(0x00091010, "OB", b"", length=0x7FFFFFFF))
    bomb = head + b"".join(packer.compress(bytes(1 << 20)) for _ in range(40)) + packer.flush()

    def work():
        with pytest.raises(InvalidDataSet):
            scan(bomb, DEFLATED)
        with pytest.raises(InvalidDataSet, match="longer than 1048576 bytes"):
            data_set.read(bomb, DEFLATED, 1 << 20)

    assert peak_bytes(work) < 8 << 20


def test_a_deflate_bomb_of_elements_is_given_up():
    bomb = deflate(identity() + element(0x00090010, "LO") * (data_set.WORK_BYTES // 8 + 1000))
    assert len(bomb) < 50_000
    with pytest.raises(InvalidDataSet, match="too many elements"):
        scan(bomb, DEFLATED)


def test_deflated_bytes_that_inflate_to_nothing_are_given_up():
    do_nothing = io.BytesIO(b"\0\0\0\xff\xff" * (5 << 20))  # empty stored blocks
    with pytest.raises(InvalidDataSet, match="almost nothing"):
        data_set.scan(do_nothing, DEFLATED, WANTED)
    assert do_nothing.tell() < 2 * data_set.WORK_BYTES


def test_memory_is_flat_beside_a_large_value():
    class Endless(io.RawIOBase):
        """An element of 2 GiB in front of the rest, without the bytes."""

        head = identity() + element(0x00091010, "OB", b"", length=1 << 31)
        tail = patient() + places()
        at = 0

        def seek(self, offset, whence=0):
            size = len(self.head) + (1 << 31) + len(self.tail)
            self.at = offset + (size if whence == 2 else 0)
            return self.at

        def tell(self):
            return self.at

        def read(self, size=-1):
            gap = len(self.head)
            far = gap + (1 << 31)
            found = self.head[self.at : self.at + size] if self.at < gap else b""
            found = found.ljust(size, b"\0") if self.at < far - size else self.tail[self.at - far :][:size]
            self.at += len(found)
            return found

    large: Any = Endless()
    assert peak_bytes(lambda: data_set.scan(large, EXPLICIT, WANTED)) < 1 << 20
    large.seek(0)
    assert PATIENT_NAME in data_set.scan(large, EXPLICIT, WANTED).elements


SYNTAXES = st.sampled_from([IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, "1.2.3"])
TAGS = st.sampled_from([SOP_CLASS, 0x00081115, PATIENT_NAME, 0x00091010, STUDY, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD])
VRS = st.sampled_from(["UI", "PN", "SQ", "UN", "OB", "??", "\0\0"])
LENGTHS = st.sampled_from([0, 1, 2, 8, 100, 65_535, UNDEFINED])


def packed(draw):
    return struct.pack("<HH", draw[0] >> 16, draw[0] & 0xFFFF) + draw[1].encode() + struct.pack("<I", draw[2])


HEADERS = st.lists(st.tuples(TAGS, VRS, LENGTHS).map(packed) | st.binary(max_size=20)).map(b"".join)


@given(st.binary(max_size=500) | HEADERS, SYNTAXES)
@example(b"\x02\0\0\0UN\0\0\xff\xff\xff\xff", EXPLICIT)
@example(b"\x02\0\0\0\0\0\0\0\0\0\0\0", EXPLICIT)
@settings(max_examples=500)
def test_any_bytes_give_elements_or_invalid_data_set(data, syntax):
    for work in (lambda: scan(data, syntax), lambda: data_set.read(data, syntax, 1 << 16)):
        try:
            found = work()
        except InvalidDataSet:
            continue
        assert all(len(value) <= max(len(data), 1 << 16) for _, value in found.values())


@given(st.sampled_from(range(len(pydicom_samples()))), st.integers(0, 5000), st.binary(max_size=6))
@settings(max_examples=300)
def test_changed_bytes_of_real_files(number, at, change):
    sample = pydicom_samples()[number]
    data = bytearray(sample.data_set)
    data[at : at + len(change)] = change
    with contextlib.suppress(InvalidDataSet):
        found = scan(bytes(data), sample.transfer_syntax_uid)
        assert all(len(value) <= len(data) for _, value in found.values())


@pytest.mark.parametrize(
    "name",
    ["JPEG2000.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm", "test-SR.dcm", "chrH32.dcm"],
)
def test_real_files_cut_at_every_byte(name):
    (sample,) = (sample for sample in pydicom_samples() if sample.name == name)
    whole = scan(sample.data_set, sample.transfer_syntax_uid)
    for size in range(min(len(sample.data_set), 4000)):
        try:
            found = scan(sample.data_set[:size], sample.transfer_syntax_uid)
        except InvalidDataSet:
            continue
        assert found.items() <= whole.items()


# Identifiers.


def test_read_keeps_everything_in_its_order():
    nested = delimiter(0xE000, UNDEFINED) + patient() + delimiter(0xE00D)
    data = identity() + element(0x00081115, "SQ", nested + delimiter(0xE0DD), length=UNDEFINED) + patient()
    assert list(data_set.read(data, EXPLICIT, 1 << 20).items()) == [
        (SOP_CLASS, ("UI", b"1.2\0")),
        (SOP_INSTANCE, ("UI", b"1.22")),
        (0x00081115, ("SQ", nested)),
        (PATIENT_NAME, ("PN", b"Doe^John")),
    ]


def test_read_takes_value_representations_from_the_dictionary():
    data = element(MODALITY, "", b"DX", IMPLICIT) + element(0x00180050, "", b"1 ", IMPLICIT)
    found = data_set.read(data + element(0x00191001, "", b"x ", IMPLICIT), IMPLICIT, 1 << 20)
    assert [vr for vr, _ in found.values()] == ["CS", "DS", "UN"]


def test_read_is_bounded():
    assert len(data_set.read(identity(), EXPLICIT, len(identity()))) == 2
    with pytest.raises(InvalidDataSet, match="longer than"):
        data_set.read(identity(), EXPLICIT, len(identity()) - 1)
    assert data_set.read(deflate(identity()), DEFLATED, len(identity())) == data_set.read(identity(), EXPLICIT, 1000)
    with pytest.raises(InvalidDataSet, match="longer than"):
        data_set.read(deflate(identity()), DEFLATED, len(identity()) - 1)
