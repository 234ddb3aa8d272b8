"""Draw tokens that nobody guesses, and name them by their digest: only their owner has the token."""

from __future__ import annotations

import hashlib
import secrets

_BYTES = 32  # 256 bits


def new_token() -> str:
    """Draw a token, as text for an address or a cookie."""
    return secrets.token_urlsafe(_BYTES)


def digest_of(token: str) -> str:
    """Return the digest by which a token is stored."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
