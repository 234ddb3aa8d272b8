"""The second factor: codes of an app that change every half minute (RFC 6238), and codes for when the phone is lost."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from datetime import datetime

import pyotp

STEP_S = 30
RECOVERY_CODES = 10
_AROUND = (0, -1, 1)  # a clock may differ by a step (RFC 6238 5.2)
_RECOVERY_BYTES = 10


def new_secret() -> str:
    """Draw a secret of 160 bits, in base32."""
    return pyotp.random_base32()


def address_for_app(secret: str, name: str, node: str) -> str:
    """Return the ``otpauth`` address that an app reads as a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=node)


def step_of(secret: str, code: str, at: datetime) -> int | None:
    """Return the number of the half minute that a code is of; None when it is wrong."""
    given = re.sub(r"\s", "", code)
    now, totp, found = int(at.timestamp()) // STEP_S, pyotp.TOTP(secret), None
    for shift in _AROUND:
        expected = totp.at((now + shift) * STEP_S)
        if hmac.compare_digest(given.encode(), expected.encode()) and found is None:
            found = now + shift
    return found


def new_recovery_codes() -> list[str]:
    """Draw codes of 80 bits, each for one login without the app."""
    drawn = (base64.b32encode(secrets.token_bytes(_RECOVERY_BYTES)).decode().lower() for _ in range(RECOVERY_CODES))
    return ["-".join(re.findall("....", text)) for text in drawn]


def recovery_digest(code: str) -> str:
    """Return the digest by which a recovery code is stored."""
    return hashlib.sha256(re.sub(r"[\W_]", "", code).lower().encode()).hexdigest()
