"""Callers behind a proxy: the header of the PROXY protocol v2 names them, from listed proxies alone."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_scp.dimse.association import pending
from backup_scp.dimse.association.association import Timing
from backup_scp.dimse.association.connection_opening import behind
from backup_scp.dimse.upper_layer.proxy_protocol import SIGNATURE, InvalidProxyHeader, read_header
from backup_scp.machine.networks import network_of
from backup_scp.ports import RemoteAE
from tests.dimse.conftest import associations_ended
from tests.dimse.wire import ABORT, ASSOCIATE_AC, ASSOCIATE_RJ, IMPLICIT, TIMEOUT_S, VERIFICATION, Peer, associate_rq
from tests.processes import wait_until

ECHO = (VERIFICATION, (IMPLICIT,))
HERE = (network_of("127.0.0.1"),)


def header(source: str = "", *, command: int = 0x21, family: int | None = None, more: bytes = b"", length: int = -1):
    """Write a header; without a source it names no address."""
    kind, body = 0x00, b""
    if source:
        kind = 0x21 if ":" in source else 0x11
        packed = socket.inet_pton(socket.AF_INET6 if ":" in source else socket.AF_INET, source)
        body = packed + packed + struct.pack(">HH", 40000, 11112)
    body += more
    kind = kind if family is None else family
    return SIGNATURE + struct.pack(">BBH", command, kind, len(body) if length < 0 else length) + body


UNIX = SIGNATURE + struct.pack(">BBH", 0x21, 0x31, 216) + b"/run/socket".ljust(216, b"\0")
TLVS = b"\x04\0\x05abcde" + b"\x20\0\x08" + bytes(8) + b"\x03\0\4" + bytes(4)  # NOOP, SSL, CRC32C


def read(sent: bytes, *, closed: bool = True) -> tuple[str | None, bytes]:
    """Return the address, and the bytes that are left."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(sent)
        if closed:
            theirs.shutdown(socket.SHUT_WR)
        found = read_header(ours, TIMEOUT_S)
        ours.setblocking(False)
        try:
            return found, ours.recv(1 << 16)
        except BlockingIOError:
            return found, b""


@pytest.mark.parametrize(
    ("sent", "address"),
    [
        (header("192.0.2.7"), "192.0.2.7"),
        (header("2001:db8::7"), "2001:db8::7"),
        (header("192.0.2.7", more=TLVS), "192.0.2.7"),
        (header("192.0.2.7", more=bytes(4000)), "192.0.2.7"),
        (header("192.0.2.7", command=0x20), None),
        (header(command=0x20), None),
        (header(), None),
        (header("192.0.2.7", family=0x12), None),  # UDP
        (UNIX, None),
    ],
    ids=["IPv4", "IPv6", "TLVs", "long TLVs", "LOCAL", "LOCAL without address", "UNSPEC", "UDP", "UNIX"],
)
def test_what_a_header_names_and_what_follows_it_stays(sent, address):
    assert read(sent + b"\x01\x00rest", closed=False) == (address, b"\x01\x00rest")


@pytest.mark.parametrize("cut", range(1, len(header("2001:db8::7", more=TLVS))))
def test_a_header_that_is_cut_at_any_byte_names_nobody(cut):
    with pytest.raises(InvalidProxyHeader):
        read(header("2001:db8::7", more=TLVS)[:cut])


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (header("192.0.2.7", length=11), "11 bytes for its addresses"),
        (header("2001:db8::7", length=12), "12 bytes for its addresses"),
        (header("192.0.2.7", length=0xFFFF), "of 65535 bytes"),
        (header("192.0.2.7", length=200), "ends early"),
        (header("192.0.2.7", command=0x11), "0x11"),
        (header("192.0.2.7", command=0x22), "0x22"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 11112\r\n", "version 1"),
        (associate_rq([ECHO]), "no PROXY protocol header"),
        (b"\x16\x03\x01\x02\0\x01\0", "no PROXY protocol header"),
    ],
)
def test_a_wrong_header_is_refused_in_words(sent, words):
    with pytest.raises(InvalidProxyHeader, match=words):
        read(sent)


def test_a_test_of_the_port_is_no_wrong_header():
    with pytest.raises(ConnectionError):
        read(b"")


def test_a_header_that_does_not_come_ends_in_time():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(header("192.0.2.7")[:20])
        with pytest.raises(TimeoutError):
            read_header(ours, 0.05)


@given(st.binary(max_size=64))
def test_any_bytes_give_an_address_or_a_refusal(sent):
    try:
        address, _ = read(SIGNATURE + sent)
    except InvalidProxyHeader:
        return
    assert address is None or socket.getaddrinfo(address, 1, flags=socket.AI_NUMERICHOST)


# ------------------------------------------------------------------------------------------------- with a server


def call(running, sent: bytes, **request) -> tuple[int, bytes]:
    with Peer(running.port) as peer:
        peer.send(sent)
        answer = peer.ask(associate_rq([ECHO], **request))
        if answer[0] == ASSOCIATE_AC:
            assert peer.echo() == 0
            peer.release()
        return answer


def accepted_from(running, sent: bytes, recorder) -> str:
    assert call(running, sent)[0] == ASSOCIATE_AC
    associations_ended()
    return recorder.successes[-1][2]


def test_the_header_is_the_address_of_the_caller(start_server, recorder):
    running = start_server(proxies=HERE)
    for address in ("192.0.2.7", "2001:db8::7"):
        assert accepted_from(running, header(address), recorder) == address
    assert accepted_from(running, header("::ffff:192.0.2.7"), recorder) == "192.0.2.7"


@pytest.mark.parametrize("sent", [header(command=0x20), header(), UNIX])
def test_without_a_usable_address_it_is_that_of_the_proxy(start_server, recorder, sent):
    assert accepted_from(start_server(proxies=HERE), sent, recorder) == "127.0.0.1"


@pytest.mark.parametrize(
    ("proxy", "named", "address"),
    [
        ("127.0.0.1", "127.0.0.9", "127.0.0.9"),
        ("::1", "::1", "::1"),
        ("192.0.2.1", "127.0.0.1", "192.0.2.1"),
        ("192.0.2.1", "::1", "192.0.2.1"),
        ("192.0.2.1", "::ffff:127.0.0.1", "192.0.2.1"),
        ("192.0.2.1", None, "192.0.2.1"),
    ],
)
def test_a_loopback_address_is_one_of_the_proxys_machine(proxy, named, address):
    assert behind(proxy, named) == address


@pytest.mark.parametrize("sent", [header("127.0.0.1"), header(command=0x20), header("192.0.2.7")])
def test_no_caller_behind_a_proxy_is_this_machine(start_server, sent):
    """It would have reserved places here, and be allowed to query."""
    running = start_server(proxies=HERE, maximum_associations=0, reserved_associations=1)
    assert call(running, sent) == (ASSOCIATE_RJ, b"\0\2\3\2")
    direct = start_server(maximum_associations=0, reserved_associations=1)
    assert call(direct, b"")[0] == ASSOCIATE_AC


def test_a_remote_ae_is_recognised_by_the_address_in_the_header(start_server):
    remote = RemoteAE("console", "TESTER", "192.0.2.7")
    running = start_server(proxies=HERE, remotes=(remote,), maximum_associations=0, reserved_associations=1)
    assert call(running, header("192.0.2.7"))[0] == ASSOCIATE_AC
    associations_ended()
    assert call(running, header("192.0.2.8")) == (ASSOCIATE_RJ, b"\0\2\3\2")


def test_nobody_else_can_forge_an_address(start_server):
    """A header from an address that is not listed is no header: a configured address in it counts for nothing."""
    remote = RemoteAE("console", "TESTER", "192.0.2.7")
    running = start_server(proxies=(network_of("192.0.2.1"),), remotes=(remote,))
    for sent in (header("192.0.2.7"), b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 11112\r\n"):
        with Peer(running.port) as peer:
            peer.send(sent)
            assert peer.pdu()[0] == ABORT
        wait_until(lambda: running.rejections, TIMEOUT_S)
        (_, _, _, address, reason, _) = running.rejections.pop()
        assert address == "127.0.0.1"
        assert reason == "it sent a header of the PROXY protocol, and its address is not one of proxies"
    assert call(running, b"")[0] == ASSOCIATE_AC


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (associate_rq([ECHO]), "no PROXY protocol header, and its address is one of proxies"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 11112\r\n", "version 1"),
    ],
)
def test_a_listed_proxy_without_a_header_is_closed_and_noted(start_server, sent, words):
    running = start_server(proxies=HERE)
    with Peer(running.port) as peer:
        peer.send(sent)
        peer.until_closed()
    wait_until(lambda: running.rejections, TIMEOUT_S)
    (_, calling, _, address, reason, fix) = running.rejections[-1]
    assert (calling, address) == ("", "127.0.0.1")
    assert words in reason
    assert "send-proxy-v2" in fix


def test_a_health_check_that_only_connects_is_not_noted(start_server):
    running = start_server(proxies=HERE)
    Peer(running.port).socket.close()
    assert call(running, header("192.0.2.7"))[0] == ASSOCIATE_AC
    associations_ended()
    assert running.rejections == []


def test_a_header_comes_before_tls(start_server, secured, recorder):
    ours, theirs = secured
    running = start_server(proxies=HERE, tls=ours)
    plain = socket.create_connection((running.host, running.secured_port), TIMEOUT_S)
    plain.sendall(header("192.0.2.7", more=TLVS))
    with theirs.wrap_socket(plain, server_hostname="node.clinic.example") as connection:
        peer = Peer.__new__(Peer)
        peer.socket = connection
        assert peer.ask(associate_rq([ECHO]))[0] == ASSOCIATE_AC
        peer.release()
    associations_ended()
    assert {each[2] for each in recorder.successes} == {"192.0.2.7"}


def test_silent_callers_behind_a_proxy_count_for_themselves(start_server, monkeypatch):
    """A flood through the proxy displaces its own connections, not that of a console behind the same proxy."""
    monkeypatch.setattr(pending, "MOST_OF_ONE_PEER", 3)
    running = start_server(proxies=HERE)
    with Peer(running.port) as console:
        console.send(header("192.0.2.7"))
        flood = []
        for _ in range(8):
            flood.append(Peer(running.port))
            flood[-1].send(header("198.51.100.66"))
            wait_until(lambda: _pending_of(running, "127.0.0.1") == 0, TIMEOUT_S)
        assert flood[0].until_closed() == []
        assert console.ask(associate_rq([ECHO]))[0] == ASSOCIATE_AC
        console.release()
    for one in flood:
        one.socket.close()


def _pending_of(running, peer: str) -> int:
    return len(running.server._pending._by_peer.get(peer, ()))


def test_a_proxy_that_says_nothing_holds_a_thread_no_longer_than_a_caller(start_server):
    running = start_server(
        proxies=HERE, timing=Timing(association_s=0.05, idle_s=TIMEOUT_S, network_s=TIMEOUT_S, connect_s=TIMEOUT_S)
    )
    with Peer(running.port) as peer:
        peer.send(SIGNATURE)
        peer.until_closed()


@pytest.mark.parametrize("proxies", [(), HERE])
def test_a_health_check_of_the_port_with_tls_is_not_noted(start_server, secured, proxies):
    running = start_server(proxies=proxies, tls=secured[0])
    before = header(command=0x20) if proxies else b""
    for sent in (b"", b"\x16\x03"):
        with socket.create_connection((running.host, running.secured_port), TIMEOUT_S) as check:
            check.sendall(before + sent)
    wait_until(lambda: running.rejections, TIMEOUT_S)
    associations_ended()
    assert len(running.rejections) == 1  # the handshake that was cut
