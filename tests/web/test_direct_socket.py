"""Long bodies on a real socket: threads send and receive them past asyncio."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import sys
import threading
from collections.abc import Iterator, Sequence

import pytest
import trustme
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from backup_scp.errors import DigestMismatch
from backup_scp.web import direct_socket, guarded_connection
from backup_scp.web.dicomweb.request_body import feed_body
from backup_scp.web.direct_socket import BodyLimits, DirectSocket, Piece
from backup_scp.web.options import WebOptions
from backup_scp.web.problems import Problem, response_of
from backup_scp.web.streamed import StreamedResponse
from tests.processes import LOOPBACK, wait_until
from tests.web.test_web_server import connect, serving

PART_BYTES = 1 << 18
PARTS = 80
BODY = b"".join(bytes([number]) * PART_BYTES for number in range(PARTS))
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def parts(until: int = PARTS) -> Iterator[memoryview]:
    memory = bytearray(PART_BYTES)
    for number in range(until):
        memory[:] = bytes([number]) * PART_BYTES
        yield memoryview(memory)
    if until < PARTS:
        raise DigestMismatch("a part is damaged")


async def whole(scope, receive, send):
    await StreamedResponse(parts(), "image/x", len(BODY))(scope, receive, send)


async def damaged(scope, receive, send):
    await StreamedResponse(parts(40), "image/x", len(BODY))(scope, receive, send)


async def short(scope, receive, send):
    pieces = iter([memoryview(b"one, "), memoryview(b"two")])
    response = StreamedResponse(pieces, "image/x", 8)
    assert next(pieces, None) is None
    await response(scope, receive, send)


@pytest.fixture
def sent(monkeypatch) -> list[int]:
    """Count the bytes of each body that is sent past asyncio."""
    sizes: list[int] = []
    real = DirectSocket.send

    async def counted(self, *arguments):
        size = await real(self, *arguments)
        sizes.append(size)
        return size

    monkeypatch.setattr(DirectSocket, "send", counted)
    return sizes


@pytest.fixture
def start() -> Iterator:
    with contextlib.ExitStack() as stack:
        yield lambda app, options=WebOptions(): stack.enter_context(serving(app, options))  # noqa: B008


def answer(client: socket.socket) -> bytes:
    """Receive an answer with a Content-Length; return what came of its body."""
    received = bytearray()
    while b"\r\n\r\n" not in received:
        received += client.recv(1)
    head, body = bytes(received).lower(), bytearray()
    size = int(head.partition(b"content-length: ")[2].split()[0])
    while len(body) < size and (piece := client.recv(min(1 << 20, size - len(body)))):
        body += piece
    return bytes(body)


@pytest.mark.skipif(sys.platform == "win32", reason="on Windows asyncio sends")
def test_two_answers_on_one_connection_are_whole(start, sent):
    with connect(start(whole)) as client:
        for _ in range(2):
            client.sendall(REQUEST)
            assert answer(client) == BODY
    wait_until(lambda: sent == [len(BODY)] * 2, what="both are noted")


def test_a_short_answer_is_read_at_once(start, sent):
    with connect(start(short)) as client:
        for _ in range(2):
            client.sendall(REQUEST)
            assert answer(client) == b"one, two"
    assert sent == []


def test_a_caller_that_reads_slowly_gets_all_and_takes_no_thread(start, monkeypatch):
    monkeypatch.setattr(direct_socket, "_PATIENCE_MS", 0)
    port = start(whole)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(port)) for _ in range(50)]  # more than there are threads
        for client in slow:
            client.sendall(REQUEST)
            client.recv(1, socket.MSG_PEEK)
        assert [answer(client) for client in slow[-3:]] == [BODY] * 3


def test_a_caller_that_reads_nothing_is_cut_off(start, monkeypatch):
    monkeypatch.setattr(guarded_connection, "STALL_S", 0.2)
    monkeypatch.setattr(direct_socket, "_PATIENCE_MS", 1)
    with connect(start(whole)) as client:
        client.sendall(REQUEST)
        assert not threading.Event().wait(1)  # the time that it has not read
        with contextlib.suppress(ConnectionResetError):
            assert len(answer(client)) < len(BODY)


def test_an_answer_with_a_damaged_part_has_no_end(start):
    with connect(start(damaged)) as client:
        client.sendall(REQUEST)
        assert answer(client) == BODY[: 40 * PART_BYTES]


def test_a_caller_that_leaves_disturbs_nobody(start):
    port = start(whole)
    with connect(port) as client:
        client.sendall(REQUEST)
        client.recv(1)
    with connect(port) as client:
        client.sendall(REQUEST)
        assert answer(client) == BODY


def test_tls_sends_the_same(start, sent, tmp_path):
    ca = trustme.CA()
    certificate = ca.issue_cert(LOOPBACK)
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "certificate.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    options = WebOptions(certificate=tmp_path / "certificate.pem", key=tmp_path / "key.pem")
    context = ssl.create_default_context()
    ca.configure_trust(context)
    with connect(start(whole, options)) as plain, context.wrap_socket(plain, server_hostname=LOOPBACK) as client:
        client.sendall(REQUEST)
        assert answer(client) == BODY
    assert sent == []


class Storing:
    """Stores bodies in memory, as STOW-RS stores them on the disk."""

    def __init__(self, error_at: int = 0, limits: BodyLimits = BodyLimits()) -> None:  # noqa: B008
        self.pieces: list[bytes] = []
        self._error_at = error_at
        self._limits = limits

    def feed(self, pieces: Sequence[Piece]) -> None:
        self.pieces += map(bytes, pieces)  # a copy: they are valid until the second next call
        if self._error_at and sum(map(len, self.pieces)) > self._error_at:
            raise Problem(400, "this cannot be stored")

    async def __call__(self, scope, receive, send):
        request = Request(scope, receive, send)
        try:
            await feed_body(request, self._limits, self.feed)
        except Problem as problem:
            await response_of(problem)(scope, receive, send)
        else:
            await PlainTextResponse("stored")(scope, receive, send)


@pytest.fixture
def received(monkeypatch) -> list[int]:
    """Count the bytes of each body that is received past asyncio."""
    sizes: list[int] = []
    real = DirectSocket.receive

    async def counted(self, feed, size, limits):
        await real(self, feed, size, limits)
        sizes.append(size)

    monkeypatch.setattr(DirectSocket, "receive", counted)
    return sizes


def post(size: int, *fields: str) -> bytes:
    return "\r\n".join(["POST / HTTP/1.1", "Host: x", f"Content-Length: {size}", *fields, "", ""]).encode()


def status_of(client: socket.socket) -> int:
    with client.makefile("rb") as stream:
        status, size = int(stream.readline().split()[1]), 0
        while (line := stream.readline().lower()) not in {b"\r\n", b""}:
            if line.startswith(b"content-length: "):
                size = int(line.split()[1])
        stream.read(size)
    return status


@pytest.mark.skipif(sys.platform == "win32", reason="on Windows asyncio receives")
def test_two_requests_on_one_connection_are_received_whole(start, received):
    storing = Storing()
    with connect(start(storing)) as client:
        for beginning in (0, 1000):  # of the body, together with the headers
            client.sendall(post(len(BODY)) + BODY[:beginning])
            client.sendall(BODY[beginning:])
            assert status_of(client) == 200
        client.sendall(post(4) + b"tiny")
        assert status_of(client) == 200
    assert b"".join(storing.pieces) == BODY * 2 + b"tiny"
    assert [size > len(BODY) // 2 for size in received] == [True, True]


def test_a_caller_that_waits_for_100_continue_is_told_to_send(start):
    with connect(start(Storing())) as client:
        client.sendall(post(len(BODY), "Expect: 100-continue"))
        assert client.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(BODY)
        assert status_of(client) == 200


@pytest.mark.skipif(sys.platform == "win32", reason="on Windows asyncio receives")
def test_memory_that_somebody_still_reads_is_not_used_for_the_next_body(start):
    views: list[memoryview] = []

    class Reading(Storing):
        def feed(self, pieces):
            views.extend(map(memoryview, pieces))

    with connect(start(Reading())) as client:
        client.sendall(post(len(BODY)) + BODY)
        assert status_of(client) == 200
        last = [(view, bytes(view)) for view in views if len(view) == 1 << 20][-2:]
        client.sendall(post(len(BODY)) + bytes(len(BODY)))
        assert status_of(client) == 200
    assert [bytes(view) for view, _ in last] == [content for _, content in last]


def test_callers_that_send_slowly_take_no_thread(start, monkeypatch):
    monkeypatch.setattr(direct_socket, "_PATIENCE_MS", 0)
    storing = Storing()
    port = start(storing)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(port)) for _ in range(50)]  # more than there are threads
        for client in slow:
            client.sendall(post(len(BODY)) + BODY[:1000])
        with connect(port) as quick:
            quick.sendall(post(4) + b"tiny")
            assert status_of(quick) == 200
        for client in slow[:3]:
            client.sendall(BODY[1000:])
            assert status_of(client) == 200


def test_what_cannot_be_stored_is_told_when_it_was_sent(start):
    with connect(start(Storing(error_at=1 << 20))) as client:
        client.sendall(post(len(BODY)) + BODY)
        assert status_of(client) == 400
        assert client.recv(1) == b""


def test_a_body_that_stops_is_told_so_and_what_came_is_stored(start):
    storing = Storing(limits=BodyLimits(silence_s=0.1))
    with connect(start(storing)) as client:
        client.sendall(post(len(BODY)) + BODY[:300_000])
        assert status_of(client) == 408
    assert b"".join(storing.pieces) == BODY[:300_000]


def test_a_body_that_comes_too_slowly_is_told_so(start):
    with connect(start(Storing(limits=BodyLimits(grace_s=0, least_bytes_per_s=1e12)))) as client:
        client.sendall(post(len(BODY)))
        while not select.select([client], [], [], 0.02)[0]:
            client.sendall(b"x")
        assert status_of(client) == 408


def test_a_caller_that_leaves_while_it_sends_leaves_what_came(start):
    ended, storing = threading.Event(), Storing()

    async def noticing(scope, receive, send):
        try:
            await storing(scope, receive, send)
        finally:
            ended.set()

    with connect(start(noticing)) as client:
        client.sendall(post(len(BODY)) + BODY[:300_000])
    assert ended.wait(60)
    assert b"".join(storing.pieces) == BODY[:300_000]
