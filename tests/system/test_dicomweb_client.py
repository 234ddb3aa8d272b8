"""dicomweb-client, which others have written, searches a running node."""

from __future__ import annotations

import pytest
from dicomweb_client.api import DICOMwebClient
from requests import HTTPError

from tests.samples import dx, encode
from tests.system.web import web_address, web_node


@pytest.fixture
def client(make_node) -> DICOMwebClient:
    node = web_node(make_node)
    node.start()
    assert {answer.status for answer in node.send([encode(dx(number=number)) for number in range(3)])} == {0}
    return DICOMwebClient(web_address(node))


def test_it_searches(client):
    ds = dx()
    (study,) = client.search_for_studies(search_filters={"PatientID": ds.PatientID}, fields=["StudyDescription"])
    uid = study["0020000D"]["Value"][0]
    assert uid == ds.StudyInstanceUID
    assert client.search_for_studies(search_filters={"PatientName": "nobody*"}) == []
    assert client.search_for_studies(fuzzymatching=True, search_filters={"PatientName": "Fam"}) == [
        client.search_for_studies()[0]
    ]
    (series,) = client.search_for_series(uid)
    assert series["00201209"]["Value"] == [3]
    assert len(client.search_for_instances(uid)) == 3
    assert len(client.search_for_instances(limit=2)) == 2
    assert len(client.search_for_instances(get_remaining=True, limit=2)) == 3


def test_it_retrieves(client):
    ds, uids = dx(number=2), (dx().StudyInstanceUID, dx().SeriesInstanceUID, dx(number=2).SOPInstanceUID)
    assert len(client.retrieve_study(uids[0])) == len(client.retrieve_series(*uids[:2])) == 3
    assert client.retrieve_instance(*uids) == encode(ds).dataset()
    assert len(client.retrieve_study_metadata(uids[0])) == 3
    metadata = client.retrieve_instance_metadata(*uids)
    assert metadata["00100020"]["Value"] == [ds.PatientID]
    (frame,) = client.retrieve_instance_frames(*uids, frame_numbers=[1], media_types=("application/octet-stream",))
    (value,) = client.retrieve_bulkdata(metadata["7FE00010"]["BulkDataURI"])
    assert frame == value == ds.PixelData
    assert client.retrieve_instance_rendered(*uids, media_types=("image/png",))[:4] == b"\x89PNG"
    picture = client.retrieve_instance_frames_rendered(*uids, frame_numbers=[1], media_types=("image/jpeg",))
    assert picture[:2] == b"\xff\xd8"
    with pytest.raises(HTTPError, match="404"):
        client.retrieve_instance(*uids[:2], "1.2.3")
