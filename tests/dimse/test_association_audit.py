"""What a real server tells the audit trail of its Associations; a trail at fault loses no image."""

from __future__ import annotations

import threading

import pydicom
import pytest

from backup_scp.dimse.association import association_audit
from backup_scp.ports import AuditedPatient, AuditedQuery, AuditedStudy, EventOutcome, RemoteAE, TrailKind
from backup_scp.services.audit_reporter import AuditReporter
from backup_scp.watch import audit_thread
from backup_scp.watch.audit_thread import AuditThread
from tests import samples
from tests.audit_messages import ListTrail
from tests.dimse.conftest import associations_ended
from tests.dimse.wire import (
    C_MOVE_RQ,
    COMMAND,
    CT_IMAGE_STORAGE,
    DATA,
    EXPLICIT,
    IMPLICIT,
    LAST,
    STUDY_ROOT_MOVE,
    Peer,
    abort,
    associate_rq,
    command,
    encoded,
    fragments,
    p_data,
    pdv,
    store_rq,
)

CT = (CT_IMAGE_STORAGE, (EXPLICIT,))
FIND = ("1.2.840.10008.5.1.4.1.2.2.1", (IMPLICIT,))
MOVE = (STUDY_ROOT_MOVE, (IMPLICIT,))
SLICES = [samples.encode(ds, EXPLICIT) for ds in samples.ct_series(3, PatientID="P-1")]
STUDY = str(SLICES[0].dataset().StudyInstanceUID)


@pytest.fixture
def trail():
    return ListTrail()


def store(peer, sample, context=1, **request):
    peer.send(p_data(pdv(context, COMMAND | LAST, store_rq(sample.sop_instance_uid, **request))))
    peer.send(*fragments(context, DATA, sample.data_set, 4096))
    return peer.message()


def keys(**wanted):
    ds = pydicom.Dataset()
    for keyword, value in {"QueryRetrieveLevel": "STUDY", **wanted}.items():
        setattr(ds, keyword, value)
    return encoded(ds, IMPLICIT)


def ask(peer, field, sop_class, identifier, context=3, **more):
    request = {0x0002: sop_class, 0x0100: field, 0x0110: 7, 0x0700: 0, 0x0800: 1}
    if "to" in more:
        request[0x0600] = more["to"]
    peer.send(p_data(pdv(context, COMMAND | LAST, command(request)), pdv(context, DATA | LAST, identifier)))
    while (answer := peer.message()).status in (0xFF00, 0xFF01):
        pass
    return answer


def test_one_association_is_one_story(start_server, storage, trail):
    node = start_server(storage.services(), reporter=AuditReporter(trail, "BACKUP_SCP"))
    identifier = keys(StudyInstanceUID="", PatientName="M*")
    with node.peer(CT, FIND, calling=b"CONSOLE") as peer:
        assert [store(peer, sample).status for sample in (*SLICES, SLICES[0])] == [0, 0, 0, 0]
        assert store(peer, SLICES[0], sop_class="1.2.3").status
        assert ask(peer, 0x0020, FIND[0], identifier).status == 0
        peer.release()
    associations_ended()

    assert len({event.correlation_id for event in trail.events}) == 1
    kinds = [event.kind for event in trail.events]
    assert kinds == [
        TrailKind.ASSOCIATION_OPENED,
        TrailKind.QUERIED,
        TrailKind.RECEIVED,
        TrailKind.RECEIVED_AGAIN,
        TrailKind.RECEIVED,
        TrailKind.ASSOCIATION_ENDED,
    ]
    _, asked, new, again, refused, ended = trail.events
    assert asked.objects == (AuditedQuery(FIND[0], identifier, IMPLICIT),)
    assert new.objects == (AuditedStudy(STUDY, {CT_IMAGE_STORAGE: 3}), AuditedPatient("P-1"))
    assert again.objects == (AuditedStudy(STUDY, {CT_IMAGE_STORAGE: 1}), AuditedPatient("P-1"))
    assert (refused.outcome, refused.reason.partition(";")[0]) == (EventOutcome.SERIOUS_FAILURE, "1 images refused")
    assert (ended.outcome, ended.reason) == (EventOutcome.SUCCESS, "released")
    source = new.participants[0]
    assert (source.user_id, source.address, source.alternative_id) == ("CONSOLE", "127.0.0.1", "AETITLES=CONSOLE")


def test_a_stranger_is_refused_under_one_id(start_server, storage, trail):
    node = start_server(storage.services(), reporter=AuditReporter(trail), trust_this_machine=False)
    with node.peer(CT, FIND) as peer:
        assert ask(peer, 0x0020, FIND[0], keys()).status == 0x0124
        peer.send(abort())
    associations_ended()
    opened, refused, ended = trail.events

    assert [refused.kind, ended.kind] == [TrailKind.REQUEST_REFUSED, TrailKind.ASSOCIATION_ENDED]
    assert opened.correlation_id == refused.correlation_id == ended.correlation_id
    assert {refused.outcome, ended.outcome} == {EventOutcome.MINOR_FAILURE}


def test_who_is_not_let_in_is_told(start_server, trail):
    node = start_server(reporter=AuditReporter(trail))
    with Peer(node.port) as peer:
        peer.send(associate_rq([CT], calling=b""))
        peer.pdu()
    with Peer(node.port) as peer:
        peer.send(b"GET / HTTP/1.1\r\n\r\n")
        peer.pdu()
    associations_ended()

    assert {event.kind for event in trail.events} == {TrailKind.CALLER_REFUSED}
    assert len({event.correlation_id for event in trail.events}) == 2
    assert all(event.reason for event in trail.events)


def test_a_move_tells_what_was_to_be_sent_what_was_and_what_was_not(start_server, storage, holding, destination, trail):
    holding(*SLICES)
    bad = SLICES[1].sop_instance_uid
    there = destination(status=lambda uid: 0xA700 if uid == bad else 0)
    remotes = (RemoteAE("there", "THERE", "127.0.0.1", there.port),)
    node = start_server(storage.services(remotes), remotes, reporter=AuditReporter(trail))
    with node.peer(CT, MOVE, calling=b"VIEWER") as peer:
        ask(peer, C_MOVE_RQ, STUDY_ROOT_MOVE, keys(StudyInstanceUID=STUDY), to="THERE")
        peer.release()
    associations_ended()
    _, began, sent, failed, _ = trail.events

    assert [began.kind, sent.kind, failed.kind] == [TrailKind.SENDING, TrailKind.SENT, TrailKind.SENT]
    assert began.objects == (AuditedStudy(STUDY, {CT_IMAGE_STORAGE: 3}),)
    assert sent.objects == (AuditedStudy(STUDY, {CT_IMAGE_STORAGE: 2}),)
    assert failed.objects == (AuditedStudy(STUDY, {CT_IMAGE_STORAGE: 1}),)
    assert failed.outcome is EventOutcome.SERIOUS_FAILURE
    assert failed.reason
    assert [(each.user_id, each.is_requestor) for each in sent.participants][1:] == [("THERE", False), ("VIEWER", True)]


def test_a_long_association_tells_meanwhile(start_server, storage, trail, monkeypatch):
    monkeypatch.setattr(association_audit, "_MOST_STUDIES", 1)
    others = [samples.encode(ds, EXPLICIT) for ds in samples.ct_series(1, PatientID="P-2")]
    node = start_server(storage.services(), reporter=AuditReporter(trail))
    with node.peer(CT) as peer:
        store(peer, SLICES[0])
        store(peer, others[0])
        assert [event.kind for event in trail.events] == [TrailKind.ASSOCIATION_OPENED, *[TrailKind.RECEIVED] * 2]
        store(peer, SLICES[1])
        node.server.report_received()
        assert len(trail.events) == 3  # it is not a minute old
        peer.release()


class RaisingTrail:
    def record(self, event):
        raise MemoryError


@pytest.fixture
def blocked(monkeypatch):
    """A trail whose log never answers, and which has room for two entries."""
    monkeypatch.setattr(audit_thread, "MOST", 2)
    released = threading.Event()

    def write(_message):
        released.wait()

    thread = AuditThread(write, "node")
    thread.start()
    yield thread
    released.set()
    thread.stop()


@pytest.mark.parametrize("fault", ["raises", "blocks and is full"])
def test_a_trail_at_fault_loses_no_image(start_server, storage, blocked, fault):
    faulty = RaisingTrail() if fault == "raises" else blocked
    node = start_server(storage.services(), reporter=AuditReporter(faulty))
    for _ in range(3):
        with node.peer(CT, FIND) as peer:
            assert [store(peer, sample).status for sample in SLICES] == [0, 0, 0]
            assert ask(peer, 0x0020, FIND[0], keys(StudyInstanceUID="")).status == 0
            peer.release()
    associations_ended()

    assert len(storage.kept()) == 3
