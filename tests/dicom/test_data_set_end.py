"""The end of a Data Set: complete or cut off, with bytes behind its Pixel Data, or not deflated as declared."""

from __future__ import annotations

import io
import zlib

import pytest

from backup_scp.dicom import data_set
from backup_scp.dicom.attributes import READ_FROM_DATA_SET
from backup_scp.errors import InvalidDataSet
from tests.elements import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    PATIENT_ID,
    PATIENT_NAME,
    PIXEL_DATA,
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

WANTED = READ_FROM_DATA_SET | {0x00080005}
CUT_OFF = {"MR_truncated.dcm", "rtplan_truncated.dcm"}
JPEG = "1.2.840.10008.1.2.4.50"


def scanned(data, syntax=EXPLICIT):
    return data_set.scan(io.BytesIO(data), syntax, WANTED)


def is_whole(data, syntax=EXPLICIT):
    return scanned(data, syntax).is_whole


def deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def fragments(*lengths, table=0, end=True):
    """Encapsulated Pixel Data with fragments of these lengths."""
    items = b"".join(delimiter(0xE000, length) + b"\xff" * length for length in (table, *lengths))
    return element(PIXEL_DATA, "OB", items + (delimiter(0xE0DD) if end else b""), length=UNDEFINED)


START = identity() + patient() + places()


@pytest.mark.parametrize("sample", pydicom_samples(), ids=lambda sample: sample.name)
def test_of_the_files_of_pydicom_those_are_cut_off_that_say_so(sample):
    assert is_whole(sample.data_set, sample.transfer_syntax_uid) is (sample.name not in CUT_OFF)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_a_cut_in_the_middle_of_an_element_shows(syntax):
    inner = EXPLICIT if syntax == DEFLATED else syntax
    parts = [
        element(SOP_CLASS, "UI", b"1.2\0", inner),
        element(SOP_INSTANCE, "UI", b"1.22", inner),
        sequence(0x00081140, patient(inner), syntax=inner),
        element(STUDY, "UI", b"1.23", inner),
        element(SERIES, "UI", b"1.24", inner),
        element(0x20500020, "CS", b"IDENTITY", inner),
        element(PIXEL_DATA, "OW", bytes(range(40)), inner),
        element(0xFFFCFFFC, "OB", b"\1" * 6, inner),
    ]
    data = b"".join(parts)
    ends = {sum(map(len, parts[:number])) for number in range(len(parts) + 1)}
    whole = scanned(data, inner).elements
    for size in range(len(parts[0]), len(data) + 1):
        cut = deflate(data[:size]) if syntax == DEFLATED else data[:size]
        found = scanned(cut, syntax)
        behind_pixels = size > len(data) - len(parts[-1])
        rest = data[max(end for end in ends if end <= size) : size]
        few = len(rest) < 8 and (behind_pixels or not rest.strip(b"\0"))  # they may be no element
        assert found.is_whole is (size in ends or few), size
        assert found.elements.items() <= whole.items()


def test_a_deflated_stream_that_ends_early():
    whole = deflate(START + element(PIXEL_DATA, "OW", bytes(range(256)) * 40))
    assert is_whole(whole, DEFLATED)
    assert is_whole(whole + b"\0", DEFLATED)
    for size in range(len(whole) - 60, len(whole)):
        assert not is_whole(whole[:size], DEFLATED)


def test_so_much_is_inflated_and_no_more():
    """The bytes behind it are unknown, and not reported."""
    long = START + element(PIXEL_DATA, "OW", bytes(2 * data_set.WORK_BYTES))
    assert is_whole(deflate(long)[:-8], DEFLATED)


@pytest.mark.parametrize(
    "pixels",
    [fragments(40), fragments(), fragments(40, table=8), fragments(6, 8, 10), fragments(*[2] * 600, table=2400)],
    ids=["one", "none", "with table", "three", "many"],
)
@pytest.mark.parametrize(
    "behind", [b"", element(0xFFFCFFFC, "OB", b"\1" * 6)], ids=["nothing behind", "padding behind"]
)
def test_fragments(pixels, behind):
    data = START + pixels + behind
    assert is_whole(data, JPEG)
    for size in {*range(len(START) + 13, len(START) + 60), *range(len(data) - len(behind) - 30, len(data))}:
        if len(START) + 12 < size < len(START + pixels):
            assert not is_whole(data[:size], JPEG), size


def test_fragments_without_their_end():
    assert not is_whole(START + fragments(40, end=False), JPEG)
    assert not is_whole(START + fragments(40, 40, end=False), JPEG)


def test_more_fragments_than_are_looked_at_are_nothing_odd():
    """Where no delimiter is the last that there is, each is looked for, up to a limit."""
    many = fragments(*[0] * 1000, *[5000] * (data_set.WORK_BYTES // 5000)) + element(0xFFFCFFFC, "OB", b"\1" * 6)
    assert is_whole(START + many, JPEG)


@pytest.mark.parametrize(
    "appended",
    [
        bytes(4096),
        bytes(6),
        element(PIXEL_DATA, "OW", bytes(40))[:-4],
        b"\r\n",
        b"\x1a",
        b"appended by a mail gateway",
        "éèàü no VR".encode(),
        START,
    ],
)
def test_what_was_appended_is_no_cut(appended):
    pixels = element(PIXEL_DATA, "OW", bytes(40))
    found = scanned(START + pixels + appended)
    assert found.is_whole
    assert found.elements == scanned(START + pixels).elements


def test_a_cut_element_that_does_not_belong_behind_the_pixels_is_no_cut():
    late = element(PATIENT_ID, "LO", b"LA", length=100)
    assert is_whole(identity() + places() + element(PIXEL_DATA, "OW", bytes(40)) + late)


BROKEN = element(0x00211010, "SQ", b"no item!", length=UNDEFINED)


def test_what_is_broken_behind_the_last_wanted_tag_is_no_cut():
    wanted = frozenset({SOP_CLASS, SOP_INSTANCE, STUDY, SERIES})
    found = data_set.scan(io.BytesIO(START + BROKEN), EXPLICIT, wanted)
    assert found.is_whole
    assert set(found.elements) == wanted


def test_what_is_broken_before_the_last_wanted_tag_matters_also_where_a_tag_is_repeated():
    with pytest.raises(InvalidDataSet):
        scanned(START + element(SERIES, "UI", b"1.24") + BROKEN)


@pytest.mark.parametrize("behind", [False, True])
def test_values_of_64_kib_are_kept_and_longer_ones_passed_over(behind):
    pixels = element(PIXEL_DATA, "OW", bytes(40))
    for size, kept in ((64 << 10, True), ((64 << 10) + 2, False)):
        value = element(PATIENT_ID, "UT", b"x" * size)
        found = scanned(identity() + pixels + value if behind else identity() + value + pixels)
        assert (PATIENT_ID in found.elements) is kept
        assert found.is_whole


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_what_stands_behind_the_pixels_is_found(syntax):
    inner = EXPLICIT if syntax == DEFLATED else syntax
    behind = element(PATIENT_ID, "LO", b"LATE", inner) + places(inner)
    pixels = element(PIXEL_DATA, "OW", bytes(100_000), inner)
    for tail in (behind, element(0xFFFCFFFC, "OB", b"\0\0", inner)):
        data = identity(inner) + pixels + tail
        found = scanned(deflate(data) if syntax == DEFLATED else data, syntax)
        assert found.is_whole
        late = {PATIENT_ID, STUDY, SERIES} if tail == behind else set()
        assert set(found.elements) == {SOP_CLASS, SOP_INSTANCE} | late


@pytest.mark.parametrize("pixels", [fragments(40), fragments(40, 50, 60)])
def test_what_stands_behind_fragments_is_found(pixels):
    found = scanned(identity() + pixels + element(PATIENT_ID, "LO", b"LATE") + places(), JPEG)
    assert found.elements[PATIENT_ID] == ("LO", b"LATE")
    assert STUDY in found.elements


@pytest.mark.parametrize("lacking", [None, PATIENT_ID, STUDY, SERIES, SOP_INSTANCE])
def test_what_comes_out_of_order_behind_the_pixels_is_read_while_something_is_lacking(lacking):
    """A Data Set that tells whose image it is has ended: the bytes behind it are another's, or none."""
    values = {SOP_CLASS: b"1.2\0", SOP_INSTANCE: b"1.22", PATIENT_ID: b"P1", STUDY: b"1.23", SERIES: b"1.24"}
    before = (element(tag, "LO" if tag == PATIENT_ID else "UI", values[tag]) for tag in values if tag != lacking)
    behind = element(0xFFFCFFFC, "OB", b"\0\0") + patient()
    found = scanned(b"".join(before) + element(PIXEL_DATA, "OW", b"ab") + behind)
    assert found.is_whole
    assert (PATIENT_NAME in found.elements) is (lacking is not None)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize(("tag", "vr"), [(0x7FE00008, "OF"), (0x7FE00009, "OD"), (PIXEL_DATA, "OW")])
def test_pixels_of_each_kind_are_found_where_they_begin(tag, vr, syntax):
    before, value = identity(syntax) + places(syntax), bytes(range(16))
    data = before + element(tag, vr, value, syntax)
    behind = element(0xFFFCFFFC, "OB", b"\1" * 6, syntax)
    found = data_set.find_pixels(io.BytesIO(data + behind), syntax, WANTED)
    assert found == (scanned(before, syntax).elements, tag, len(data) - len(value), len(value))


def test_pixels_are_found_behind_what_is_between_and_not_where_there_are_none():
    between, padding = element(0x7FE0000A, "OB", b"ab"), element(0xFFFCFFFC, "OB", b"\1" * 6)
    found = data_set.find_pixels(io.BytesIO(START + between + fragments(40) + padding), JPEG, WANTED)
    assert found == (scanned(START).elements, PIXEL_DATA, len(START + between) + 12, None)
    for none in (START, START + padding, START + between + padding + element(PIXEL_DATA, "OW", b"ab")):
        assert data_set.find_pixels(io.BytesIO(none), EXPLICIT, WANTED) is None


def test_what_stands_before_the_pixels_counts():
    behind = patient(name=b"Other^") + places()
    data = START + element(PIXEL_DATA, "OW", b"ab") + behind
    assert scanned(data).elements == scanned(START).elements


@pytest.mark.parametrize(
    ("labelled", "really"),
    [
        (DEFLATED, EXPLICIT),
        ("1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.94"),
        ("1.2.840.10008.1.2.4.205", "1.2.840.10008.1.2.4.204"),
    ],
)
def test_what_should_be_deflated_and_is_not(labelled, really):
    data = START + element(PIXEL_DATA, "OW", bytes(40))
    assert scanned(data, labelled) == (scanned(data).elements, True, really)
    assert scanned(data[:-1], labelled) == (scanned(data).elements, False, really)
    assert scanned(deflate(data), labelled) == (scanned(data).elements, True, labelled)
    with pytest.raises(InvalidDataSet):
        scanned(b"\xff" * 100, labelled)


def test_no_deflated_data_set_looks_plain():
    for level in range(10):
        for number in range(300):
            packer = zlib.compressobj(level, wbits=-15)
            data = element(0x00080005, "CS", b"ISO_IR 100") + identity() + number * b"\0"
            packed = packer.compress(data) + packer.flush()
            assert scanned(packed, DEFLATED).transfer_syntax_uid == DEFLATED
    assert PATIENT_NAME in scanned(deflate(START), DEFLATED).elements
