"""The provider's keys: kept for an hour, and fetched again when a token names one that is new."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from backup_scp.errors import ProviderRefused

KEPT_S = 3600.0
_MOST = 100
_FIRST_PAUSE_S = 30.0
_LONGEST_PAUSE_S = 300.0

PublicKey = RSAKey | ECKey | OKPKey


class KeyCache:
    """Finds keys; safe to share between threads.

    Parameters
    ----------
    fetch
        Asks the provider for its keys.
    seconds
        The clock.
    """

    def __init__(self, fetch: Callable[[], dict[str, Any]], seconds: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._seconds = seconds
        self._keys: dict[str, PublicKey] = {}
        self._fetched_at = -KEPT_S - 1
        self._pause_s = _FIRST_PAUSE_S
        self._again_at = -KEPT_S
        self._lock = threading.Lock()

    def key(self, kid: str) -> PublicKey:
        """Find a key by its name; without a name, the only one.

        Raises
        ------
        ProviderRefused
            There is none such.
        ProviderUnavailable
        """
        with self._lock:
            if self._seconds() - self._fetched_at > KEPT_S:
                self._renew()
            found = self._found(kid)
            if found is None and self._seconds() >= self._again_at:
                self._renew()
                found = self._found(kid)
                self._pause(is_known=found is not None)
            if found is None:
                raise ProviderRefused("The token names a key that the provider does not have")
            return found

    def _pause(self, *, is_known: bool) -> None:
        """Let the provider rest, each time longer: whoever sends us tokens with invented names must not use it up."""
        self._again_at = self._seconds() + (0.0 if is_known else self._pause_s)
        self._pause_s = _FIRST_PAUSE_S if is_known else min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _found(self, kid: str) -> PublicKey | None:
        if kid:
            return self._keys.get(kid)
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    def _renew(self) -> None:
        listed = self._fetch().get("keys")
        self._keys = {}
        for number, one in enumerate(listed[:_MOST] if isinstance(listed, list) else []):
            if isinstance(one, dict) and one.get("use", "sig") == "sig":
                key = _public(one)
                if key is not None:
                    self._keys[str(one.get("kid") or f"\0{number}")] = key
        self._fetched_at = self._seconds()


def _public(one: dict[str, Any]) -> PublicKey | None:
    """Return a key that verifies signatures; None for a kind that we do not know, or a shared secret."""
    try:
        key = JWKRegistry.import_key(one)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return key if isinstance(key, RSAKey | ECKey | OKPKey) else None
