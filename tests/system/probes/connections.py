"""Attacks with connections, and with what comes before an Association (PS3.8 9.2, 9.3)."""

from __future__ import annotations

import contextlib
import ssl
import struct
from random import Random

from tests.dimse.wire import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    IMPLICIT,
    VERIFICATION,
    associate_rq,
    context_item,
    item,
    p_data,
    pdu,
    pdv,
)
from tests.fuzz.pdu_streams import stream
from tests.system.probes.target import ECHO, Target, at_once, held

REQUEST = associate_rq(ECHO, calling=b"STRANGER")
GET = b"GET /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_CLIENT_HELLO_BYTES = 1 << 16


def silent(target: Target) -> None:
    """Connections that say nothing: more than the node keeps."""
    with held(target, 400, [b""]):
        target.hold()


def byte_by_byte(target: Target) -> None:
    """A-ASSOCIATE-RQ of which now and then one byte comes."""
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(target.connect()) for _ in range(30)]
        for at in range(60):
            for caller in callers:
                with contextlib.suppress(ConnectionError):
                    caller.sendall(REQUEST[at : at + 1])
            if at % 20 == 0:
                target.hold()


def wrong_called_title(target: Target) -> None:
    """Requests for another AE title: each is rejected."""
    request = associate_rq(ECHO, called=b"NOT_US", calling=b"IMPATIENT")

    def call(_: int) -> None:
        with target.peer() as peer:
            assert peer.ask(request)[0] == ASSOCIATE_RJ

    at_once(call, 400)


def huge_requests(target: Target) -> None:
    """A-ASSOCIATE-RQ of a megabyte: Presentation Contexts, Transfer Syntaxes and user items without number."""
    many = [f"1.2.{number}" for number in range(400)]
    contexts = b"".join(context_item(2 * (n % 128) + 1, many[n], many) for n in range(120))
    items = b"".join(item(0x54, struct.pack(">H", 3) + b"1.2" + bytes(2)) for _ in range(5500))
    requests = [
        associate_rq((), context_items=contexts),
        associate_rq(ECHO, items=items),
        associate_rq((), context_items=b"".join(context_item(1, "1.2", ()) for _ in range(60_000))),
        associate_rq(((VERIFICATION, [IMPLICIT] * 2000),)),
    ]
    at_once(lambda number: target.send(requests[number % len(requests)]), 60)


def lengths_of_4_gb(target: Target) -> None:
    """PDUs that announce 4 GB, and send some of it."""
    kinds = [pdu(kind, bytes(200_000), length=0xFFFFFFFF) for kind in (1, 2, 3, 4, 5, 6, 7, 99)]
    kinds += [REQUEST + each for each in kinds]
    at_once(lambda number: target.send(kinds[number % len(kinds)]), 100)
    with held(target, 40, [each[:5000] for each in kinds]):
        target.hold()


def endless_p_data(target: Target) -> None:
    """Fragments of a Command Set without end, or of a Data Set without one; the node breaks off."""
    pieces = [p_data(pdv(1, control, bytes(16_000))) for control in (1, 0)]

    def send(number: int) -> None:
        with target.associated() as peer, contextlib.suppress(ConnectionError):
            for _ in range(300):
                peer.send(pieces[number % 2])
            assert peer.pdu()[0] == ABORT

    at_once(send, 24)


def never_released(target: Target) -> None:
    """Associations that do nothing: more than one address may have."""
    with contextlib.ExitStack() as stack:
        answers = [stack.enter_context(target.peer()).ask(REQUEST)[0] for _ in range(40)]
        target.hold()
    assert answers.count(ASSOCIATE_AC) >= 1
    assert answers.count(ASSOCIATE_RJ) >= 20


def opened_and_closed(target: Target) -> None:
    """Connections that end at once, some of them by a reset."""

    def call(number: int) -> None:
        with target.peer() as peer:
            if number % 3 == 0:
                peer.send(REQUEST[: number % 90])
            if number % 2:
                peer.reset()

    at_once(call, 500)


def released_at_once(target: Target) -> None:
    """Associations with one C-ECHO, as fast as they go."""

    def call(_: int) -> None:
        with target.associated() as peer:
            assert peer.echo() == 0
            peer.release()

    at_once(call, 300)


def half_a_handshake(target: Target) -> None:
    """TLS handshakes that stop in the middle."""
    hello = _client_hello()
    with held(target, 200, [b"", hello[:3], hello[:100], hello], target.tls_port):
        target.hold()


def not_tls(target: Target) -> None:
    """What is not TLS, at the port of TLS."""
    noise = [REQUEST, GET, b"\x16\x03\x01\xff\xff" + bytes(5000), bytes(1000), b"\x80" * 400, _client_hello()[:-9] * 3]
    at_once(lambda number: target.send(noise[number % len(noise)], target.tls_port), 200)


def wrong_protocol(target: Target) -> None:
    """HTTP at the port of DICOM, DICOM and TLS at the port of HTTP."""
    at_dicom = [GET, b"SSH-2.0-x\r\n", _client_hello(), b"\r\n\r\n" * 1000]
    at_web = [REQUEST, _client_hello(), bytes(5000), b"\xff" * 5000]
    at_once(lambda number: target.send(at_dicom[number % len(at_dicom)]), 100)
    at_once(lambda number: target.send(at_web[number % len(at_web)], target.web_port), 100)


def seeded_streams(target: Target) -> None:
    """PDUs that break the rules, as `make fuzz` sends them."""
    at_once(lambda number: target.send(b"".join(stream(Random(f"probe:{number}")))), 300, callers=4)


def _client_hello() -> bytes:
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="node.clinic.example").do_handshake()
    return outgoing.read(_CLIENT_HELLO_BYTES)
