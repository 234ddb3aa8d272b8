"""A provider that says and signs whatever a test wants: no other provider would."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

from backup_scp.machine import clock
from backup_scp.openid.client_registration import ClientRegistration
from tests.processes import LOOPBACK

CLIENT, SECRET = "backup scp", "s3cret/+&"
KEY = RSAKey.generate_key(2048, {"kid": "first", "use": "sig", "alg": "RS256"})
OTHER_KEY = RSAKey.generate_key(2048, {"kid": "second", "use": "sig", "alg": "RS256"})


@dataclass
class Forger:
    """What the provider says.

    Attributes
    ----------
    issuer
        Its address.
    metadata, claims, header, user_info
        What differs from what is right; None leaves a value out.
    keys
        Those that it publishes.
    sign
        Makes an ID Token of header and claims.
    answers
        What it answers at a path instead: status and body.
    requests
        What it was asked: path, header fields and form.
    nonce
        That of the login.
    """

    issuer: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)
    user_info: dict[str, Any] | None = None
    keys: list[Any] = field(default_factory=lambda: [KEY])
    sign: Callable[[dict, dict], str] = lambda header, claims: jwt.encode(header, claims, KEY)
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    requests: list[tuple[str, dict, dict]] = field(default_factory=list)
    nonce: str = ""

    def registration(self, **more: Any) -> ClientRegistration:
        return ClientRegistration(self.issuer, CLIENT, **{"secret": SECRET, "label": "Clinic login"} | more)

    def follow(self, address: str) -> dict[str, str]:
        """Do what a browser and its user do; return the query that the browser comes back with."""
        asked = dict(parse_qsl(urlsplit(address).query))
        self.nonce = asked["nonce"]
        return {"code": "a-code", "state": asked["state"]}

    def asked_for(self, path: str) -> int:
        """Count the requests at a path."""
        return sum(one == path for one, _, _ in self.requests)

    def discovery(self) -> dict[str, Any]:
        return _without_none(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize?tenant=1",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
            }
            | ({"userinfo_endpoint": f"{self.issuer}/me"} if self.user_info is not None else {})
            | self.metadata
        )

    def id_token(self) -> str:
        now = int(clock.now().timestamp())
        right = {"iss": self.issuer, "aud": CLIENT, "sub": "4711", "nonce": self.nonce, "iat": now, "exp": now + 300}
        return self.sign(
            _without_none({"alg": "RS256", "kid": "first"} | self.header), _without_none(right | self.claims)
        )

    def answer(self, path: str) -> tuple[int, Any]:
        if path in self.answers:
            return self.answers[path]
        if path == "/.well-known/openid-configuration":
            return 200, self.discovery()
        if path == "/keys":
            return 200, {"keys": [one if isinstance(one, dict) else one.as_dict(private=False) for one in self.keys]}
        if path == "/token":
            return 200, {"token_type": "Bearer", "access_token": "an-access-token", "id_token": self.id_token()}
        return (200, self.user_info) if path == "/me" else (404, {})

    @contextlib.contextmanager
    def running(self) -> Iterator[Forger]:
        forger = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                form = {name: value[0] for name, value in parse_qs(self.rfile.read(size).decode()).items()}
                forger.requests.append((self.path, dict(self.headers), form))
                status, body = forger.answer(self.path)
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
            self.issuer = f"http://{LOOPBACK}:{server.server_address[1]}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
