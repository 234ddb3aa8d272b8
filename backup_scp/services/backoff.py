"""Let whoever fails wait, each time longer: guessing takes years, and nobody is locked out for good."""

from __future__ import annotations

import hashlib
import ipaddress
from datetime import timedelta

from backup_scp.machine import clock
from backup_scp.ports import FailureRecords, Failures

_FORGET = timedelta(hours=1)
"""After so long without a failure, all is forgotten."""


class Backoff:
    """Counts failures for each key: in all processes together, and beyond their end.

    An attempt counts as failed from its beginning until ``succeeded``: many attempts at once are no way round.

    Parameters
    ----------
    records
        Keep the failures.
    kind
        What the keys are, such as names; another kind's keys are others.
    free
        How many failures cost nothing.
    first_s, longest_s
        The first wait; each further one is twice as long, up to the longest.
    """

    def __init__(
        self, records: FailureRecords, kind: str, free: int = 5, first_s: float = 2.0, longest_s: float = 300.0
    ) -> None:
        self._records = records
        self._kind = kind
        self._free = free
        self._first_s = first_s
        self._longest_s = longest_s

    def begin(self, key: str) -> float:
        """Begin an attempt: return 0, or the seconds after which it may be tried."""
        stored = self._stored(key)
        while True:
            now, before = clock.now(), self._records.failures(stored)
            since = now - before.last_at if before else _FORGET
            number = before.number if before and since <= _FORGET else 0
            wait_s = self._pause_s(number) - since.total_seconds()
            if 0 < wait_s <= 2 * self._longest_s:  # longer: a clock was ahead; that keeps nobody waiting
                return wait_s
            if self._records.count_failure(self._kind, stored, before, Failures(number + 1, now)):
                return 0.0

    def succeeded(self, key: str) -> None:
        """Forget the failures of a key."""
        self._records.forget_failures(self._stored(key))

    def _stored(self, key: str) -> str:
        """Return the digest by which a key is stored: a name that somebody typed may be a password."""
        return hashlib.sha256(f"{self._kind}\0{key}".encode("utf-8", "replace")).hexdigest()

    def _pause_s(self, failures: int) -> float:
        over = failures - self._free
        return 0.0 if over < 0 else min(self._first_s * 2.0 ** min(over, 30), self._longest_s)


def network_of(address: str) -> str:
    """Return what to count failures of an address by: IPv6 gives every household a network."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0].removeprefix("::ffff:"))
    except ValueError:
        return address
    return str(parsed) if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))
