"""Long bodies on a real socket: threads send them past asyncio, from memory that is used again."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest
import trustme

from backup_scp.errors import DigestMismatch
from backup_scp.web import direct_socket, guarded_connection
from backup_scp.web.direct_socket import DirectSocket
from backup_scp.web.options import WebOptions
from backup_scp.web.streamed import StreamedResponse
from tests.processes import LOOPBACK
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


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="on Windows asyncio sends")
def test_two_answers_on_one_connection_are_whole(start, sent):
    with connect(start(whole)) as client:
        for _ in range(2):
            client.sendall(REQUEST)
            assert answer(client) == BODY
    assert sent == [len(BODY)] * 2


def test_a_caller_that_reads_slowly_gets_all_and_takes_no_thread(start, monkeypatch):
    monkeypatch.setattr(direct_socket, "_PATIENCE_MS", 0)
    port = start(whole)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(port)) for _ in range(50)]  # more than there are threads
        for client in slow:
            client.sendall(REQUEST)
            client.recv(1, socket.MSG_PEEK)
        assert [answer(client) for client in slow] == [BODY] * len(slow)


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
