"""Logins at a provider that have begun: each for one browser, once, within ten minutes; kept in memory."""

from __future__ import annotations

import hmac
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from backup_scp.ports import ProviderLogin
from backup_scp.services.secret_tokens import digest_of, new_token

WITHIN_S = 600.0
_MOST = 5000
_MOST_OF_NETWORK = 500  # a clinic behind one address, in the morning


@dataclass(frozen=True, slots=True)
class PendingLogin:
    """A login that has begun.

    Attributes
    ----------
    login
        What the provider was asked.
    to
        The path to go to at the end.
    for_user
        The number of the user to link; None for a login.
    link
        The digest of the link that allows it; empty for a user who is logged in.
    network
        Where the browser is.
    """

    login: ProviderLogin
    to: str = "/"
    for_user: int | None = None
    link: str = ""
    network: str = ""


class PendingLogins:
    """Keeps them; safe to share between threads.

    Parameters
    ----------
    seconds
        The clock.
    """

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._pending: OrderedDict[str, tuple[PendingLogin, float]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, pending: PendingLogin) -> str:
        """Keep one; return the token for the browser's cookie.

        When there are very many, the oldest of the same network goes: nobody can push out the logins of others.
        """
        token, now = new_token(), self._seconds()
        with self._lock:
            while self._pending and now - next(iter(self._pending.values()))[1] > WITHIN_S:
                self._pending.popitem(last=False)
            same = [key for key, (one, _) in self._pending.items() if one.network == pending.network]
            if len(same) >= _MOST_OF_NETWORK:
                del self._pending[same[0]]
            elif len(self._pending) >= _MOST:
                self._pending.popitem(last=False)
            self._pending[digest_of(token)] = pending, now
        return token

    def take(self, token: str, state: str) -> PendingLogin | None:
        """Return the login that this browser has begun, if the provider sent its state back; it is used up then."""
        key = digest_of(token)
        with self._lock:
            found = self._pending.get(key)
            if found is None or self._seconds() - found[1] > WITHIN_S:
                return None
            pending = found[0]
            if not hmac.compare_digest(pending.login.state.encode(), state.encode("utf-8", "replace")):
                return None
            del self._pending[key]
            return pending
