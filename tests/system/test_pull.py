"""backup-scp pull: from Orthanc, dcmqrscp and another node, by C-GET, C-MOVE and DICOMweb."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import peer_missing
from tests.samples import ct_series, data_set_bytes, dx, encode
from tests.system.contents import visible
from tests.system.peers import DcmQRSCP, storescu

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
STUDIES = [
    *(encode(ds) for ds in ct_series(4)),
    encode(dx(study="new", StudyDate="20260110", StudyTime="101500")),
    encode(dx(study="old", StudyDate="19991231")),
    encode(dx(study="undated", StudyDate="", StudyTime="")),
]


@pytest.fixture
def start_dcmqrscp(tmp_path, processes):
    def start(**arguments) -> DcmQRSCP:
        peer = DcmQRSCP(tmp_path / "dcmqrscp", **arguments)
        processes.add(peer.process)
        peer.start()
        return peer

    return start


@pytest.fixture
def files(tmp_path) -> list[Path]:
    folder = tmp_path / "files"
    folder.mkdir()
    for number, sample in enumerate(STUDIES):
        sample.write(folder / f"{number}.dcm")
    return sorted(folder.iterdir())


def at(peer) -> str:
    return f"{peer.ae_title}@{peer.host}:{peer.port}"


def archived(node) -> list[bytes]:
    return sorted(map(data_set_bytes, visible(node)))


def data_sets(samples) -> list[bytes]:
    return sorted(sample.data_set for sample in samples)


def assert_everything_comes_once(here, source: str, *options: str) -> None:
    first = here.json("pull", source, *options)
    assert (first["studies"], first["complete"], first["fetched"], first["held"]) == (4, 4, 7, 0)
    assert archived(here) == data_sets(STUDIES)
    again = here.json("pull", source, *options)
    assert (again["complete"], again["fetched"], again["held"]) == (4, 0, 7)
    assert archived(here) == data_sets(STUDIES)


def test_orthanc_gives_everything_once(make_node, start_orthanc, files):
    there = start_orthanc()
    there.upload(*files)
    assert_everything_comes_once(make_node(), at(there))


def test_dcmqrscp_gives_everything_once(make_node, start_dcmqrscp, files):
    there = start_dcmqrscp()
    storescu(there, *files)
    assert_everything_comes_once(make_node(), at(there))


def test_another_node_gives_everything_once(make_node, start_node, files):
    here = make_node()
    there = start_node(ae_title="THERE", remotes=[here.remote])
    there.send(STUDIES)
    assert_everything_comes_once(here, at(there))


def test_dicomweb_gives_everything_once(make_node, start_orthanc, files):
    if not PLUGIN.exists():
        peer_missing("orthanc-dicomweb")
    there = start_orthanc(Plugins=[str(PLUGIN)])
    there.upload(*files)
    assert_everything_comes_once(make_node(), f"dicomweb+http://{there.host}:{there.http_port}/dicom-web")


@pytest.mark.parametrize("is_running", [True, False])
def test_by_c_move_the_running_node_receives_or_the_command(make_node, start_orthanc, files, is_running):
    here = make_node()
    there = start_orthanc(modalities=[here.remote], DicomAlwaysAllowGet=False)
    there.upload(*files)
    if is_running:
        here.start()
    assert_everything_comes_once(here, at(there))
