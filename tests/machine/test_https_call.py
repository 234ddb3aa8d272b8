"""Calls of a server that is slow, or sends too much; tests/alerts and tests/openid have the others."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from backup_scp.machine.https_call import CallFailed, call
from tests.processes import LOOPBACK

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


@contextlib.contextmanager
def server(*, answer: bytes, drip: bytes = b"") -> Iterator[str]:
    """Answer one caller; then send a byte at a time, until the caller leaves."""
    with socket.create_server((LOOPBACK, 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(answer)
                while drip:
                    connection.sendall(drip)
                connection.recv(65536)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://{LOOPBACK}:{listener.getsockname()[1]}/"
        thread.join()


def test_a_server_that_says_nothing():
    with server(answer=b"") as url, pytest.raises(CallFailed, match="no answer in time"):
        call(url, timeout_s=0.2)


def test_a_body_that_never_ends():
    with server(answer=HEAD, drip=b"x") as url, pytest.raises(CallFailed, match=r"takes too long|more than"):
        call(url, timeout_s=0.2)


def test_a_body_that_is_too_long():
    with server(answer=HEAD, drip=b"x" * 1000) as url, pytest.raises(CallFailed, match="more than 5000 bytes"):
        call(url, most_bytes=5000)


def test_what_is_no_answer():
    with server(answer=b"SSH-2.0-OpenSSH\r\n\r\n") as url, pytest.raises(CallFailed, match="BadStatusLine"):
        call(url)


def test_no_proxy_is_asked_about_this_computer(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    with server(answer=b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n") as url:
        answer = call(url)
    assert (answer.status, answer.headers["x-a"], answer.body) == (204, "b", b"")
