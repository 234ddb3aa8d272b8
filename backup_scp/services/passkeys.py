"""Make and compare passkeys (Web Authentication, W3C, level 3): what a browser is asked, and what it answers."""

from __future__ import annotations

import ipaddress
import json
import logging
import secrets
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from backup_scp.errors import Refused
from backup_scp.ports import Passkey
from backup_scp.services.challenges import WITHIN, Challenges

if TYPE_CHECKING:  # loaded at the first use of a passkey: many nodes have none
    from fido2.server import Fido2Server
    from fido2.webauthn import AuthenticatorData, CollectedClientData

NAME = "backup-scp"
_ALGORITHMS = (-8, -7, -257)  # Ed25519, ECDSA P-256, RSA with SHA-256: every device has one of them
_HANDLE_BYTES = 32
_LONGEST_ANSWER = 1 << 16
_TIMEOUT_MS = int(WITHIN.total_seconds() * 1000)

logging.getLogger("fido2").setLevel(logging.WARNING)  # it would log each use


class PasskeyRefused(Refused):
    """What a browser answers opens nothing."""


@dataclass(frozen=True, slots=True)
class PasskeySite:
    """What passkeys belong to: the node, as a browser names it.

    Attributes
    ----------
    rp_id
        The host name (Relying Party Identifier).
    origin
        Scheme, host and port of our pages.
    """

    rp_id: str
    origin: str


@dataclass(frozen=True, slots=True)
class NewPasskey:
    """What a device made."""

    credential_id: str
    public_key: str
    sign_count: int


@dataclass(frozen=True, slots=True)
class SignedAnswer:
    """What a device signed, before it is compared.

    Attributes
    ----------
    credential_id
        The passkey's.
    handle
        The user's; empty when the device did not tell.
    fields
        All of it.
    """

    credential_id: str
    handle: str
    fields: Mapping[str, Any]


def fault_of(origin: str) -> str:
    """Tell why browsers make no passkeys for pages of an origin: ``address``, ``open line``, or nothing."""
    parts = urlsplit(origin)
    host = parts.hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        is_here = host == "localhost" or host.endswith(".localhost")
        return "" if parts.scheme == "https" or is_here else "open line"
    return "address"


def site_of(origin: str) -> PasskeySite | None:
    """Return what passkeys at this origin belong to; None where there cannot be any."""
    return None if fault_of(origin) else PasskeySite(urlsplit(origin).hostname or "", origin)


def new_handle() -> str:
    """Draw what devices call a user."""
    return secrets.token_urlsafe(_HANDLE_BYTES)


class PasskeyExchange:
    """Asks browsers for passkeys, and compares what they answer."""

    def __init__(self) -> None:
        self._challenges = Challenges()

    def to_make(
        self, site: PasskeySite, bound_to: str, user_name: str, handle: str, known: Sequence[Passkey]
    ) -> dict[str, Any]:
        """Return what a browser needs to make a passkey (PublicKeyCredentialCreationOptions, as JSON)."""
        return {
            "rp": {"id": site.rp_id, "name": NAME},
            "user": {"id": handle, "name": user_name, "displayName": user_name},
            "challenge": _text(self._challenges.new(f"make\0{bound_to}")),
            "pubKeyCredParams": [{"type": "public-key", "alg": number} for number in _ALGORITHMS],
            "timeout": _TIMEOUT_MS,
            "excludeCredentials": _descriptors(known),
            "authenticatorSelection": {"residentKey": "preferred", "userVerification": "preferred"},
            "attestation": "none",
        }

    def made(self, site: PasskeySite, bound_to: str, answer: str) -> NewPasskey:
        """Compare what a browser made.

        Raises
        ------
        PasskeyRefused
        """
        fields = _read(answer)
        with _explained():
            from fido2.webauthn import RegistrationResponse

            client_data = RegistrationResponse.from_dict(fields).response.client_data
            data = self._compared(
                client_data,
                f"make\0{bound_to}",
                lambda state: _server(site).register_complete(state, fields),
                is_verified=False,
            )
            made = data.credential_data
            if made is None or made.public_key.get(3) not in _ALGORITHMS:
                raise PasskeyRefused("This passkey cannot be used here")
            return NewPasskey(_text(made.credential_id), _text(bytes(made)), data.counter)

    def to_sign(
        self, site: PasskeySite, bound_to: str, known: Sequence[Passkey] = (), *, is_verified: bool
    ) -> dict[str, Any]:
        """Return what a browser needs to sign with a passkey (PublicKeyCredentialRequestOptions, as JSON).

        Parameters
        ----------
        site, bound_to
            Where, and for which attempt.
        known
            Which ones count; none lets the device choose among those that it knows for the site.
        is_verified
            Whether the device must know its user, by a finger, face or PIN.
        """
        return {
            "challenge": _text(self._challenges.new(f"sign\0{bound_to}")),
            "rpId": site.rp_id,
            "timeout": _TIMEOUT_MS,
            "allowCredentials": _descriptors(known),
            "userVerification": "required" if is_verified else "preferred",
        }

    def signed(self, answer: str) -> SignedAnswer:
        """Read what a browser signed; nothing is compared yet.

        Raises
        ------
        PasskeyRefused
        """
        fields = _read(answer)
        with _explained():
            from fido2.webauthn import AuthenticationResponse

            response = AuthenticationResponse.from_dict(fields)
            return SignedAnswer(_text(response.raw_id), _text(response.response.user_handle or b""), fields)

    def compare(
        self, site: PasskeySite, bound_to: str, answer: SignedAnswer, passkey: Passkey, *, is_verified: bool
    ) -> int:
        """Compare what a passkey signed; return its count of uses.

        Raises
        ------
        PasskeyRefused
        """
        with _explained():
            from fido2.utils import websafe_decode
            from fido2.webauthn import AttestedCredentialData, AuthenticationResponse

            response = AuthenticationResponse.from_dict(answer.fields).response
            key = AttestedCredentialData(websafe_decode(passkey.public_key))
            self._compared(
                response.client_data,
                f"sign\0{bound_to}",
                lambda state: _server(site).authenticate_complete(state, [key], answer.fields),
                is_verified=is_verified,
            )
            return response.authenticator_data.counter

    def _compared(
        self,
        client_data: CollectedClientData,
        bound_to: str,
        complete: Callable[[Any], Any],
        *,
        is_verified: bool,
    ) -> AuthenticatorData:
        """Let the library compare an answer to an open challenge, and use the challenge up."""
        challenge = client_data.challenge
        if not self._challenges.is_open(challenge, bound_to):
            raise PasskeyRefused("This took too long: try again")
        if client_data.cross_origin:
            raise PasskeyRefused("This page was shown within another site")
        state = {"challenge": _text(challenge), "user_verification": "required" if is_verified else "preferred"}
        result: AuthenticatorData = complete(state)
        if not self._challenges.use(challenge):
            raise PasskeyRefused("This took too long: try again")
        return result


def _server(site: PasskeySite) -> Fido2Server:
    from fido2.server import Fido2Server
    from fido2.webauthn import PublicKeyCredentialRpEntity

    rp = PublicKeyCredentialRpEntity(id=site.rp_id, name=NAME)
    return Fido2Server(rp, verify_origin=lambda origin: origin == site.origin)


def _read(answer: str) -> Mapping[str, Any]:
    if len(answer) > _LONGEST_ANSWER:
        raise PasskeyRefused("This passkey opens nothing here")
    with _explained():
        fields = json.loads(answer)
        if isinstance(fields, dict):
            return fields
    raise PasskeyRefused("This passkey opens nothing here")


@contextmanager
def _explained() -> Iterator[None]:
    """Raise our error for whatever a stranger's bytes make the library raise."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        yield
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        AssertionError,
        struct.error,
        InvalidSignature,
        UnsupportedAlgorithm,
    ):
        raise PasskeyRefused("This passkey opens nothing here") from None


def _descriptors(known: Sequence[Passkey]) -> list[dict[str, str]]:
    return [{"type": "public-key", "id": passkey.credential_id} for passkey in known]


def _text(data: bytes) -> str:
    from fido2.utils import websafe_encode

    return websafe_encode(data)
