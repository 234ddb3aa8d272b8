"""A mail server and a web server that keep what they get."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from tests.processes import LOOPBACK

USER, PASSWORD = "clinic", "secret"


@dataclass
class Certificate:
    """A certificate of loopback, and the CA that has signed it."""

    server: ssl.SSLContext
    ca: Path

    @classmethod
    def made(cls, folder: Path) -> Certificate:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(LOOPBACK).configure_cert(context)
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        return cls(context, folder / "ca.pem")


@dataclass
class Mailbox:
    """aiosmtpd's handler."""

    asks: bool
    port: int = 0
    mail: list[EmailMessage] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)

    async def handle_MAIL(self, _server, session, envelope, address, _options):
        if self.asks and not session.authenticated:
            return "530 Log in first"
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, _server, _session, envelope, address, _options):
        if address in self.refused:
            return "550 No such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server, session, envelope):
        message: Any = message_from_bytes(envelope.content, policy=policy.default)
        message["X-Encrypted"] = str(session.ssl is not None)
        self.mail.append(message)
        return "250 taken"


def _authenticate(_server, _session, _envelope, _mechanism, given):
    is_right = isinstance(given, LoginPassword) and (given.login, given.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=is_right, handled=False)


@contextlib.contextmanager
def mail_server(
    *, starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None, **more
) -> Iterator[Mailbox]:
    """Run a mail server; `asks=True` lets nobody in without a login."""
    box = Mailbox(more.pop("asks", False))
    more |= {"authenticator": _authenticate, "auth_require_tls": False}
    if starttls is not None:
        more |= {"tls_context": starttls, "require_starttls": True}
    controller = _OnAnyPort(box, hostname=LOOPBACK, port=0, ssl_context=tls, **more)
    controller.start()
    box.port = controller.port
    try:
        yield box
    finally:
        controller.stop()


class _OnAnyPort(Controller):
    """A controller whose port the system gives."""

    def _trigger_server(self) -> None:
        assert isinstance(self.server, asyncio.Server)
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@dataclass
class Hook:
    """What a web server got, and what it answers."""

    url: str = ""
    status: int = 204
    location: str = ""
    bodies: list[dict] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    gets: list[str] = field(default_factory=list)


@contextlib.contextmanager
def web_server(tls: ssl.SSLContext | None = None) -> Iterator[Hook]:
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hook.paths.append(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            is_json = self.headers["Content-Type"] == "application/json"
            hook.bodies.append(json.loads(body) if is_json else {"text": body.decode()})
            self.send_response(hook.status)
            if hook.location:
                self.send_header("Location", hook.location)
            self.end_headers()

        def do_GET(self) -> None:
            hook.gets.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        hook.url = f"{'https' if tls else 'http'}://{LOOPBACK}:{server.server_address[1]}/hooks/secret-token"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hook
        finally:
            server.shutdown()
            thread.join()
