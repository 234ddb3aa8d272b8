"""Another PACS as a further copy: our own node, Orthanc, dcmqrscp and storescp, and what they prove."""

from __future__ import annotations

from itertools import cycle

import pydicom
import pytest

from backup_scp.archive.filesystem import FilesystemArchive
from backup_scp.errors import DestinationUnavailable, FileMissing, NothingAccepted
from backup_scp.node.copy_places import open_place
from backup_scp.node.remote_aes import receives_reports
from backup_scp.ports import CopyItem
from tests.copies.contract import CopyPlaceContract, fetched, small_archive
from tests.dicom.transcode.compression import coded_by_dcmtk
from tests.processes import free_port
from tests.samples import ct_series, data_set_of, dx, encode, one_of_each, replace
from tests.stored import stored_in
from tests.system.contents import visible
from tests.system.here import Here, proofs
from tests.system.node import Remote
from tests.system.peers import DcmQRSCP
from tests.system.test_decoded_pixels import VARIANTS, identified, without_bits

EXPLICIT, IMPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"
CT = [encode(ds) for ds in ct_series(3)]


@pytest.fixture
def here(tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    with stored_in(folder) as stored:
        yield Here(folder, stored)


@pytest.fixture
def start_dcmqrscp(tmp_path, processes):
    def start(**arguments) -> DcmQRSCP:
        peer = DcmQRSCP(tmp_path / "dcmqrscp", **arguments)
        processes.add(peer.process)
        peer.start()
        return peer

    return start


def url(peer) -> str:
    return f"dicom://{peer.ae_title}@{peer.host}:{peer.port}"


def data_sets(node) -> set[bytes]:
    """Return the Data Sets that a node has stored."""
    archive = FilesystemArchive(node.home / "archive")
    return {data_set_of(archive.read(location).path.read_bytes()) for location in archive.locations()}


def damage(path) -> None:
    path.chmod(0o600)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


class TestContract(CopyPlaceContract):
    """Our own node as the PACS.  One version of an image; File Meta does not come back."""

    @pytest.fixture
    def made(self, tmp_path):
        samples = (encode(ds, syntax) for ds, syntax in zip(one_of_each(), cycle((EXPLICIT, IMPLICIT)), strict=False))
        return small_archive(tmp_path / "made", [*samples, encode(dx(study="9"), DEFLATED)])

    def archived(self, made, item):
        return data_set_of(made.bytes_of(item))

    def fetched(self, place, item):
        return data_set_of(fetched(place, item))

    @pytest.fixture
    def open_place(self, here, start_node):
        self.there = start_node(ae_title="THERE", remotes=[here.remote])
        here.configure(url(self.there))
        with receives_reports(here.settings, here.stored.index):
            yield lambda: open_place(here.settings, here.settings.copy[0], here.stored.index)

    def file_of(self, stored_name):
        (file,) = (path for path in visible(self.there) if path.name.startswith(stored_name))
        return file

    def flip(self, stored_name):
        damage(self.file_of(stored_name))

    def remove(self, stored_name):
        file = self.file_of(stored_name)
        file.rename(file.with_suffix(".away"))


def test_our_own_node_elsewhere_commits_what_it_has_read_back(here, start_node):
    there = start_node(ae_title="THERE", remotes=[here.remote])
    here.configure(url(there))
    held = here.put(*CT)
    copied = here.copy(held)
    assert proofs(copied) == ["committed"] * 3
    assert [result.stored.sha256 for result in copied.values()] == list(copied)
    assert data_sets(there) == {sample.data_set for sample in CT}
    assert proofs(here.compare(held, copied)) == ["committed"] * 3
    assert here.fetch(held[0], copied) == CT[0].data_set


def test_a_node_that_cannot_be_reached_from_there_gets_its_reports(here, start_node):
    """It is behind a router: the report comes back on the association that it has opened."""
    there = start_node(ae_title="THERE", remotes=[Remote("here", "HERE", free_port())])
    here.configure(url(there))
    held = here.put(*CT)
    for _ in range(3):
        assert proofs(here.copy(held)) == ["committed"] * 3


def test_a_damaged_image_there_is_found_and_replaced(here, start_node):
    there = start_node(ae_title="THERE", remotes=[here.remote])
    here.configure(url(there))
    held = here.put(*CT)
    copied = here.copy(held)
    (file,) = (there.home / "archive").rglob(f"*{held[1].sop_instance_uid}*.dcm")
    damage(file)
    compared = here.compare(held, copied)
    assert sorted(proofs(compared)) == [
        "THERE does not commit it: Failure Reason 0x0110",
        "committed",
        "committed",
    ]
    assert not compared[held[1].sha256].is_left_out
    assert proofs(here.copy([held[1]])) == ["committed"]


def test_orthanc_commits(here, start_orthanc):
    there = start_orthanc(modalities=[here.remote])
    here.configure(url(there))
    held = here.put(*CT)
    copied = here.copy(held)
    assert proofs(copied) == ["committed"] * 3
    assert proofs(here.compare(held, copied)) == ["committed"] * 3
    assert here.fetch(held[0], copied) == CT[0].data_set
    for identifier in there.instances():
        there._request("DELETE", f"/instances/{identifier}")
    assert proofs(here.compare(held, copied)) == ["ORTHANC does not commit it: Failure Reason 0x0112"] * 3
    with pytest.raises(FileMissing):
        here.fetch(held[0], copied)


def test_a_report_that_never_comes_proves_nothing_and_damages_nothing(here, start_orthanc):
    elsewhere = Remote("here", "HERE", free_port())  # where nobody listens
    there = start_orthanc(modalities=[elsewhere])
    here.configure(url(there), answer_s=0.5)
    held = here.put(CT[0])
    copied = here.copy(held)
    (sentence,) = proofs(copied)
    assert sentence.startswith("ORTHANC sent no commitment report within 0.5 s: check that it knows")
    there.add_modality(here.remote)
    copied = here.copy(held)
    assert proofs(copied) == ["committed"]
    there.add_modality(elsewhere)
    with pytest.raises(DestinationUnavailable, match="sent no commitment report"):
        here.compare(held, copied)


def test_dcmqrscp_has_no_commitment_and_is_read_back(here, start_dcmqrscp):
    there = start_dcmqrscp()
    here.configure(url(there))
    held = here.put(*CT)
    copied = here.copy(held)
    assert proofs(copied) == ["read back"] * 3
    assert proofs(here.compare(held, copied)) == ["read back"] * 3
    assert here.fetch(held[0], copied) == CT[0].data_set
    damage(next(path for path in there.storage.iterdir() if held[0].sop_instance_uid.encode() in path.read_bytes()
                and path.name != "index.dat"))  # fmt: skip
    assert sorted(proofs(here.compare(held, copied))) == [
        "DCMQRSCP gives back another content",
        "read back",
        "read back",
    ]


def test_storescp_proves_nothing(here, storescp):
    here.configure(url(storescp))
    held = here.put(CT[0])
    copied = here.copy(held)
    (sentence,) = proofs(copied)
    assert "answers neither Storage Commitment nor C-FIND: nothing proves its copy" in sentence
    assert len(storescp.files()) == 1
    with pytest.raises(NothingAccepted, match="export the image there"):
        here.fetch(held[0], copied)


def test_a_pacs_that_is_off_is_away(here, make_node):
    here.configure(url(make_node(ae_title="THERE")))
    held = here.put(CT[0])
    with pytest.raises(DestinationUnavailable, match="cannot be reached"):
        here.copy(held)


def test_the_version_that_answers_is_sent_and_the_other_one_is_left_out(here, start_node):
    there = start_node(ae_title="THERE", remotes=[here.remote])
    here.configure(url(there))
    first, second = encode(dx(Rows=32)), encode(replace(dx(Rows=32), PatientComments="corrected"))
    held = here.put(first, second)
    copied = here.copy(held)
    assert copied[second.sha256].stored.object_version == "committed"
    assert copied[first.sha256].is_left_out
    assert copied[first.sha256].stored is None
    assert here.fetch(held[1], copied) == second.data_set


def test_orthanc_keeps_the_first_version_and_the_copy_of_the_second_is_not_believed(here, start_orthanc):
    there = start_orthanc(modalities=[here.remote])
    here.configure(url(there))
    first, second = encode(dx(Rows=32)), encode(replace(dx(Rows=32), PatientComments="corrected"))
    (held_first,) = here.put(first)
    copied = here.copy([held_first])
    assert proofs(copied) == ["committed"]
    (held_second,) = here.put(second)
    assert proofs(here.copy([held_second])) == ["ORTHANC gives back another content"]
    assert proofs(here.compare([held_first], copied)) == ["read back"]
    (identifier,) = there.instances()
    there._request("DELETE", f"/instances/{identifier}")
    assert proofs(here.copy([held_second])) == ["read back"]
    (result,) = here.compare([held_first], copied).values()
    assert (result.stored, result.is_left_out) == (None, True)


@pytest.mark.parametrize("order", [("north", "south"), ("south", "north")])
def test_of_two_clinics_images_with_one_uid_the_second_stays_due(here, start_dcmqrscp, order):
    """A PACS of another maker keeps one of them: the other one is never said to be there."""
    there = start_dcmqrscp()
    here.configure(url(there))
    contents = [encode(dx(PatientName=f"OF^{site.upper()}")) for site in order]
    for number, (site, sample) in enumerate(zip(order, contents, strict=True)):
        here.stored.put(sample, number, site=site)
    held = sorted(here.stored.index.versions(), key=lambda one: one.received_at, reverse=True)
    copied = here.copy(held)
    assert copied[contents[0].sha256].stored
    refused = copied[contents[1].sha256]
    assert (refused.stored, refused.is_left_out) == (None, False)
    assert "another clinic has an image of this SOP Instance UID" in refused.error
    assert here.fetch(held[1], copied) == contents[0].data_set


def test_the_same_bytes_of_two_clinics_are_there_for_both(here, start_dcmqrscp):
    there = start_dcmqrscp()
    here.configure(url(there))
    for number, site in enumerate(("north", "south")):
        here.stored.put(CT[0], number, site=site)
    items = [CopyItem(number, one) for number, one in enumerate(here.stored.index.versions(), 1)]
    with here.place() as place:
        results = list(place.put(items, lambda one: here.stored.archive.read(one.location)))
    assert [bool(result.stored) for result in results] == [True, True]


def test_a_damaged_original_is_not_sent(here, start_node):
    there = start_node(ae_title="THERE", remotes=[here.remote])
    here.configure(url(there))
    held = here.put(*CT)
    here.stored.flip(held[1].location)
    copied = here.copy(held)
    assert [result.is_lost for result in copied.values()].count(True) == 1
    assert copied[held[1].sha256].is_lost
    assert data_sets(there) == {CT[0].data_set, CT[2].data_set}


def test_the_words_that_arrive_are_those_stored_or_the_version_counts_as_failed(here, start_dcmqrscp, tmp_path):
    """It takes uncompressed pixels alone; an overlay in the upper bits is in the words that arrive."""
    there = start_dcmqrscp()
    here.configure(url(there))
    overlay = coded_by_dcmtk("JPEG Lossless SV1", VARIANTS["overlay in the upper bits"], tmp_path)
    padded = identified(coded_by_dcmtk("JPEG Lossless SV1", VARIANTS["words above Bits Stored"], tmp_path), "padded")
    extended = coded_by_dcmtk("JPEG Extended", VARIANTS["overlay in the upper bits"], tmp_path)
    missing = without_bits(extended, "without bits")
    held = here.put(overlay.sample, padded.sample, missing.sample)
    copied = here.copy(held)
    assert sum(bool(result.stored) for result in copied.values()) == 2
    assert "bits are missing" in copied[missing.sample.sha256].error
    stored = {
        ds.SOPInstanceUID: ds.PixelData
        for ds in map(pydicom.dcmread, (path for path in there.storage.iterdir() if path.name != "index.dat"))
    }
    assert stored == {each.sample.sop_instance_uid: each.words for each in (overlay, padded)}
    for each in (overlay, padded):  # the record is of what is there, in another encoding
        assert copied[each.sample.sha256].stored.sha256 != each.sample.sha256
    good = {sha256: result for sha256, result in copied.items() if result.stored}
    assert proofs(here.compare(held[:2], good)) == ["read back"] * 2
    with pytest.raises(NothingAccepted):
        here.fetch(held[0], copied)
