"""PDUs, good and bad, against a real server (PS3.8 9.2 and 9.3)."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from backup_scp.dimse.association.association import Timing
from backup_scp.dimse.upper_layer import (
    AssociationEnded,
    Interrupted,
    PeerTimedOut,
    Secured,
    SecuredSocket,
    UpperLayer,
    buffered_socket,
)
from backup_scp.dimse.upper_layer import socket_io as streams
from backup_scp.dimse.upper_layer import tls_socket as secured_stream
from tests.dimse.conftest import associations_ended, establish
from tests.dimse.wire import (
    ABORT,
    ASSOCIATE_RJ,
    CT_IMAGE_STORAGE,
    DATA,
    EXPLICIT,
    IMPLICIT,
    LAST,
    P_DATA_TF,
    RELEASE_RP,
    TIMEOUT_S,
    VERIFICATION,
    Peer,
    TLSSocket,
    abort,
    associate_rq,
    context_item,
    echo_rq,
    fragments,
    item,
    p_data,
    pdu,
    pdv,
    release_rq,
    store_rq,
)
from tests.dimse.wire import COMMAND as CMD
from tests.processes import peer_missing

CT = (CT_IMAGE_STORAGE, (EXPLICIT,))
ECHO = (VERIFICATION, (IMPLICIT,))
UNRECOGNIZED, UNEXPECTED, INVALID = 1, 2, 6  # reasons of the service provider, PS3.8 9.3.8
HASTY = Timing(association_s=0.2, idle_s=0.2, network_s=0.2)


def assert_aborted(peer: Peer, reason: int = INVALID) -> None:
    assert peer.pdu() == (ABORT, bytes((0, 0, 2, reason)))  # source: service provider
    peer.socket.close()


# ------------------------------------------------------------------------------------------------- the good


def test_a_message_arrives_however_it_is_cut(server):
    data = bytes(range(256)) * 40
    with server.peer(CT) as peer:
        request = store_rq("1.2.3.1")
        for size in (1, 2, 5, 1000, len(data)):
            peer.send(*fragments(1, CMD, request, size), *fragments(1, DATA, data, size))
            assert peer.message().status == 0
        peer.release()
    assert server.sink.stored == [("1.2.3.1", data)] * 5


def test_command_and_data_set_in_one_pdu(server):
    with server.peer(CT) as peer:
        peer.send(
            p_data(pdv(1, CMD | LAST, store_rq()), pdv(1, DATA, b"abcd"), pdv(1, DATA), pdv(1, DATA | LAST, b"efgh"))
        )
        assert peer.message().status == 0
        peer.release()
    assert server.sink.stored == [("1.2.3", b"abcdefgh")]


@pytest.mark.parametrize("seed", range(8))
def test_pdus_that_come_together_are_one_data_set(server, seed):
    """Short and long PDVs, one or several to a PDU, over the end of the buffer, and the next request behind them."""
    chance = random.Random(seed)
    stream, stored = b"", []
    for number in range(1, 5):
        data = chance.randbytes(chance.choice((1, 20_000, 3_000_000)))
        cuts = sorted(chance.randrange(len(data)) for _ in range(chance.choice((0, 3, 300))))
        parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        pdvs = [pdv(1, LAST * (n == len(parts) - 1), part) for n, part in enumerate(parts)]
        stream += p_data(pdv(1, CMD | LAST, store_rq(f"1.2.3.{number}", message_id=number)))
        while pdvs:
            count = chance.choice((1, 1, 1, 2))
            stream += p_data(*pdvs[:count])
            del pdvs[:count]
        stored.append((f"1.2.3.{number}", data))
    with server.peer(CT) as peer:
        peer.send(stream)
        assert [peer.message().status for _ in stored] == [0] * 4
        peer.release()
    assert server.sink.stored == stored


@pytest.mark.parametrize(
    "odd",
    [
        p_data(pdv(3, DATA, b"cd")),
        p_data(pdv(1, CMD, b"cd")),
        p_data(pdv(1, DATA, b"cd", length=1)),
        p_data(pdv(1, DATA, b"cd", length=5)),
        pdu(P_DATA_TF, pdv(1, DATA, b"cd"), length=1 << 27),
    ],
    ids=["another context", "a command", "a length of 1", "longer than its PDU", "an endless PDU"],
)
def test_what_comes_with_good_pdus_is_judged_as_if_alone(server, odd):
    with server.peer(CT, ECHO) as peer:
        good = p_data(pdv(1, DATA, b"ab"))
        peer.send(p_data(pdv(1, CMD | LAST, store_rq())) + good + good + odd + good + p_data(pdv(1, DATA | LAST)))
        assert_aborted(peer)
    assert server.sink.stored == []


def test_two_messages_in_one_pdu(server):
    with server.peer(ECHO) as peer:
        peer.send(p_data(pdv(1, CMD | LAST, echo_rq(1)), pdv(1, CMD | LAST, echo_rq(2))))
        assert [peer.message().elements[0x0120] for _ in range(2)] == [b"\1\0", b"\2\0"]
        peer.release()


def test_empty_pdvs_are_legal_and_may_be_the_last(server):
    request = store_rq()
    with server.peer(CT) as peer:
        peer.send(
            p_data(pdv(1, CMD)), p_data(pdv(1, CMD, request[:10]), pdv(1, CMD)), p_data(pdv(1, CMD, request[10:]))
        )
        peer.send(p_data(pdv(1, CMD | LAST)))
        peer.send(p_data(pdv(1, DATA, b"ab")), p_data(pdv(1, DATA)), p_data(pdv(1, DATA | LAST)))
        assert peer.message().status == 0
        peer.release()
    assert server.sink.stored == [("1.2.3", b"ab")]


def test_every_byte_alone_on_the_wire(server):
    stream = p_data(pdv(1, CMD | LAST, store_rq())) + p_data(pdv(1, DATA, b"ab"), pdv(1, DATA | LAST, b"cd"))
    with server.peer(CT) as peer:
        for byte in stream:
            peer.send(bytes((byte,)))
        assert peer.message().status == 0
        peer.release()
    assert server.sink.stored == [("1.2.3", b"abcd")]


def test_a_pdu_longer_than_offered_is_taken(server):
    data = bytes(3_000_001)
    with server.peer(CT) as peer:
        peer.send(p_data(pdv(1, CMD | LAST, store_rq())), p_data(pdv(1, DATA | LAST, data)))
        assert peer.message().status == 0
        peer.release()
    assert server.sink.stored == [("1.2.3", data)]


@pytest.mark.parametrize("maximum", [1, 7, 8, 9, 13, 64])
def test_a_tiny_maximum_length_of_the_peer_is_kept(server, maximum):
    peer = Peer.associated(server.port, (ECHO,), maximum_length=maximum)
    with peer:
        peer.send(p_data(pdv(1, CMD | LAST, echo_rq())))
        message = peer.message()
        assert message.status == 0
        assert message.longest_pdu <= max(maximum, 8)  # less than 8 leaves no room for two bytes, and is no length
        assert message.fragments > 1
        peer.release()


@pytest.mark.parametrize("maximum", [0, None, 0xFFFFFFFF])
def test_no_maximum_length_of_the_peer(server, maximum):
    with Peer.associated(server.port, (ECHO,), maximum_length=maximum) as peer:
        assert peer.echo() == 0
        peer.release()


# -------------------------------------------------------------------------------------------------- the bad


BAD_STREAMS = {
    "PDV of length 0": p_data(pdv(1, CMD, length=0)),
    "PDV of length 1": p_data(pdv(1, CMD, length=1)),
    "PDV beyond its PDU": p_data(pdv(1, CMD, b"abcd", length=7)),
    "PDV far beyond its PDU": p_data(pdv(1, CMD, b"abcd", length=0xFFFFFFFF)),
    "rest of a PDU too short for a PDV": p_data(pdv(1, CMD, b"ab"), b"\0\0\0\2\1"),
    "PDU of length 0": p_data(),
    "PDU of length 5": p_data(b"\0\0\0\1\1"),
    "PDU of 64 MiB and more": p_data(pdv(1, CMD, b"ab"), length=(1 << 26) + 1),
    "PDU of 4 GiB": p_data(pdv(1, CMD, b"ab"), length=0xFFFFFFFF),
    "A-ABORT without a reason": pdu(7, bytes(3)),
    "control PDU of 1 GiB": pdu(5, b"", length=1 << 30),
    "unknown context": p_data(pdv(77, CMD | LAST, echo_rq())),
    "even context": p_data(pdv(2, CMD | LAST, echo_rq())),
    "Data Set where a command is due": p_data(pdv(1, DATA | LAST, b"ab")),
    "command in two contexts": p_data(pdv(1, CMD, echo_rq()[:20]), pdv(3, CMD | LAST, echo_rq()[20:])),
    "Data Set in another context": p_data(pdv(1, CMD | LAST, store_rq()), pdv(3, DATA | LAST, b"ab")),
    "command where a Data Set is due": p_data(pdv(1, CMD | LAST, store_rq()), pdv(1, CMD | LAST, echo_rq())),
    "command that is none": p_data(pdv(1, CMD | LAST, b"\1\2\3")),
    "command of another group": p_data(pdv(1, CMD | LAST, struct.pack("<HHI", 8, 5, 0))),
    "command element beyond the command": p_data(pdv(1, CMD | LAST, struct.pack("<HHI", 0, 0, 9))),
    "command longer than 64 KiB": p_data(pdv(1, CMD | LAST, bytes((1 << 16) + 8))),
}
UNKNOWN_STREAMS = {
    "unknown PDU type": pdu(0x42, b"abcd"),
    "PDU type 0": pdu(0, b""),
}
UNEXPECTED_STREAMS = {
    "second A-ASSOCIATE-RQ": associate_rq([ECHO]),
    "second A-ASSOCIATE-RQ that cannot be decoded": pdu(1, b"\0\1"),
    "A-ASSOCIATE-AC of a requestor": pdu(2, bytes(68)),
    "A-ASSOCIATE-RJ of a requestor": pdu(3, bytes((0, 1, 1, 1))),
    "A-RELEASE-RP without a request": pdu(6, bytes(4)),
}
ABORTED_STREAMS = {
    **{name: (stream, INVALID) for name, stream in BAD_STREAMS.items()},
    **{name: (stream, UNRECOGNIZED) for name, stream in UNKNOWN_STREAMS.items()},
    **{name: (stream, UNEXPECTED) for name, stream in UNEXPECTED_STREAMS.items()},
}


@pytest.mark.parametrize(("stream", "reason"), ABORTED_STREAMS.values(), ids=ABORTED_STREAMS)
def test_what_is_invalid_ends_the_association_and_only_that(server, stream, reason, caplog):
    caplog.set_level(logging.DEBUG)
    with server.peer(ECHO) as other, server.peer((CT_IMAGE_STORAGE, (IMPLICIT,)), CT) as peer:
        peer.send(stream)
        assert_aborted(peer, reason)
        assert other.echo() == 0
        other.release()
    assert server.sink.stored == []
    associations_ended()
    assert [(calling, what.startswith("it sent ")) for _, calling, _, _, what, _ in server.rejections] == [
        ("TESTER", True)
    ]
    assert [record.getMessage() for record in caplog.records if "the peer broke the protocol" in record.getMessage()]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_an_endless_command_is_not_collected(server, monkeypatch):
    monkeypatch.setattr("backup_scp.dimse.upper_layer.association_control._LINGER_S", 0.2)
    with server.peer(ECHO) as peer:
        try:
            for _ in range(1 << 20):
                peer.send(p_data(pdv(1, CMD, bytes(1024))))
        except ConnectionError:
            pass
        else:
            pytest.fail("a gigabyte of Command Set was taken")


@pytest.mark.parametrize(
    "stream",
    [
        p_data(pdv(1, CMD | LAST, echo_rq())),
        release_rq(),
        pdu(2, bytes(68)),
        pdu(0x99, b""),
        pdu(1, b"\0"),
        b"GET / HTTP",
        b"\x16\x03\x01\x02\x00\x01",
    ],
    ids=["P-DATA", "A-RELEASE-RQ", "A-ASSOCIATE-AC", "unknown type", "too short to be decoded", "HTTP", "TLS"],
)
def test_something_else_than_an_association_request_is_aborted(server, stream):
    with Peer(server.port) as peer:
        peer.send(stream)
        assert peer.pdu()[0] == ABORT


@pytest.mark.parametrize(
    ("stream", "said", "to_do"),
    [
        (pdu(0x99, b""), "it sent a PDU of type 0x99 with 0 bytes", "report it to its maker"),
        (
            associate_rq([], context_items=item(0x20, b"\3")),
            "it sent an A-ASSOCIATE-RQ with a Presentation Context of 1 ",
            "report it to its maker",
        ),
        (
            associate_rq([], context_items=b"".join(context_item(n, VERIFICATION, (IMPLICIT,)) for n in range(129))),
            "it sent an A-ASSOCIATE-RQ with 129 Presentation Contexts",
            "at most 128",
        ),
        (b"GET / HTTP", "it sent HTTP, and this port speaks DICOM", "port of [web]"),
        (b"\x16\x03\x01\x02\x00\x01", "it sent TLS to a port without it", "switch off TLS"),
        (b"\x0bMSH|^~\\&|", "it sent HL7, and this port speaks DICOM", "RIS"),
        (b"SSH-2.0-OpenSSH", "it sent SSH, and this port speaks DICOM", "wrong port"),
        (b"PROXY TCP4 ", "it sent a header of the PROXY protocol", "add the address of the proxy to proxies"),
    ],
)
def test_nothing_is_aborted_without_a_word(server, stream, said, to_do, caplog):
    with Peer(server.port) as peer:
        peer.send(stream)
        assert peer.pdu()[0] == ABORT
    associations_ended()
    assert said in caplog.text
    ((_, calling, _, address, reason, fix),) = server.rejections
    assert (calling, address) == ("", "127.0.0.1")
    assert reason.startswith(said)
    assert to_do in fix


def test_what_breaks_an_association_is_noted(server):
    with server.peer(ECHO) as peer:
        peer.send(p_data(pdv(77, CMD | LAST, echo_rq())))
        assert_aborted(peer)
    associations_ended()
    ((_, calling, called, _, reason, _),) = server.rejections
    assert (calling, called) == ("TESTER", "BACKUP_SCP")
    assert reason == "it sent a message in Presentation Context 77, which was not accepted"


def test_a_request_of_600_mb_is_not_read(server):
    with Peer(server.port) as peer:
        peer.send(pdu(1, bytes(1000), length=600_000_000))
        assert peer.pdu()[0] == ABORT


def test_an_unknown_protocol_version_is_rejected(server):
    with Peer(server.port) as peer:
        assert peer.ask(associate_rq([ECHO], version=2)) == (ASSOCIATE_RJ, b"\0\1\2\2")


HOSTILE_REQUESTS = {
    "context ID 0": associate_rq([], context_items=item(0x20, bytes(4) + item(0x30, b"1.2") + item(0x40, b"1.2"))),
    "context ID 2": associate_rq([], context_items=item(0x20, b"\2\0\0\0" + item(0x30, b"1.2") + item(0x40, b"1.2"))),
    "no user information": pdu(1, struct.pack(">Hxx16s16s32x", 1, b"BACKUP_SCP".ljust(16), b"X".ljust(16))),
    "item beyond the PDU": associate_rq([ECHO])[:-4],
    "user item of length 0": associate_rq([ECHO], items=item(0x51, b"")),
    "role of an endless UID": associate_rq([ECHO], items=item(0x54, b"\xff\xff1.2\1\1")),
    "unknown items": associate_rq([ECHO], items=item(0x99, b"abc") * 100),
    "application context missing": pdu(1, associate_rq([ECHO])[6:74] + associate_rq([ECHO])[99:]),
}


@pytest.mark.parametrize("request_pdu", HOSTILE_REQUESTS.values(), ids=HOSTILE_REQUESTS)
def test_a_hostile_association_request_has_a_clear_outcome(server, request_pdu, caplog):
    with Peer(server.port) as peer:
        peer.send(struct.pack(">BxI", request_pdu[0], len(request_pdu) - 6) + request_pdu[6:])
        kind, _ = peer.pdu()
        assert kind in {2, ASSOCIATE_RJ, ABORT}
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    with server.peer(ECHO) as other:
        assert other.echo() == 0
        other.release()


# --------------------------------------------------------------------------------- ends in the middle of things


MIDDLES = {
    "between messages": b"",
    "in a PDU header": p_data(pdv(1, CMD | LAST, store_rq()))[:3],
    "in a PDV header": p_data(pdv(1, CMD | LAST, store_rq()))[:9],
    "in a Command Set": p_data(pdv(1, CMD, store_rq()[:20])),
    "before a Data Set": p_data(pdv(1, CMD | LAST, store_rq())),
    "in a Data Set": p_data(pdv(1, CMD | LAST, store_rq()), pdv(1, DATA, b"abcd")),
    "in a PDV of a Data Set": p_data(pdv(1, CMD | LAST, store_rq())) + p_data(pdv(1, DATA, bytes(100)))[:50],
}


@pytest.mark.parametrize("middle", MIDDLES.values(), ids=MIDDLES)
def test_reset_in_the_middle(server, middle):
    with server.peer(CT) as peer:
        peer.send(middle)
        peer.reset()
    assert_goes_on(server)
    assert server.sink.stored == []


@pytest.mark.parametrize("middle", MIDDLES.values(), ids=MIDDLES)
def test_end_of_stream_in_the_middle(server, middle):
    with server.peer(CT) as peer:
        peer.send(middle)
    assert_goes_on(server)
    assert server.sink.stored == []


WHOLE_PDUS = ["between messages", "in a Command Set", "before a Data Set", "in a Data Set"]


@pytest.mark.parametrize("middle", WHOLE_PDUS)
def test_abort_in_the_middle(server, middle):
    with server.peer(CT) as peer:
        peer.send(MIDDLES[middle], abort())
        assert peer.until_closed() == []
    assert_goes_on(server)
    assert server.sink.stored == []


@pytest.mark.parametrize(
    ("aborted", "said"),
    [
        (pdu(ABORT, b"\0\0\0\0"), "'TESTER' at 127.0.0.1 aborted by the peer:"),
        (pdu(ABORT, b"\0\0\0\5"), "'TESTER' at 127.0.0.1 aborted by the peer:"),
        (pdu(ABORT, b"\0\0\2\6"), "aborted by the peer's upper layer, reason 6 (Invalid PDU parameter value):"),
        (pdu(ABORT, b"\0\0\2\x99"), "aborted by the peer's upper layer, reason 153"),
    ],
)
@pytest.mark.parametrize("middle", [MIDDLES[name] for name in WHOLE_PDUS], ids=WHOLE_PDUS)
def test_an_abort_is_no_violation(server, middle, aborted, said, caplog):
    """PS3.8 9.3.8: both the user and the upper layer of a peer may abort."""
    caplog.set_level(logging.INFO)
    with server.peer(CT) as peer:
        peer.send(middle, aborted)
        peer.until_closed()
    associations_ended()
    assert said in caplog.text
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    assert server.rejections == []


def test_a_connection_that_is_lost_is_no_violation(server, caplog):
    caplog.set_level(logging.INFO)
    with server.peer(CT) as peer:
        peer.send(MIDDLES["in a Data Set"])
    associations_ended()
    assert "Association with 'TESTER' at 127.0.0.1 lost:" in caplog.text
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.parametrize("middle", WHOLE_PDUS)
def test_release_in_the_middle_voids_the_message(server, middle):
    with server.peer(CT) as peer:
        peer.send(MIDDLES[middle], release_rq())
        assert peer.pdu() == (RELEASE_RP, bytes(4))
    assert_goes_on(server)
    assert server.sink.stored == []


def assert_goes_on(server):
    with server.peer(CT) as peer:
        peer.send(p_data(pdv(1, CMD | LAST, store_rq("9.9"))), p_data(pdv(1, DATA | LAST, b"ok")))
        assert peer.message().status == 0
        peer.release()
    assert server.sink.stored.pop() == ("9.9", b"ok")


# ---------------------------------------------------------------------------------------------------- slow peers


def test_a_connection_that_says_nothing_is_closed(start_server):
    server = start_server(timing=HASTY)
    with Peer(server.port) as peer:
        assert peer.until_closed() == []


def test_an_idle_association_is_aborted(start_server):
    server = start_server(timing=HASTY)
    with server.peer(ECHO) as peer:
        assert peer.pdu() == (ABORT, b"\0\0\0\0")  # source: service user


@pytest.mark.parametrize("middle", ["in a Command Set", "before a Data Set", "in a Data Set", "in a PDV of a Data Set"])
def test_a_peer_that_stops_in_the_middle_is_aborted(start_server, middle):
    server = start_server(timing=Timing(association_s=TIMEOUT_S, idle_s=TIMEOUT_S, network_s=0.2))
    with server.peer(CT) as peer:
        peer.send(MIDDLES[middle])
        assert peer.pdu() == (ABORT, b"\0\0\0\0")
    assert server.sink.stored == []


def test_a_pdu_that_drips_has_a_deadline(start_server):
    server = start_server(timing=Timing(association_s=TIMEOUT_S, idle_s=TIMEOUT_S, network_s=0.2))
    drip = p_data(pdv(1, DATA | LAST, bytes(2000)))
    with server.peer(CT) as peer:
        peer.send(p_data(pdv(1, CMD | LAST, store_rq())), drip[:12])
        peer.socket.settimeout(0.05)  # a byte each 50 ms never is a pause of 200 ms
        for byte in drip[12:]:
            peer.send(bytes((byte,)))
            try:
                kind, _ = peer.pdu()
            except TimeoutError:
                continue
            break
        assert kind == ABORT
    assert server.sink.stored == []


def test_a_drip_of_an_association_request_has_a_deadline(start_server):
    server = start_server(timing=HASTY)
    with Peer(server.port) as peer:
        peer.socket.settimeout(0.05)
        for byte in associate_rq([ECHO]):
            try:
                peer.send(bytes((byte,)))
                peer.pdu()
            except TimeoutError:
                continue
            except ConnectionError:
                return
    pytest.fail("the request was waited for")


def test_a_flood_after_an_abort_does_not_hold_the_thread(start_server, monkeypatch):
    monkeypatch.setattr("backup_scp.dimse.upper_layer.association_control._LINGER_S", 0.2)
    server = start_server()
    flood = pdu(0x42, bytes(1 << 16))
    with server.peer(ECHO) as peer, contextlib.suppress(ConnectionError):
        while True:  # ends with the connection
            peer.send(flood)


@pytest.mark.parametrize("first", [b"", pdu(0x42, b"")], ids=["from the start", "after an abort"])
def test_a_flood_before_an_association_does_not_hold_the_thread(start_server, monkeypatch, first):
    monkeypatch.setattr("backup_scp.dimse.upper_layer.association_control._LINGER_S", 0.2)
    server = start_server(timing=HASTY)
    flood = pdu(P_DATA_TF, bytes(1 << 16))
    with Peer(server.port) as peer, contextlib.suppress(ConnectionError):
        peer.send(first)
        while True:
            peer.send(flood)


def test_a_message_of_more_pdus_than_the_system_gathers():
    near, far = socket.socketpair()
    layer = UpperLayer(near, Timing(), "a peer")
    establish(layer, b"", 64)
    with far, ThreadPoolExecutor(1) as other:
        received = other.submit(lambda: b"".join(iter(lambda: far.recv(1 << 16), b"")))
        layer.send_message(1, b"a command", bytes(64 * 1000))
        layer.close()
        wire = received.result(TIMEOUT_S)
    assert len(wire) == len(p_data(pdv(1, CMD | LAST, b"a command"))) + 64 * 1000 + 12 * -(-64 * 1000 // 58)


def test_where_the_system_keeps_no_time(start_server, monkeypatch):
    """As on Windows: reads, timeouts, and slow writes."""
    monkeypatch.setattr(streams, "_SYSTEM_WAITS", False)
    data = random.Random(0).randbytes(3_000_001)
    server = start_server(timing=HASTY)
    with server.peer(CT) as peer:
        peer.send(p_data(pdv(1, CMD | LAST, store_rq())), p_data(pdv(1, DATA | LAST, data)))
        assert peer.message().status == 0
        assert peer.pdu() == (ABORT, b"\0\0\0\0")
    assert server.sink.stored == [("1.2.3", data)]
    near, far = socket.socketpair()
    layer = UpperLayer(near, Timing(), "a peer")
    establish(layer)
    message, looked = layer.framed(1, b"a command", data), threading.Event()
    layer.watch = looked.set
    with far, ThreadPoolExecutor(1) as other:
        sent = other.submit(layer.send_message, 1, b"a command", data)
        assert looked.wait(TIMEOUT_S)
        received = b""
        while len(received) < len(message):
            received += far.recv(1 << 20)
        sent.result(TIMEOUT_S)
        assert not layer.has_input()
        assert received == message
        layer.close()


@pytest.mark.parametrize("patience_s", [0.0, 1e-9, 1e-6])
def test_a_moment_is_not_for_ever(patience_s):
    near, far = socket.socketpair()
    stream, full = streams.bare_stream(near), memoryview(bytes(1 << 24))
    with near, far, ThreadPoolExecutor(1) as other:
        reading = other.submit(stream.receive, memoryview(bytearray(10)), patience_s)
        wait([reading], TIMEOUT_S)
        far.close() if not reading.done() else None
        assert isinstance(reading.exception(), TimeoutError)
        stream.send([full], 1)
        writing = other.submit(stream.send, [full], patience_s)
        wait([writing], TIMEOUT_S)
        far.close()
        assert isinstance(writing.exception(), TimeoutError)


# ---------------------------------------------------------------------------------------------------------- TLS


@pytest.fixture
def secured_pair(secured):
    """Yield a layer with TLS and its peer, neither of which has said anything."""
    near, far = socket.socketpair()
    far.settimeout(TIMEOUT_S)
    with far, ThreadPoolExecutor(1) as other:
        peer = other.submit(TLSSocket, far, secured[1])
        ours = SecuredSocket(near, secured[0])
        Secured(ours).do_handshake(TIMEOUT_S)
        layer = UpperLayer(ours, Timing(), "a peer")
        yield layer, peer.result(TIMEOUT_S)
        layer.close()


def test_what_is_still_sent_after_the_reading_was_ended_is_secured(secured_pair):
    """The node stops in the moment in which a request came: its answer must not go out in clear."""
    layer, peer = secured_pair
    establish(layer, b"accepted", 0)
    layer.shut(socket.SHUT_RD)
    layer.send_message(1, b"an answer")
    layer.close()
    received = b"".join(iter(lambda: peer.recv(1000), b""))
    assert received == b"accepted" + p_data(pdv(1, CMD | LAST, b"an answer"))


@pytest.fixture
def plain_pair():
    """Yield a layer and the socket of its peer, neither of which has said anything."""
    near, far = socket.socketpair()
    far.settimeout(TIMEOUT_S)
    with far:
        layer = UpperLayer(near, Timing(), "a peer")
        yield layer, far
        layer.close()


@pytest.mark.parametrize("pair", ["plain_pair", "secured_pair"])
@pytest.mark.parametrize("seed", range(6))
def test_a_part_of_a_data_set_lasts_until_the_next_but_one_is_read(request, pair, seed):
    layer, peer = request.getfixturevalue(pair)
    establish(layer)
    chance = random.Random(seed)
    sizes = [chance.choice((0, 1, 7, 3_000, 131_066, 900_000)) for _ in range(40)]
    parts = [*map(chance.randbytes, sizes), b"the last"]
    stream = b"".join(p_data(pdv(1, LAST * (part is parts[-1]), part)) for part in parts)
    with ThreadPoolExecutor(1) as other:
        sent = other.submit(_in_pieces, peer, stream, chance)
        came, before, fragment = b"", (memoryview(b""), b""), None
        while fragment is None or not fragment.is_last:
            fragment = layer.read_fragment()
            assert before[0] == before[1]
            before = fragment.data, bytes(fragment.data)
            came += before[1]
        sent.result(TIMEOUT_S)
    assert came == b"".join(parts)


def _in_pieces(peer, stream, chance):
    """Send with cuts in the middle of headers, too."""
    while stream:
        size = chance.choice((3, 8, 13, 5_000, 400_000))
        peer.sendall(stream[:size])
        stream = stream[size:]


def test_records_that_wait_are_read_together(secured_pair):
    layer, peer = secured_pair
    establish(layer)
    data = bytes(range(250)) * 800
    records = peer.records(p_data(pdv(1, DATA | LAST, data)))
    peer.bare.sendall(records)
    assert layer.has_input()
    assert layer.read_fragment().data == data


def test_a_part_of_a_record_is_no_input_and_its_rest_is(secured_pair):
    layer, peer = secured_pair
    establish(layer)
    record = peer.records(p_data(pdv(1, CMD | LAST, b"a command")))
    for part in (record[:3], record[3:-1]):
        peer.bare.sendall(part)
        assert not layer.has_input()
    peer.bare.sendall(record[-1:])
    assert layer.has_input(TIMEOUT_S)
    assert layer.read_fragment().data == b"a command"


def test_a_drip_of_a_record_has_a_deadline(secured_pair):
    layer, peer = secured_pair
    establish(layer)
    layer.idle_timeout_s = 0.2
    record = peer.records(p_data(pdv(1, CMD | LAST, bytes(2000))))
    with ThreadPoolExecutor(1) as other:
        reading = other.submit(layer.read_fragment, between_messages=True)
        for byte in record:
            if reading.done():
                break
            peer.bare.sendall(bytes((byte,)))
            wait([reading], 0.05)  # a byte each 50 ms never is a pause of 200 ms
        with pytest.raises(PeerTimedOut):
            reading.result(0)


def test_new_keys_are_made_but_not_without_end(secured, monkeypatch):
    if shutil.which("openssl") is None:  # Python's TLS asks for no new keys
        peer_missing("openssl")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = ("openssl", "s_client", "-brief", "-tls1_3", "-connect", f"127.0.0.1:{listener.getsockname()[1]}")
        with subprocess.Popen(command, stdin=-1, stdout=-3, stderr=-1, bufsize=0) as peer:
            assert peer.stdin
            assert peer.stderr
            ours = SecuredSocket(listener.accept()[0], secured[0])
            Secured(ours).do_handshake(TIMEOUT_S)
            layer = UpperLayer(ours, Timing(), "a peer")
            establish(layer)
            for word in (b"first", b"second", b"too late"):
                if word == b"too late":
                    monkeypatch.setattr(secured_stream, "_MOST_ANSWERS_BYTES", 20)
                peer.stdin.write(b"K\n")  # asks for a KeyUpdate of both sides
                assert any(b"KEYUPDATE" in line for line in peer.stderr)
                peer.stdin.write(p_data(pdv(1, CMD | LAST, word)))
                if word != b"too late":
                    assert bytes(layer.read_fragment().data) == word
            with pytest.raises(AssociationEnded):
                layer.read_fragment()
            layer.close()


def test_what_is_sent_comes_once_however_late_it_is_taken(secured_pair):
    layer, peer = secured_pair
    establish(layer)
    data = random.Random(0).randbytes(3_000_001)
    message, looked = layer.framed(1, b"a command", data), threading.Event()
    layer.watch = looked.set
    with ThreadPoolExecutor(1) as other:
        sent = other.submit(layer.send_message, 1, b"a command", data)
        assert looked.wait(TIMEOUT_S)  # it was not taken in time
        received = b""
        while len(received) < len(message):
            received += peer.recv(1 << 16)
        layer.shut(socket.SHUT_RDWR)
        sent.result(TIMEOUT_S)
    assert received == message


def send_half_a_message(layer):
    """Be interrupted by the one who watches, as a cancelled retrieve is."""

    def not_wanted():
        raise Interrupted

    establish(layer)
    layer.watch = not_wanted
    with pytest.raises(Interrupted):
        layer.send_message(1, b"a command", bytes(3_000_001))


def test_an_abort_in_the_middle_of_what_is_sent(secured_pair):
    layer, peer = secured_pair
    send_half_a_message(layer)
    with ThreadPoolExecutor(1) as other:
        aborted = other.submit(layer.abort, block=False)
        received = b"".join(iter(lambda: peer.recv(1 << 16), b""))
        aborted.result(TIMEOUT_S)
    assert received.endswith(abort())


def test_an_abort_does_not_wait_for_a_peer_that_takes_nothing(plain_pair, monkeypatch):
    """Otherwise the requestor of a cancelled retrieve would wait a minute, as long as for an answer."""
    monkeypatch.setattr(buffered_socket, "_LAST_WORD_S", 0.2)
    layer, _ = plain_pair
    send_half_a_message(layer)
    began = time.monotonic()
    layer.abort(block=False)
    assert time.monotonic() - began < TIMEOUT_S
    assert not layer.is_open


def test_a_buffer_serves_one_connection_after_another(monkeypatch):
    monkeypatch.setattr(buffered_socket, "_idle", deque(maxlen=1))
    served = []
    for word in (b"first word", b"next"):
        near, far = socket.socketpair()
        with far:
            layer = UpperLayer(near, Timing(), "a peer")
            establish(layer)
            far.sendall(p_data(pdv(1, CMD | LAST, word)))
            fragment = layer.read_fragment()
            served.append((fragment.data.obj, bytes(fragment.data)))
            layer.close()
            layer.close()
    (first, one), (second, other) = served
    assert (one, other) == (b"first word", b"next")
    assert first is second
    assert len(buffered_socket._idle) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system makes processes otherwise")
def test_no_other_process_sees_what_is_received(monkeypatch):
    monkeypatch.setattr(buffered_socket, "_idle", deque(maxlen=1))
    UpperLayer(None, Timing(), "a peer").close()
    process = os.fork()
    if not process:
        buffered_socket._idle.pop()[:6] = b"theirs"
        os._exit(0)
    os.waitpid(process, 0)
    assert buffered_socket._idle.pop()[:6] == bytes(6)
