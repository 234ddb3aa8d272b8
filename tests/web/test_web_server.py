"""The HTTP server on a real socket: TLS, and callers that are slow or send nonsense."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest
import trustme

from backup_scp.errors import InvalidSettings
from backup_scp.web import guarded_connection
from backup_scp.web.app import application
from backup_scp.web.options import WebOptions
from backup_scp.web.web_server import WebServer
from tests.processes import LOOPBACK
from tests.stored import stored_in
from tests.web.conftest import stores_of

ANSWER_BYTES = 32 << 20


async def echoing(scope, receive, send):
    """Read the whole body, then send a long answer."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(ANSWER_BYTES >> 16):
        await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@contextlib.contextmanager
def serving(app, options: WebOptions) -> Iterator[int]:
    server, started = WebServer(app, options), threading.Event()
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, args=[listener, started.set])
        thread.start()
        assert started.wait(60)
        try:
            yield port
        finally:
            server.stop()
            thread.join()


@pytest.fixture
def start(monkeypatch) -> Iterator[Callable[..., int]]:
    monkeypatch.setattr(guarded_connection, "_LOOK_S", 0.02)
    with contextlib.ExitStack() as stack:
        yield lambda app=echoing, options=WebOptions(): stack.enter_context(serving(app, options))  # noqa: B008


def connect(port: int) -> socket.socket:
    return socket.create_connection((LOOPBACK, port), timeout=60)


def answer_to(port: int, request: bytes) -> tuple[int, dict]:
    with connect(port) as client:
        client.sendall(request)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := client.recv(1 << 16):
                received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_a_header_that_is_too_long(start):
    status, problem = answer_to(start(), b"GET / HTTP/1.1\r\nx: " + b"x" * (1 << 20))
    assert (status, problem["status"]) == (431, 431)


def test_what_is_no_http(start):
    status, problem = answer_to(start(), b"\x16\x03\x01 nonsense\r\n\r\n")
    assert (status, problem["status"]) == (400, 400)


def is_closed(client: socket.socket) -> bool:
    """Wait for the end of a connection on which nothing comes."""
    with contextlib.suppress(ConnectionResetError):
        return client.recv(1) == b""
    return True


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nx: "])
def test_a_header_that_does_not_come(start, monkeypatch, sent):
    monkeypatch.setattr(guarded_connection, "HEADER_S", 0.1)
    with connect(start()) as client:
        client.sendall(sent)
        assert is_closed(client)


def test_a_body_that_does_not_come(start, monkeypatch):
    monkeypatch.setattr(guarded_connection, "STALL_S", 0.1)
    with connect(start()) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nsome")
        assert is_closed(client)


def test_an_answer_that_is_not_read(start, monkeypatch):
    monkeypatch.setattr(guarded_connection, "STALL_S", 0.2)
    with connect(start()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        gone = threading.Event()
        assert not gone.wait(1)  # the time that it has not read
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := client.recv(1 << 20):
                received += len(piece)
    assert received < ANSWER_BYTES


def test_one_that_is_read_slowly_arrives_whole(start, monkeypatch):
    monkeypatch.setattr(guarded_connection, "STALL_S", 5)
    with connect(start()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = 0
        while piece := client.recv(1 << 20):
            received += len(piece)
    assert received > ANSWER_BYTES


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


class TestTLS:
    @pytest.fixture
    def files(self, ca, tmp_path):
        certificate = ca.issue_cert(LOOPBACK, "localhost")
        for number, blob in enumerate(certificate.cert_chain_pems):
            blob.write_to_path(str(tmp_path / "certificate.pem"), append=number > 0)
        certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
        ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        return tmp_path

    @staticmethod
    def get(port: int, context: ssl.SSLContext) -> bytes:
        with connect(port) as plain, context.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(b"OPTIONS /dicom-web HTTP/1.1\r\nHost: pacs.example\r\nConnection: close\r\n\r\n")
            received = b""
            while piece := client.recv(1 << 16):
                received += piece
        return received

    def test_a_certificate_of_the_ca_needs_no_token(self, start, files, ca, tmp_path):
        with stored_in(tmp_path) as stored:
            options = WebOptions(
                certificate=files / "certificate.pem",
                key=files / "key.pem",
                ca=files / "ca.pem",
                trust_this_machine=False,
            )
            port = start(application(stores_of(stored), options), options)
            context = ssl.create_default_context(cafile=files / "ca.pem")
            refused = b""
            with contextlib.suppress(ssl.SSLError, ConnectionResetError):  # or the connection only ends
                refused = self.get(port, context)
            assert refused == b""
            ca.issue_cert("viewer").configure_cert(context)
            assert self.get(port, context).startswith(b"HTTP/1.1 200 ")

    def test_without_a_ca_a_certificate_is_not_asked_for(self, start, files, tmp_path):
        with stored_in(tmp_path) as stored:
            options = WebOptions(certificate=files / "certificate.pem", key=files / "key.pem")
            port = start(application(stores_of(stored), options), options)
            answer = self.get(port, ssl.create_default_context(cafile=files / "ca.pem"))
            assert answer.startswith(b"HTTP/1.1 403 ")  # this computer, but under another name

    def test_a_key_of_another_certificate(self, files, tmp_path):
        trustme.CA().issue_cert("x").private_key_pem.write_to_path(str(tmp_path / "other.pem"))
        with pytest.raises(InvalidSettings, match="key belongs to the certificate"):
            WebServer(echoing, WebOptions(certificate=files / "certificate.pem", key=tmp_path / "other.pem"))
