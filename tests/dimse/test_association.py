"""Associations that we request: to a server of ours, and to peers that misbehave."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from backup_scp.dimse.association.association import Association, AssociationEnded, LocalAE, Timing
from backup_scp.dimse.messages.command_set import Element, Field, encode
from backup_scp.dimse.scu.verification_scu import echo
from backup_scp.dimse.upper_layer import UpperLayer
from backup_scp.dimse.upper_layer.state_table import ABORT_REQUEST
from backup_scp.errors import DestinationUnavailable, DestinationUnreachable
from tests.dimse.conftest import PATIENT, Other, until_closed
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
    p_data,
    pdu,
    pdv,
)

HASTY = Timing(connect_s=0.2, association_s=0.2, idle_s=0.2, network_s=0.2)


def request(port: int, *, timing: Timing = PATIENT, contexts=((VERIFICATION, (IMPLICIT,)),), host="127.0.0.1"):
    return Association.request_from(local=LocalAE("US", timing), called="THEM", host=host, port=port, contexts=contexts)


# ----------------------------------------------------------------------------------------------- establishing


def test_echo(server):
    echo(LocalAE("US"), "BACKUP_SCP", "127.0.0.1", server.port)


def test_echo_by_host_name(server):
    echo(LocalAE("US"), "BACKUP_SCP", "localhost", server.port)


def test_a_wrong_called_ae_title_is_told(server):
    with pytest.raises(DestinationUnavailable, match=r"rejected the association .*Called AE title not recognised"):
        echo(LocalAE("US"), "OTHER", "127.0.0.1", server.port)


def test_nothing_listens(leaves_nothing):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(DestinationUnreachable, match=r"cannot be reached: the port is closed: .*; .* firewall"):
        request(port)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70, "x..y"])
def test_a_host_that_has_no_address(leaves_nothing, host):
    with pytest.raises(DestinationUnavailable, match="is not known to DNS"):
        request(104, host=host)


def test_no_socket_can_be_had(leaves_nothing, monkeypatch):
    def none_left(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", none_left)
    with pytest.raises(DestinationUnavailable, match="Too many open files"):
        request(104)


def test_a_peer_that_does_not_answer(acceptor):
    port = acceptor(until_closed)
    with pytest.raises(DestinationUnavailable, match="did not answer the association request"):
        request(port, timing=HASTY)


REFUSALS = {
    "it closes": b"",
    "it aborts": abort(),
    "a PDU of unknown type": pdu(0x42, b"ab"),
    "a release request": pdu(5, bytes(4)),
    "an acceptance that cannot be decoded": pdu(2, b"\0\1"),
    "an acceptance without anything": pdu(2, bytes(68)),
    "a rejection with values of its own": pdu(3, bytes((0, 1, 9, 9))),
    "a rejection with result 9": pdu(3, bytes((0, 9, 1, 1))),
    "data": p_data(pdv(1, COMMAND | LAST, b"ab")),
}


@pytest.mark.parametrize("answer", REFUSALS.values(), ids=REFUSALS)
def test_other_answers_than_an_acceptance(acceptor, answer):
    def behave(other: Other) -> None:
        other.pdu()
        other.send(answer)

    port = acceptor(behave)
    with pytest.raises(DestinationUnavailable, match=r"^THEM at 127\.0\.0\.1"):
        request(port)


def test_a_flood_instead_of_an_answer(acceptor, monkeypatch):
    monkeypatch.setattr("backup_scp.dimse.upper_layer.association_control._LINGER_S", 0.1)

    def behave(other: Other) -> None:
        other.pdu()
        while True:
            other.send(pdu(0x42, bytes(1 << 16)))

    with pytest.raises(DestinationUnavailable):
        request(acceptor(behave), timing=HASTY)


def test_all_contexts_rejected(acceptor):
    def behave(other: Other) -> None:
        other.accept_association(answers={1: (3, IMPLICIT)})
        until_closed(other)

    with pytest.raises(DestinationUnavailable, match="accepts none of the SOP Classes"):
        request(acceptor(behave))


def test_contexts_that_were_not_proposed_do_not_count(acceptor):
    def behave(other: Other) -> None:
        other.accept_association(answers={1: (0, IMPLICIT), 3: (3, IMPLICIT), 99: (0, IMPLICIT)})
        until_closed(other)

    association = request(acceptor(behave), contexts=[(VERIFICATION, [IMPLICIT]), (VERIFICATION, [EXPLICIT])])
    assert list(association.contexts) == [1]
    association.abort()


def test_odd_uids_are_proposed_as_they_are(acceptor):
    odd = ["1.2." + "3" * 80, "2.25.abc", "no uid"]
    association = request(acceptor(until_closed_after_accepting), contexts=[(uid, [IMPLICIT]) for uid in odd])
    assert [context.abstract_syntax for context in association.contexts.values()] == odd
    association.abort()


# ------------------------------------------------------------------------------------------ after establishing


def echo_request() -> bytes:
    return encode({Element.AFFECTED_SOP_CLASS_UID: VERIFICATION, Element.COMMAND_FIELD: 0x30, Element.MESSAGE_ID: 1})


BREAKS = {
    "closes": b"",
    "aborts": abort(),
    "closes in the middle": p_data(pdv(1, COMMAND, b"\0\0"))[:-1],
    "asks for release": pdu(5, bytes(4)),
    "an unknown PDU": pdu(0x42, b""),
    "a Data Set": p_data(pdv(1, DATA | LAST, b"ab")),
    "another response": p_data(pdv(1, COMMAND | LAST, command({0x0100: 0x8001, 0x0120: 1, 0x0800: 0x0101, 0x0900: 0}))),
    "a request": p_data(pdv(1, COMMAND | LAST, echo_request())),
    "another context": p_data(pdv(3, COMMAND | LAST, command({0x0100: 0x8030, 0x0120: 1, 0x0800: 0x0101, 0x0900: 0}))),
}


@pytest.mark.parametrize("answer", BREAKS.values(), ids=BREAKS)
def test_the_peer_breaks_off_instead_of_answering(acceptor, answer):
    def behave(other: Other) -> None:
        other.accept_association()
        other.message()
        other.send(answer)

    association = request(acceptor(behave))
    association.send(1, echo_request())
    with pytest.raises(AssociationEnded):
        association.read_response(Field.C_ECHO_RSP, 1)
    with pytest.raises(AssociationEnded):
        association.send(1, echo_request())
    association.abort()
    association.close()


def test_echo_that_breaks_off_is_an_error(acceptor):
    def behave(other: Other) -> None:
        other.accept_association()
        other.message()

    with pytest.raises(DestinationUnavailable, match="broke off"):
        echo(LocalAE("US"), "THEM", "127.0.0.1", acceptor(behave))


def test_echo_with_a_failure_status_is_an_error(acceptor):
    def behave(other: Other) -> None:
        other.accept_association()
        other.message()
        other.send(p_data(pdv(1, COMMAND | LAST, command({0x0100: 0x8030, 0x0120: 1, 0x0800: 0x0101, 0x0900: 0x0110}))))
        assert other.pdu()[0] == 5
        other.send(pdu(6, bytes(4)))

    with pytest.raises(DestinationUnavailable, match="status 0x0110"):
        echo(LocalAE("US"), "THEM", "127.0.0.1", acceptor(behave))


NO_ANSWERS: dict[str, tuple[dict[int, Any], str]] = {
    "no Status": ({0x0900: None}, "an answer without a Status"),
    "an empty Status": ({0x0900: b""}, "a Status of 0 bytes"),
    "a Status of four bytes": ({0x0900: bytes(4)}, "a Status of 4 bytes"),
    "another message": ({0x0120: 2}, "an answer to message 2, where one to message 1 is due"),
    "no message": ({0x0120: None}, "an answer to message 0"),
}


@pytest.mark.parametrize(("changes", "words"), NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_what_is_no_answer_to_c_echo_is_none(acceptor, changes, words):
    elements = {0x0100: 0x8030, 0x0120: 1, 0x0800: 0x0101, 0x0900: 0} | changes
    answer = command({element: value for element, value in elements.items() if value is not None})

    def behave(other: Other) -> None:
        other.accept_association()
        other.message()
        other.send(p_data(pdv(1, COMMAND | LAST, answer)))
        assert other.pdu()[0] == ABORT

    with pytest.raises(DestinationUnavailable, match=f"did not answer C-ECHO: it sent {words}"):
        echo(LocalAE("US"), "THEM", "127.0.0.1", acceptor(behave))


@pytest.mark.parametrize("answer", [b"", abort(), pdu(0x42, b""), p_data(pdv(1, COMMAND, b"ab")), pdu(5, bytes(4))])
def test_release_ends_whatever_the_peer_does(acceptor, monkeypatch, answer):
    monkeypatch.setattr("backup_scp.dimse.upper_layer.association_control._LINGER_S", 0.1)

    def behave(other: Other) -> None:
        other.accept_association()
        assert other.pdu()[0] == 5
        other.send(answer)
        other.until_closed()

    association = request(acceptor(behave), timing=HASTY)
    association.release()
    assert association.upper_layer.connection is None


def test_release_ends_when_the_peer_floods(acceptor, monkeypatch):
    monkeypatch.setattr("backup_scp.dimse.upper_layer.association_control._LINGER_S", 0.1)

    def behave(other: Other) -> None:
        other.accept_association()
        other.pdu()
        while True:
            other.send(p_data(pdv(1, DATA, bytes(1000))))

    association = request(acceptor(behave), timing=HASTY)
    association.release()


def test_lingering_ends_though_the_peer_never_pauses(acceptor, monkeypatch):
    association = request(acceptor(until_closed_after_accepting))
    monkeypatch.setattr("backup_scp.dimse.upper_layer.association_control._LINGER_S", 0.05)
    association.upper_layer.happen(ABORT_REQUEST)
    monkeypatch.setattr(UpperLayer, "_receive", lambda *_: None)  # there always is something to receive
    association.upper_layer.linger()
    assert association.upper_layer.connection is None


def test_an_abort_after_the_end_leaves_the_peer_time_to_read_the_first(acceptor):
    def behave(other: Other) -> None:
        other.accept_association()
        other.message()
        other.send(pdu(0x42, bytes(1000)))
        assert other.pdu()[0] == ABORT
        read.set()
        other.until_closed()

    read = threading.Event()
    association = request(acceptor(behave))
    association.send(1, echo_request())
    with pytest.raises(AssociationEnded):
        association.read_response(Field.C_ECHO_RSP, 1)
    lingered = []
    association.upper_layer.linger = lambda: lingered.append(association.upper_layer.is_over)
    association.abort()
    assert lingered == [True]
    assert read.wait(TIMEOUT_S)
    association.upper_layer.close()


def test_a_peer_that_takes_nothing_is_given_up(acceptor):
    stop = threading.Event()

    def behave(other: Other) -> None:
        other.accept_association()
        assert stop.wait(TIMEOUT_S)

    association = request(acceptor(behave), timing=Timing(network_s=0.2))
    with pytest.raises(AssociationEnded):
        association.send_data_set(1, echo_request(), (bytes(1 << 14) for _ in range(10_000)))
    stop.set()
    association.abort()


def test_break_off_wakes_who_reads(acceptor):
    association = request(acceptor(until_closed_after_accepting))
    ends = []

    def read() -> None:
        try:
            association.read_response(Field.C_ECHO_RSP, 1)
        except AssociationEnded as error:
            ends.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    association.break_off()
    reader.join(TIMEOUT_S)
    assert ends
    association.close()


def until_closed_after_accepting(other: Other) -> None:
    other.accept_association()
    until_closed(other)
