"""Storage Commitment over the network: requests, answers, and the destination of reports (PS3.4 J.3)."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import struct
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from backup_scp.dimse.association import information_reader
from backup_scp.dimse.association.access import AccessPolicy, Caller
from backup_scp.dimse.association.association import LocalAE, Timing
from backup_scp.dimse.association.negotiation import is_storage
from backup_scp.dimse.messages import commitment_data_sets
from backup_scp.dimse.messages.commitment_data_sets import action_information as write_action_information
from backup_scp.dimse.messages.commitment_data_sets import (
    event_information,
    event_type,
    read_action_information,
    read_event_information,
)
from backup_scp.dimse.scp.service_table import services
from backup_scp.dimse.scu.event_report import EventReporter
from backup_scp.errors import DestinationUnavailable, IndexUnavailable, InvalidActionInformation, ResourceLimitation
from backup_scp.ports import Commitment, CommitmentRequest, FailureReason, Reference, RemoteAE, Requester
from backup_scp.services.commitment import CommitmentTimers, StorageCommitment
from backup_scp.services.ingest import Ingest
from tests.dimse.conftest import PATIENT, Other, threads, until_closed
from tests.dimse.wire import (
    BIG_ENDIAN,
    COMMAND,
    DATA,
    EXPLICIT,
    IMPLICIT,
    LAST,
    NO_DATA_SET,
    Elements,
    Message,
    Peer,
    command,
    encoded,
    p_data,
    pdv,
)
from tests.processes import free_port, wait_until
from tests.samples import ct_series, encode
from tests.stored import Stored
from tests.system.commitments import (
    STORAGE_COMMITMENT,
    WELL_KNOWN_INSTANCE,
    Console,
    action_information,
    ask,
    associated,
    pair,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
N_EVENT_REPORT_RQ, N_EVENT_REPORT_RSP, N_ACTION_RQ, N_ACTION_RSP = 0x0100, 0x8100, 0x0130, 0x8130
NATIVE = (IMPLICIT, EXPLICIT, BIG_ENDIAN)
HERE = "127.0.0.1"


# -------------------------------------------------------------------------------------------------- Action Information


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("count", [1, 2, 5000])
@pytest.mark.parametrize("undefined", [False, True])
def test_requests_are_read_however_they_are_encoded(syntax, count, undefined):
    """A sequence and its items of undefined length, as dcmtk writes them, may be as long as any other."""
    pairs = [(CT, f"1.2.3.{number}") for number in range(count)]
    information = action_information("1.2.3", pairs)
    information["ReferencedSOPSequence"].is_undefined_length = undefined
    for item in information.ReferencedSOPSequence:
        item.is_undefined_length_sequence_item = undefined
    information.StorageMediaFileSetID = "A"
    assert read_action_information(encoded(information, syntax), syntax) == (
        "1.2.3",
        tuple(Reference(*pair) for pair in pairs),
    )


WRONG: dict[str, bytes | Dataset] = {
    "nothing": b"",
    "no Transaction UID": action_information("", [(CT, "1.2")]),
    "no sequence": action_information("1.2.3", []),
    "no SOP Class": action_information("1.2.3", [("", "1.2")]),
    "no SOP Instance": action_information("1.2.3", [(CT, "")]),
    "a UID like a book": action_information("1." + "2" * 200, [(CT, "1.2")]),
    "no items": struct.pack("<HHI", 8, 0x1195, 2) + b"1 " + struct.pack("<HHI", 8, 0x1199, 6) + b"Hello!",
    "an element too long": struct.pack("<HHI", 8, 0x1195, 200) + b"1.2",
    "a sequence without end": struct.pack("<HHI", 8, 0x1195, 2) + b"1 " + struct.pack("<HHI", 8, 0x1199, 0xFFFFFFFF),
    "noise": bytes(range(256)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_request_is_an_invalid_argument(wrong):
    information = WRONG[wrong]
    data = encoded(information, IMPLICIT) if isinstance(information, Dataset) else information
    with pytest.raises(InvalidActionInformation):
        read_action_information(data, IMPLICIT)


@given(st.binary(max_size=300), st.sampled_from(NATIVE))
def test_any_bytes_are_read_or_refused(data, syntax):
    try:
        transaction_uid, references = read_action_information(data, syntax)
    except InvalidActionInformation:
        return
    assert transaction_uid
    assert references


@given(st.data())
def test_a_request_that_was_cut_or_changed_is_read_or_refused(data):
    whole = bytearray(encoded(action_information("1.2.3", [(CT, "1.2.3")] * 3), EXPLICIT))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidActionInformation):
        transaction_uid, references = read_action_information(
            bytes(whole[: data.draw(st.integers(0, len(whole)))]), EXPLICIT
        )
        assert transaction_uid
        assert 1 <= len(references) <= 3


def test_the_number_of_references_is_bounded(monkeypatch):
    monkeypatch.setattr(commitment_data_sets, "MOST_REFERENCES", 3)
    read_action_information(encoded(action_information("1.2.3", [(CT, "1.2")] * 3), IMPLICIT), IMPLICIT)
    with pytest.raises(InvalidActionInformation, match="3 references"):
        read_action_information(encoded(action_information("1.2.3", [(CT, "1.2")] * 4), IMPLICIT), IMPLICIT)


# --------------------------------------------------------------------------------------------------- Event Information


def judged(*results: FailureReason | None, transaction: str = "1.2.3", requester=None) -> Commitment:
    references = tuple(Reference(CT, f"1.2.{number}") for number in range(len(results)))
    requester = requester or Requester("", "CONSOLE", HERE)
    return Commitment(1, CommitmentRequest(transaction, references, requester, datetime.now(UTC)), results, 0, "lease")


def decoded(data: bytes, syntax: str) -> Dataset:
    stream = io.BytesIO(data)
    return pydicom.filereader.read_dataset(stream, syntax == IMPLICIT, syntax != BIG_ENDIAN)


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize(
    "results", [(None,), (FailureReason.NO_SUCH_OBJECT_INSTANCE,), (None, *FailureReason, None)], ids=["1", "0", "some"]
)
def test_reports_name_every_reference_once(syntax, results):
    commitment = judged(*results)
    report = decoded(event_information(commitment, "BACKUP_SCP", syntax), syntax)
    failed = [(item.ReferencedSOPInstanceUID, item.FailureReason) for item in report.get("FailedSOPSequence", [])]
    committed = [item.ReferencedSOPInstanceUID for item in report.get("ReferencedSOPSequence", [])]
    named = list(zip(commitment.request.references, results, strict=True))
    assert failed == [(reference.sop_instance_uid, reason) for reference, reason in named if reason]
    assert committed == [reference.sop_instance_uid for reference, reason in named if not reason]
    assert (report.TransactionUID, report.RetrieveAETitle) == ("1.2.3", "BACKUP_SCP")
    assert ("FailedSOPSequence" in report, "ReferencedSOPSequence" in report) == (bool(failed), bool(committed))
    assert event_type(commitment) == (2 if failed else 1)


@given(st.binary(max_size=300), st.sampled_from(NATIVE))
def test_any_report_is_read_or_refused(data, syntax):
    with contextlib.suppress(InvalidActionInformation):
        assert read_event_information(data, syntax)[0]


@pytest.mark.parametrize("syntax", NATIVE)
def test_what_is_written_is_read_again(syntax):
    results = (None, FailureReason.CLASS_INSTANCE_CONFLICT, None)
    commitment = judged(*results)
    references = commitment.request.references
    expected = dict(zip(references, (0, 0x0119, 0), strict=True))
    assert read_event_information(event_information(commitment, "US", syntax), syntax) == ("1.2.3", expected)
    request = write_action_information("1.2.3", references, syntax)
    assert read_action_information(request, syntax) == ("1.2.3", references)


def test_what_a_report_names_as_both_is_not_committed():
    both = Dataset()
    both.TransactionUID = "1.2.3"
    both.ReferencedSOPSequence = action_information("1.2.3", [(CT, "1.2")]).ReferencedSOPSequence
    both.FailedSOPSequence = action_information("1.2.3", [(CT, "1.2"), (CT, "1.3")]).ReferencedSOPSequence
    _, results = read_event_information(encoded(both, IMPLICIT), IMPLICIT)
    assert results == {Reference(CT, "1.2"): 0x0110, Reference(CT, "1.3"): 0x0110}


# --------------------------------------------------------------------------------------------------------- the request


@pytest.fixture
def commitment(storage):
    pace = CommitmentTimers(images=timedelta(0), retry=timedelta(hours=1))
    return StorageCommitment(storage.archive, storage.index, is_storage, pace)


@pytest.fixture
def serve(storage, start_server, commitment):
    """Yield ``serve(remotes)``: a node without worker threads."""

    def serve(remotes=(), timing=PATIENT, **listening):
        policy = AccessPolicy(remotes)
        local, ingest = LocalAE("BACKUP_SCP", timing), Ingest(storage.archive, storage.index)
        served = services(storage.archive, storage.index, policy, local, commitment, storage.recorder, ingest=ingest)
        return start_server(served, remotes, timing=timing, **listening)

    return serve


@pytest.fixture
def images(storage):
    """Three images that are held; what they are referred to as."""
    samples = [encode(ds) for ds in ct_series(3)]
    for sample in samples:
        Stored(storage.archive, storage.index).put(sample)
    return [pair(sample) for sample in samples]


def act(peer: Peer, data: bytes | None, *, context: int = 1, **changed: str | int) -> Message:
    """Send one N-ACTION-RQ, and read the next message."""
    elements: Elements = {0x0100: N_ACTION_RQ, 0x0110: 7, 0x0800: NO_DATA_SET if data is None else 1}
    elements |= {
        0x0003: changed.get("sop_class", STORAGE_COMMITMENT),
        0x1001: changed.get("instance", WELL_KNOWN_INSTANCE),
    }
    elements |= {0x1008: changed.get("action", 1)}
    peer.send(p_data(pdv(context, COMMAND | LAST, command(elements))))
    if data is not None:
        peer.send(p_data(pdv(context, DATA | LAST, data)))
    return peer.message()


def information(*pairs, transaction="1.2.3", syntax=IMPLICIT) -> bytes:
    return encoded(action_information(transaction, pairs), syntax)


@pytest.mark.parametrize("syntax", NATIVE)
def test_a_request_is_answered_when_it_is_durable(serve, storage, images, syntax):
    with serve().peer((STORAGE_COMMITMENT, (syntax,))) as peer:
        answer = act(peer, information(*images, syntax=syntax))
        (owed,) = storage.index.commitments.owed()
        peer.release()
    assert (answer.field, answer.status) == (N_ACTION_RSP, 0)
    assert owed.waiting == 1
    assert answer.elements[0x0002].rstrip(b"\0").decode() == STORAGE_COMMITMENT
    assert answer.elements[0x1000].rstrip(b"\0").decode() == WELL_KNOWN_INSTANCE
    assert answer.elements[0x1008] == struct.pack("<H", 1)
    assert answer.elements[0x0120] == struct.pack("<H", 7)


@pytest.mark.parametrize(
    ("data", "changed", "status"),
    [
        (information((CT, "1.2")), {"instance": "1.2.3"}, 0x0112),
        (information((CT, "1.2")), {"sop_class": CT}, 0x0118),
        (information((CT, "1.2")), {"action": 2}, 0x0123),
        (information((CT, "1.2")), {"action": 0}, 0x0123),
        (None, {}, 0x0115),
        (information(), {}, 0x0115),
        (b"noise" * 9, {}, 0x0115),
        (bytes(9 << 20), {}, 0x0115),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong_and_the_next_one_is_served(serve, storage, data, changed, status):
    with serve().peer((STORAGE_COMMITMENT, (IMPLICIT,))) as peer:
        answer = act(peer, data, **changed)
        assert (answer.field, answer.status) == (N_ACTION_RSP, status)
        assert answer.comment
        assert storage.index.commitments.owed() == []
        assert act(peer, information((CT, "1.2"))).status == 0
        assert act(peer, information((CT, "1.2"))).status == 0x0131
        peer.release()


def test_a_long_request_is_read_in_little_time(serve, storage):
    pairs = [(CT, f"1.2.826.0.1.3680043.10.9999.{number}") for number in range(10_000)]
    with serve().peer((STORAGE_COMMITMENT, (IMPLICIT,))) as peer:
        assert act(peer, information(*pairs)).status == 0
        peer.release()
    leased = storage.index.commitments.lease_request(datetime.now(UTC), datetime.now(UTC))
    assert leased.request.references == tuple(Reference(*pair) for pair in pairs)


def test_more_references_than_one_request_may_have_are_refused(serve, storage):
    pairs = [(CT, f"1.2.3.{number}") for number in range(10_001)]
    with serve().peer((STORAGE_COMMITMENT, (IMPLICIT,))) as peer:
        answer = act(peer, information(*pairs))
        assert (answer.status, answer.comment) == (0x0115, "A request may have 10000 references")
        peer.release()
    assert storage.index.commitments.owed() == []


def test_what_a_stranger_asks_for_is_judged_for_what_it_sent_alone(serve, storage, images, monkeypatch):
    for is_known in (True, False):
        said = property(lambda _, is_known=is_known: is_known)  # type: ignore[misc]
        monkeypatch.setattr("backup_scp.dimse.association.access.Caller.is_known", said)
        with serve().peer((STORAGE_COMMITMENT, (IMPLICIT,))) as peer:
            assert act(peer, information(*images, transaction=str(is_known))).status == 0
            peer.release()
        leased = storage.index.commitments.lease_request(datetime.now(UTC), datetime.now(UTC) + timedelta(hours=1))
        assert leased.request.own_only is not is_known


# ----------------------------------------------------------------------------------------------- many that come at once


@pytest.fixture
def reader(monkeypatch):
    """Little room: 100 bytes, 70 for strangers, 40 for each."""
    monkeypatch.setattr(information_reader, "_MOST_BYTES", 100)
    monkeypatch.setattr(information_reader, "_MOST_BYTES_OF_STRANGERS", 70)
    monkeypatch.setattr(information_reader, "_MOST_BYTES_OF_ONE_STRANGER", 40)
    monkeypatch.setattr(information_reader, "INFORMATION_BYTES", 90)
    return information_reader.InformationReader()


@dataclass
class Sender:
    """A peer that sends a Data Set in parts."""

    parts: list[bytes]
    address: str = ""
    drained: int = 0

    @property
    def caller(self) -> Caller:
        return Caller("A", self.address or "192.0.2.1", None, is_this_machine=not self.address)

    def data_set(self):
        for part in self.parts:
            yield part
            self.drained += 1


def test_strangers_take_a_part_of_the_memory_and_one_of_them_less(reader):
    for address, size, is_taken in (
        ("192.0.2.1", 40, True),
        ("192.0.2.1", 1, False),
        ("192.0.2.2", 30, True),
        ("192.0.2.3", 1, False),
        ("", 30, True),
        ("", 1, False),
    ):
        sender = Sender([bytes(size), b""], address)
        if is_taken:  # and held, as by one who has not sent all
            reader._read(sender, address, bytearray(), "request")
        else:
            with pytest.raises(ResourceLimitation, match="ask again later"), reader.reading(sender, "request"):
                pass
        assert sender.drained == 2  # what follows on its Association is found


def test_what_is_too_long_is_let_go_of_before_its_end_has_come(reader):
    class Watched(Sender):
        def data_set(self):
            yield from super().data_set()
            yield b""
            assert reader._held.total() == 0

    sender = Watched([bytes(80), bytes(80)])
    with pytest.raises(InvalidActionInformation, match="The report is longer than"), reader.reading(sender, "report"):
        pass
    assert not reader._held


def test_one_is_worked_on_at_a_time_and_those_who_are_known_first(reader, monkeypatch):
    monkeypatch.setattr(reader._turns, "_patience_s", 1000)
    served, threads = [], []

    def serve(address):
        with reader.reading(Sender([b"ab"], address), "request") as encoded:
            served.append((address, encoded, reader._turns.waiting))

    with reader._turns.turn():
        for address in ("192.0.2.1", "192.0.2.2", ""):
            threads.append(threading.Thread(target=serve, args=(address,)))
            threads[-1].start()
            wait_until(lambda: reader._turns.waiting == len(threads))
    for thread in threads:
        thread.join()
    assert served == [("", b"ab", 2), ("192.0.2.1", b"ab", 1), ("192.0.2.2", b"ab", 0)]
    assert not reader._held


def test_who_has_no_turn_in_time_is_told_to_ask_again(reader, monkeypatch):
    monkeypatch.setattr(information_reader, "_PATIENCE_S", 0)
    with (
        reader._turns.turn(),
        pytest.raises(ResourceLimitation, match="ask again later"),
        reader.reading(Sender([b"ab"]), "request"),
    ):
        pass
    assert not reader._held


# ------------------------------------------------------------------------------------------- on the same Association


def test_a_stranger_gets_its_report_where_it_asked(serve, storage, images, commitment):
    with serve().peer((STORAGE_COMMITMENT, (IMPLICIT,))) as peer:
        assert act(peer, information(*images)).status == 0
        assert commitment.judge_next()
        report = peer.message()
        assert report.field == N_EVENT_REPORT_RQ
        assert len(decoded(report.data_set, IMPLICIT).ReferencedSOPSequence) == 3
        respond(peer, report)
        peer.release()
    wait_until(lambda: storage.index.commitments.owed() == [])


def respond(peer: Peer, report: Message, status: int | bytes = 0) -> None:
    elements: Elements = {
        0x0002: STORAGE_COMMITMENT,
        0x0100: N_EVENT_REPORT_RSP,
        0x0120: report.elements[0x0110],
        0x0800: NO_DATA_SET,
        0x0900: status,
        0x1000: WELL_KNOWN_INSTANCE,
        0x1002: report.elements[0x1002],
    }
    peer.send(p_data(pdv(report.context_id, COMMAND | LAST, command(elements))))


def test_its_next_request_may_cross_the_report(serve, storage, images, commitment):
    """It asks again before it answers: both are served, and the reports come one after the other."""
    with serve().peer((STORAGE_COMMITMENT, (IMPLICIT,)), (("1.2.840.10008.1.1"), (IMPLICIT,))) as peer:
        act(peer, information(*images, transaction="1"))
        assert commitment.judge_next()
        first = peer.message()
        assert act(peer, information(*images, transaction="2")).status == 0
        assert commitment.judge_next()
        assert peer.echo(3) == 0
        respond(peer, first)
        second = peer.message()
        assert decoded(second.data_set, IMPLICIT).TransactionUID == "2"
        respond(peer, second)
        peer.release()
    wait_until(lambda: storage.index.commitments.owed() == [])


@pytest.mark.parametrize("ending", ["release", "reset", "refuse", "no status"])
def test_a_report_that_was_not_taken_stays_owed(serve, storage, images, commitment, ending):
    with serve().peer((STORAGE_COMMITMENT, (IMPLICIT,))) as peer:
        act(peer, information(*images))
        commitment.judge_next()
        report = peer.message()
        if ending == "refuse":
            respond(peer, report, 0x0110)
        if ending == "no status":
            respond(peer, report, b"")
        peer.reset() if ending == "reset" else peer.release()
    owed = wait_until(lambda: [one for one in storage.index.commitments.owed() if one.error])
    assert (owed[0].owed, owed[0].requester) == (1, Requester("", "TESTER", HERE))
    assert ("0x0110" in owed[0].error) == (ending == "refuse")
    assert ("a Status of 0 bytes" in owed[0].error) == (ending == "no status")


def test_an_answer_to_nothing_is_passed_over(serve, images):
    with serve().peer((STORAGE_COMMITMENT, (IMPLICIT,))) as peer:
        elements = {0x0110: struct.pack("<H", 9), 0x1002: struct.pack("<H", 1)}
        respond(peer, Message(1, elements, b"", 1, 0))
        assert act(peer, information(*images)).status == 0
        respond(peer, Message(1, elements, b"", 1, 0))
        assert act(peer, information(*images, transaction="2")).status == 0
        peer.release()


def test_an_answer_in_another_context_is_not_answered(serve, images):
    with serve().peer((STORAGE_COMMITMENT, (IMPLICIT,)), ("1.2.840.10008.1.1", (IMPLICIT,))) as peer:
        elements = {0x0110: struct.pack("<H", 9), 0x1002: struct.pack("<H", 1)}
        respond(peer, Message(3, elements, b"", 1, 0))
        assert peer.echo(3) == 0
        peer.release()


@pytest.mark.parametrize("what", ["report_delivered", "report_failed"])
def test_an_answer_that_the_index_cannot_be_told_of_is_not_answered(
    serve, storage, images, commitment, monkeypatch, what
):
    def fails(*_: object) -> None:
        raise IndexUnavailable("The index is away")

    with serve().peer((STORAGE_COMMITMENT, (IMPLICIT,)), ("1.2.840.10008.1.1", (IMPLICIT,))) as peer:
        act(peer, information(*images))
        assert commitment.judge_next()
        report = peer.message()
        monkeypatch.setattr(storage.index.commitments, what, fails)
        respond(peer, report, 0x0110 if what == "report_failed" else 0)
        assert peer.echo(3) == 0
        peer.release()


def test_a_stranger_that_waits_without_a_word_is_ended_like_any_other(serve, images):
    with serve(timing=dataclasses.replace(PATIENT, idle_s=0.5)).peer((STORAGE_COMMITMENT, (IMPLICIT,))) as peer:
        act(peer, information(*images))
        assert peer.until_closed()


def test_the_node_stops_while_somebody_waits_for_a_report(serve, images):
    running = serve()
    with running.peer((STORAGE_COMMITMENT, (IMPLICIT,))) as peer:
        act(peer, information(*images))
        running.server.stop(30)
        peer.until_closed()
        assert threads() == []


def test_a_requester_with_an_address_is_served_there_and_here_only_after_that_failed(
    serve, storage, images, commitment
):
    remote = RemoteAE("console", "TESTER", HERE, free_port())
    reporter = EventReporter(LocalAE("BACKUP_SCP", PATIENT), AccessPolicy([remote]))
    with serve((remote,)).peer((STORAGE_COMMITMENT, (IMPLICIT,)), ("1.2.840.10008.1.1", (IMPLICIT,))) as peer:
        act(peer, information(*images))
        commitment.judge_next()
        number = storage.index.commitments.lease_report_of([1], 0, datetime.now(UTC), datetime.now(UTC))
        assert number is not None  # owed, and not sent here
        assert peer.echo(3) == 0
        assert commitment.report_next(reporter.report)
        report = peer.message()
        assert report.field == N_EVENT_REPORT_RQ
        respond(peer, report)
        peer.release()
    wait_until(lambda: storage.index.commitments.owed() == [])


# ---------------------------------------------------------------------------------------------- on a new Association


def deliver(console: Console, commitment: Commitment, timing: Timing = PATIENT, **settings) -> None:
    facts = {"port": console.port} | settings
    remote = RemoteAE("console", console.ae_title, HERE, **facts)
    EventReporter(LocalAE("BACKUP_SCP", timing), AccessPolicy([remote])).report(commitment, lambda: None)


@pytest.mark.parametrize("syntaxes", [(IMPLICIT,), (EXPLICIT,), (EXPLICIT, IMPLICIT)])
def test_a_console_takes_it_in_the_syntax_that_it_knows(syntaxes, leaves_nothing):
    with Console(syntaxes=syntaxes) as console:
        deliver(console, judged(None, FailureReason.NO_SUCH_OBJECT_INSTANCE))
    (report,) = console.reports
    assert report.transfer_syntax in syntaxes
    assert (report.event_type, report.transaction_uid, report.called_ae_title) == (2, "1.2.3", "CONSOLE")
    assert (report.committed, report.failed) == (((CT, "1.2.0"),), {(CT, "1.2.1"): 0x0112})


def test_we_propose_to_be_scp_and_not_scu(leaves_nothing):
    with Console() as console:
        deliver(console, judged(None))
        (requestor,) = [report.association.requestor for report in console.reports]
    (role,) = requestor.role_selection.values()
    assert (role.sop_class_uid, role.scu_role, role.scp_role) == (STORAGE_COMMITMENT, False, True)


@pytest.mark.parametrize(("called", "calling"), [("", "BACKUP_SCP"), ("OLD_PACS", "OLD_PACS")])
def test_a_report_comes_from_the_ae_that_was_asked(called, calling, leaves_nothing):
    """An empty one was kept before there was the column."""
    asked = judged(None)
    request = dataclasses.replace(asked.request, called_ae_title=called)
    with Console() as console:
        deliver(console, dataclasses.replace(asked, request=request))
    (report,) = console.reports
    assert report.retrieve_ae_title == calling
    assert report.association.requestor.ae_title == calling


def test_another_port_for_reports(leaves_nothing):
    with Console() as console:
        deliver(console, judged(None), port=free_port(), commitment_port=console.port)
    assert len(console.reports) == 1


@pytest.mark.parametrize("status", [0x0110, 0x0112, 0x0211, 0xC000])
def test_a_failure_status_is_no_delivery(status, leaves_nothing):
    with (
        Console(answer=lambda _: status) as console,
        pytest.raises(DestinationUnavailable, match=f"status 0x{status:04X}"),
    ):
        deliver(console, judged(None))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({0x0900: b""}, "a Status of 0 bytes"),
        ({0x0120: 2}, "to message 2"),
        ({0x1000: "1.2.3"}, "another SOP Instance"),
    ],
)
def test_what_is_no_answer_to_the_report_is_no_receipt(acceptor, changes, words):
    elements = {0x0100: N_EVENT_REPORT_RSP, 0x0120: 1, 0x0800: NO_DATA_SET, 0x0900: 0} | changes

    def behave(other: Other) -> None:
        other.accept_association()
        other.message()
        other.send(p_data(pdv(1, COMMAND | LAST, command(elements))))
        until_closed(other)

    remote = RemoteAE("console", "CONSOLE", HERE, acceptor(behave))
    reporter = EventReporter(LocalAE("BACKUP_SCP", PATIENT), AccessPolicy([remote]))
    with pytest.raises(DestinationUnavailable, match=f"did not take the report: it sent .*{words}"):
        reporter.report(judged(None), lambda: None)


def test_nobody_listens(leaves_nothing):
    console = Console()
    port = f"Storage Commitment port {console.port} of CONSOLE"
    with pytest.raises(DestinationUnavailable, match=f"{port} .* cannot be reached: the port is closed.*; open port"):
        deliver(console, judged(None))


def test_a_console_that_takes_no_commitment(leaves_nothing):
    console = Console()
    console._ae.supported_contexts = []
    console._ae.add_supported_context(CT)
    with console, pytest.raises(DestinationUnavailable, match="takes no Storage Commitment reports there; set"):
        deliver(console, judged(None))


def test_a_requester_without_an_address_is_told_to_be_configured(leaves_nothing):
    stranger = judged(None, requester=Requester("", "DR9", HERE))
    with pytest.raises(DestinationUnavailable, match=r"'DR9' at 127.0.0.1 .* add a \[\[remote\]\]"):
        deliver(Console(), stranger)
    moved = judged(None, requester=Requester("", "CONSOLE", "192.0.2.1"))
    with pytest.raises(DestinationUnavailable, match="configured for another host"):
        deliver(Console(), moved)


def test_a_lease_that_was_lost_ends_it_before_a_word_is_said(leaves_nothing):
    class LostError(Exception):
        pass

    def lost() -> None:
        raise LostError

    with Console() as console:
        remote = RemoteAE("console", "CONSOLE", HERE, console.port)
        with pytest.raises(LostError):
            EventReporter(LocalAE("BACKUP_SCP", PATIENT), AccessPolicy([remote])).report(judged(None), lost)
    assert console.reports == []


def test_a_console_that_hangs_up_in_the_middle(leaves_nothing):
    gone = threading.Event()

    def hang_up(report) -> int:
        report.association.abort()
        gone.set()
        return 0

    with Console(answer=hang_up) as console, pytest.raises(DestinationUnavailable, match="broke off"):
        deliver(console, judged(None))
    assert gone.is_set()


@pytest.mark.parametrize("checks", [True, False])
def test_what_was_called_is_kept_with_the_request(serve, storage, images, commitment, checks):
    running = serve(check_called_ae_title=checks)
    running.ae_title = "BACKUP_SCP" if checks else "OLD_PACS"
    with associated(running, "CONSOLE") as opened:
        assert ask(opened, images)[0] == 0
    leased = storage.index.commitments.lease_request(datetime.now(UTC), datetime.now(UTC) + timedelta(seconds=30))
    assert leased.request.called_ae_title == running.ae_title


def test_pynetdicom_asks_and_releases_at_once(serve, storage, images, commitment):
    with Console() as console:
        remote = RemoteAE("console", "CONSOLE", HERE, console.port)
        running = serve((remote,))
        with associated(running, "CONSOLE") as opened:
            status, transaction_uid = ask(opened, images)
        assert status == 0
        assert commitment.judge_next()
        assert commitment.report_next(EventReporter(LocalAE("BACKUP_SCP", PATIENT), AccessPolicy([remote])).report)
    (report,) = console.of(transaction_uid)
    assert (report.event_type, report.committed, report.failed) == (1, tuple(images), {})
    assert report.retrieve_ae_title == "BACKUP_SCP"
    assert storage.index.commitments.owed() == []
