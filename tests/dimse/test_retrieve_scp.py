"""C-MOVE and C-GET with a real archive and index, against destinations of every kind (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable

import pydicom
import pytest

from backup_scp import errors
from backup_scp.dicom.transcode import decoders
from backup_scp.dimse.association.access import AccessPolicy, Caller
from backup_scp.dimse.scp import retrieve_operation
from backup_scp.ports import RemoteAE
from tests import samples
from tests.dicom.transcode.series import lossless_series
from tests.dimse.conftest import PATIENT, associations_ended
from tests.dimse.wire import (
    ABORT,
    C_GET_RQ,
    C_MOVE_RQ,
    COMMAND,
    CT_IMAGE_STORAGE,
    DATA,
    EXPLICIT,
    IMPLICIT,
    LAST,
    P_DATA_TF,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    TIMEOUT_S,
    Message,
    cancel_rq,
    command,
    encoded,
    number,
    p_data,
    pdv,
    role,
)
from tests.processes import wait_until

MOVE = (STUDY_ROOT_MOVE, (IMPLICIT,))
GET = (STUDY_ROOT_GET, (IMPLICIT,))
CT = (CT_IMAGE_STORAGE, (EXPLICIT,))
CTS = [samples.encode(ds, EXPLICIT) for ds in samples.ct_series(4)]
DX = samples.encode(samples.dx(), EXPLICIT)
STUDY = samples.uid("1")
UIDS = [sample.sop_instance_uid for sample in CTS]
PENDING = 0xFF00
PERSONAL = [
    str(sample_value) for sample_value in (samples.ct_series(1)[0].PatientName, samples.ct_series(1)[0].PatientID)
]


@pytest.fixture
def moving(start_server, storage, holding):
    """Return ``moving(port, *samples)``: an association to a node that holds them and knows THERE at that port."""

    def start(port, *some):
        holding(*(some or CTS))
        remotes = (RemoteAE("there", "THERE", "127.0.0.1", port),)
        return start_server(storage.services(remotes), remotes).peer(MOVE, calling=b"VIEWER")

    return start


def identifier(study=STUDY, level="STUDY"):
    ds = pydicom.Dataset()
    ds.QueryRetrieveLevel = level
    ds.StudyInstanceUID = study
    return encoded(ds, IMPLICIT)


def ask(peer, field, *, to="THERE", message_id=9, data=None, context=1, priority=0):
    request = {0x0100: field, 0x0110: message_id, 0x0700: priority, 0x0800: 1}
    request[0x0002] = STUDY_ROOT_MOVE if field == C_MOVE_RQ else STUDY_ROOT_GET
    if field == C_MOVE_RQ:
        request[0x0600] = to
    peer.send(p_data(pdv(context, COMMAND | LAST, command(request))))
    peer.send(p_data(pdv(context, DATA | LAST, identifier() if data is None else data)))


def move(peer, **request):
    """C-MOVE; return every answer."""
    ask(peer, C_MOVE_RQ, **request)
    answers = [peer.message()]
    while answers[-1].status == PENDING:
        answers.append(peer.message())
    return answers


def counts(message: Message):
    """Return remaining, completed, failed, warning; None where they are absent."""
    return tuple(number(message.elements, n) if n in message.elements else None for n in range(0x1020, 0x1024))


def failed_list(message: Message):
    if not message.data_set:
        assert number(message.elements, 0x0800) == 0x0101
        return None
    ds = pydicom.filereader.read_dataset(io.BytesIO(message.data_set), True, True)
    assert [element.keyword for element in ds] == ["FailedSOPInstanceUIDList"]
    value = ds.FailedSOPInstanceUIDList
    return [value] if isinstance(value, str) else list(value)


@pytest.fixture
def each_is_told(monkeypatch):
    """A pending answer after each sub-operation, however quick."""
    monkeypatch.setattr(retrieve_operation, "_SHORTEST_PENDING_S", 0.0)
    monkeypatch.setattr(retrieve_operation, "_LONGEST_PENDING_S", 3600.0)


def refusing_port():
    """Return a port where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


# ------------------------------------------------------------------------------------------------------- C-MOVE


def test_all_of_it(moving, destination, each_is_told):
    there = destination()
    with moving(there.port) as peer:
        *pending, final = move(peer)
        peer.release()
    assert [counts(answer) for answer in pending] == [(4, 0, 0, 0), (3, 1, 0, 0), (2, 2, 0, 0), (1, 3, 0, 0)]
    assert [answer.data_set for answer in pending] == [b""] * 4
    assert (final.status, counts(final), failed_list(final)) == (0, (None, 4, 0, 0), None)
    assert [one.message.data_set for one in there.stored] == [sample.data_set for sample in CTS]
    assert {one.message.elements[0x1030] for one in there.stored} == {b"VIEWER"}
    assert {number(one.message.elements, 0x1031) for one in there.stored} == {9}
    assert {answer.elements[0x0120] for answer in (*pending, final)} == {b"\x09\0"}


def test_the_first_answer_says_how_many_there_are_then_one_is_due_now_and_then(moving, destination, monkeypatch):
    monkeypatch.setattr(retrieve_operation, "_SHORTEST_PENDING_S", 3600.0)
    there = destination()
    with moving(there.port) as peer:
        for _ in range(2):
            *pending, final = move(peer)
            assert [counts(answer) for answer in pending] == [(4, 0, 0, 0)]
            assert (final.status, counts(final)) == (0, (None, 4, 0, 0))
        peer.release()


def test_what_went_wrong_is_told_at_once(moving, destination, monkeypatch):
    monkeypatch.setattr(retrieve_operation, "_SHORTEST_PENDING_S", 3600.0)
    there = destination(status=lambda uid: {UIDS[1]: 0xA700, UIDS[2]: 0xB000}.get(uid, 0))
    with moving(there.port) as peer:
        *pending, _ = move(peer)
        assert [counts(answer) for answer in pending] == [(4, 0, 0, 0), (2, 1, 1, 0), (1, 1, 1, 1)]
        peer.release()


def test_nothing_matches(moving, destination):
    there = destination()
    with moving(there.port) as peer:
        (final,) = move(peer, data=identifier("1.2.3.99"))
        peer.release()
    assert (final.status, counts(final)) == (0, (None, 0, 0, 0))
    assert there.proposed == []


def test_an_unknown_destination(moving, caplog):
    with moving(refusing_port()) as peer:
        (final,) = move(peer, to="ELSEWHERE")
        assert final.status == 0xA801
        assert final.comment == "Move Destination 'ELSEWHERE' is not configured here"
        peer.release()
    assert "'ELSEWHERE' is not configured" in caplog.text


def test_nothing_listens_there(moving):
    with moving(refusing_port()) as peer:
        *_, final = move(peer)
        assert final.status == 0xA702
        assert counts(final) == (None, 0, 4, 0)
        assert failed_list(final) == UIDS
        assert final.comment.startswith("THERE at 127.0.0.1:")
        peer.release()


def test_the_destination_rejects_the_association(moving, destination):
    there = destination(rejects=bytes((0, 1, 1, 7)))
    with moving(there.port) as peer:
        *_, final = move(peer)
        assert (final.status, failed_list(final)) == (0xA702, UIDS)
        peer.release()


LOCAL_LIMIT_EXCEEDED = bytes((0, 2, 3, 2))


def test_the_destination_takes_one_association_at_a_time(moving, destination):
    """It rejects for the moment: so the node asks again."""
    there = destination(rejects=LOCAL_LIMIT_EXCEEDED, rejected=2)
    with moving(there.port) as peer:
        assert (move(peer)[-1].status, len(there.stored)) == (0, 4)
        peer.release()
    assert len(there.called) == 3


def test_the_destination_is_busy_for_long(start_server, storage, holding, destination):
    there = destination(rejects=LOCAL_LIMIT_EXCEEDED)
    remotes = (RemoteAE("there", "THERE", "127.0.0.1", there.port),)
    holding(*CTS)
    services = storage.services(remotes, dataclasses.replace(PATIENT, busy_s=0.5))
    with start_server(services, remotes).peer(MOVE) as peer:
        *_, final = move(peer)
        assert (final.status, counts(final), failed_list(final)) == (0xA702, (None, 0, 4, 0), UIDS)
        assert "rejected the association" in final.comment
        peer.release()
    assert len(there.called) > 1


def test_the_name_of_the_destination_is_not_known(start_server, storage, holding):
    remotes = (RemoteAE("there", "THERE", "no-such-host.invalid", 104),)
    holding(*CTS)
    with start_server(storage.services(remotes), remotes).peer(MOVE) as peer:
        *_, final = move(peer)
        assert (final.status, counts(final), failed_list(final)) == (0xA702, (None, 0, 4, 0), UIDS)
        assert "is not known to DNS" in final.comment
        peer.release()


def test_the_destination_accepts_nothing(moving, destination):
    there = destination(accepts=lambda *_: False)
    with moving(there.port) as peer:
        *_, final = move(peer)
        assert (final.status, counts(final), failed_list(final)) == (0xA702, (None, 0, 4, 0), UIDS)
        peer.release()


def test_the_destination_refuses_a_sop_class(moving, destination, each_is_told):
    there = destination(accepts=lambda abstract, _: abstract == DX.sop_class_uid)
    with moving(there.port, *CTS, DX) as peer:
        *pending, final = move(peer)
        assert len(pending) == 5
        assert (final.status, counts(final)) == (0xB000, (None, 1, 4, 0))
        assert sorted(failed_list(final)) == sorted(UIDS)
        assert "does not accept CT Image Storage" in final.comment
        peer.release()
    assert [one.sop_instance_uid for one in there.stored] == [DX.sop_instance_uid]


def test_the_destination_refuses_every_instance(moving, destination):
    there = destination(status=lambda _: 0xA700)
    with moving(there.port) as peer:
        *_, final = move(peer)
        assert (final.status, counts(final), failed_list(final)) == (0xA702, (None, 0, 4, 0), UIDS)
        assert final.comment == "The destination answered status 0xA700: because"
        peer.release()


def test_the_destination_warns(moving, destination):
    there = destination(status=lambda uid: 0xB007 if uid == UIDS[0] else 0)
    with moving(there.port) as peer:
        *_, final = move(peer)
        assert (final.status, counts(final), failed_list(final)) == (0xB000, (None, 3, 0, 1), None)
        peer.release()


@pytest.mark.parametrize(
    ("statuses", "final_status", "final_counts"),
    [
        ([0xB007] * 4, 0xB000, (None, 0, 0, 4)),
        ([0xB007, 0xA700, 0xB006, 0xA700], 0xB000, (None, 0, 2, 2)),
        ([0, 0xA700, 0xA700, 0xA700], 0xB000, (None, 1, 3, 0)),
        ([0xA700] * 4, 0xA702, (None, 0, 4, 0)),
    ],
    ids=["all warned", "some warned and the others failed", "some failed", "all failed"],
)
def test_the_final_status_is_of_all_sub_operations(moving, destination, statuses, final_status, final_counts):
    """PS3.4 C.4.2.1.5: refused is what nothing came of; what came with a warning came."""
    there = destination(status=dict(zip(UIDS, statuses, strict=True)).__getitem__)
    with moving(there.port) as peer:
        *_, final = move(peer)
        assert (final.status, counts(final)) == (final_status, final_counts)
        peer.release()


def test_the_destination_dies_in_the_middle(moving, destination):
    there = destination(dies_from=2)
    with moving(there.port) as peer:
        *_, final = move(peer)
        assert (final.status, counts(final), failed_list(final)) == (0xB000, (None, 1, 3, 0), UIDS[1:])
        assert final.comment.startswith("THERE broke off")
        (again,) = move(peer, data=identifier("9.9"))
        assert again.status == 0
        peer.release()


def test_the_destination_does_not_answer_any_more(start_server, storage, holding, destination, each_is_told):
    """Each instance that it may be stuck on is given up after a while, and after some in a row the destination."""
    done = threading.Event()

    def wait():
        if len(there.stored) > 1:
            done.wait(TIMEOUT_S)

    there = destination(before_answer=wait)
    remotes = (RemoteAE("there", "THERE", "127.0.0.1", there.port),)
    holding(*CTS)
    services = storage.services(remotes, dataclasses.replace(PATIENT, network_s=0.3, association_s=0.3))
    with start_server(services, remotes).peer(MOVE) as peer:
        *pending, final = move(peer)
        done.set()
        assert [counts(answer) for answer in pending] == [(4, 0, 0, 0), (3, 1, 0, 0), (2, 1, 1, 0), (1, 1, 2, 0)]
        assert (final.status, counts(final), failed_list(final)) == (0xB000, (None, 1, 3, 0), UIDS[1:])
        peer.release()


def noted(recorder):
    return [(kind, called, reason) for kind, _, called, _, reason, _ in recorder.rejections]


def test_a_destination_that_cannot_be_reached_is_noted_until_one_c_move_succeeds(
    moving, destination, recorder, start_server, storage
):
    there = destination()
    there.close()
    with moving(there.port) as peer:
        assert move(peer)[-1].status == 0xA702
        peer.release()
    ((kind, calling, called, address, reason, fix),) = recorder.rejections
    assert (kind, calling, called, address) == ("destination", "VIEWER", "THERE", "127.0.0.1")
    assert "cannot be reached" in reason
    assert "backup-scp check there" in fix
    assert ("destination", "THERE", "") not in recorder.successes
    remotes = (RemoteAE("there", "THERE", "127.0.0.1", destination().port),)
    with start_server(storage.services(remotes), remotes).peer(MOVE) as peer:
        assert move(peer)[-1].status == 0
        peer.release()
    both = [("destination", "THERE", ""), ("retrieve", "TESTER", "127.0.0.1")]
    wait_until(lambda: set(both) <= set(recorder.successes), what="both successes are noted")
    assert recorder.successes.index(both[0]) < recorder.successes.index(both[1])


def test_a_destination_that_refuses_some_is_noted(moving, destination, recorder):
    there = destination(status=lambda uid: 0xA700 if uid == UIDS[1] else 0)
    with moving(there.port) as peer:
        assert move(peer)[-1].status == 0xB000
        peer.release()
    assert noted(recorder) == [("destination", "THERE", "The destination answered status 0xA700: because")]
    assert ("destination", "THERE", "") not in recorder.successes


def test_a_destination_is_not_blamed_for_a_damaged_file_or_for_nothing_to_send(moving, destination, storage, recorder):
    with moving(destination().port) as peer:
        damaged = storage.kept()[0]
        damaged.chmod(0o600)
        damaged.write_bytes(damaged.read_bytes()[:-2])
        assert move(peer)[-1].status == 0xB000
        assert recorder.successes.count(("destination", "THERE", "")) == 1
        assert move(peer, data=identifier("9.9"))[-1].status == 0
        peer.release()
    assert noted(recorder) == []
    assert recorder.successes.count(("destination", "THERE", "")) == 1


def test_a_damaged_file_is_not_sent(moving, destination, storage):
    there = destination()
    with moving(there.port) as peer:
        damaged = storage.kept()[0]
        content = bytearray(damaged.read_bytes())
        content[-1] ^= 1
        damaged.chmod(0o600)
        damaged.write_bytes(content)
        *_, final = move(peer)
        assert (final.status, counts(final)) == (0xB000, (None, 3, 1, 0))
        (failed,) = failed_list(final)
        assert failed not in {one.sop_instance_uid for one in there.stored}
        peer.release()


def test_more_than_128_contexts(moving, destination, each_is_told):
    many = [
        samples.encode(samples.replace(samples.ct_series(1)[0], SOPClassUID=f"1.2.{n}", SOPInstanceUID=f"2.25.{n}"))
        for n in range(1, 71)
    ]
    there = destination()
    with moving(there.port, *many) as peer:
        *pending, final = move(peer)
        assert len(pending) == 70
        assert (final.status, counts(final)) == (0, (None, 70, 0, 0))
        peer.release()
    assert len(there.proposed) == 2
    assert {one.sop_instance_uid for one in there.stored} == {sample.sop_instance_uid for sample in many}


@pytest.mark.parametrize(("taken", "completed"), [(1, 64), (2, 6)], ids=["first", "second"])
def test_one_association_of_several_is_accepted(moving, destination, taken, completed, each_is_told):
    """The destination takes nothing of the other: that keeps nothing of this one back."""
    many = [
        samples.encode(samples.replace(samples.ct_series(1)[0], SOPClassUID=f"1.2.{n}", SOPInstanceUID=f"2.25.{n}"))
        for n in range(1, 71)
    ]

    def accepts(*_):
        return len(there.called) == taken

    there = destination(accepts=accepts)
    with moving(there.port, *many) as peer:
        *pending, final = move(peer)
        assert len(pending) == 70
        assert (final.status, counts(final)) == (0xB000, (None, completed, 70 - completed, 0))
        stored = {one.sop_instance_uid for one in there.stored}
        assert sorted(failed_list(final)) == sorted({s.sop_instance_uid for s in many} - stored)
        peer.release()


@pytest.mark.parametrize(("asked", "given"), [(0, 0), (1, 1), (2, 2), (3, 0)])
def test_the_priority_of_the_move_is_that_of_its_sub_operations(moving, destination, asked, given):
    there = destination()
    with moving(there.port) as peer:
        assert move(peer, priority=asked)[-1].status == 0
        peer.release()
    assert {number(one.message.elements, 0x0700) for one in there.stored} == {given}


def test_cancel_while_the_destination_takes_its_time(moving, destination):
    """It neither answers nor breaks off, so it is unknown whether it has stored the image."""
    done = threading.Event()

    def wait():
        if len(there.stored) == 2:
            peer.send(p_data(pdv(1, COMMAND | LAST, cancel_rq(9))))
            done.wait(TIMEOUT_S)

    there = destination(before_answer=wait)
    with moving(there.port) as peer:
        *_, final = move(peer)
        done.set()
        assert (final.status, counts(final), failed_list(final)) == (0xFE00, (2, 1, 1, 0), [UIDS[1]])
        assert move(peer, message_id=10)[-1].status == 0
        peer.release()
    there.close()
    assert len(there.stored) == 2 + 4


def test_cancel_while_the_destination_does_not_read(moving, destination):
    big = samples.encode(samples.dx(rows=2000, columns=2000), EXPLICIT)
    done = threading.Event()

    def wait():
        peer.send(p_data(pdv(1, COMMAND | LAST, cancel_rq(9))))
        done.wait(TIMEOUT_S)

    there = destination(reads_on=wait)
    with moving(there.port, big) as peer:
        *_, final = move(peer)
        done.set()
        assert (final.status, counts(final), failed_list(final)) == (0xFE00, (0, 0, 1, 0), [big.sop_instance_uid])
        peer.release()


def test_cancel_while_the_destination_is_busy(moving, destination):
    there = destination(rejects=LOCAL_LIMIT_EXCEEDED)
    with moving(there.port) as peer:
        ask(peer, C_MOVE_RQ)
        peer.send(p_data(pdv(1, COMMAND | LAST, cancel_rq(9))))
        first, final = peer.message(), peer.message()
        assert (first.status, counts(first)) == (PENDING, (4, 0, 0, 0))
        assert (final.status, counts(final), failed_list(final)) == (0xFE00, (4, 0, 0, 0), None)
        peer.release()
    assert there.stored == []


def test_the_requestor_leaves_while_the_destination_takes_its_time(moving, destination):
    gone, done = threading.Event(), threading.Event()

    def wait():
        gone.set()
        done.wait(TIMEOUT_S)

    there = destination(before_answer=wait)
    with moving(there.port) as peer:
        ask(peer, C_MOVE_RQ)
        assert gone.wait(TIMEOUT_S)
        peer.reset()
    associations_ended()
    done.set()
    there.close()
    assert len(there.stored) == 1


def test_cancel(moving, destination):
    cancelling: list[Callable] = []
    there = destination(before_answer=lambda: cancelling.pop()() if cancelling else None)
    with moving(there.port) as peer:
        cancelling.append(lambda: peer.send(p_data(pdv(1, COMMAND | LAST, cancel_rq(9)))))
        *_, final = move(peer)
        assert (final.status, counts(final), failed_list(final)) == (0xFE00, (3, 1, 0, 0), None)
        assert [answer.status for answer in move(peer)][-1] == 0  # the same Message ID again is not cancelled
        peer.release()
    there.close()
    assert there.ended == ["ReleasedError", "ReleasedError"]


def test_cancel_while_an_image_is_decoded(moving, destination):
    """The decoder holds still, with one image at hand; the next operation gets that one and all others whole."""
    series = lossless_series(4)
    stopping: list[Callable] = []
    there = destination(
        accepts=lambda _abstract, transfer: transfer == EXPLICIT,
        before_answer=lambda: stopping.pop()() if stopping else None,
    )

    def stop():
        os.kill(decoder(), signal.SIGSTOP)
        peer.send(p_data(pdv(1, COMMAND | LAST, cancel_rq(9))))

    with moving(there.port, *(sample for sample, _ in series)) as peer:
        stopping.append(stop)
        *_, final = move(peer)
        assert (final.status, counts(final), failed_list(final)) == (0xFE00, (3, 1, 0, 0), None)
        os.kill(decoder(), signal.SIGCONT)
        assert counts(move(peer)[-1]) == (None, 4, 0, 0)
        peer.release()
    there.close()
    assert [words(one) for one in there.stored] == [series[0][1], *(expected for _, expected in series)]


def test_a_decoder_that_ends_in_the_middle_costs_one_image_at_most(moving, destination):
    series = lossless_series(6)
    answered = itertools.count(1)
    there = destination(
        accepts=lambda _abstract, transfer: transfer == EXPLICIT,
        before_answer=lambda: os.kill(decoder(), signal.SIGKILL) if next(answered) == 2 else None,
    )
    with moving(there.port, *(sample for sample, _ in series)) as peer:
        _, completed, failed, _ = counts(move(peer)[-1])
        peer.release()
    there.close()
    assert completed + failed == 6 <= completed + 1
    expected = {sample.sop_instance_uid: content for sample, content in series}
    assert len(there.stored) == completed
    for one in there.stored:
        assert words(one) == expected[one.sop_instance_uid]


def decoder() -> int:
    """Return the process that decodes for this one."""
    process = decoders._process._process
    assert process is not None
    return process.pid


def words(stored) -> bytes:
    return pydicom.filereader.read_dataset(io.BytesIO(stored.message.data_set), False, True).PixelData


@pytest.mark.parametrize(("studies", "named"), [(["1.2"], "study '1.2'"), (["1.2", "1.3"], "study '1.2' and 1 more")])
def test_the_studies_of_an_operation_are_named_for_the_log(studies, named):
    assert retrieve_operation._named(studies) == named


def test_a_cancelled_move_is_answered_before_its_destination_is_released(moving, destination):
    cancelling: list[Callable] = []
    answered, was_answered = threading.Event(), []
    there = destination(
        before_answer=lambda: cancelling.pop()() if cancelling else None,
        before_release=lambda: was_answered.append(answered.wait(TIMEOUT_S / 2)),
    )
    with moving(there.port) as peer:
        cancelling.append(lambda: peer.send(p_data(pdv(1, COMMAND | LAST, cancel_rq(9)))))
        assert move(peer)[-1].status == 0xFE00
        answered.set()
        peer.release()
    there.close()
    assert was_answered == [True]


def test_a_cancel_for_another_operation(moving, destination):
    sent: list[Callable] = []
    there = destination(before_answer=lambda: sent.pop()() if sent else None)
    with moving(there.port) as peer:
        sent.append(lambda: peer.send(p_data(pdv(1, COMMAND | LAST, cancel_rq(8)))))
        assert move(peer)[-1].status == 0
        peer.release()


def test_the_requestor_leaves_in_the_middle(moving, destination, each_is_told):
    gone: list[Callable] = []
    there = destination(before_answer=lambda: gone.pop()() if gone else None)
    with moving(there.port) as peer:
        gone.append(peer.reset)
        ask(peer, C_MOVE_RQ)
        with contextlib.suppress(OSError):
            while True:
                peer.message()
    there.close()
    assert len(there.stored) < 4
    assert there.ended in (["ReleasedError"], ["ConnectionAbortedError"])  # between two images, or in one


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"", 0xA900), (b"\x08", 0xA900), (bytes(1 << 21), 0xA900)],
    ids=["empty", "no Data Set", "2 MiB"],
)
def test_an_identifier_that_is_none(moving, data, status):
    with moving(refusing_port()) as peer:
        (final,) = move(peer, data=data)
        assert final.status == status
        assert final.comment
        (again,) = move(peer, data=identifier("9.9"))
        assert again.status == 0
        peer.release()


def test_the_index_does_not_answer(moving, storage, monkeypatch):
    def fails(_):
        raise errors.IndexUnavailable("Index does not answer")

    with moving(refusing_port()) as peer:
        monkeypatch.setattr(storage.index, "retrieve", fails)
        *_, final = move(peer)
        assert (final.status, final.comment) == (0xA701, "Index does not answer")
        peer.release()


def test_a_stranger_may_not(start_server, storage, holding, monkeypatch, caplog):
    def as_stranger(_policy, title, address, *_):
        return Caller(title, address, remote=None, is_this_machine=False)

    holding(*CTS)
    monkeypatch.setattr(AccessPolicy, "identify", as_stranger)
    with start_server(storage.services()).peer(MOVE) as peer:
        *_, final = move(peer)
        assert final.status == 0x0124
        assert "may not query here" in final.comment
        peer.release()
    assert "may not query here" in caplog.text


def test_the_log_says_how_it_went_without_a_patient(moving, destination, caplog):
    caplog.set_level(logging.DEBUG)
    there = destination()
    with moving(there.port) as peer:
        began = time.monotonic()
        move(peer)
        peer.release()
        took_s = time.monotonic() - began
    to, study = f"'THERE' at 127.0.0.1:{there.port}", repr(STUDY)
    line = f"C-MOVE of 'VIEWER' at 127.0.0.1 to {to}: study {study}, 4 images: 4 sent as stored, 0 with a warning, "
    _, found, rest = caplog.text.partition(f"{line}0 failed, 0 not sent; ")
    assert found
    assert float(rest.split(" s")[0]) <= took_s + 0.01  # it is rounded
    assert not [value for value in PERSONAL if value in caplog.text]


def test_the_log_says_what_was_transcoded_to_what(moving, destination, caplog):
    caplog.set_level(logging.INFO)
    there = destination(
        accepts=lambda abstract, transfer: abstract == DX.sop_class_uid or transfer == IMPLICIT,
        status=lambda uid: 0xB000 if uid == UIDS[0] else 0,
    )
    with moving(there.port, *CTS, DX) as peer:
        move(peer)
        peer.release()
    assert (
        "1 sent as stored, 4 transcoded from Explicit VR Little Endian to Implicit VR Little Endian, 1 with a warning, "
        "0 failed, 0 not sent; "
    ) in caplog.text


# ----------------------------------------------------------------------------- nobody waits for long without a word


@pytest.fixture
def told_often(monkeypatch):
    """A pending answer is due all the time."""
    monkeypatch.setattr(retrieve_operation, "_LONGEST_PENDING_S", 0.02)


def test_a_requestor_is_told_while_one_sub_operation_takes_its_time(moving, destination, told_often):
    done = threading.Event()
    there = destination(before_answer=lambda: done.wait(TIMEOUT_S))
    with moving(there.port) as peer:
        ask(peer, C_MOVE_RQ)
        told = [peer.message() for _ in range(5)]
        done.set()
        assert [(answer.status, counts(answer)) for answer in told] == [(PENDING, (4, 0, 0, 0))] * 5
        while (final := peer.message()).status == PENDING:
            pass
        assert (final.status, counts(final)) == (0, (None, 4, 0, 0))
        peer.release()


def test_a_requestor_is_told_while_a_large_file_is_read(moving, destination, storage, told_often, monkeypatch):
    done, load = threading.Event(), storage.archive.load

    def slowly(*arguments, **keywords):
        done.wait(TIMEOUT_S)
        return load(*arguments, **keywords)

    monkeypatch.setattr(storage.archive, "load", slowly)
    there = destination()
    with moving(there.port) as peer:
        ask(peer, C_MOVE_RQ)
        assert [peer.message().status for _ in range(5)] == [PENDING] * 5
        done.set()
        while (final := peer.message()).status == PENDING:
            pass
        assert (final.status, counts(final)) == (0, (None, 4, 0, 0))
        peer.release()


def test_a_requestor_is_told_nothing_after_the_final_response(moving, destination, monkeypatch):
    """The other thread may come to it just then."""
    conclude = retrieve_operation.RetrieveOperation.conclude

    def tells_once_more(operation, *how):
        conclude(operation, *how)
        operation.tell()

    monkeypatch.setattr(retrieve_operation.RetrieveOperation, "conclude", tells_once_more)
    monkeypatch.setattr(retrieve_operation, "_LONGEST_PENDING_S", -1.0)  # it is always due
    there = destination()
    with moving(there.port) as peer:
        assert move(peer)[-1].status == 0
        peer.release()


def test_a_requestor_that_leaves_meanwhile_is_not_told(moving, destination, told_often):
    done = threading.Event()
    there = destination(before_answer=lambda: done.wait(TIMEOUT_S))
    with moving(there.port) as peer:
        ask(peer, C_MOVE_RQ)
        assert peer.message().status == PENDING
        peer.reset()
    associations_ended()
    done.set()


# -------------------------------------------------------------------------------------------------------- C-GET


@pytest.fixture
def node(start_server, storage):
    return start_server(storage.services())


@pytest.fixture
def getting(node, holding):
    """Return ``getting(contexts, items, some)``: an association to a node that holds them."""

    def start(*contexts, items=b"", some=tuple(CTS)):
        holding(*some)
        return node.peer(GET, *contexts, items=items)

    return start


BOTH = role(CT_IMAGE_STORAGE, scu=1, scp=1)


def store_rsp(request, status=0):
    return command({0x0100: 0x8001, 0x0120: number(request.elements, 0x0110), 0x0800: 0x0101, 0x0900: status})


def get(peer, answer=lambda _message: 0, **request):
    """C-GET; return the stored instances, and every response to the C-GET itself."""
    ask(peer, C_GET_RQ, **request)
    stored, answers = [], []
    while True:
        message = peer.message()
        if message.field == 0x0001:
            stored.append(message)
            status = answer(message)
            if status is None:
                continue
            peer.send(p_data(pdv(message.context_id, COMMAND | LAST, store_rsp(message, status))))
            continue
        answers.append(message)
        if message.status != PENDING:
            return stored, answers


def test_get_with_role_selection(getting, each_is_told):
    with getting(CT, items=BOTH) as peer:
        stored, (*pending, final) = get(peer)
        assert [one.data_set for one in stored] == [sample.data_set for sample in CTS]
        assert {one.context_id for one in stored} == {3}
        assert all(0x1030 not in one.elements for one in stored)  # the Move Originator is of C-MOVE only
        assert [counts(answer) for answer in pending] == [(4, 0, 0, 0), (3, 1, 0, 0), (2, 2, 0, 0), (1, 3, 0, 0)]
        assert (final.status, counts(final)) == (0, (None, 4, 0, 0))
        peer.release()


@pytest.mark.parametrize("items", [b"", role(CT_IMAGE_STORAGE, scu=1, scp=0)], ids=["no role", "SCU only"])
def test_get_without_role_selection_is_honest(getting, items):
    with getting(CT, items=items) as peer:
        stored, (*_, final) = get(peer)
        assert stored == []
        assert (final.status, counts(final), failed_list(final)) == (0xA702, (None, 0, 4, 0), UIDS)
        peer.release()


def test_get_of_what_was_not_proposed_is_honest(getting):
    with getting(CT, items=BOTH, some=(*CTS, DX)) as peer:
        stored, (*_, final) = get(peer)
        assert len(stored) == 4
        assert (final.status, counts(final), failed_list(final)) == (0xB000, (None, 4, 1, 0), [DX.sop_instance_uid])
        peer.release()


def test_get_in_another_syntax_is_transcoded(getting):
    with getting((CT_IMAGE_STORAGE, (IMPLICIT,)), items=BOTH) as peer:
        stored, (*_, final) = get(peer)
        assert (final.status, counts(final)) == (0, (None, 4, 0, 0))
        assert all(one.data_set != sample.data_set for one, sample in zip(stored, CTS, strict=True))
        peer.release()


def test_get_refused_and_warned(getting):
    statuses = dict(zip(UIDS, [0xA700, 0xB000, 0xC000, 0], strict=True))
    with getting(CT, items=BOTH) as peer:
        _, (*_, final) = get(peer, lambda message: statuses[message.elements[0x1000].rstrip(b"\0").decode()])
        assert (final.status, counts(final)) == (0xB000, (None, 1, 2, 1))
        assert failed_list(final) == [UIDS[0], UIDS[2]]
        peer.release()


def test_get_cancelled_before_the_response_to_a_sub_operation(getting):
    with getting(CT, items=BOTH) as peer:

        def cancel(_message):
            peer.send(p_data(pdv(1, COMMAND | LAST, cancel_rq(9))))
            return 0

        stored, (*_, final) = get(peer, cancel)
        assert len(stored) == 1
        assert (final.status, counts(final)) == (0xFE00, (3, 1, 0, 0))
        peer.release()


def test_a_request_in_the_middle_of_a_get_ends_the_association(getting):
    """It violates PS3.7 D.3.3.3, one operation at a time: its response would look like a sub-operation's."""
    with getting(CT, items=BOTH) as peer:
        ask(peer, C_GET_RQ)
        assert peer.message().status == PENDING
        assert peer.message().field == 0x0001
        ask(peer, C_GET_RQ, message_id=10)
        kinds = [peer.pdu()[0]]
        while kinds[-1] == P_DATA_TF:
            kinds.append(peer.pdu()[0])
        assert kinds[-1] == ABORT


def test_get_is_finished_when_the_node_stops(getting, node):
    """Waiting for the response to a sub-operation is not idleness."""
    server = node.server
    stopping = threading.Thread(target=server.stop, args=(TIMEOUT_S,))

    def stop_first(_message):
        if not stopping.ident:
            stopping.start()
            with server._lock:
                (association,) = server._associations
            while not association.ending:
                pass
        return 0

    with getting(CT, items=BOTH) as peer:
        stored, (*_, final) = get(peer, stop_first)
        assert len(stored) == 4
        assert final.status == 0
        assert peer.pdu()[0] == ABORT
    stopping.join(TIMEOUT_S)
    assert not stopping.is_alive()


def test_the_requestor_of_a_get_is_told_while_it_keeps_us_waiting(getting, told_often):
    """PS3.4 C.4.3.3: pending answers come at any time, but not between the parts of a C-STORE-RQ."""
    with getting(CT, items=BOTH) as peer:
        ask(peer, C_GET_RQ)
        stored: list[Message] = []
        told: list[Message] = []
        while len(stored) < len(CTS):
            message = peer.message()
            if message.field == 0x0001:
                stored.append(message)
                told += [peer.message() for _ in range(3)]
                peer.send(p_data(pdv(message.context_id, COMMAND | LAST, store_rsp(message))))
            else:
                told.append(message)
        assert {answer.status for answer in told} == {PENDING}
        while (final := peer.message()).status == PENDING:
            pass
        assert (final.status, counts(final)) == (0, (None, 4, 0, 0))
        peer.release()
    assert [message.data_set for message in stored] == [sample.data_set for sample in CTS]


def test_the_requestor_of_a_get_is_not_told_before_it_is_due(getting, each_is_told, monkeypatch):
    """The node looks up several times while it waits, and each time there is nothing to say yet."""
    looked_up, tell = threading.Semaphore(0), retrieve_operation.RetrieveOperation.tell

    def noted(operation):
        tell(operation)
        looked_up.release()

    def answer_late(_message):
        for _ in range(3):
            assert looked_up.acquire(timeout=TIMEOUT_S)
        return 0

    monkeypatch.setattr(retrieve_operation.RetrieveOperation, "tell", noted)
    with getting(CT, items=BOTH, some=CTS[:1]) as peer:
        _, (*pending, final) = get(peer, answer_late)
        assert [counts(answer) for answer in pending] == [(1, 0, 0, 0)]
        assert (final.status, counts(final)) == (0, (None, 1, 0, 0))
        peer.release()


def test_a_get_without_roles_where_the_settings_let_it(start_server, storage, holding):
    """Horos proposes to be SCP of nothing and waits for C-STORE-RQs."""
    holding(*CTS)
    for lets, sent in ((False, 0), (True, 4)):
        node = start_server(storage.services(get_without_roles=lets))
        with node.peer(GET, CT) as peer:
            stored, (*_, final) = get(peer)
            assert (len(stored), final.status) == (sent, 0 if lets else 0xA702)
            peer.release()


@pytest.mark.parametrize("checks", [False, True])
def test_sub_operations_come_from_the_ae_that_was_called(start_server, storage, holding, destination, checks):
    holding(*CTS)
    there = destination()
    remotes = (RemoteAE("there", "THERE", "127.0.0.1", there.port),)
    node = start_server(storage.services(remotes), remotes, check_called_ae_title=checks)
    called = "BACKUP_SCP" if checks else "OLD_PACS"
    with node.peer(MOVE, called=called.encode()) as peer:
        assert move(peer)[-1].status == 0
        peer.release()
    assert there.callers == [called]


@pytest.mark.parametrize("longest", [512, 1024])
def test_what_a_get_sends_keeps_to_the_length_that_the_requestor_takes(node, holding, longest):
    holding(DX)
    with node.peer(
        GET, (DX.sop_class_uid, (EXPLICIT,)), items=role(DX.sop_class_uid, scu=1, scp=1), maximum_length=longest
    ) as peer:
        (stored,), _ = get(peer, data=identifier(pydicom.dcmread(io.BytesIO(DX.data_set), force=True).StudyInstanceUID))
        assert stored.data_set == DX.data_set
        assert len(DX.data_set) > longest >= stored.longest_pdu > longest // 2
        peer.release()


@pytest.mark.parametrize(("asked", "sent"), [(0, 0), (1, 1), (2, 2), (3, 0)])
def test_the_priority_of_a_get_is_that_of_its_sub_operations(getting, asked, sent):
    """PS3.4 C.4.3.1.2."""
    with getting(CT, items=BOTH) as peer:
        stored, _ = get(peer, priority=asked)
        assert [number(one.elements, 0x0700) for one in stored] == [sent] * 4
        peer.release()
