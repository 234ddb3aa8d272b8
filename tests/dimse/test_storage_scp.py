"""C-STORE with a real archive and index: answers, stored files, discarded files (PS3.4 B.2)."""

from __future__ import annotations

import logging
import threading

import pytest
from pydicom.uid import CTImageStorage

from backup_scp import errors
from backup_scp.dimse.association.association import Association, Timing
from backup_scp.ports import InstanceKey, RemoteAE
from tests import samples
from tests.dimse.conftest import associations_ended
from tests.dimse.wire import (
    ABORT,
    COMMAND,
    DATA,
    EXPLICIT,
    IMPLICIT,
    LAST,
    TIMEOUT_S,
    VERIFICATION,
    abort,
    command,
    fragments,
    p_data,
    pdv,
    release_rq,
    store_rq,
)

SAMPLE = samples.encode(samples.ct_series(1, PatientName="Doe^Jane", PatientID="SECRET77")[0], EXPLICIT)
CT = (str(CTImageStorage), (EXPLICIT,))
ECHO = (VERIFICATION, (IMPLICIT,))


@pytest.fixture
def node(start_server, storage):
    return start_server(storage.services())


def store(peer, sample=SAMPLE, *, context=1, size=4096, **request):
    """C-STORE; return the answer."""
    peer.send(p_data(pdv(context, COMMAND | LAST, store_rq(sample.sop_instance_uid, **request))))
    peer.send(*fragments(context, DATA, sample.data_set, size))
    return peer.message()


def finish():
    associations_ended()


def key(sample=SAMPLE):
    ds = sample.dataset()
    return InstanceKey(str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), sample.sop_instance_uid)


# ------------------------------------------------------------------------------------------------------ success


def test_success_means_file_and_row(node, storage):
    with node.peer(CT, calling=b"CONSOLE") as peer:
        answer = store(peer)
        assert (answer.status, answer.comment, answer.data_set) == (0, "", b"")
        location, arrival = storage.index.held(key(), SAMPLE.sha256, "")
        assert storage.archive.verify(location, SAMPLE.sha256).size_bytes == len(SAMPLE.data_set)
        assert (arrival.service, arrival.calling_ae_title, arrival.called_ae_title, arrival.address) == (
            "C-STORE",
            "CONSOLE",
            "BACKUP_SCP",
            "127.0.0.1",
        )
        peer.release()
    assert storage.staged() == []
    assert len(storage.kept()) == 1


@pytest.mark.parametrize(("host", "name"), [("127.0.0.1", "console"), ("192.0.2.1", "")])
def test_whom_the_settings_know_is_named_where_its_address_is_right_too(start_server, storage, host, name):
    node = start_server(storage.services(), remotes=[RemoteAE("console", "CONSOLE", host)])
    with node.peer(CT, calling=b"CONSOLE") as peer:
        assert store(peer).status == 0
        location, arrival = storage.index.held(key(), SAMPLE.sha256, "")
        assert (arrival.calling_ae_title, arrival.remote) == ("CONSOLE", name)
        assert storage.archive.read(location).arrival == arrival
        peer.release()


def test_success_is_not_said_before_the_bytes_are_durable_and_the_row_is_there(node, storage, monkeypatch):
    """Each step is held back in its turn; meanwhile nothing may be on the wire."""
    steps: list[str] = []
    for owner, name in ((storage.archive, "commit"), (storage.index, "add")):
        monkeypatch.setattr(owner, name, _watched(getattr(owner, name), name, steps))
    with node.peer(CT) as peer:
        monkeypatch.setattr(Association, "send", _noting(Association.send, steps))
        assert store(peer).status == 0
        peer.release()
    assert steps == ["commit", "add", "answer"]


def _watched(function, name, steps):
    def watched(*arguments, **named):
        result = function(*arguments, **named)
        steps.append(name)
        return result

    return watched


def _noting(send, steps):
    def noting(*arguments):
        steps.append("answer")
        return send(*arguments)

    return noting


def test_again_is_a_success_and_another_is_a_version(node, storage):
    other = samples.encode(samples.ct_series(1, PatientName="Doe^Jane", PatientID="SECRET77", Rows=16)[0], EXPLICIT)
    with node.peer(CT) as peer:
        assert [store(peer, sample).status for sample in (SAMPLE, SAMPLE, other)] == [0, 0, 0]
        peer.release()
    assert len(storage.kept()) == 2
    assert storage.staged() == []


def test_the_log_tells_one_line_without_the_patient(node, caplog):
    caplog.set_level(logging.DEBUG)
    with node.peer(CT) as peer:
        store(peer)
        store(peer)
        store(peer, sop_class="1.2.3")
        peer.release()
    finish()
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert line.startswith("Association with 'TESTER' at 127.0.0.1 released: 1 stored, 1 already held, 1 refused")
    assert "Doe" not in caplog.text
    assert "SECRET77" not in caplog.text


# ------------------------------------------------------------------------------------------------------ refusal

FAILURES = [
    (errors.ArchiveFull("Archive is full: 3 MB are free"), 0xA700),
    (errors.ArchiveUnavailable("Archive cannot be written: Input/output error"), 0xA700),
    (errors.IndexUnavailable("Index does not answer"), 0xA700),
    (errors.InvalidDataSet("SOP Instance UID: Command Set 1.2, Data Set 1.3"), 0xA900),
    (errors.BackupSCPError("Something new"), 0x0110),
]
STEPS = ["stage", "write", "look_up", "commit", "add"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure[0]).__name__)
def test_every_error_at_every_step_is_answered_in_step(node, storage, monkeypatch, caplog, step, failure):
    error, status = failure
    with node.peer(CT, ECHO) as peer:
        with monkeypatch.context() as patch:
            fail(patch, storage, step, error)
            answer = store(peer)
            assert (answer.status, answer.comment) == (status, str(error)[:64])
        assert storage.index.held(key(), SAMPLE.sha256, "") is None
        if step == "add":  # visible, and noted for the sweep: it was not acknowledged, and a re-send finds it
            assert len(storage.kept()) == 1
        else:
            assert storage.kept() == []
            assert storage.staged() == []
        assert peer.echo(3) == 0
        assert store(peer).status == 0
        peer.release()
    assert storage.index.held(key(), SAMPLE.sha256, "") is not None
    assert str(error) in caplog.text


def fail(patch, storage, step, error):
    def fails(*_, **__):
        raise error

    if step == "write":
        patch.setattr("backup_scp.archive.staging.FileInStaging.write", fails)
    else:
        patch.setattr(storage.index if step in {"look_up", "add"} else storage.archive, step, fails)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", [ValueError("Doe^Jane"), OSError(5, "Doe^Jane"), MemoryError("Doe^Jane")], ids=repr)
def test_an_unexpected_error_says_nothing_of_the_patient(node, storage, monkeypatch, caplog, step, error):
    caplog.set_level(logging.DEBUG)
    with node.peer(CT, ECHO) as peer:
        with monkeypatch.context() as patch:
            fail(patch, storage, step, error)
            answer = store(peer, size=1000)
            assert (answer.status, answer.comment) == (0x0110, "Internal error")
        if step != "add":
            assert storage.staged() == []
            assert storage.kept() == []
        assert peer.echo(3) == 0
        assert store(peer).status == 0
        peer.release()
    finish()
    assert "Doe" not in caplog.text
    assert "Traceback" not in caplog.text
    assert type(error).__name__ in caplog.text


def test_a_data_set_that_cannot_be_parsed_is_kept(node, storage):
    broken = samples.Sample("broken", str(CTImageStorage), "1.2.3.4", EXPLICIT, b"Doe^Jane is no Data Set")
    with node.peer(CT) as peer:
        answer = store(peer, broken)
        assert answer.status == 0
        peer.release()
    assert len(storage.kept()) == 1
    assert storage.index.holdings().flagged == 1


def test_an_empty_data_set_does_not_hang(node, storage):
    empty = samples.Sample("empty", str(CTImageStorage), "1.2.3.5", EXPLICIT, b"")
    with node.peer(CT) as peer:
        peer.send(p_data(pdv(1, COMMAND | LAST, store_rq(empty.sop_instance_uid)), pdv(1, DATA | LAST)))
        assert peer.message().status in {0, 0xA900}
        assert store(peer).status == 0
        peer.release()


def test_a_request_that_says_no_data_set(node, storage):
    request: dict[int, bytes | str | int] = {
        0x0002: str(CTImageStorage),
        0x0100: 1,
        0x0110: 1,
        0x0800: 0x0101,
        0x1000: "1.2.3",
    }
    with node.peer(CT) as peer:
        peer.send(p_data(pdv(1, COMMAND | LAST, command(request))))
        assert (answer := peer.message()).status == 0xA900
        assert "no Data Set" in answer.comment
        assert store(peer).status == 0
        peer.release()


@pytest.mark.parametrize(
    "request_values",
    [
        {"sop_instance": "1.2.3.999"},
        {"sop_instance": SAMPLE.sop_instance_uid, "sop_class": "1.2.840.10008.5.1.4.1.1.1"},
    ],
    ids=["SOP Instance UID", "SOP Class UID"],
)
def test_command_and_data_set_that_disagree(node, storage, request_values):
    with node.peer(CT) as peer:
        peer.send(p_data(pdv(1, COMMAND | LAST, store_rq(**request_values))))
        peer.send(*fragments(1, DATA, SAMPLE.data_set, 4096))
        answer = peer.message()
        peer.release()
    assert answer.status == 0xA900
    assert "Command Set" in answer.comment
    assert storage.staged() == storage.kept() == []


def test_no_sop_instance_uid_in_the_command_set_is_taken_from_the_data_set(node, storage):
    with node.peer(CT) as peer:
        peer.send(p_data(pdv(1, COMMAND | LAST, store_rq(""))))
        peer.send(*fragments(1, DATA, SAMPLE.data_set, 4096))
        assert peer.message().status == 0
        peer.release()
    assert storage.index.held(key(), SAMPLE.sha256, "") is not None


# ------------------------------------------------------------------------------- the end in the middle of an object


def _announcing(stage, started):
    def announcing(heading):
        staged = stage(heading)
        started.set()
        return staged

    return announcing


ENDS = {
    "abort": lambda peer: peer.send(abort()),
    "reset": lambda peer: peer.reset(),
    "end of stream": lambda peer: peer.socket.close(),
    "release": lambda peer: peer.send(release_rq()),
    "second command": lambda peer: peer.send(p_data(pdv(1, COMMAND | LAST, store_rq()))),
    "PDV that lies": lambda peer: peer.send(p_data(pdv(1, DATA, b"ab", length=9))),
    "unknown PDU": lambda peer: peer.send(b"\x42\0\0\0\0\0"),
}


def begin_store(peer):
    """Send a C-STORE-RQ and a part of its Data Set."""
    peer.send(p_data(pdv(1, COMMAND | LAST, store_rq(SAMPLE.sop_instance_uid)), pdv(1, DATA, SAMPLE.data_set[:500])))


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_nothing_half_written_stays(node, storage, end, monkeypatch):
    monkeypatch.setattr("backup_scp.dimse.upper_layer.association_control._LINGER_S", 0.1)
    started = threading.Event()
    stage = storage.archive.stage
    monkeypatch.setattr(storage.archive, "stage", _announcing(stage, started))
    with node.peer(CT) as peer:
        begin_store(peer)
        assert started.wait(TIMEOUT_S)
        end(peer)
        finish()
    assert storage.staged() == []
    assert storage.kept() == []
    assert storage.index.holdings().versions == 0


def test_nothing_half_written_stays_when_the_peer_stops(start_server, storage):
    node = start_server(storage.services(), timing=Timing(idle_s=TIMEOUT_S, network_s=0.2))
    with node.peer(CT) as peer:
        begin_store(peer)
        assert peer.pdu()[0] == ABORT
    finish()
    assert storage.staged() == []


def test_nothing_half_written_stays_when_the_node_stops(node, storage, monkeypatch):
    started = threading.Event()
    stage = storage.archive.stage
    monkeypatch.setattr(storage.archive, "stage", _announcing(stage, started))
    with node.peer(CT) as peer:
        begin_store(peer)
        assert started.wait(TIMEOUT_S)
        node.server.stop(0)
    finish()
    assert storage.staged() == []
    assert storage.index.holdings().versions == 0


def test_eight_at_once(node, storage):
    instances = [samples.encode(ds, EXPLICIT) for ds in samples.ct_series(24)]
    outcomes: list[int] = []

    def send(some):
        with node.peer(CT) as peer:
            outcomes.extend(store(peer, sample).status for sample in some)
            peer.release()

    senders = [threading.Thread(target=send, args=(instances[n::8],)) for n in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(TIMEOUT_S)
    assert outcomes == [0] * 24
    assert storage.index.holdings().instances == 24
