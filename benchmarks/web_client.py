"""A client over HTTP that costs less than the servers that it asks."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Sequence
from typing import Self

DICOM_JSON = "application/dicom+json"
SECONDS = 5.0


class Client:
    """One connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._port = port
        self._first_at = 0.0

    @classmethod
    def patiently(cls, port: int, path: str) -> Self:
        """Connect as soon as a server that is being started answers this path with something or nothing."""
        while True:
            with contextlib.suppress(OSError):
                client = cls(port)
                client.get(path)
                return client
            time.sleep(0.01)

    def first_byte_s(self, path: str) -> float:
        """Return how long the first byte of an answer's body takes, in seconds; receive the rest."""
        began = time.perf_counter()
        self.get(path)
        return self._first_at - began

    def get(self, path: str, accept: str = DICOM_JSON) -> bytes:
        """Return the body of an answer, which must be 200, or 204 without one."""
        request = f"GET /dicom-web{path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAccept: {accept}\r\n\r\n"
        self._socket.sendall(request.encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._receive()
        head, _, body = received.partition(b"\r\n\r\n")
        fields = head.lower().split(b"\r\n")
        if b" 204 " in fields[0]:
            return b""
        if b" 200 " not in fields[0]:
            raise SystemExit(f"{path} is answered with {head[:60]!r}")
        body = body or self._receive()
        self._first_at = time.perf_counter()
        length = next((int(field.partition(b":")[2]) for field in fields if field.startswith(b"content-length:")), None)
        parts = [body]
        if length is not None:
            missing = length - len(body)
            while missing > 0:
                parts.append(self._receive())
                missing -= len(parts[-1])
            return b"".join(parts)
        while not parts[-1].endswith(b"0\r\n\r\n"):
            parts.append(self._receive())
        return b"".join(parts)

    def _receive(self) -> bytes:
        received = self._socket.recv(1 << 20)
        if not received:
            raise SystemExit("the server has closed the connection")
        return received

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def rate(port: int, paths: Sequence[str], seconds: float = SECONDS, accept: str = DICOM_JSON) -> float:
    """Return requests a second of one client that asks one after the other."""
    client = Client(port)
    try:
        for path in paths[:10]:
            client.get(path, accept)
        done, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds:
            client.get(paths[done % len(paths)], accept)
            done += 1
        return done / passed
    finally:
        client.close()
