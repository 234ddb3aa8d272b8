"""Orthanc's DICOMweb plugin as a client: it stores by STOW-RS, finds by QIDO-RS and retrieves by WADO-RS."""

from __future__ import annotations

import json

from tests.processes import peer_missing
from tests.samples import ct_series, dx, encode, uid
from tests.system.contents import visible
from tests.system.peers import PLUGIN
from tests.system.web import web_address, web_node


def test_orthanc_stores_finds_and_retrieves(make_node, start_orthanc, tmp_path):
    if not PLUGIN.exists():
        peer_missing("orthanc-dicomweb")
    node = web_node(make_node)
    node.start()
    servers = {"node": {"Url": f"{web_address(node)}/"}}
    orthanc = start_orthanc(Plugins=[str(PLUGIN)], DicomWeb={"Enable": True, "Servers": servers})
    samples = [encode(ds) for ds in (dx(), *ct_series(5))]
    identifiers = orthanc.upload(*(sample.write(tmp_path / f"{at}.dcm") for at, sample in enumerate(samples)))

    orthanc.post("/dicom-web/servers/node/stow", {"Resources": identifiers, "Synchronous": True})

    assert len(visible(node)) == len(samples)

    query = {"Uri": "/studies", "Arguments": {"PatientID": "PID1"}}
    (study,) = orthanc.post("/dicom-web/servers/node/qido", query)
    assert uid("1") in json.dumps(study)

    for identifier in identifiers:
        orthanc._request("DELETE", f"/instances/{identifier}")
    wanted = {"Resources": [{"Study": uid("1")}], "Synchronous": True}
    orthanc.post("/dicom-web/servers/node/retrieve", wanted)
    assert orthanc.data_sets() == sorted(sample.data_set for sample in samples)
