"""WADO-RS: metadata and bulkdata (PS3.18 10.4.1.1.4, 10.4.1.1.5)."""

from __future__ import annotations

from urllib.parse import urlsplit
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

from tests.samples import ct_series, dx, encapsulated_pdf, encode, one_of_each, pydicom_samples, unparsable
from tests.web.multipart import parts_of
from tests.web.test_wado_instances import compressed, get, path_of, put_all

OCTETS = "application/octet-stream"


def test_the_metadata_of_a_study_has_every_instance_without_pixels(stored, web):
    samples = put_all(stored, one_of_each())
    answer = web.get(f"/studies/{samples[0].dataset().StudyInstanceUID}/metadata")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    found = {each["00080018"]["Value"][0]: each for each in answer.json()}
    assert found.keys() == {sample.sop_instance_uid for sample in samples}
    assert all("InlineBinary" not in each.get("7FE00010", {}) for each in found.values())


@pytest.mark.parametrize(
    "level", ["/studies/{study}/series/{series}", "/studies/{study}/series/{series}/instances/{instance}"]
)
def test_a_series_and_an_instance_have_metadata_too(stored, web, level):
    sample = put_all(stored, [dx(), *ct_series(3)])[-1].dataset()
    path = level.format(study=sample.StudyInstanceUID, series=sample.SeriesInstanceUID, instance=sample.SOPInstanceUID)
    found = web.get(f"{path}/metadata").json()
    assert [each["0020000E"]["Value"][0] for each in found] == [sample.SeriesInstanceUID] * (
        1 if "inst" in level else 3
    )
    assert found[-1]["00080018"]["Value"] == [sample.SOPInstanceUID]


def test_metadata_is_utf_8_and_says_so(stored, web):
    ds = dx(PatientName="Größe^Jörg")
    ds.SpecificCharacterSet = "ISO_IR 100"
    stored.put(encode(ds))
    (found,) = web.get(f"{path_of(ds)}/metadata").json()
    assert found["00080005"]["Value"] == ["ISO_IR 192"]
    assert found["00100010"]["Value"] == [{"Alphabetic": "Größe^Jörg"}]


def test_metadata_comes_as_multipart_xml(stored, web):
    samples = put_all(stored, ct_series(3))
    answer = get(
        web,
        f"/studies/{samples[0].dataset().StudyInstanceUID}/metadata",
        'multipart/related; type="application/dicom+xml"',
    )
    parts = parts_of(answer)
    assert len(parts) == 3
    for part in parts:
        assert part.content_type == "application/dicom+xml"
        root = ET.fromstring(part.content)
        assert root.tag.endswith("NativeDicomModel")


def test_the_metadata_of_what_is_no_data_set_has_its_identity(stored, web):
    ds = dx()
    sample = unparsable()
    location = stored.put(sample).location
    held = next(one for one in stored.index.versions() if one.location == location)
    assert held.sop_instance_uid == sample.sop_instance_uid
    assert not held.study_instance_uid, "no URI names it"
    cut = encode(ds)
    stored.put(
        type(cut)(cut.name, cut.sop_class_uid, cut.sop_instance_uid, cut.transfer_syntax_uid, cut.data_set[:-100])
    )
    (found,) = web.get(f"{path_of(ds)}/metadata").json()
    assert found["00100020"]["Value"] == ["PID1"]


def test_unchanged_metadata_is_not_sent_again(stored, web):
    samples = put_all(stored, ct_series(2))
    path = f"/studies/{samples[0].dataset().StudyInstanceUID}/metadata"
    tag = web.get(path).headers["etag"]
    assert web.get(path, headers={"If-None-Match": tag}).status_code == 304
    put_all(stored, ct_series(3))
    assert web.get(path, headers={"If-None-Match": tag}).status_code == 200


def test_metadata_of_a_damaged_image_are_an_error(stored, web):
    ds = dx()
    stored.flip(stored.put(encode(ds)).location)
    answer = web.get(f"{path_of(ds)}/metadata")
    assert answer.status_code == 500
    assert ds.SOPInstanceUID in answer.json()["detail"]


@pytest.mark.parametrize("form", ["json", "xml"])
def test_beside_others_a_damaged_image_has_what_the_index_knows(stored, web, form):
    series = ct_series(3)
    locations = [stored.put(encode(ds)).location for ds in series]
    stored.flip(locations[1])
    path = f"/studies/{series[0].StudyInstanceUID}/series/{series[0].SeriesInstanceUID}/metadata"
    if form == "json":
        found = get(web, path, "application/dicom+json").json()
        assert ["00280010" in each for each in found] == [True, False, True]
        damaged = Dataset.from_json(found[1])
        assert "Rows" not in damaged
        assert "PixelData" not in damaged
        assert "Modality" not in damaged
        for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID"):
            assert damaged[keyword].value == series[1][keyword].value
        assert (damaged.PatientName, damaged.SeriesNumber) == (series[1].PatientName, series[1].SeriesNumber)
    else:
        parts = parts_of(get(web, path, 'multipart/related; type="application/dicom+xml"'))
        assert [b'tag="00280010"' in part.content for part in parts] == [True, False, True]
        assert series[1].SOPInstanceUID.encode() in parts[1].content


def test_an_answer_without_a_damaged_image_is_not_taken_for_a_whole_one(stored, web):
    first, second = ct_series(2)
    stored.put(encode(first))
    location = stored.put(encode(second)).location
    stored.flip(location)
    path = f"/studies/{first.StudyInstanceUID}/metadata"
    tag = web.get(path).headers["etag"]
    stored.path(location).unlink()
    stored.put(encode(second), 3)
    repaired = web.get(path, headers={"If-None-Match": tag})
    assert repaired.status_code == 200
    assert [each["00280010"]["Value"] for each in repaired.json()] == [[32], [32]]


@pytest.mark.parametrize("accept", ["text/html", 'multipart/related; type="application/dicom"'])
def test_other_forms_of_metadata_are_not_acceptable(stored, web, accept):
    ds = dx()
    stored.put(encode(ds))
    assert get(web, f"{path_of(ds)}/metadata", accept).status_code == 406


# ---------------------------------------------------------------------------------------------------- bulkdata


def bulk_uris(element_of: dict) -> list[str]:
    found = []
    for element in element_of.values():
        found += [element["BulkDataURI"]] if "BulkDataURI" in element else []
        if element["vr"] == "SQ":
            for item in element.get("Value", []):
                found += bulk_uris(item)
    return found


def with_long_values():
    ds, item = dx(), Dataset()
    item.LUTData = bytes(range(256)) * 8
    item["LUTData"].VR = "OW"
    item.LUTDescriptor = [1024, 0, 16]
    ds.VOILUTSequence = Sequence([Dataset(), item])
    ds.ICCProfile = bytes(range(200)) * 9
    return ds


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian],
)
def test_each_uri_of_the_metadata_has_its_value(stored, web, syntax):
    ds = with_long_values()
    stored.put(encode(ds, syntax))
    (found,) = web.get(f"{path_of(ds)}/metadata").json()
    uris = bulk_uris(found)
    values = {}
    for uri in uris:
        answer = get(web, uri, OCTETS)
        assert answer.status_code == 200, answer.text
        values[uri.rpartition("bulkdata/")[2]] = answer.content
        (part,) = parts_of(get(web, uri, f'multipart/related; type="{OCTETS}"'))
        assert part.content == answer.content
    assert values.keys() == {"7FE00010", "00282000", "00283010/2/00283006"}
    if syntax != ExplicitVRBigEndian:  # its words are swapped
        assert values["7FE00010"] == ds.PixelData
        assert values["00283010/2/00283006"] == ds.VOILUTSequence[1].LUTData
    assert values["00282000"] == ds.ICCProfile


def test_every_uri_of_every_sample_has_a_value(stored, web):
    for sample in pydicom_samples()[::3]:
        stored.put(sample)
    count = 0
    for held in list(stored.index.versions()):
        uids = held.study_instance_uid, held.series_instance_uid, held.sop_instance_uid
        if not all(uids):
            continue
        answer = web.get("/studies/{}/series/{}/instances/{}/metadata".format(*uids))
        assert answer.status_code == 200
        for uri in bulk_uris(answer.json()[0]):
            accept = f'{OCTETS}; transfer-syntax=*, multipart/related; type="{OCTETS}"; transfer-syntax=*'
            value = get(web, uri, accept)
            if value.status_code != 200:
                assert "7FE00010" in uri, value.text
                assert value.status_code == 404, value.text
            else:
                count += len(value.content) > 0
    assert count > 25


def test_compressed_pixel_data_comes_as_frames(stored, web):
    sample = compressed()
    stored.put(sample)
    (found,) = web.get(f"{path_of(sample.dataset())}/metadata").json()
    (part,) = parts_of(
        get(web, found["7FE00010"]["BulkDataURI"], f'multipart/related; type="{OCTETS}"; transfer-syntax=*')
    )
    assert part.content_type == f"{OCTETS}; transfer-syntax={sample.transfer_syntax_uid}"
    assert part.content[:2] == b"\xff\xd8"


def test_a_range_of_a_long_value(stored, web):
    ds = encapsulated_pdf()
    ds.EncapsulatedDocument = bytes(range(256)) * 1000
    stored.put(encode(ds))
    (found,) = web.get(f"{path_of(ds)}/metadata").json()
    uri = found["00420011"]["BulkDataURI"]
    answer = get(web, uri, OCTETS, Range="bytes=100-299")
    assert (answer.status_code, answer.content) == (206, ds.EncapsulatedDocument[100:300])
    assert get(web, uri, OCTETS, **{"If-None-Match": answer.headers["etag"]}).status_code == 304


@pytest.mark.parametrize(
    ("path", "status"),
    [("00420011", 404), ("nonsense", 400), ("00283010/2", 400), ("00283010/x/00283006", 400), ("7fe00010", 200)],
)
def test_what_is_no_path_and_what_is_not_there(stored, web, path, status):
    ds = dx()
    stored.put(encode(ds))
    assert get(web, f"{path_of(ds)}/bulkdata/{path}", OCTETS).status_code == status


def test_uris_are_below_the_address_that_the_caller_used(stored, web):
    ds = dx()
    stored.put(encode(ds))
    (found,) = web.get(f"{path_of(ds)}/metadata").json()
    uri = urlsplit(found["7FE00010"]["BulkDataURI"])
    assert (uri.scheme, uri.netloc) == ("http", "127.0.0.1:8042")
    assert uri.path == f"/dicom-web{path_of(ds)}/bulkdata/7FE00010"
