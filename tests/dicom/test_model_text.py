"""Encoded Data Sets in the DICOM JSON Model and the Native DICOM Model; pydicom is the second opinion."""

from __future__ import annotations

import json
import struct
import warnings
from xml.etree import ElementTree as ET

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from backup_scp.dicom.model_text import INLINE_BYTES, JSON, XML, DataSetText, data_set_text
from backup_scp.dicom.native_model import document
from tests.samples import dx, encode, one_of_each, pydicom_samples, replace, structured_report, unparsable

NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
PIXELS = {"7FE00010"}


def written(data: bytes, syntax: str = ExplicitVRLittleEndian, model=JSON) -> DataSetText:
    def read_at(position, length):
        assert 0 <= length <= 1 << 26
        return data[position : position + length]

    return data_set_text(read_at, len(data), syntax, model, "uri/")


def text_of(data: bytes, syntax: str, model=JSON) -> list[str]:
    return written(data, syntax, model).elements


def as_json(data: bytes, syntax: str = ExplicitVRLittleEndian) -> dict:
    return json.loads(f"{{{','.join(text_of(data, syntax))}}}")


def as_xml(data: bytes, syntax: str = ExplicitVRLittleEndian) -> ET.Element:
    return ET.fromstring(document("".join(text_of(data, syntax, XML))))


def by_pydicom(sample) -> dict:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return json.loads(
            sample.dataset().to_json(
                bulk_data_threshold=INLINE_BYTES, bulk_data_element_handler=lambda element: f"{element.tag:08X}"
            )
        )


def differences(ours: dict, theirs: dict, path: str = "") -> list[str]:
    """List what differs, but for what we know to be right otherwise."""
    found = []
    for tag in sorted(ours.keys() | theirs.keys()):
        our, their = ours.get(tag), theirs.get(tag)
        if tag.endswith("0000") or tag == "00080005" or tag in PIXELS or our == their:
            continue
        if our and their and our["vr"] == their["vr"] == "SQ":
            items = zip(our.get("Value", []), their.get("Value", []), strict=True)
            for number, (first, second) in enumerate(items, 1):
                found += differences(first, second, f"{path}{tag}/{number}/")
        elif our and their and our["vr"] == "UN":
            assert "InlineBinary" in our or "BulkDataURI" in our  # pydicom has a dictionary of private elements
        elif our and "BulkDataURI" in our:
            assert our["BulkDataURI"] == f"uri/{path}{tag}"
        elif not our or not their or stripped(our) != stripped(their):
            found.append(f"{path}{tag}: {our} {their}")
    return found


def stripped(element: dict) -> dict:
    """Padding inside of several values, and empty ones as null (PS3.18 F.2.5), are ours."""
    values = [each.strip() or None if isinstance(each, str) else each for each in element.get("Value", [])]
    return {**element, "Value": values}


SAMPLES = [
    sample
    for sample in (*pydicom_samples(), *map(encode, one_of_each()))
    if sample.transfer_syntax_uid != DeflatedExplicitVRLittleEndian
    and sample.name not in {"badVR.dcm", "MR_truncated.dcm", "rtplan_truncated.dcm"}
]


def test_json_is_what_pydicom_writes():
    for sample in SAMPLES:
        ours = as_json(sample.data_set, sample.transfer_syntax_uid)
        assert not differences(ours, by_pydicom(sample)), sample.name


def test_xml_has_the_same_values():
    for sample in SAMPLES:
        ours = as_json(sample.data_set, sample.transfer_syntax_uid)
        root = as_xml(sample.data_set, sample.transfer_syntax_uid)
        assert [each.get("tag") for each in root] == list(ours), sample.name
        for element in root:
            values = ours[element.get("tag")].get("Value", [])
            if element.get("vr") not in {"SQ", "PN", "DS", "IS", "FD", "FL"}:
                texts = [each.text for each in element if each.tag.endswith("Value")]
                assert texts == [str(each) for each in values if each is not None], sample.name


@pytest.mark.parametrize("syntax", NATIVE)
def test_all_encodings_give_the_same(syntax):
    for ds in one_of_each():
        expected = as_json(encode(ds).data_set)
        ours = as_json(encode(ds, syntax).data_set, syntax)
        assert ours.pop("7FE00010", {}).get("BulkDataURI") == expected.pop("7FE00010", {}).get("BulkDataURI")
        assert ours == expected


def test_text_is_unicode_and_says_so():
    ds = dx(PatientName="Größe^Jörg=山田^太郎")
    ds.SpecificCharacterSet = ["ISO_IR 100", "ISO 2022 IR 87"]
    ours = as_json(encode(ds).data_set)
    assert ours["00080005"] == {"vr": "CS", "Value": ["ISO_IR 192"]}
    assert ours["00100010"]["Value"][0]["Alphabetic"] == "Größe^Jörg"
    assert ours["00100010"]["Value"][0]["Ideographic"] == "山田^太郎"
    root = as_xml(encode(ds).data_set)
    (name,) = [each for each in root.iter() if each.get("tag") == "00100010"]
    assert [each.text for each in name.iter() if each.text][:2] == ["Größe", "Jörg"]


def test_an_item_has_its_own_character_set():
    ds, item = dx(), Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    item.SpecificCharacterSet = "ISO_IR 192"
    item.CodeMeaning = "日本"
    ds.ViewCodeSequence = Sequence([item])
    ours = as_json(encode(ds).data_set)
    assert ours["00540220"]["Value"] == [{"00080104": {"vr": "LO", "Value": ["日本"]}}]


def test_a_long_value_in_a_sequence_has_its_path():
    ds, first, second = dx(), Dataset(), Dataset()
    first.LUTData = bytes(2)
    second.LUTData = bytes(INLINE_BYTES + 2)
    for item in (first, second):
        item.LUTDescriptor = [1, 0, 16]
        item["LUTData"].VR = "OW"
    ds.VOILUTSequence = Sequence([first, second])
    ours = as_json(encode(ds).data_set)
    assert [list(item["00283006"]) for item in ours["00283010"]["Value"]] == [
        ["vr", "InlineBinary"],
        ["vr", "BulkDataURI"],
    ]
    assert ours["00283010"]["Value"][1]["00283006"]["BulkDataURI"] == "uri/00283010/2/00283006"
    assert ours["7FE00010"] == {"vr": "OW", "BulkDataURI": "uri/7FE00010"}


def test_numbers_are_exact():
    ds = dx()
    replace(ds, SliceThickness="+1.50", PixelSpacing=["0.10", "1e-1"])
    ds.add_new(0x00189073, "FD", [0.1, float("nan"), float("inf")])
    ds.add_new(0x00080040, "SV", (1 << 60) + 1)
    ds.add_new(0x00280106, "SS", -5)
    text = ",".join(text_of(encode(ds).data_set, ExplicitVRLittleEndian))
    assert '"00280030":{"vr":"DS","Value":[0.10,1e-1]}' in text
    assert '"00180050":{"vr":"DS","Value":[1.5]}' in text
    assert '"00189073":{"vr":"FD","Value":[0.1,"NaN","inf"]}' in text
    assert f'"00080040":{{"vr":"SV","Value":["{(1 << 60) + 1}"]}}' in text
    assert '"00280106":{"vr":"SS","Value":[-5]}' in text


def test_the_sign_decides_in_implicit_vr():
    for sign, expected in ((0, ["US", 65535]), (1, ["SS", -1])):
        ds = dx(PixelRepresentation=sign)
        ds.add_new(0x00280120, "SS" if sign else "US", -1 if sign else 65535)
        ours = as_json(encode(ds, ImplicitVRLittleEndian).data_set, ImplicitVRLittleEndian)["00280120"]
        assert [ours["vr"], *ours["Value"]] == expected


def test_what_breaks_off_gives_what_was_before():
    data = encode(structured_report()).data_set
    for length in range(0, len(data), 7):
        json.loads(f"{{{','.join(written(data[:length]).elements)}}}")
    assert not written(data[:-3]).is_whole
    assert written(data).is_whole


def test_noise_ends_and_is_not_whole():
    assert not written(unparsable().data_set).is_whole


def test_of_a_repeated_tag_the_first_one_counts():
    data = encode(dx()).data_set
    assert as_json(data + encode(dx(PatientID="other")).data_set)["00100020"]["Value"] == ["PID1"]


def test_deep_nesting_is_refused():
    sequence = struct.pack("<HH2sHI", 0x40, 0xA730, b"SQ", 0, 0xFFFFFFFF)
    assert not written((sequence + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * 5000).is_whole


def test_characters_that_xml_cannot_have_are_replaced():
    data = encode(replace(dx(), StudyDescription="a\x01b\ufffe")).data_set
    assert as_xml(data) is not None


def test_a_value_behind_the_window_is_whole():
    ds = structured_report()
    ds.TextValue = "x" * 100_000
    ds.ContentSequence[0].TextValue = "y" * 70_000
    ours = as_json(encode(ds).data_set)
    assert ours["0040A160"]["Value"] == ["x" * 100_000]
    assert ours["0040A730"]["Value"][0]["0040A160"]["Value"] == ["y" * 70_000]
