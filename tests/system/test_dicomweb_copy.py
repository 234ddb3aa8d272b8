"""A PACS with DICOMweb as a further copy: Orthanc's plugin."""

from __future__ import annotations

import pytest

from backup_scp.errors import FileMissing
from tests.processes import peer_missing
from tests.samples import ct_series, dx, encode, replace, with_pixels
from tests.stored import stored_in
from tests.system.here import Here, proofs
from tests.system.peers import PLUGIN

CT = [encode(ds) for ds in ct_series(5)]


@pytest.fixture
def here(tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    with stored_in(folder) as stored:
        yield Here(folder, stored)


@pytest.fixture
def start(start_orthanc):
    def run(**settings):
        if not PLUGIN.exists():
            peer_missing("orthanc-dicomweb")
        return start_orthanc(Plugins=[str(PLUGIN)], **settings)

    return run


def url(orthanc) -> str:
    return f"dicomweb+http://{orthanc.host}:{orthanc.http_port}/dicom-web"


def test_orthanc_keeps_every_byte(here, start):
    there = start()
    here.configure(url(there))
    big = encode(with_pixels(dx(), 1200, 1000))
    held = here.put(*CT, big)
    copied = here.copy(held)
    assert proofs(copied) == ["read back"] * 6
    assert {sha256: result.stored.sha256 for sha256, result in copied.items()} == {
        one.sha256: one.sha256 for one in held
    }
    assert there.data_sets() == sorted(sample.data_set for sample in (*CT, big))
    assert proofs(here.compare(held, copied)) == ["read back"] * 6
    assert here.fetch(held[0], copied) == CT[0].data_set
    assert here.fetch(held[5], copied) == big.data_set
    assert proofs(here.copy(held)) == ["read back"] * 6  # what is there already is no fault


def test_what_is_deleted_there_is_missed(here, start):
    there = start()
    here.configure(url(there))
    held = here.put(*CT[:2])
    copied = here.copy(held)
    for identifier in there.instances():
        there._request("DELETE", f"/instances/{identifier}")
    host = f"{there.host}:{there.http_port}"
    assert proofs(here.compare(held, copied)) == [f"{host} has no image {one.sop_instance_uid}" for one in held]
    with pytest.raises(FileMissing):
        here.fetch(held[0], copied)


def test_another_content_under_the_same_name_is_not_believed(here, start):
    there = start()
    here.configure(url(there))
    first, second = encode(dx(Rows=32)), encode(replace(dx(Rows=32), PatientComments="corrected"))
    (held_first,) = here.put(first)
    copied = here.copy([held_first])
    (held_second,) = here.put(second)
    assert proofs(here.copy([held_second])) == ["Copy away gives back another content"]
    assert here.copy([held_first])[first.sha256].is_left_out
    assert proofs(here.compare([held_first], copied)) == ["read back"]  # it is there all the same


def test_a_damaged_original_is_not_sent_and_the_others_are(here, start):
    there = start()
    here.configure(url(there))
    big = encode(with_pixels(dx(), 1200, 1000))
    held = here.put(*CT, big)
    for one in (held[1], held[5]):
        here.stored.flip(one.location)
    copied = here.copy(held)
    lost = {sha256 for sha256, result in copied.items() if result.is_lost}
    assert lost == {held[1].sha256, held[5].sha256}
    assert there.data_sets() == sorted(CT[number].data_set for number in (0, 2, 3, 4))
