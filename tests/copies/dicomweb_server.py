"""A DICOMweb server that does as it is told: refuses, lies, breaks off."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import unquote

from backup_scp.dicom.part10 import read_heading

REFERENCED, FAILED = "00081199", "00081198"
Headers = dict[str, str]


@dataclass
class Answer:
    """What the server sends; ``breaks_after`` bytes of the body it closes the connection."""

    status: int = 200
    headers: Headers = field(default_factory=dict)
    body: bytes = b""
    breaks_after: int | None = None


def stow(referenced: list[str], failed: dict[str, int] | None = None, status: int = 200) -> Answer:
    """Return the answer to a STOW-RS."""
    items = {
        REFERENCED: [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in referenced],
        FAILED: [
            {"00081155": {"vr": "UI", "Value": [uid]}, "00081197": {"vr": "US", "Value": [reason]}}
            for uid, reason in (failed or {}).items()
        ],
    }
    content = {tag: {"vr": "SQ", "Value": value} for tag, value in items.items() if value}
    return Answer(status, {"Content-Type": "application/dicom+json"}, json.dumps(content).encode())


def wado(file: bytes, end: bytes = b"\r\n--abc--\r\n") -> Answer:
    """Return the answer to a WADO-RS."""
    kind = 'multipart/related; type="application/dicom"; boundary="abc"'
    return Answer(200, {"Content-Type": kind}, b"--abc\r\nContent-Type: application/dicom\r\n\r\n" + file + end)


@dataclass
class Server:
    """It keeps what it is sent.  ``meddles`` may replace an answer: it gets the request's method, path and headers.

    Attributes
    ----------
    kept
        The files, by SOP Instance UID.
    shared
        How many files each STOW-RS had.
    asked
        Method and Authorization of each request.
    """

    meddles: Callable[[str, str, Any, Answer], Answer] = lambda _method, _path, _headers, answer: answer
    tls: ssl.SSLContext | None = None
    kept: dict[str, bytes] = field(default_factory=dict)
    shared: list[int] = field(default_factory=list)
    part_headers: set[bytes] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._answer(self, outer._get(self.path))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if len(body) < int(self.headers["Content-Length"]):
                    self.close_connection = True
                    return
                outer._answer(self, outer._post(body, self.headers["Content-Type"]))

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.port = self._server.server_address[1]
        self.url = f"dicomweb+http{'s' if self.tls else ''}://127.0.0.1:{self.port}/dicom-web"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(30)

    def _answer(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        self.asked.append((handler.command, handler.headers.get("Authorization", "")))
        answer = self.meddles(handler.command, handler.path, handler.headers, answer)
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(answer.body)))
        handler.end_headers()
        handler.wfile.write(answer.body[: answer.breaks_after])
        if answer.breaks_after is not None:
            handler.close_connection = True

    def _get(self, path: str) -> Answer:
        uid = unquote(path.rpartition("/instances/")[2])
        if path.startswith("/dicom-web/studies?limit=1"):
            return Answer(200, {"Content-Type": "application/dicom+json"}, b"[]")
        return wado(self.kept[uid]) if uid in self.kept else Answer(404)

    def _post(self, body: bytes, content_type: str) -> Answer:
        boundary = content_type.rpartition("boundary=")[2].encode()
        parts = body.split(b"--" + boundary)
        assert parts[0] == b""
        assert parts[-1] == b"--\r\n"
        uids = []
        for part in parts[1:-1]:
            header, _, file = part.removesuffix(b"\r\n").partition(b"\r\n\r\n")
            self.part_headers.add(header.strip())
            uids.append(read_heading(BytesIO(file)).sop_instance_uid)
            self.kept[uids[-1]] = file
        self.shared.append(len(uids))
        return stow(uids)
