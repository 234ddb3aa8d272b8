"""Another PACS as a source: what it is asked, and what is made of odd answers."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGLSLossless
from pynetdicom import AE, evt
from pynetdicom.association import Association

from backup_scp.dimse.association.association import LocalAE
from backup_scp.dimse.scu.remote_ae_source import RemoteAESource
from backup_scp.dimse.scu.wanted_contexts import MOST_CLASSES, UsualClasses, contexts_as_stored
from backup_scp.errors import DestinationRefuses, InstanceUnconfirmed, InvalidDataSet
from backup_scp.ports import Heading, InstanceKey, RemoteAE, RemoteImage, RemoteSeries, RemoteStudy, Span
from tests.dimse.conftest import PATIENT
from tests.dimse.wire import VERIFICATION
from tests.processes import LOOPBACK, free_port, wait_until
from tests.samples import ct_series

FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))
CT = str(CTImageStorage)
SERIES = RemoteSeries("1.2.1", "1.2.1.1", 2)
IMAGES = [RemoteImage(InstanceKey("1.2.1", "1.2.1.1", f"1.2.1.1.{number}"), CT) for number in (1, 2)]


@dataclass
class PACS:
    """A PACS of pynetdicom.

    Attributes
    ----------
    answers
        Returns the answers to an Identifier.
    gives
        The Data Sets that any C-GET gets; None breaks off.
    """

    services: tuple[str, ...] = (FIND, GET, MOVE)
    answers: Callable[[Dataset], list[Dataset]] = lambda _: []
    find_status: int = 0
    gives: list[Dataset] | None = field(default_factory=list)
    may_send: bool = True
    move_status: int = 0xA801
    asked: list[Dataset] = field(default_factory=list)
    moved: list[tuple[str, Dataset]] = field(default_factory=list)
    associations: int = 0

    def __enter__(self):
        self.port = free_port()
        self._ae = AE("PACS")
        for abstract in (VERIFICATION, *self.services):
            self._ae.add_supported_context(abstract)
        self._ae.add_supported_context(CT, scu_role=True, scp_role=self.may_send)
        handlers: Any = [
            (evt.EVT_ACCEPTED, self._count),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_C_GET, self._get),
            (evt.EVT_C_MOVE, self._move),
        ]
        self._ae.start_server((LOOPBACK, self.port), block=False, evt_handlers=handlers)
        return self

    def __exit__(self, *_):
        self._ae.shutdown()
        wait_until(lambda: not [one for one in threading.enumerate() if isinstance(one, Association)])
        gc.collect()  # pynetdicom leaves its sockets to it, where the other side closes first

    def source(self, heard: Callable[[], None] = lambda: None) -> RemoteAESource:
        remote = RemoteAE("pacs", "PACS", LOOPBACK, self.port)
        return RemoteAESource(LocalAE("HERE", PATIENT), remote, "AE title HERE, host h, port 1", heard)

    def break_off(self) -> None:
        for association in self._ae.active_associations:
            association.abort()

    def _count(self, _event):
        self.associations += 1

    def _find(self, event):
        self.asked.append(event.identifier)
        for answer in self.answers(event.identifier):
            answer.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
            yield 0xFF00, answer
        if self.find_status:
            yield self.find_status, None

    def _get(self, event):
        self.asked.append(event.identifier)
        if self.gives is None:
            event.assoc.abort()
            return
        yield len(self.gives)
        for ds in self.gives:
            yield 0xFF00, ds

    def _move(self, event):
        self.moved.append((event.move_destination, event.identifier))
        if self.move_status == 0xA801:
            yield None, None
            return
        if self.move_status:
            raise ValueError(self.move_status)  # pynetdicom answers 0xC5..
        yield LOOPBACK, free_port()
        yield 0


class Taken:
    """Takes images, as ``ports.Begin``."""

    def __init__(self, error: Exception | None = None) -> None:
        self.headings: list[Heading] = []
        self.accepted: list[bytes] = []
        self.error = error

    def __call__(self, heading: Heading) -> Taken:
        self.headings.append(heading)
        self._content = b""
        return self

    def write(self, data: bytes | memoryview) -> None:
        self._content += bytes(data)

    def accept(self) -> None:
        if self.error:
            raise self.error
        self.accepted.append(self._content)

    def discard(self) -> None:
        pass


def answer(**elements: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def test_what_it_is_asked(leaves_nothing):
    study = answer(StudyInstanceUID="1.2.1", StudyDate="20260102", StudyTime="101500", NumberOfStudyRelatedInstances=2)
    study.PatientID = "P1"
    with PACS(answers=lambda _: [study]) as pacs, pacs.source() as source:
        listed = source.studies(Span("20260101", "20260102", "", ""), lambda _: True)
        assert listed == ([RemoteStudy("1.2.1", "20260102", "101500", 2, "P1")], 1, "")
        assert source.studies(Span("20260101", "20260101", "080000", "085959"), lambda _: False) == ([], 1, "")
        source.studies(Span("", "18991231"), lambda _: True)
    assert [(one.QueryRetrieveLevel, one.StudyDate, one.StudyTime) for one in pacs.asked] == [
        ("STUDY", "20260101-20260102", ""),
        ("STUDY", "20260101", "080000-085959"),
        ("STUDY", "-18991231", ""),
    ]
    assert pacs.associations == 1


def test_a_limit_that_it_tells_of_is_told(leaves_nothing):
    with (
        PACS(answers=lambda _: [answer(StudyInstanceUID="1.2.1")], find_status=0xFE00) as pacs,
        pacs.source() as source,
    ):
        listed = source.studies(Span(), lambda _: True)
    assert (listed.total, listed.cut) == (1, "it answered C-FIND with status 0xFE00")


def test_answers_about_others_are_left_out(leaves_nothing):
    """Some AEs ignore a key and return everything; some return keys without a value."""

    def answers(asked):
        if asked.QueryRetrieveLevel == "SERIES":
            return [
                answer(StudyInstanceUID="1.2.1", SeriesInstanceUID="1.2.1.1", NumberOfSeriesRelatedInstances=2),
                answer(StudyInstanceUID="1.2.9", SeriesInstanceUID="1.2.9.1", NumberOfSeriesRelatedInstances=3),
                answer(StudyInstanceUID="1.2.1", SeriesInstanceUID=""),
            ]
        return [
            answer(SeriesInstanceUID="1.2.1.1", SOPInstanceUID="1.2.1.1.1", SOPClassUID=CT),
            answer(SeriesInstanceUID="1.2.1.2", SOPInstanceUID="1.2.1.2.1", SOPClassUID=CT),
            answer(SOPInstanceUID="1.2.1.1.2", SOPClassUID=CT),
        ]

    with PACS(answers=answers) as pacs, pacs.source() as source:
        assert source.series("1.2.1").found == [SERIES]
        assert source.images(SERIES).found == IMAGES


def test_it_is_asked_again_when_it_has_ended_an_idle_association(leaves_nothing):
    with PACS(answers=lambda _: [answer(StudyInstanceUID="1.2.1")]) as pacs, pacs.source() as source:
        source.studies(Span(), lambda _: True)
        pacs.break_off()
        assert source.studies(Span(), lambda _: True).total == 1
    assert pacs.associations == 2


@pytest.mark.parametrize(
    ("services", "lacking"),
    [((), "C-FIND and C-GET or C-MOVE"), ((FIND,), "C-GET or C-MOVE"), ((GET,), "C-FIND")],
)
def test_what_it_does_not_offer_is_told(services, lacking, leaves_nothing):
    with (
        PACS(services) as pacs,
        pytest.raises(DestinationRefuses, match=f"does not let this node use {lacking}: allow"),
    ):
        pacs.source().__enter__()


def given_images() -> list[Dataset]:
    images = ct_series(2)
    for ds in images:
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return images


def test_a_series_comes_by_one_c_get(leaves_nothing):
    images = given_images()
    taken = Taken()
    with PACS(gives=images) as pacs, pacs.source() as source:
        assert source.fetch_series(SERIES, IMAGES, taken) == ""
        assert source.fetch_image(IMAGES[0], taken) == ""
    assert [(one.QueryRetrieveLevel, one.get("SOPInstanceUID")) for one in pacs.asked] == [
        ("SERIES", None),
        ("IMAGE", "1.2.1.1.1"),
    ]
    assert [heading.sop_instance_uid for heading in taken.headings] == [ds.SOPInstanceUID for ds in images] * 2
    assert all(len(content) > 100 for content in taken.accepted)
    assert pacs.associations == 2


def test_an_image_that_is_refused_here_does_not_stop_the_others(leaves_nothing):
    taken = Taken(InvalidDataSet("another image"))
    with PACS(gives=given_images()) as pacs, pacs.source() as source:
        pacs.move_status = 0
        source.moves = False
        assert source.fetch_series(SERIES, IMAGES, taken) == "another image"
    assert len(taken.headings) == 2


def test_a_full_archive_ends_it(leaves_nothing):
    with PACS(gives=given_images()) as pacs, pacs.source() as source, pytest.raises(MemoryError):
        source.fetch_series(SERIES, IMAGES, Taken(MemoryError()))


@pytest.mark.parametrize("reason", ["no C-GET", "no role", "breaks off"])
def test_what_does_not_come_by_c_get_comes_by_c_move(reason, leaves_nothing):
    pacs = PACS(move_status=0)
    if reason == "no C-GET":
        pacs.services = (FIND, MOVE)
    elif reason == "no role":
        pacs.may_send = False
    else:
        pacs.gives = None
    heard: list[bool] = []
    with pacs, pacs.source(lambda: heard.append(True)) as source:
        assert source.fetch_series(SERIES, IMAGES, Taken()) == ""
        assert source.fetch_image(IMAGES[0], Taken()) == ""
    assert heard == [True, True]
    assert [(to, one.QueryRetrieveLevel) for to, one in pacs.moved] == [("HERE", "SERIES"), ("HERE", "IMAGE")]


def test_a_pacs_that_does_not_know_this_node_is_told_what_to_set(leaves_nothing):
    words = pytest.raises(DestinationRefuses, match="status 0xA801\\): set there AE title HERE, host h, port 1")
    with PACS((FIND, MOVE)) as pacs, pacs.source() as source, words:
        source.fetch_series(SERIES, IMAGES, Taken())


def test_one_that_answers_any_failure_instead_is_asked_three_times(leaves_nothing):
    with PACS((FIND, MOVE), move_status=0xC000) as pacs, pacs.source() as source:
        for _ in range(2):
            reason = source.fetch_series(SERIES, IMAGES, Taken())
            assert reason.startswith("pacs: it answered C-MOVE with status 0xC5")
            assert reason.endswith("; check that AE title HERE, host h, port 1 is set there")
        with pytest.raises(DestinationRefuses):
            source.fetch_series(SERIES, IMAGES, Taken())


def test_one_that_breaks_off_and_cannot_move_has_broken_off(leaves_nothing):
    with PACS((FIND, GET), gives=None) as pacs, pacs.source() as source, pytest.raises(InstanceUnconfirmed):
        source.fetch_series(SERIES, IMAGES, Taken())


def test_each_syntax_has_a_context_of_its_own():
    contexts = contexts_as_stored([CT])
    assert all(len(syntaxes) == 1 for _, syntaxes in contexts)
    assert (CT, (str(JPEGLSLossless),)) in contexts
    assert len(contexts_as_stored(map(str, range(MOST_CLASSES)))) < 128


def test_the_class_that_came_last_is_tried_first():
    usual = UsualClasses()
    usual.note("1.2.3")
    usual.note(CT)
    first, *others = usual.groups()
    assert {CT, "1.2.3"} <= first
    assert len(first) == MOST_CLASSES
    assert sum(len(group) for group in (first, *others)) == len(frozenset().union(first, *others))
