"""dicomweb-client for JavaScript, which viewers are built on, works with a running node from a page."""

from __future__ import annotations

import pytest

from tests.ohif import CLIENT
from tests.processes import peer_missing
from tests.samples import data_set_of, dx, encode
from tests.system.viewer import ohif_server, viewer_of
from tests.system.web import web_address, web_node

# What a page does, by turns; everything binary comes back as a list of numbers.
_SCRIPT = """async ([url, file, uids]) => {
    const client = new DICOMwebClient.api.DICOMwebClient({url}), bytes = data => [...new Uint8Array(data)]
    const [studyInstanceUID, seriesInstanceUID, sopInstanceUID] = uids
    const instance = {studyInstanceUID, seriesInstanceUID, sopInstanceUID}, found = {}
    const stored = JSON.parse(await client.storeInstances({datasets: [new Uint8Array(file).buffer]}))
    found.stored = stored["00081199"].Value.length
    found.studies = await client.searchForStudies({queryParams: {PatientName: "fam*", limit: 5}})
    found.none = await client.searchForStudies({queryParams: {PatientID: "nobody"}})
    found.series = await client.searchForSeries({studyInstanceUID})
    found.instances = await client.searchForInstances({studyInstanceUID, seriesInstanceUID})
    found.metadata = await client.retrieveStudyMetadata({studyInstanceUID})
    found.file = bytes(await client.retrieveInstance(instance))
    found.files = (await client.retrieveStudy({studyInstanceUID})).map(bytes)
    found.frames = (await client.retrieveInstanceFrames({...instance, frameNumbers: [1]})).map(bytes)
    const {BulkDataURI} = found.metadata[0]["7FE00010"]
    found.bulk = (await client.retrieveBulkData({BulkDataURI})).map(bytes)
    const mediaTypes = [{mediaType: "image/png"}]
    found.pictures = [await client.retrieveInstanceRendered({...instance, mediaTypes})].flat().map(bytes)
    const other = {...instance, sopInstanceUID: "1.2.3"}
    try { await client.retrieveInstance(other) } catch (error) { found.error = error.status }
    return found
}"""


@pytest.mark.timeout(300)
def test_it_stores_searches_and_retrieves(make_node):
    if not CLIENT.is_dir():
        peer_missing("dicomweb-client for JavaScript", "viewer")
    with ohif_server() as server:
        node = web_node(make_node, {"cors": [server.origin]})
        node.start()
        ds = dx()
        sample, uids = encode(ds), [ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID]
        with viewer_of(server) as viewer:
            viewer.page.goto(f"{server.origin}/app-config.js")
            viewer.page.add_script_tag(path=CLIENT / "dicomweb-client.js")
            found = viewer.page.evaluate(_SCRIPT, [web_address(node), list(sample.file_bytes()), uids])
    assert found["stored"] == 1
    assert [each["0020000D"]["Value"] for each in found["studies"]] == [uids[:1]]
    assert found["none"] == []
    assert [each["0020000E"]["Value"] for each in found["series"]] == [uids[1:2]]
    assert [each["00080018"]["Value"] for each in found["instances"]] == [uids[2:]]
    assert found["metadata"][0]["00100020"]["Value"] == [ds.PatientID]
    assert data_set_of(bytes(found["file"])) == sample.data_set
    assert [data_set_of(bytes(each)) for each in found["files"]] == [sample.data_set]
    assert [bytes(each) for each in found["frames"]] == [bytes(each) for each in found["bulk"]] == [ds.PixelData]
    assert [bytes(each)[:4] for each in found["pictures"]] == [b"\x89PNG"]
    assert found["error"] == 404
