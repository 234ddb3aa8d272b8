"""The two forms of a result, read by others."""

from __future__ import annotations

import json
from email import message_from_bytes
from email.policy import HTTP
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from backup_scp.dicom.json_model import text_element
from backup_scp.dicom.native_model import document, text_attribute
from tests.stored import stored_in
from tests.web.conftest import client_of
from tests.web.qido import put_studies

NATIVE = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"
XML = 'multipart/related; type="application/dicom+xml"'


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    with stored_in(tmp_path_factory.mktemp("forms")) as stored:
        put_studies(stored)
        yield client_of(stored)


@pytest.mark.parametrize(
    ("tag", "vr", "text", "value"),
    [
        (0x00100010, "PN", "Müller^Jörg", [{"Alphabetic": "Müller^Jörg"}]),
        (0x00100010, "PN", "Yamada^Tarou=山田^太郎=やまだ^たろう",
         [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}]),
        (0x00100010, "PN", "=山田^太郎", [{"Ideographic": "山田^太郎"}]),
        (0x00081070, "PN", "A\\\\B", [{"Alphabetic": "A"}, None, {"Alphabetic": "B"}]),
        (0x00080008, "CS", "ORIGINAL\\PRIMARY", ["ORIGINAL", "PRIMARY"]),
        (0x00080008, "CS", "A\\\\B", ["A", None, "B"]),
        (0x00104000, "LT", 'one\\text "q"\n\u2028', ['one\\text "q"\n\u2028']),
        (0x00200013, "IS", "007", [7]),
        (0x00200013, "IS", "+1", [1]),
        (0x00200013, "IS", "odd", ["odd"]),
        (0x00101030, "DS", "70.50", [70.5]),
        (0x00101030, "DS", ".5", [0.5]),
        (0x00101030, "DS", "7E+1", [70.0]),
        (0x00101030, "DS", "1e999", ["1e999"]),
        (0x00101030, "DS", "nan", ["nan"]),
        (0x00280010, "US", "512", [512]),
        (0x00200013, "IS", "", None),
        (0x0020000D, "UI", "1.2.3", ["1.2.3"]),
    ],
)  # fmt: skip
def test_json_of_a_value(tag, vr, text, value):
    ((name, element),) = json.loads(f"{{{text_element(tag, vr)(text)}}}").items()
    assert name == f"{tag:08X}"
    assert element == ({"vr": vr} if value is None else {"vr": vr, "Value": value})


def test_a_number_keeps_its_digits():
    assert text_element(0x00101030, "DS")("70.50") == '"00101030":{"vr":"DS","Value":[70.50]}'


@given(st.sampled_from(["LO", "PN", "IS", "DS", "LT", "DA", "UI"]), st.text(max_size=60))
def test_any_text_is_json_and_xml(vr, text):
    written = f"{{{text_element(0x00100010, vr)(text)}}}".encode("utf-8", "replace")
    assert list(json.loads(written)) == ["00100010"]
    assert len(ET.fromstring(document(text_attribute(0x00100010, vr, "PatientName")(text)))) == 1


@pytest.mark.parametrize("kind", ["studies", "series", "instances"])
def test_pydicom_reads_the_json(web, kind):
    for result in web.get(f"/{kind}?includefield=all").json():
        read = Dataset.from_json(json.dumps(result))
        assert read.SpecificCharacterSet == "ISO_IR 192"
        assert f"/studies/{read.StudyInstanceUID}" in read.RetrieveURL
        for element in read:
            assert result[f"{element.tag:08X}"]["vr"] == element.VR


def parts_of(answer) -> list[bytes]:
    message = message_from_bytes(
        f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode() + answer.content, policy=HTTP
    )
    assert message.get_content_type() == "multipart/related"
    assert {part.get_content_type() for part in message.iter_parts()} == {"application/dicom+xml"}
    return [bytes(part.get_content()) for part in message.iter_parts()]


@pytest.mark.parametrize("path", ["/studies?includefield=all", "/studies/1.1/series", "/instances"])
def test_the_xml_says_the_same(web, path):
    parts = parts_of(web.get(path, headers={"accept": XML}))
    results = web.get(path).json()
    assert len(parts) == len(results)
    for part, result in zip(parts, results, strict=True):
        assert as_json(ET.fromstring(part)) == {
            tag: element | {"Value": [each for each in element["Value"] if each is not None]}
            if "Value" in element
            else element
            for tag, element in result.items()
        }


def as_json(model: ET.Element) -> dict:
    """Convert a Native DICOM Model as PS3.18 F.3 describes it."""
    found = {}
    for attribute in model:
        assert attribute.tag == f"{NATIVE}DicomAttribute"
        vr = attribute.get("vr")
        values: list = []
        for each in attribute:
            assert each.get("number") == str(len(values) + 1)
            if vr == "PN":
                values.append(
                    {group.tag.removeprefix(NATIVE): "^".join(part.text or "" for part in group) for group in each}
                )
            elif vr == "SQ":
                values.append(as_json(each))
            else:
                values.append(float(each.text or "") if vr in ("IS", "DS", "US") else each.text)
        found[attribute.get("tag")] = {"vr": vr, "Value": values} if values else {"vr": vr}
    return found
