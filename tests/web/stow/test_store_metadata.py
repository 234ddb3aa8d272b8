"""Store Instances of metadata in DICOM JSON and bulk data (PS3.18 8.6.1.2.2, 10.5.2)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import warnings

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGLSLossless

from backup_scp.errors import InvalidDataSet
from backup_scp.web.dicomweb.stow import incoming_metadata
from backup_scp.web.dicomweb.stow.data_set_encoder import Bulk, encode
from tests.samples import dx, pydicom_samples, structured_report
from tests.web.stow.bodies import BOUNDARY, body, joined, part
from tests.web.stow.test_store_instances import held, staged, store

CONTENT_TYPE = f'multipart/related; type="application/dicom+json"; boundary={BOUNDARY}'
PIXELS = bytes(range(256)) * 10


def metadata(ds, *bulk: str) -> dict:
    """Return the JSON of a Data Set; the values of ``bulk`` are in parts, at their keywords."""
    found = ds.to_json_dict(suppress_invalid_tags=True)
    for keyword in bulk:
        tag = f"{pydicom.datadict.tag_for_keyword(keyword):08X}"
        found[tag] = {"vr": found[tag]["vr"], "BulkDataURI": keyword}
    return found


def store_json(client, instances, *bulk, path="/studies"):
    """Store metadata with parts of bulk data: (location, content type, bytes)."""
    parts = [part(json.dumps(instances).encode(), "application/dicom+json")]
    parts += [part(content, content_type, Content_Location=location) for location, content_type, content in bulk]
    return store(client, joined(parts), path, CONTENT_TYPE)


def stored_as(stored) -> pydicom.Dataset:
    (file,) = held(stored)
    return pydicom.dcmread(file.path)


def test_native_pixels(web, stored, tmp_path):
    ds = dx(PixelData=PIXELS)
    answer = store_json(web, [metadata(ds, "PixelData")], ("PixelData", "application/octet-stream", PIXELS))
    assert (answer.status_code, set(answer.json())) == (200, {"00081190", "00081199"})
    found = stored_as(stored)
    assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert metadata(found) == metadata(ds)
    assert len([name for name in staged(tmp_path) if name]) <= 1  # the note of the image, until the checkpoint


def test_frames_of_a_compressed_syntax_are_fragments(web, stored):
    frames = [b"frame one", b"frame 2!"]
    parts = [("PixelData", f"image/jls; transfer-syntax={JPEGLSLossless}", frame) for frame in frames]
    assert store_json(web, [metadata(dx(PixelData=PIXELS), "PixelData")], *parts).status_code == 200
    found = stored_as(stored)
    assert found.file_meta.TransferSyntaxUID == JPEGLSLossless
    fragments = list(generate_fragments(found.PixelData))
    assert [fragment.rstrip(b"\0") for fragment in fragments] == [b"", *frames]


@pytest.mark.parametrize(
    ("content_type", "syntax"),
    [
        ("image/jpeg", "1.2.840.10008.1.2.4.70"),
        ("image/jp2", "1.2.840.10008.1.2.4.90"),
        (f'image/jpeg; transfer-syntax="{JPEGBaseline8Bit}"', JPEGBaseline8Bit),
        ("application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1", ExplicitVRLittleEndian),
    ],
)
def test_the_transfer_syntax_of_a_media_type(web, stored, content_type, syntax):
    assert store_json(web, [metadata(dx(), "PixelData")], ("PixelData", content_type, PIXELS)).status_code == 200
    assert stored_as(stored).file_meta.TransferSyntaxUID == syntax


def test_text_is_utf_8(web, stored):
    ds = dx(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg", StudyDescription="Größe")
    assert store_json(web, [metadata(ds)]).status_code == 200
    found = stored_as(stored)
    assert (found.SpecificCharacterSet, str(found.PatientName)) == ("ISO_IR 192", "Müller^Jörg")


def test_nested_items(web, stored):
    ds = structured_report()
    assert store_json(web, [metadata(ds)]).status_code == 200
    assert stored_as(stored).ContentSequence == ds.ContentSequence


def test_several_instances_and_bulk_data_before_them(web, stored):
    instances = [dx(number=number, PixelData=PIXELS) for number in (1, 2)]
    parts = [part(PIXELS, "application/octet-stream", Content_Location="PixelData")]
    parts += [part(json.dumps(metadata(ds, "PixelData")).encode(), "application/dicom+json") for ds in instances]
    assert store(web, joined(parts), "/studies", CONTENT_TYPE).status_code == 200
    assert len(held(stored)) == 2


class TestWrong:
    def test_bulk_data_that_is_missing(self, web, stored):
        answer = store_json(web, [metadata(dx(), "PixelData"), metadata(dx(number=2))])
        assert answer.status_code == 202
        (failed,) = answer.json()["00081198"]["Value"]
        assert (failed["00081155"]["Value"], failed["00081197"]["Value"]) == ([dx().SOPInstanceUID], [0xA900])
        assert len(held(stored)) == 1

    @pytest.mark.parametrize(
        "instance",
        [
            {}, [], 1, None, "text", {"00080018": {"vr": "UI", "Value": ["1.2"]}},
            {"00080016": [], "00080018": {"vr": "UI", "Value": [3]}},
        ],
    )  # fmt: skip
    def test_no_identity(self, web, stored, instance):
        assert store_json(web, [instance, metadata(dx())]).status_code == 202
        assert store_json(web, [instance]).status_code in {400, 409}
        assert len(held(stored)) == 1

    @pytest.mark.parametrize(
        "element",
        [
            {"00100010": {"vr": "PN", "Value": [3]}}, {"00100010": {"vr": "XX", "Value": ["a"]}},
            {"00100010": {"vr": ["PN"]}}, {"00100010": "text"}, {"0010001": {"vr": "PN"}},
            {"PatientName": {"vr": "PN"}}, {"00280010": {"vr": "US", "Value": [70000]}},
            {"00280010": {"vr": "US", "Value": ["x"]}}, {"00280010": {"vr": "US", "Value": 5}},
            {"7FE00010": {"vr": "OW", "InlineBinary": "!"}}, {"00081115": {"vr": "SQ", "Value": ["x"]}},
            {"00000010": {"vr": "US", "Value": [1]}}, {"00100020": {"vr": "LO", "Value": ["x" * 70000]}},
        ],
    )  # fmt: skip
    def test_what_cannot_be_encoded(self, web, stored, element):
        answer = store_json(web, [metadata(dx()) | element])
        assert (answer.status_code, held(stored)) == (409, [])

    def test_deep(self, web, stored):
        item: dict = {}
        for _ in range(200):
            item = {"00081115": {"vr": "SQ", "Value": [item]}}
        assert (store_json(web, [metadata(dx()) | item]).status_code, held(stored)) == (409, [])

    def test_no_json(self, web):
        answer = store(web, joined([part(b"{", "application/dicom+json")]), content_type=CONTENT_TYPE)
        assert answer.status_code == 400
        deep = b"[" * 100_000
        assert store(web, joined([part(deep, "application/dicom+json")]), content_type=CONTENT_TYPE).status_code == 400

    def test_too_much_metadata(self, web, monkeypatch):
        monkeypatch.setattr(incoming_metadata, "LONGEST_METADATA_BYTES", 1000)
        assert store_json(web, [metadata(dx())]).status_code == 413

    @pytest.mark.parametrize("content", [b"[" + b"0," * 600_001 + b"0]", b"{" * 600_001], ids=["values", "objects"])
    def test_too_many_values(self, web, content):
        answer = store(web, joined([part(content, "application/dicom+json")]), content_type=CONTENT_TYPE)
        assert answer.status_code == 413

    def test_too_many_images(self, web):
        assert store_json(web, [{}] * (incoming_metadata.MOST_INSTANCES + 1)).status_code == 413

    def test_bulk_data_without_a_location(self, web, tmp_path):
        parts = [part(json.dumps([metadata(dx())]).encode(), "application/dicom+json"), part(b"x", "image/jpeg")]
        assert store(web, joined(parts), content_type=CONTENT_TYPE).status_code == 400
        assert staged(tmp_path) == []

    def test_frames_of_two_transfer_syntaxes(self, web):
        parts = [("PixelData", content_type, b"xx") for content_type in ("image/jpeg", "image/jls")]
        assert store_json(web, [metadata(dx(), "PixelData")], *parts).status_code == 409

    def test_another_study(self, web, stored):
        answer = store_json(web, [metadata(dx())], path="/studies/1.2.3")
        assert (answer.status_code, held(stored)) == (409, [])

    def test_files_are_no_metadata(self, web):
        assert store(web, body(b"x"), content_type=CONTENT_TYPE).status_code == 400


def no_bulk(uri):
    raise InvalidDataSet(uri)


def test_pydicom_reads_what_was_encoded():
    """Every sample of which pydicom writes JSON that it reads again itself."""
    compared = 0
    for sample in filter(lambda sample: len(sample.data_set) < 20_000, pydicom_samples()):
        found = json_of(sample)
        if found is None:
            continue
        encoded = b"".join(encode(found, no_bulk, is_encapsulated=False))
        again = json_of(dataclasses.replace(sample, data_set=encoded, transfer_syntax_uid=ExplicitVRLittleEndian))
        assert again == found, sample.name
        compared += 1
    assert compared > 40


def json_of(sample) -> dict | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = sample.dataset()
        for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "SpecificCharacterSet"):
            ds.pop(keyword, None)
        try:
            found = json.loads(json.dumps(ds.to_json_dict()))
            Dataset.from_json(found)
        except Exception:  # noqa: BLE001 - pydicom raises all kinds
            return None
    return without_group_lengths(found)


def without_group_lengths(found: dict) -> dict:
    """Drop group lengths, and Specific Character Sets: all text is UTF-8."""
    kept = {tag: element for tag, element in found.items() if not tag.endswith("0000") and tag != "00080005"}
    for element in kept.values():
        if element["vr"] == "SQ":
            element["Value"] = [without_group_lengths(item) for item in element.get("Value", [])]
    return kept


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["vr", "Value", "00100010"]), inner),
    max_leaves=20,
)
VRS = [*["PN", "SQ", "US", "UI", "OB", "AT", "FD", "DS", "UN", "zz"]]
ELEMENTS = st.dictionaries(
    st.from_regex(r"\A[0-9A-F]{8}\Z") | st.text(max_size=9),
    st.fixed_dictionaries(
        {"vr": st.sampled_from(["PN", "SQ", "US", "UI", "OB", "AT", "FD", "DS", "UN", "zz"]), "Value": VALUES}
    )
    | VALUES,
    max_size=4,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(ELEMENTS)
def test_any_json_is_encoded_or_refused(data_set):
    with contextlib.suppress(InvalidDataSet):
        b"".join(encode(data_set, lambda _: [Bulk(3, lambda: iter([b"abc"]))], is_encapsulated=False))
