"""Orthanc's DICOMweb plugin as a client, on another computer: it stores, searches and retrieves with a token."""

from __future__ import annotations

import pytest

from tests.processes import peer_missing
from tests.samples import ct_series, data_set_bytes, dx, encode, uid, with_pixels
from tests.system.peers import PLUGIN
from tests.system.web import web_address, web_node

TOKEN = "a-token-of-the-tests-0123456789abcdef"
SAMPLES = [encode(with_pixels(dx(), 1200, 1000)), *(encode(ds) for ds in ct_series(3))]


@pytest.fixture
def node(other_machine, make_node, tmp_path):
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    token_file.chmod(0o600)
    node = web_node(make_node, {"host": other_machine.our_address, "token_file": str(token_file)})
    node.start()
    return node


@pytest.fixture
def filled(node):
    assert [answer.status for answer in node.send(SAMPLES)] == [0] * len(SAMPLES)


@pytest.fixture
def there(node, other_machine, start_orthanc):
    """Yield an Orthanc on the other computer that knows the node; the test runs there as well."""
    if not PLUGIN.exists():
        peer_missing("orthanc-dicomweb")
    server = {"Url": web_address(node), "HttpHeaders": {"Authorization": f"Bearer {TOKEN}"}}
    with other_machine.there():
        yield start_orthanc(Plugins=[str(PLUGIN)], DicomWeb={"Enable": True, "Servers": {"backup": server}})


def ask(orthanc, service: str, **body: object):
    return orthanc.post(f"/dicom-web/servers/backup/{service}", body)


def test_it_stores_and_every_byte_comes(node, there, tmp_path):
    identifiers = there.upload(*(sample.write(tmp_path / f"{n}.dcm") for n, sample in enumerate(SAMPLES)))
    assert ask(there, "stow", Resources=identifiers, Synchronous=True)["InstancesCount"] == "4"
    restored = [data_set_bytes(path) for path in node.restored(tmp_path / "restored")]
    assert sorted(restored) == sorted(sample.data_set for sample in SAMPLES)


def test_it_searches(filled, there):
    (study,) = ask(there, "qido", Uri="/studies", Arguments={"PatientID": "PID1", "00080061": "DX"})  # in XML
    assert study["0020000D"]["Value"] == uid("1")
    (study,) = ask(there, "get", Uri="/studies", Arguments={"PatientName": "Family*"})  # in JSON
    assert study["00201208"]["Value"] == [len(SAMPLES)]


def test_it_retrieves_and_every_byte_comes(filled, there):
    assert ask(there, "retrieve", Resources=[{"Study": uid("1")}])["ReceivedInstancesCount"] == "4"
    assert there.data_sets() == sorted(sample.data_set for sample in SAMPLES)
