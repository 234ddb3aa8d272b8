"""Passkeys: keys of a device or of a security key, by which a user logs in (WebAuthn)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Passkey:
    """A passkey.

    Attributes
    ----------
    id
        Its number.
    user_id
        Whose.
    credential_id
        By which the device names it, in base64url.
    public_key
        Compares its signatures: attested credential data (WebAuthn 6.5.1), in base64url.
    rp_id
        The host name that it belongs to; it works at no other one.
    handle
        By which the device names the user, in base64url: random, the same for all passkeys of a user.
    name
        As its user calls it.
    added_at, used_at
        When it was added, and last used; None before the first use.
    sign_count
        How often the device says that it was used; some devices always say 0.
    """

    id: int
    user_id: int
    credential_id: str
    public_key: str
    rp_id: str
    handle: str
    name: str
    added_at: datetime
    used_at: datetime | None = None
    sign_count: int = 0


class PasskeyRecords(Protocol):
    """Passkeys, and the recovery codes for when all of them are lost."""

    def add_passkey(self, passkey: Passkey, recovery_digests: Sequence[str] = ()) -> None:
        """Store a passkey under a new number, with recovery codes for a user who has none.

        Raises
        ------
        InvalidSelection
            It is stored already.
        """

    def passkeys(self, user_id: int) -> list[Passkey]:
        """Return a user's passkeys, the oldest first."""

    def passkey(self, credential_id: str) -> Passkey | None:
        """Find a passkey by what the device calls it."""

    def use_passkey(self, passkey_id: int, sign_count: int, at: datetime) -> bool:
        """Note a use; False when the count did not grow, so that there may be a copy of the passkey."""

    def remove_passkey(self, user_id: int, passkey_id: int) -> bool:
        """Remove a passkey of a user; False when there is none such."""

    def remove_passkeys(self, user_id: int) -> None:
        """Remove all passkeys of a user."""
