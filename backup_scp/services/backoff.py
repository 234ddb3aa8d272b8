"""Let whoever fails wait, each time longer: guessing takes years, and nobody is locked out for good."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable


class Backoff:
    """Counts failures for each key, in memory; safe to share between threads.

    An attempt counts as failed from its beginning until ``succeeded``: many attempts at once are no way round.

    Parameters
    ----------
    free
        How many failures cost nothing.
    first_s, longest_s
        The first wait; each further one is twice as long, up to the longest.
    forget_s
        After so many seconds without a failure, all is forgotten.
    most
        How many keys to remember; those that failed longest ago are forgotten.
    seconds
        The clock.
    """

    def __init__(
        self,
        free: int = 5,
        first_s: float = 2.0,
        longest_s: float = 300.0,
        forget_s: float = 3600.0,
        most: int = 20_000,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._free = free
        self._first_s = first_s
        self._longest_s = longest_s
        self._forget_s = forget_s
        self._most = most
        self._seconds = seconds
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, key: str) -> float:
        """Begin an attempt: return 0, or the seconds after which it may be tried."""
        now = self._seconds()
        with self._lock:
            number, last = self._failures.get(key, (0, now))
            if now - last > self._forget_s:
                number = 0
            wait_s = last + self._pause_s(number) - now
            if wait_s > 0:
                return wait_s
            self._failures[key] = number + 1, now
            self._failures.move_to_end(key)
            while len(self._failures) > self._most:
                self._failures.popitem(last=False)
            return 0.0

    def succeeded(self, key: str) -> None:
        """Forget the failures of a key."""
        with self._lock:
            self._failures.pop(key, None)

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
