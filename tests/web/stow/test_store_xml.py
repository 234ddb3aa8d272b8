"""Store Instances of metadata in the Native DICOM Model, as XML, and bulk data (PS3.18 8.6.1.2.2, PS3.19 A.1)."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import tracemalloc
from typing import Any

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless

from backup_scp.dicom.native_model_reader import read_native_model
from backup_scp.errors import InvalidDataSet
from backup_scp.web.dicomweb.stow.data_set_encoder import encode as encode_model
from tests.samples import data_set_of, dx, encode, one_of_each, pydicom_samples
from tests.web.stow.bodies import BOUNDARY, joined, part
from tests.web.stow.test_store_instances import held, store
from tests.web.stow.test_store_metadata import PIXELS, json_of, no_bulk, stored_as

CONTENT_TYPE = f'multipart/related; type="application/dicom+xml"; boundary={BOUNDARY}'
XML = "application/dicom+xml"


def model(inner: str, declared: str = "UTF-8") -> bytes:
    head = f'<?xml version="1.0" encoding="{declared}"?><NativeDicomModel xml:space="preserve">'
    return f"{head}{inner}</NativeDicomModel>".encode(declared)


def attribute(tag: str, vr: str, *values: str, **more: str) -> str:
    inner = "".join(f'<Value number="{number}">{value}</Value>' for number, value in enumerate(values, 1))
    others = "".join(f' {name}="{value}"' for name, value in more.items())
    return f'<DicomAttribute tag="{tag}" vr="{vr}"{others}>{inner}</DicomAttribute>'


def image(inner: str = "") -> str:
    ds = dx()
    uids = (
        ("00080016", ds.SOPClassUID), ("00080018", ds.SOPInstanceUID), ("0020000D", ds.StudyInstanceUID),
        ("0020000E", ds.SeriesInstanceUID),
    )  # fmt: skip
    return "".join(attribute(tag, "UI", value) for tag, value in uids) + inner


def store_xml(client, *documents: bytes, bulk=()):
    parts = [part(document, XML) for document in documents]
    return store(client, joined([*parts, *bulk]), "/studies", CONTENT_TYPE)


def dcm2xml(sample, folder) -> bytes:
    """Return what dcmtk writes of a Data Set, with all values in the XML."""
    file = folder / "image.dcm"
    file.write_bytes(sample.file_bytes())
    command = ["dcm2xml", "-nat", "+Xn", "+M", "+Eb", "+U8", "-q", str(file)]
    return subprocess.run(command, check=False, capture_output=True, timeout=60).stdout


def test_what_dcmtk_writes_is_stored(web, stored, tmp_path):
    """Each kind of image."""
    samples = {ds.SOPInstanceUID: encode(ds) for ds in one_of_each("1")}
    answer = store_xml(web, *(dcm2xml(sample, tmp_path) for sample in samples.values()))
    assert answer.status_code == 200, answer.text
    found = [pydicom.dcmread(file.path) for file in held(stored)]
    assert {ds.SOPInstanceUID for ds in found} == set(samples)
    for ds in found:
        again = dataclasses.replace(samples[ds.SOPInstanceUID], data_set=data_set_of(encode(ds).file_bytes()))
        assert json_of(again) == json_of(samples[ds.SOPInstanceUID])


def test_what_dcmtk_writes_of_every_sample_is_read(tmp_path):
    compared = 0
    for sample in filter(lambda sample: len(sample.data_set) < 20_000, pydicom_samples()):
        expected, xml = json_of(sample), dcm2xml(sample, tmp_path)
        if expected is None or not xml:
            continue
        encoded = b"".join(encode_model(read_native_model(xml), no_bulk, is_encapsulated=False))
        again = json_of(dataclasses.replace(sample, data_set=encoded, transfer_syntax_uid=ExplicitVRLittleEndian))
        assert comparable(again) == comparable(expected), sample.name
        compared += 1
    assert compared > 100


def comparable(found: Any) -> dict:
    """Drop what dcm2xml 3.6.7 changes itself: the order of bytes, empty components, blanks, blocks without creator."""
    kept = {}
    for tag, element in found.items():
        if element["vr"] in {"OW", "PN"} or int(tag[:4], 16) % 2:
            continue
        values = [each.strip() if isinstance(each, str) else each for each in element.get("Value", [])]
        kept[tag] = element | {"Value": [comparable(item) for item in values] if element["vr"] == "SQ" else values}
    return kept


def test_bulk_data_are_in_parts(web, stored):
    bulk = '<DicomAttribute tag="7FE00010" vr="OW"><BulkData uri="pixels"/></DicomAttribute>'
    parts = [part(PIXELS, "application/octet-stream", Content_Location="pixels")]
    assert store_xml(web, model(image(bulk)), bulk=parts).status_code == 200
    assert stored_as(stored).PixelData == PIXELS


def test_compressed_frames(web, stored):
    bulk = '<DicomAttribute tag="7FE00010" vr="OB"><BulkData uri="pixels"/></DicomAttribute>'
    parts = [part(b"frame one", f"image/jls; transfer-syntax={JPEGLSLossless}", Content_Location="pixels")]
    assert store_xml(web, model(image(bulk)), bulk=parts).status_code == 200
    assert stored_as(stored).file_meta.TransferSyntaxUID == JPEGLSLossless


@pytest.mark.parametrize("declared", ["UTF-8", "ISO-8859-1", "UTF-16"])
def test_names_in_any_encoding_of_xml(web, stored, declared):
    name = (
        '<DicomAttribute tag="00100010" vr="PN"><PersonName number="1"><Alphabetic><FamilyName>Müller</FamilyName>'
        "<MiddleName>A&amp;B</MiddleName></Alphabetic></PersonName></DicomAttribute>"
    )
    assert store_xml(web, model(image(name), declared)).status_code == 200
    found = stored_as(stored)
    assert (str(found.PatientName), found.SpecificCharacterSet) == ("Müller^^A&B", "ISO_IR 192")


def test_values_items_and_private_elements():
    item = f'<Item number="1">{attribute("00091110", "LO", "in item", privateCreator="OURS")}</Item>'
    read = read_native_model(
        model(
            attribute("00280030", "DS", "0.5", "0.25")
            + '<DicomAttribute tag="00080008" vr="CS"><Value number="3">AXIAL</Value></DicomAttribute>'
            + attribute("00090010", "LO", "OTHERS")
            + attribute("00090001", "LO", "others' ", privateCreator="OTHERS")
            + attribute("00090001", "US", "7", privateCreator="OURS")
            + f'<DicomAttribute tag="00081140" vr="SQ">{item}</DicomAttribute>'
        )
    )
    assert read == {
        "00280030": {"vr": "DS", "Value": ["0.5", "0.25"]},
        "00080008": {"vr": "CS", "Value": [None, None, "AXIAL"]},
        "00090010": {"vr": "LO", "Value": ["OTHERS"]},
        "00091001": {"vr": "LO", "Value": ["others' "]},
        "00090011": {"vr": "LO", "Value": ["OURS"]},
        "00091101": {"vr": "US", "Value": ["7"]},
        "00081140": {
            "vr": "SQ",
            "Value": [{"00090011": {"vr": "LO", "Value": ["OURS"]}, "00091110": {"vr": "LO", "Value": ["in item"]}}],
        },
    }


NO_MODELS = {
    "nothing": b"",
    "no XML": b"{}",
    "cut off": model(image())[:-9],
    "another root": b"<Item/>",
    "an element of another kind": model("<Script/>"),
    "a value without an attribute": model('<Value number="1">x</Value>'),
    "no tag": model(attribute("x", "US", "1")),
    "no number": model('<DicomAttribute tag="00080008" vr="CS"><Value>A</Value></DicomAttribute>'),
    "a great number": model(
        '<DicomAttribute tag="00080008" vr="CS"><Value number="999999999">A</Value></DicomAttribute>'
    ),
    "numbers out of order": model(
        '<DicomAttribute tag="00080008" vr="CS"><Value number="1">A</Value><Value number="1">B</Value></DicomAttribute>'
    ),
    "bulk data without a name": model('<DicomAttribute tag="7FE00010" vr="OW"><BulkData uuid="1"/></DicomAttribute>'),
    "deep": model('<DicomAttribute tag="00081140" vr="SQ"><Item number="1">' * 200),
    "a DTD": b'<!DOCTYPE NativeDicomModel [<!ENTITY a "aaaa">]><NativeDicomModel>&a;</NativeDicomModel>',
    "an entity from elsewhere": b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><NativeDicomModel/>',
    "an encoding that nobody knows": b'<?xml version="1.0" encoding="x-none"?><NativeDicomModel/>',
    "bytes that are no UTF-8": b"<NativeDicomModel>\xff</NativeDicomModel>",
    "a NUL": b"<NativeDicomModel>\0</NativeDicomModel>",
}


@pytest.mark.parametrize("document", NO_MODELS.values(), ids=NO_MODELS)
def test_what_is_no_model_is_refused(web, stored, document):
    answer = store_xml(web, document)
    assert (answer.status_code, held(stored)) == (400, [])
    assert "PS3.19" in answer.json()["detail"]


def test_a_value_that_cannot_be_encoded_is_that_images_failure(web, stored):
    answer = store_xml(web, model(image(attribute("00280010", "US", "many"))))
    assert (answer.status_code, held(stored)) == (409, [])


@pytest.mark.parametrize(
    "inner",
    [
        '<DicomAttribute tag="00081140" vr="SQ">{}</DicomAttribute>'.format(
            "".join(f'<Item number="{number}"/>' for number in range(1, 100_000))
        ),
        "".join(f'<DicomAttribute tag="{tag:08X}" vr="CS"/>' for tag in range(0x00110000, 0x00110000 + 60_000)),
        '<DicomAttribute tag="00080008" vr="CS"><Value number="99999">A</Value></DicomAttribute>' * 100,
    ],
    ids=["items", "attributes", "gaps"],
)
def test_memory_is_in_proportion_to_the_text(inner):
    document = model(inner)
    tracemalloc.start()
    with contextlib.suppress(InvalidDataSet):
        read_native_model(document)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 16 * len(document) + 2_000_000


def test_too_many_images(web, monkeypatch):
    monkeypatch.setattr("backup_scp.web.dicomweb.stow.incoming_metadata.MOST_INSTANCES", 2)
    assert store_xml(web, *[model(image())] * 3).status_code == 413
