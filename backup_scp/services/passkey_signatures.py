"""Tell whose passkey has signed, and notice a copy of it."""

from __future__ import annotations

from typing import Any

from backup_scp.machine import clock
from backup_scp.ports import Accounts, Passkey
from backup_scp.services.passkeys import PasskeyExchange, PasskeyRefused, PasskeySite, SignedAnswer


class PasskeyCopied(PasskeyRefused):
    """A passkey counts fewer uses than before: there may be a copy of it.

    Parameters
    ----------
    user_id
        Whose.
    """

    def __init__(self, user_id: int) -> None:
        self.user_id = user_id
        super().__init__("There may be a copy of this passkey: log in another way, and remove it")


class PasskeySignatures:
    """Compares signatures with the passkeys of all users.

    Parameters
    ----------
    accounts
        Their passkeys.

    Attributes
    ----------
    exchange
        What browsers are asked and answer.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self.exchange = PasskeyExchange()

    def first_step(self, site: PasskeySite, browser: str) -> dict[str, Any]:
        """Return what a browser needs to sign without a password: the device must know its user."""
        return self.exchange.to_sign(site, browser, is_verified=True)

    def second_step(self, user_id: int, site: PasskeySite, bound_to: str) -> dict[str, Any] | None:
        """Return what a browser needs to sign after the password; None when the user has no passkey of this site."""
        known = self.here(user_id, site)
        return self.exchange.to_sign(site, bound_to, known, is_verified=False) if known else None

    def here(self, user_id: int, site: PasskeySite) -> list[Passkey]:
        """Return a user's passkeys of a site."""
        return [passkey for passkey in self._accounts.passkeys(user_id) if passkey.rp_id == site.rp_id]

    def signer(self, answer: str, site: PasskeySite, bound_to: str, *, is_verified: bool) -> int | None:
        """Return the user whose passkey signed; None when it opens nothing.

        Raises
        ------
        PasskeyCopied
        """
        try:
            signed = self.exchange.signed(answer)
            passkey = self._named(signed, site, needs_handle=is_verified)
            if passkey is None:
                return None
            count = self.exchange.compare(site, bound_to, signed, passkey, is_verified=is_verified)
        except PasskeyRefused:
            return None
        if not self._accounts.use_passkey(passkey.id, count, clock.now()):
            raise PasskeyCopied(passkey.user_id)
        return passkey.user_id

    def _named(self, signed: SignedAnswer, site: PasskeySite, *, needs_handle: bool) -> Passkey | None:
        found = self._accounts.passkey(signed.credential_id)
        if found is None or found.rp_id != site.rp_id:
            return None
        is_same = signed.handle == found.handle or (not signed.handle and not needs_handle)
        return found if is_same else None
