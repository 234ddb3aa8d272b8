"""Challenges that a passkey signs: each for one attempt, for minutes, once.

A challenge carries its own proof, so that who asks for many fills no memory; only answered ones are remembered.
The secret is this process's own: after its end no challenge is known any more.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from datetime import timedelta

from backup_scp.machine import clock

WITHIN = timedelta(minutes=5)
"""How long an answer may take."""

_DRAWN_BYTES = 16
_TIME_BYTES = 8


class Challenges:
    """Draws challenges, and accepts each once; safe to share between threads."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._used: dict[bytes, int] = {}
        self._lock = threading.Lock()

    def new(self, bound_to: str) -> bytes:
        """Draw a challenge for one attempt, such as a session or a browser that shows the login."""
        drawn = secrets.token_bytes(_DRAWN_BYTES) + _now_s().to_bytes(_TIME_BYTES, "big")
        return drawn + self._proof(drawn, bound_to)

    def is_open(self, challenge: bytes, bound_to: str) -> bool:
        """Tell whether a challenge was drawn for this attempt, not long ago, and not used."""
        drawn, proof = challenge[: _DRAWN_BYTES + _TIME_BYTES], challenge[_DRAWN_BYTES + _TIME_BYTES :]
        if not hmac.compare_digest(proof, self._proof(drawn, bound_to)):
            return False
        age_s = _now_s() - int.from_bytes(drawn[_DRAWN_BYTES:], "big")
        with self._lock:
            return 0 <= age_s <= WITHIN.total_seconds() and challenge not in self._used

    def use(self, challenge: bytes) -> bool:
        """Use an open challenge up; False when somebody else was faster."""
        now_s = _now_s()
        with self._lock:
            self._used = {one: at for one, at in self._used.items() if abs(now_s - at) <= WITHIN.total_seconds()}
            if challenge in self._used:
                return False
            self._used[challenge] = now_s
            return True

    def _proof(self, drawn: bytes, bound_to: str) -> bytes:
        return hmac.new(self._secret, drawn + bound_to.encode("utf-8", "replace"), hashlib.sha256).digest()


def _now_s() -> int:
    return int(clock.now().timestamp())
