"""Storage Commitment over the web (PS3.18 section 13): the node's own worker proves it."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from backup_scp.machine import clock
from backup_scp.services.commitment import StorageCommitment
from tests.samples import dx, encode, uid
from tests.web.stow.test_store_instances import xml_of

DICOM_JSON = {"content-type": "application/dicom+json"}


def reference(sample) -> dict:
    return {
        "00081150": {"vr": "UI", "Value": [sample.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [sample.sop_instance_uid]},
    }


def body(*samples) -> bytes:
    return json.dumps({"00081199": {"vr": "SQ", "Value": [reference(sample) for sample in samples]}}).encode()


def request(client, content, uid="1.2.3", **headers):
    return client.post(f"/commitment-requests/{uid}", content=content, headers=DICOM_JSON | headers)


@pytest.fixture
def node(stored) -> StorageCommitment:
    """What works on requests in the DICOM process."""
    return StorageCommitment(stored.archive, stored.index)


def test_the_result_follows(web, stored, node):
    sample = encode(dx())
    stored.put(sample)
    answer = request(web, body(sample))
    assert (answer.status_code, answer.content) == (202, b"")
    assert int(answer.headers["retry-after"]) > 0
    assert web.get("/commitment-requests/1.2.3").status_code == 202
    assert node.judge_next()
    answer = web.get("/commitment-requests/1.2.3")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom+json")
    assert answer.json() == {"00081199": {"vr": "SQ", "Value": [reference(sample)]}}
    assert web.get("/commitment-requests/1.2.3").status_code == 200, "as often as it is asked for"


def test_an_image_that_is_damaged_is_not_committed(web, stored, node):
    samples = [encode(dx(number=number)) for number in (1, 2)]
    locations = [stored.put(sample).location for sample in samples]
    stored.flip(locations[1])
    request(web, body(*samples))
    assert node.judge_next()
    answer = web.get("/commitment-requests/1.2.3")
    assert answer.json() == {
        "00081198": {
            "vr": "SQ", "Value": [reference(samples[1]) | {"00081197": {"vr": "US", "Value": [0x0110]}}],
        },
        "00081199": {"vr": "SQ", "Value": [reference(samples[0])]},
    }  # fmt: skip
    found = xml_of(web.get("/commitment-requests/1.2.3", headers={"accept": "application/dicom+xml"}))
    assert found["FailureReason"] == ["272"]


def by_study(sample, study: str, *failure: int) -> dict:
    """Return the item of a study with one image."""
    instance = {"00081155": {"vr": "UI", "Value": [sample.sop_instance_uid]}}
    if failure:
        instance["00081197"] = {"vr": "US", "Value": list(failure)}
    group = {"00081150": reference(sample)["00081150"], "0008114A": {"vr": "SQ", "Value": [instance]}}
    series = {"0020000E": {"vr": "UI", "Value": [uid(study, "1")]}, "00081112": {"vr": "SQ", "Value": [group]}}
    return {"0020000D": {"vr": "UI", "Value": [uid(study)]}, "00081115": {"vr": "SQ", "Value": [series]}}


def test_images_listed_by_study_are_answered_by_study(web, stored, node):
    here, alone = encode(dx()), encode(dx(study="3"))
    stored.put(here)
    stored.put(alone)
    elsewhere = by_study(encode(dx()), "2")
    content = {
        "00081110": {"vr": "SQ", "Value": [by_study(here, "1"), elsewhere]},
        "00081199": {"vr": "SQ", "Value": [reference(alone)]},
    }
    assert request(web, json.dumps(content).encode()).status_code == 202
    assert node.judge_next()
    assert web.get("/commitment-requests/1.2.3").status_code == 202, "an image that may still come"
    late = StorageCommitment(stored.archive, stored.index, clock=lambda: clock.now() + timedelta(hours=1))
    assert late.judge_next()
    assert web.get("/commitment-requests/1.2.3").json() == {
        "00081110": {"vr": "SQ", "Value": [by_study(here, "1")]},
        "0008119B": {"vr": "SQ", "Value": [by_study(here, "2", 0x0112)]},
        "00081199": {"vr": "SQ", "Value": [reference(alone)]},
    }


def test_a_study_without_its_images_is_not_committed(web):
    study = {"0020000D": {"vr": "UI", "Value": [uid("1")]}}
    answer = request(web, json.dumps({"00081110": {"vr": "SQ", "Value": [study]}}).encode())
    assert (answer.status_code, "list of its images" in answer.json()["detail"]) == (400, True)


def test_no_report_is_sent(web, stored, node):
    sample = encode(dx())
    stored.put(sample)
    request(web, body(sample))
    assert node.judge_next()
    assert not node.report_next(lambda *_: pytest.fail("a web client asks itself"))
    assert stored.index.commitments.owed() == []


def test_a_transaction_uid_is_used_once(web):
    assert request(web, body(encode(dx()))).status_code == 202
    answer = request(web, body(encode(dx())))
    assert (answer.status_code, "used before" in answer.json()["detail"]) == (409, True)


def test_an_unknown_one(web):
    assert web.get("/commitment-requests/1.2.3").status_code == 404


@pytest.mark.parametrize("uid", ["x", "1..2", "1." + "2" * 64, "%2e%2e"])
def test_no_uid(web, uid):
    assert web.get(f"/commitment-requests/{uid}").status_code in {400, 404}
    assert request(web, body(encode(dx())), uid).status_code in {400, 404, 405}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"{}", b"null", b"3", b'"00081199"', b"[" * 50_000, b"\xff", b'{"00081199":{}}',
        b'{"00081199":{"vr":"SQ","Value":[]}}', b'{"00081199":{"vr":"SQ","Value":[{}]}}',
        b'{"00081199":{"vr":"SQ","Value":[{"00081150":{"Value":["1.2"]},"00081155":{"Value":["../x"]}}]}}',
        b'{"00081110":{"vr":"SQ","Value":[]}}',
    ],
)  # fmt: skip
def test_malformed(web, content):
    answer = request(web, content)
    assert (answer.status_code, bool(answer.json()["detail"])) == (400, True)


def test_media_types(web):
    content = body(encode(dx()))
    assert request(web, content, **{"content-type": "application/dicom"}).status_code == 415
    assert request(web, content, **{"content-encoding": "gzip"}).status_code == 415
    assert request(web, content, accept="image/png").status_code == 406
