"""C-FIND over the network: Pending and final responses, C-CANCEL, refusals (PS3.4 C.4.1); the index matches."""

from __future__ import annotations

import io
import itertools
import logging
import re
import socket
import struct
import sys
from typing import Any

import pydicom
import pytest

from backup_scp import errors
from backup_scp.dimse.scp import query_scp
from backup_scp.dimse.upper_layer import UpperLayer
from tests.dimse.conftest import associations_ended
from tests.dimse.wire import (
    BIG_ENDIAN,
    C_FIND_RQ,
    COMMAND,
    DATA,
    EXPLICIT,
    IMPLICIT,
    LAST,
    STUDY_ROOT_FIND,
    Elements,
    Peer,
    abort,
    cancel_rq,
    command,
    encoded,
    item,
    p_data,
    pdv,
)

STUDIES = 120
PENDING, PENDING_WITH_UNSUPPORTED_KEYS = 0xFF00, 0xFF01


@pytest.fixture
def closed():
    """Return a list that gets an entry for each search that was closed."""
    return []


@pytest.fixture
def finding_node(start_server, storage, secured, monkeypatch, closed):
    """Return a node whose index answers with so many studies."""

    def search(_query):
        try:
            for n in range(STUDIES):
                yield {"StudyInstanceUID": f"1.2.{n}", "PatientName": "Müller^Jörg", "StudyDate": "20240131"}
        finally:
            closed.append(True)

    monkeypatch.setattr(storage.index, "search", search)
    return start_server(storage.services(), tls=secured[0])


@pytest.fixture
def finding(finding_node):
    """Return ``finding(syntax)``: an association to that node."""

    def start(syntax=IMPLICIT):
        return finding_node.peer((STUDY_ROOT_FIND, (syntax,)))

    return start


def ask(syntax=IMPLICIT, *, message_id=5, **keys):
    ds = pydicom.Dataset()
    ds.QueryRetrieveLevel = "STUDY"
    for keyword, value in {"StudyInstanceUID": "", "PatientName": "", **keys}.items():
        setattr(ds, keyword, value)
    elements = {0x0002: STUDY_ROOT_FIND, 0x0100: C_FIND_RQ, 0x0110: message_id, 0x0700: 0, 0x0800: 1}
    data = encoded(ds, syntax)
    return p_data(pdv(1, COMMAND | LAST, command(elements))), p_data(pdv(1, DATA | LAST, data))


def answers(peer):
    found = [peer.message()]
    while found[-1].status in {PENDING, PENDING_WITH_UNSUPPORTED_KEYS}:
        found.append(peer.message())
    return found


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_each_match_is_one_pending_answer(finding, syntax):
    with finding(syntax) as peer:
        peer.send(*ask(syntax))
        *pending, final = answers(peer)
        peer.release()
    assert (len(pending), {answer.status for answer in pending}, final.status) == (STUDIES, {PENDING}, 0)
    assert final.data_set == b""
    uid = pydicom.uid.UID(syntax)
    first = pydicom.filereader.read_dataset(io.BytesIO(pending[0].data_set), uid.is_implicit_VR, uid.is_little_endian)
    assert (first.StudyInstanceUID, first.SpecificCharacterSet, str(first.PatientName)) == (
        "1.2.0",
        "ISO_IR 192",
        "Müller^Jörg",
    )


def test_an_unsupported_key_is_told_by_ff01(finding):
    with finding() as peer:
        peer.send(*ask(InstanceNumber=""))
        *pending, final = answers(peer)
        peer.release()
    assert {answer.status for answer in pending} == {PENDING_WITH_UNSUPPORTED_KEYS}
    assert final.status == 0


CANARIES = {
    "PatientName": "Canary^Name",
    "PatientID": "CANARY-ID",
    "StudyDescription": "CANARY*",
    "StudyDate": "19330505-19330506",
    "EthnicGroup": "CANARY",
}


def test_the_log_says_what_was_asked_without_a_value(finding, caplog):
    caplog.set_level(logging.DEBUG)
    with finding() as peer:
        peer.send(*ask(**CANARIES, AccessionNumber=""))
        answers(peer)
        peer.release()
    associations_ended()
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("C-FIND")]
    assert line.startswith(
        "C-FIND of 'TESTER' at 127.0.0.1: Study Root, STUDY level, "
        "matched on StudyDate, StudyDescription, PatientName, PatientID, "
        "asked for AccessionNumber, EthnicGroup, StudyInstanceUID, FF01 for EthnicGroup; 120 answers in "
    )
    assert "canary" not in caplog.text.lower()
    assert "1933" not in caplog.text
    assert "Müller" not in caplog.text


def test_the_log_says_that_it_was_cancelled_and_names_few_of_many_keys(finding, caplog):
    caplog.set_level(logging.INFO)
    ds = pydicom.Dataset()
    ds.QueryRetrieveLevel, ds.PatientID = "STUDY", "CANARY-ID"
    for element in range(100):
        ds.add_new((0x0011, 0x1000 + element), "LO", "CANARY")
    request: Elements = {0x0002: STUDY_ROOT_FIND, 0x0100: C_FIND_RQ, 0x0110: 5, 0x0700: 0, 0x0800: 1}
    with finding() as peer:
        peer.send(
            p_data(pdv(1, COMMAND | LAST, command(request)), pdv(1, DATA | LAST, encoded(ds, IMPLICIT))),
            p_data(pdv(1, COMMAND | LAST, cancel_rq(5))),
        )
        assert answers(peer)[-1].status == 0xFE00
        peer.release()
    assert "matched on PatientID, asked for (0011,1000), (0011,1001)," in caplog.text
    assert "(0011,1027) and 60 more, FF01 for (0011,1000)" in caplog.text
    assert re.search(r"; \d+ answers in \d+\.\d\d s, then cancelled", caplog.text)
    assert "CANARY" not in caplog.text


@pytest.mark.parametrize("checks", [True, False])
def test_the_ae_that_was_called_is_the_one_to_retrieve_from(start_server, storage, monkeypatch, checks):
    monkeypatch.setattr(storage.index, "search", lambda _: (each for each in [{"StudyInstanceUID": "1.2.3"}]))
    called = "BACKUP_SCP" if checks else "OLD_PACS"
    node = start_server(storage.services(), check_called_ae_title=checks)
    with node.peer((STUDY_ROOT_FIND, (IMPLICIT,)), called=called.encode()) as peer:
        peer.send(*ask())
        found, _ = answers(peer)
        peer.release()
    assert pydicom.filereader.read_dataset(io.BytesIO(found.data_set), True, True).RetrieveAETitle == called


@pytest.mark.parametrize("called", [b"", b"A\\B", b"A\x1bB"])
def test_what_is_no_ae_title_is_not_ours(start_server, storage, monkeypatch, called):
    monkeypatch.setattr(storage.index, "search", lambda _: (each for each in [{"StudyInstanceUID": "1.2.3"}]))
    node = start_server(storage.services(), check_called_ae_title=False)
    with node.peer((STUDY_ROOT_FIND, (IMPLICIT,)), called=called) as peer:
        peer.send(*ask())
        found, _ = answers(peer)
        peer.release()
    assert pydicom.filereader.read_dataset(io.BytesIO(found.data_set), True, True).RetrieveAETitle == "BACKUP_SCP"


def test_few_answers_and_the_final_response_are_one_write(finding, monkeypatch):
    written = []
    write = UpperLayer._write

    def noting(self, pieces):
        written.append(len(pieces))
        write(self, pieces)

    with finding() as peer:
        monkeypatch.setattr(UpperLayer, "_write", noting)
        peer.send(*ask())
        assert len(answers(peer)) == STUDIES + 1
        peer.release()
    assert written == [1]


def test_cancel(finding, closed):
    with finding() as peer:
        peer.send(*ask(), p_data(pdv(1, COMMAND | LAST, cancel_rq(5))))
        *pending, final = answers(peer)
        assert final.status == 0xFE00
        assert 1 <= len(pending) < STUDIES
        assert closed == [True]
        peer.send(*ask())  # the same Message ID once more
        assert answers(peer)[-1].status == 0
        peer.release()


def test_cancel_while_nothing_in_the_requesters_zone_is_found(start_server, storage, monkeypatch, closed):
    """What the index finds without end is all of another day: no answer goes out, and still the C-CANCEL is seen."""

    def search(_query):
        found = {
            "StudyInstanceUID": "1.2",
            "StudyDate": "20240131",
            "StudyTime": "10",
            "TimezoneOffsetFromUTC": "+0000",
        }
        try:
            yield from itertools.repeat(found)
        finally:
            closed.append(True)

    monkeypatch.setattr(storage.index, "search", search)
    uid = STUDY_ROOT_FIND.encode()
    time_zone = item(0x56, struct.pack(">H", len(uid)) + uid + b"\0\0\0\1")
    with start_server(storage.services()).peer((STUDY_ROOT_FIND, (IMPLICIT,)), items=time_zone) as peer:
        peer.send(
            *ask(StudyDate="20240101", TimezoneOffsetFromUTC="+0100"), p_data(pdv(1, COMMAND | LAST, cancel_rq(5)))
        )
        assert [answer.status for answer in answers(peer)] == [0xFE00]
        peer.release()
    assert closed == [True]


def test_a_cancel_for_another_message(finding):
    with finding() as peer:
        peer.send(*ask(), p_data(pdv(1, COMMAND | LAST, cancel_rq(4))))
        assert answers(peer)[-1].status == 0
        peer.release()


def test_a_part_of_a_tls_record_holds_up_no_answer(finding_node, secured, monkeypatch):
    monkeypatch.setattr(query_scp, "_WRITE_BYTES", 1)
    contexts = ((STUDY_ROOT_FIND, (IMPLICIT,)),)
    with Peer.associated(finding_node.secured_port, contexts, tls=secured[1]) as peer:
        wire: Any = peer.socket
        asked, cancelled = wire.records(b"".join(ask())), wire.records(p_data(pdv(1, COMMAND | LAST, cancel_rq(5))))
        wire.bare.sendall(asked + cancelled[:10])
        assert len(answers(peer)) == STUDIES + 1
        wire.bare.sendall(cancelled[10:])
        peer.release()


@pytest.mark.parametrize("size", [1, 6, 20])
def test_a_part_of_a_pdu_holds_up_no_answer(finding, monkeypatch, size):
    monkeypatch.setattr(query_scp, "_WRITE_BYTES", 1)
    cancelled = p_data(pdv(1, COMMAND | LAST, cancel_rq(5)))
    with finding() as peer:
        peer.send(*ask(), cancelled[:size])
        assert len(answers(peer)) == STUDIES + 1
        peer.send(cancelled[size:], *ask(message_id=6), cancelled)
        assert len(answers(peer)) == STUDIES + 1
        peer.release()


def test_a_cancel_in_the_pdu_of_the_request(finding, monkeypatch):
    monkeypatch.setattr(query_scp, "_WRITE_BYTES", 1)
    both = p_data(b"".join(part[6:] for part in ask()) + pdv(1, COMMAND | LAST, cancel_rq(5)))
    with finding() as peer:
        peer.send(both)
        assert [answer.status for answer in answers(peer)] == [PENDING, 0xFE00]
        peer.send(both[:-10])
        assert len(answers(peer)) == STUDIES + 1
        peer.send(both[-10:])
        peer.release()


def test_the_search_ends_with_an_asker_who_goes_in_the_middle_of_a_pdu(finding, closed, monkeypatch):
    monkeypatch.setattr(query_scp, "_WRITE_BYTES", 1)
    monkeypatch.setattr(f"{__name__}.STUDIES", sys.maxsize)
    with finding() as peer:
        peer.send(*ask(), p_data(pdv(1, COMMAND | LAST, cancel_rq(5)))[:10])
        peer.socket.shutdown(socket.SHUT_WR)
        associations_ended()
    assert closed == [True]


def test_two_queries_at_once_are_answered_one_after_the_other(finding):
    with finding() as peer:
        peer.send(*ask(message_id=1), *ask(message_id=2))
        first, second = answers(peer), answers(peer)
        assert {answer.elements[0x0120] for answer in first} == {b"\1\0"}
        assert {answer.elements[0x0120] for answer in second} == {b"\2\0"}
        assert len(first) == len(second) == STUDIES + 1
        peer.release()


def test_the_search_ends_with_its_asker(finding, closed, monkeypatch):
    monkeypatch.setattr(query_scp, "_WRITE_BYTES", 1)
    with finding() as peer:
        peer.send(*ask(), abort())
        peer.until_closed()
    associations_ended()
    assert closed == [True]


@pytest.mark.parametrize("after", [0, 3])
def test_an_index_that_fails(start_server, storage, monkeypatch, after, caplog):
    def search(_query):
        for n in range(after):
            yield {"StudyInstanceUID": f"1.2.{n}"}
        raise errors.IndexUnavailable("Index does not answer")

    monkeypatch.setattr(storage.index, "search", search)
    with start_server(storage.services()).peer((STUDY_ROOT_FIND, (IMPLICIT,))) as peer:
        peer.send(*ask())
        *pending, final = answers(peer)
        assert (len(pending), final.status, final.comment) == (after, 0xA700, "Index does not answer")
        peer.release()


def test_an_unexpected_error_says_nothing_of_the_query(start_server, storage, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)

    def search(query):
        raise ValueError(str(query))

    monkeypatch.setattr(storage.index, "search", search)
    with start_server(storage.services()).peer((STUDY_ROOT_FIND, (IMPLICIT,))) as peer:
        peer.send(*ask(PatientName="Doe^Jane"))
        assert [(answer.status, answer.comment) for answer in answers(peer)] == [(0x0110, "Internal error")]
        peer.release()
    assert "Doe" not in caplog.text


def test_an_identifier_in_several_fragments(finding):
    with finding() as peer:
        request, _ = ask()
        _, data = ask(StudyDate="20240101-20241231")
        whole = data[12:]
        peer.send(request, p_data(pdv(1, DATA, whole[:7]), pdv(1, DATA)), p_data(pdv(1, DATA | LAST, whole[7:])))
        assert answers(peer)[-1].status == 0
        peer.release()
