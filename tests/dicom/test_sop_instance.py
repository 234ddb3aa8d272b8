"""SOPInstance.read: every file that ships with pydicom, and malformed Data Sets."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from backup_scp.dicom import data_set
from backup_scp.dicom.attributes import ATTRIBUTES, BY_KEYWORD
from backup_scp.dicom.sop_instance import MOST_ITEMS, VALUE_CHARACTERS, SOPInstance
from backup_scp.dicom.value_representation import items_of, items_text
from tests.elements import delimiter, element, identity, patient, places
from tests.samples import Sample, dx, encode, pydicom_samples, replace

# What pydicom reads wrongly, or leaves out: file, keyword, and what is right.
PYDICOM_DIFFERS = {
    # It drops the empty third component group, which the bytes have.
    ("chrX1.dcm", "PatientName"): "Wang^XiaoDong=王^小東=",
    ("chrX2.dcm", "PatientName"): "Wang^XiaoDong=王^小东=",
}


def read(sample: Sample) -> SOPInstance:
    return SOPInstance.read(
        io.BytesIO(sample.data_set), sample.transfer_syntax_uid, sample.sop_class_uid, sample.sop_instance_uid
    )


def as_pydicom_reads_it(sample: Sample) -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = sample.dataset()
        values = {a.keyword: ds[a.tag].value for a in ATTRIBUTES if not a.computed and a.tag in ds}
        texts = {keyword: _text(keyword, value) for keyword, value in values.items() if value is not None}
    return {keyword: text for keyword, text in texts.items() if text}


def by_meaning(attributes: Mapping[str, str]) -> dict[str, Any]:
    return {k: items_of(text) if BY_KEYWORD[k].items else text for k, text in attributes.items()}


def _text(keyword: str, value: Any) -> str:
    if keys := BY_KEYWORD[keyword].items:
        return items_text({k.keyword: text for k in keys if (text := str(item.get(k.keyword, "")))} for item in value)
    return "\\".join(str(part).strip(" \0") for part in (value if isinstance(value, MultiValue) else [value]))


@pytest.mark.parametrize("sample", pydicom_samples(), ids=lambda sample: sample.name)
def test_every_file_of_pydicom_reads_as_pydicom_reads_it(sample):
    expected = as_pydicom_reads_it(sample)
    expected |= {keyword: text for (name, keyword), text in PYDICOM_DIFFERS.items() if name == sample.name}
    instance = read(sample)
    assert by_meaning(instance.attributes) == by_meaning(expected)
    assert instance.study_instance_uid == expected.get("StudyInstanceUID", "")
    assert instance.series_instance_uid == expected.get("SeriesInstanceUID", "")
    assert instance.parsed is bool(expected)


def test_there_are_files_to_read():
    assert sum(read(sample).parsed for sample in pydicom_samples()) > 100


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_dx_image(syntax):
    ds = dx(PatientName="Müller^Zoë", SpecificCharacterSet="ISO_IR 100")
    instance = read(encode(ds, syntax))
    assert (instance.sop_class_uid, instance.sop_instance_uid) == (ds.SOPClassUID, ds.SOPInstanceUID)
    assert (instance.study_instance_uid, instance.series_instance_uid) == (ds.StudyInstanceUID, ds.SeriesInstanceUID)
    assert instance.transfer_syntax_uid == syntax
    assert instance.parsed
    assert instance.attributes["PatientName"] == "Müller^Zoë"
    assert instance.attributes["ImageType"] == "ORIGINAL\\PRIMARY"
    assert instance.attributes["Rows"] == "32"
    assert instance.attributes["BitsAllocated"] == "16"


def with_raw(keyword: str, value: bytes, vr: str | None = None) -> SOPInstance:
    """Read a Data Set one value of which has exactly these bytes."""
    attribute = BY_KEYWORD[keyword]
    others = identity() + places() if attribute.tag not in data_set.IDENTITY else b""
    data = others + element(attribute.tag, vr or attribute.vr, value)
    return SOPInstance.read(io.BytesIO(data), ExplicitVRLittleEndian)


@pytest.mark.parametrize(
    ("keyword", "value", "text"),
    [
        ("PatientID", b"  4711 \0", "4711"),
        ("PatientID", b"N1\0garbage ", "N1"),
        ("PatientID", b"N1\0a\\b ", "N1"),
        ("PatientID", "Ä1".encode() + b"\0\xff\xfe", "Ä1"),
        ("PatientID", b"\0N1", ""),
        ("PatientName", b"Doe^John\0^Old", "Doe^John"),
        ("PatientComments", b"a\\b\0c\\d", "a\\b"),
        ("StudyInstanceUID", b"1.2.3\0.4", "1.2.3"),
        ("StudyDate", b"20200101\0 ", "20200101"),
        ("ImageType", b"ORIGINAL\0\\PRIMARY\0X\\AP ", "ORIGINAL\\PRIMARY\\AP"),
        ("OtherPatientIDs", b"A\0B\\C", "A\\C"),
        ("PatientID", b"   ", ""),
        ("PatientComments", b"  two\r\n blanks  ", "  two\r\n blanks"),
        ("PatientComments", b"a\\b ", "a\\b"),
        ("PatientName", b" Doe^John^^ = = ", "Doe^John^^ = ="),
        ("ImageType", b"ORIGINAL \\ PRIMARY\\\\AP ", "ORIGINAL\\PRIMARY\\\\AP"),
        ("StudyInstanceUID", b"1.02.A.3 \0\0", "1.02.A.3"),
        ("StudyInstanceUID", b"1." + b"9" * 80, "1." + "9" * 80),
        ("StudyDate", b"2020.01.01", "2020.01.01"),
        ("SeriesNumber", b" 007", "007"),
        ("PatientID", b"x" * 5000, "x" * VALUE_CHARACTERS),
        ("StudyDescription", "Röntgen".encode("latin_1"), "Röntgen"),
        ("StudyDescription", "Röntgen 骨".encode(), "Röntgen 骨"),
        ("Modality", b"D\xd6", "DÖ"),
        ("PatientSex", b"", ""),
    ],
)
def test_padding_and_odd_values(keyword, value, text):
    assert with_raw(keyword, value).attributes.get(keyword, "") == text


@pytest.mark.parametrize(
    ("keyword", "vr", "value", "text"),
    [
        ("Rows", "US", b"\xff\xff", "65535"),
        ("Rows", "SS", b"\xff\xff", ""),
        ("Rows", "UL", b"\0\x02\0\0", "512"),
        ("Rows", "IS", b"512 ", "512"),
        ("Rows", "IS", b"many", ""),
        ("Rows", "US", b"\1", ""),
        ("Rows", "US", b"\1\0\2\0", "1\\2"),
        ("InstanceNumber", "US", b"\7\0", "7"),
        ("PatientWeight", "FD", struct.pack("<d", 71.5), "71.5"),
        ("PatientID", "AT", b"\x10\0\x20\0", ""),
        ("PatientID", "LT", b" 4711", "4711"),
    ],
)
def test_values_of_another_representation(keyword, vr, value, text):
    assert with_raw(keyword, value, vr).attributes.get(keyword, "") == text


def test_a_sequence_where_a_text_belongs_is_no_value():
    assert "PatientID" not in with_raw("PatientID", delimiter(0xE000), "SQ").attributes


def requests(*items: Dataset, syntax: str = ExplicitVRLittleEndian, **keys: str) -> list[dict[str, str]]:
    ds = dx(**keys)
    ds.RequestAttributesSequence = list(items)
    return items_of(read(encode(ds, syntax)).attributes.get("RequestAttributesSequence", ""))


def item(**values: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_requests(syntax):
    first = item(RequestedProcedureID=" RP1 ", ScheduledProcedureStepID="S1", StudyInstanceUID="1.23")
    first.RequestedProcedureCodeSequence = [item(CodeValue="1", RequestedProcedureID="no")]
    second = item(AccessionNumber="A\0B", RequestedProcedureDescription="Röntgen", PatientID="no")
    assert requests(first, second, item(), syntax=syntax, SpecificCharacterSet="ISO_IR 100") == [
        {"StudyInstanceUID": "1.23", "ScheduledProcedureStepID": "S1", "RequestedProcedureID": "RP1"},
        {"AccessionNumber": "A", "RequestedProcedureDescription": "Röntgen"},
        {},
    ]


def test_no_requests():
    assert "RequestAttributesSequence" not in read(encode(dx())).attributes
    assert requests() == []


def test_an_item_has_the_character_set_that_it_declares():
    own = item(SpecificCharacterSet="ISO_IR 144", RequestedProcedureDescription="Иванов")
    inherited = item(RequestedProcedureDescription="Röntgen")
    assert requests(own, inherited, SpecificCharacterSet="ISO_IR 100") == [
        {"RequestedProcedureDescription": "Иванов"},
        {"RequestedProcedureDescription": "Röntgen"},
    ]


def test_requests_are_bounded():
    found = requests(*(item(RequestedProcedureID=f"{n}") for n in range(100)))
    assert [each["RequestedProcedureID"] for each in found] == [f"{n}" for n in range(MOST_ITEMS)]
    long = delimiter(0xE000, 5008) + element(0x00321060, "LO", b"x" * 5000)
    (text,) = items_of(with_raw("RequestAttributesSequence", long).attributes["RequestAttributesSequence"])
    assert text == {"RequestedProcedureDescription": "x" * VALUE_CHARACTERS}


@pytest.mark.parametrize(
    "value", [b"nothing", patient(), delimiter(0xE000, 400), delimiter(0xE000, 0xFFFFFFFF) + b"xxxxxxxx"]
)
def test_requests_that_cannot_be_read_are_none(value):
    instance = with_raw("RequestAttributesSequence", value)
    assert instance.parsed
    assert "RequestAttributesSequence" not in instance.attributes


def test_unknown_value_representation_is_read_by_the_dictionary():
    assert with_raw("Rows", b"\x00\x02", "UN").attributes["Rows"] == "512"
    assert with_raw("PatientName", b"Doe^Jane", "UN").attributes["PatientName"] == "Doe^Jane"


def test_the_command_set_says_what_the_data_set_does_not():
    sample = encode(dx())
    whole = SOPInstance.read(io.BytesIO(sample.data_set), ExplicitVRLittleEndian, "1.2.3", "1.2.4")
    assert (whole.sop_class_uid, whole.sop_instance_uid) == (sample.sop_class_uid, sample.sop_instance_uid)
    ds = replace(dx(), SOPInstanceUID="", SOPClassUID="")
    missing = SOPInstance.read(io.BytesIO(encode(ds).data_set), ExplicitVRLittleEndian, "1.2.3", "1.2.4")
    assert (missing.sop_class_uid, missing.sop_instance_uid) == ("1.2.3", "1.2.4")
    assert missing.study_instance_uid == ds.StudyInstanceUID
    assert missing.parsed


@pytest.mark.parametrize("data", [b"", b"no Data Set", b"\xff" * 5000, encode(dx()).data_set[:20]])
def test_what_cannot_be_read_is_known_by_its_command_set(data):
    assert SOPInstance.read(io.BytesIO(data), ExplicitVRLittleEndian, "1.2.3", "1.2.4") == SOPInstance(
        "1.2.3", "1.2.4", ExplicitVRLittleEndian, parsed=False
    )


def test_the_stream_is_read_from_where_it_stands():
    sample = encode(dx())
    stream = io.BytesIO(b"File Meta" + sample.data_set)
    stream.seek(9)
    assert SOPInstance.read(stream, ExplicitVRLittleEndian) == read(sample)


@given(
    st.binary(max_size=64), st.sampled_from(sorted(a.keyword for a in ATTRIBUTES if not a.computed and a.vr != "US"))
)
def test_any_value_reads_as_text(value, keyword):
    for text in with_raw(keyword, value).attributes.values():
        assert len(text) <= VALUE_CHARACTERS
        assert "\0" not in text
        assert text.encode()


def test_one_that_is_cut_off_says_what_stands_before():
    whole = encode(dx())
    cut = SOPInstance.read(io.BytesIO(whole.data_set[:-1]), ExplicitVRLittleEndian)
    assert (cut.is_whole, cut.parsed) == (False, True)
    assert cut.attributes == read(whole).attributes
    early = SOPInstance.read(io.BytesIO(whole.data_set[:201]), ExplicitVRLittleEndian, "1.2.3", "1.2.4")
    assert (early.is_whole, early.parsed) == (False, True)
    assert early.attributes.items() < cut.attributes.items()


@pytest.mark.parametrize(
    ("elements", "is_identified"),
    [
        ({}, True),
        ({"PatientID": None}, False),
        ({"PatientID": ""}, False),
        ({"PatientID": "A\\B"}, False),
        ({"PatientID": "x" * 64}, True),
        ({"PatientID": "x" * 65}, False),
        ({"StudyInstanceUID": None}, False),
        ({"SeriesInstanceUID": None}, False),
        ({"StudyInstanceUID": "study one"}, False),
        ({"SeriesInstanceUID": "1.02.3"}, False),
        ({"SOPInstanceUID": "1.2." + "3" * 61}, False),
        ({"SOPInstanceUID": "1.2." + "3" * 60}, True),
        ({"SOPClassUID": "a class"}, False),
        # a Color Palette is of no patient and no study
        ({"SOPClassUID": "1.2.840.10008.5.1.4.39.1", "PatientID": None, "StudyInstanceUID": None}, True),
    ],
)
def test_an_identity_is_whole_and_well_formed_or_it_is_not(elements, is_identified):
    assert read(encode(dx(**elements))).is_identified is is_identified
