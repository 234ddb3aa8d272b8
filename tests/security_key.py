"""A security key in software: what a browser and its device answer (Web Authentication 6.1, 6.5, 7)."""

from __future__ import annotations

import hashlib
import json
import secrets
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2 import cbor
from fido2.cose import ES256

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


def encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


class SecurityKey:
    """Holds one passkey.

    Parameters
    ----------
    origin
        Of the page that the browser shows.
    step
        How much its count grows at each use; synchronised passkeys have 0.
    """

    def __init__(self, origin: str, step: int = 1) -> None:
        self.origin = origin
        self.step = step
        self.count = 0
        self.flags = PRESENT | VERIFIED
        self.id = secrets.token_bytes(32)
        self.handle = ""
        self.type = ""
        self.is_framed = False
        self.rp_id = ""
        self.recovery: list[str] = []  # what the node showed with it
        self._key = ec.generate_private_key(ec.SECP256R1())

    def make(self, options: dict) -> str:
        """Answer ``navigator.credentials.create``."""
        self.rp_id, self.handle = options["rp"]["id"], options["user"]["id"]
        public = cbor.encode(dict(ES256.from_cryptography_key(self._key.public_key())))
        attested = bytes(16) + struct.pack(">H", len(self.id)) + self.id + public
        data = {"fmt": "none", "attStmt": {}, "authData": self._data(self.flags | ATTESTED) + attested}
        response = {
            "clientDataJSON": encoded(self._client_data("webauthn.create", options["challenge"])),
            "attestationObject": encoded(cbor.encode(data)),
        }
        return self._answer(response)

    def sign(self, options: dict) -> str:
        """Answer ``navigator.credentials.get``."""
        self.count += self.step
        data, client_data = self._data(self.flags), self._client_data("webauthn.get", options["challenge"])
        signature = self._key.sign(data + hashlib.sha256(client_data).digest(), ec.ECDSA(hashes.SHA256()))
        response = {
            "clientDataJSON": encoded(client_data),
            "authenticatorData": encoded(data),
            "signature": encoded(signature),
            "userHandle": self.handle or None,
        }
        return self._answer(response)

    def _data(self, flags: int) -> bytes:
        return hashlib.sha256(self.rp_id.encode()).digest() + struct.pack(">BI", flags, self.count)

    def _client_data(self, kind: str, challenge: str) -> bytes:
        fields = {"type": self.type or kind, "challenge": challenge, "origin": self.origin}
        return json.dumps(fields | {"crossOrigin": self.is_framed}).encode()

    def _answer(self, response: dict) -> str:
        fields = {"id": encoded(self.id), "rawId": encoded(self.id), "type": "public-key", "response": response}
        return json.dumps(fields | {"clientExtensionResults": {}})
