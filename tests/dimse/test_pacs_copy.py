"""A PACS that refuses, changes, forgets or breaks off: none of that counts as a copy."""

from __future__ import annotations

import dataclasses
import gc
import io
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.association import Association

from backup_scp.dimse.association.association import LocalAE
from backup_scp.dimse.scu.pacs_copy import PACSCopy
from backup_scp.errors import DestinationUnavailable, FileMissing, NothingAccepted
from backup_scp.ports import CopyItem, RemoteAE
from tests.copies.contract import until_away
from tests.dimse.conftest import PATIENT
from tests.dimse.wire import VERIFICATION
from tests.processes import LOOPBACK, free_port, wait_until
from tests.samples import ct_series, encode
from tests.stored import stored_in
from tests.system.commitments import STORAGE_COMMITMENT

FIND, GET = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.3"
CT = [encode(ds) for ds in ct_series(3)]


@dataclass
class PACS:
    """A PACS of pynetdicom.  ``services`` are those that it offers besides storage.

    ``status`` answers the C-STORE of a SOP Instance UID, ``given`` makes something else of what C-GET returns,
    ``breaks_off`` names where it aborts.
    """

    services: tuple[str, ...] = (GET, FIND)
    status: dict[str, int] = field(default_factory=dict)
    given: Any = lambda ds: ds
    breaks_off: str = ""
    is_silent: bool = False
    find_status: int = 0
    kept: dict[str, Dataset] = field(default_factory=dict)
    stores: list[str] = field(default_factory=list)

    def __enter__(self):
        self.port = free_port()
        self._ended = threading.Event()
        self._ae = AE("PACS")
        for abstract in (VERIFICATION, *self.services):
            self._ae.add_supported_context(abstract)
        for context in StoragePresentationContexts:
            self._ae.add_supported_context(str(context.abstract_syntax), scu_role=True, scp_role=True)
        handlers: Any = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_GET, self._get),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_N_ACTION, self._act),
        ]
        self._ae.start_server((LOOPBACK, self.port), block=False, evt_handlers=handlers)
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._ae.shutdown()
        wait_until(lambda: not [one for one in threading.enumerate() if isinstance(one, Association)])
        gc.collect()  # pynetdicom leaves its sockets to it, where the other side closes first

    def _store(self, event):
        uid = event.request.AffectedSOPInstanceUID
        self.stores.append(uid)
        if self.breaks_off == "C-STORE" and len(self.stores) > 1:
            event.assoc.abort()
        if self.is_silent:
            self._ended.wait(30)
        status = self.status.get(uid, 0)
        if status == 0 or status >> 12 == 0xB:
            self.kept[uid] = event.dataset
            self.kept[uid].file_meta = event.file_meta
        return status

    def _get(self, event):
        found = self.kept.get(event.identifier.SOPInstanceUID)
        yield int(found is not None)
        if found is not None:
            if self.breaks_off in {"C-GET", "first C-GET"}:
                self.breaks_off = self.breaks_off.removeprefix("first C-GET")
                event.assoc.abort()
            yield 0xFF00, self.given(found)

    def _find(self, event):
        if self.find_status:
            yield self.find_status, None
            return
        if event.identifier.SOPInstanceUID in self.kept:
            answer = Dataset()
            answer.QueryRetrieveLevel, answer.SOPInstanceUID = "IMAGE", event.identifier.SOPInstanceUID
            yield 0xFF00, answer

    def _act(self, _event):
        """Take the request, and never report."""
        return 0, None


@pytest.fixture
def here(tmp_path, leaves_nothing):
    with stored_in(tmp_path) as stored:
        for number, sample in enumerate(CT):
            stored.put(sample, number)
        yield stored


def items_of(here):
    held = {one.sha256: one for one in here.index.versions()}
    return [CopyItem(number, held[sample.sha256]) for number, sample in enumerate(CT)]


def place_at(here, pacs, answer_s=0.2, timing=PATIENT):
    remote = RemoteAE("pacs", "PACS", LOOPBACK, pacs.port)
    return PACSCopy("away", LocalAE("HERE", timing), remote, here.index, is_off_site=True, answer_s=answer_s)


def put(here, pacs):
    """Return the proof or the error of each image, in order."""
    with place_at(here, pacs) as place:
        results = {one.number: one for one in place.put(items_of(here), lambda one: here.archive.read(one.location))}
    assert len(results) == len(CT)
    return [results[number] for number in range(len(CT))]


def words(results):
    return [one.stored.object_version if one.stored else one.error.partition(": ")[2] for one in results]


def compare(here, pacs, results):
    items = [item._replace(stored=result.stored) for item, result in zip(items_of(here), results, strict=True)]
    with place_at(here, pacs) as place:
        compared = {one.number: one for one in place.compare(items)}
    return [compared[number] for number in sorted(compared)]


def changed(ds):
    ds.PatientComments = "changed there"
    return ds


def test_what_comes_back_in_other_bytes_with_the_same_content_is_there(here):
    """pynetdicom encodes anew what it sends."""
    with PACS() as pacs:
        assert words(put(here, pacs)) == ["read back"] * 3


def test_a_refused_image_is_told_and_the_others_are_there(here):
    refused, full = CT[0].sop_instance_uid, CT[2].sop_instance_uid
    with PACS(status={refused: 0xA900, full: 0xA700}) as pacs:
        results = put(here, pacs)
    assert [bool(one.stored) for one in results] == [False, True, False]
    assert "status 0xA900" in results[0].error
    assert "status 0xA700" in results[2].error


def test_another_content_is_not_believed(here):
    with PACS(services=(GET,), given=changed) as pacs:
        assert words(put(here, pacs)) == ["PACS gives back another content"] * 3


def test_an_image_that_was_taken_with_a_warning_is_read_back(here):
    """B000 says that elements were changed; the name alone proves nothing then."""
    warned = {CT[0].sop_instance_uid: 0xB000}
    with PACS(services=(FIND,), status=warned) as pacs:
        first, *others = words(put(here, pacs))
    assert "status 0xB000" in first
    assert others == ["found"] * 2
    with PACS(status=warned) as pacs:
        assert words(put(here, pacs)) == ["read back"] * 3


def test_a_pacs_with_c_find_alone_is_asked_by_name(here):
    with PACS(services=(FIND,)) as pacs:
        results = put(here, pacs)
        assert words(results) == ["found"] * 3
        del pacs.kept[CT[1].sop_instance_uid]
        assert words(compare(here, pacs, results)) == ["found", "PACS does not find it", "found"]
        pacs.find_status = 0xA700
        with pytest.raises(DestinationUnavailable, match="nothing proves its copy"):
            compare(here, pacs, results)
        assert all("nothing proves its copy" in sentence for sentence in words(put(here, pacs)))


def test_a_pacs_that_is_gone_in_the_middle_of_sending_proves_nothing(here):
    with PACS(breaks_off="C-STORE") as pacs:
        results = put(here, pacs)
    assert words(results).count("read back") <= 1
    assert not [one for one in results if not one.stored and "broke off" not in one.error]


def test_a_pacs_that_is_gone_in_the_middle_of_reading_back_is_away(here):
    with (
        PACS(breaks_off="C-GET") as pacs,
        pytest.raises(DestinationUnavailable, match="broke off"),
    ):
        put(here, pacs)


@pytest.mark.parametrize("how", [{"breaks_off": "C-GET"}, {"is_silent": True}], ids=["C-GET", "C-STORE"])
def test_the_image_at_which_a_pacs_counts_as_away_has_failed(here, how):
    """Else it would be the first of the next turn, and the others would wait for it."""
    timing = dataclasses.replace(PATIENT, network_s=0.5)
    with PACS(**how) as pacs, place_at(here, pacs, timing=timing) as place:
        results = until_away(place.put(items_of(here), lambda one: here.archive.read(one.location)))
    assert [(one.number, one.stored) for one in results] == [(number, None) for number in range(3)]


def test_a_pacs_that_broke_off_yesterday_has_its_tries_today(here):
    with PACS(breaks_off="C-GET") as pacs, place_at(here, pacs) as place:
        until_away(place.put(items_of(here), lambda one: here.archive.read(one.location)))
        pacs.breaks_off = "first C-GET"
        with place:
            results = list(place.put(items_of(here), lambda one: here.archive.read(one.location)))
    assert all(one.stored for one in results)


def test_a_pacs_that_breaks_off_once_is_asked_again(here):
    with PACS(breaks_off="first C-GET") as pacs:
        assert words(put(here, pacs)) == ["read back"] * 3


class StoppingError(Exception):
    """The node stops."""


@pytest.mark.parametrize("services", [(STORAGE_COMMITMENT,), (GET,)])
def test_a_wait_ends_when_the_node_stops(here, services):
    with PACS(services=services) as pacs, place_at(here, pacs, answer_s=3600) as place:

        def stop():
            if len(pacs.kept) == len(CT):
                raise StoppingError

        place.watch = stop
        with pytest.raises(StoppingError):
            list(place.put(items_of(here), lambda one: here.archive.read(one.location)))


def test_a_file_that_stops_in_the_middle_ends_the_association(here):
    def read(held):
        file = here.archive.read(held.location)

        def stop():
            raise StoppingError

        return dataclasses.replace(file, reopen=stop)

    with PACS() as pacs, place_at(here, pacs) as place:
        with pytest.raises(StoppingError):
            list(place.put(items_of(here), read))
        assert pacs.stores == []


def test_what_a_pacs_cannot_give_is_not_fetched(here):
    with PACS() as pacs:
        results = put(here, pacs)
        item = items_of(here)[0]._replace(stored=results[0].stored)
        pacs.kept.clear()
        with place_at(here, pacs) as place, pytest.raises(FileMissing, match="has no image"):
            place.fetch(item, io.BytesIO())
    with PACS(services=()) as pacs, place_at(here, pacs) as place, pytest.raises(NothingAccepted, match="export"):
        place.fetch(item, io.BytesIO())


def test_a_commitment_without_a_report_in_time_is_none(here):
    with PACS(services=(STORAGE_COMMITMENT, GET, FIND)) as pacs:
        results = put(here, pacs)
        assert all("sent no commitment report" in sentence for sentence in words(results))
        assert pacs.stores == [sample.sop_instance_uid for sample in CT]
