"""Read the Data Sets of Storage Commitment requests and reports: receive a few at once, decode one at a time.

The limits are needed because any caller may send them, and decoding takes many times their size in memory.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator

from backup_scp.dimse.association.access import peer_of
from backup_scp.dimse.association.association import Association
from backup_scp.errors import InvalidActionInformation, ResourceLimitation
from backup_scp.machine.fair_lock import FairLock

INFORMATION_BYTES = 2 << 20
"""Limit of one Data Set; 10,000 references with the longest UIDs are 1.5 MB."""

_MOST_BYTES = 16 << 20
_MOST_BYTES_OF_STRANGERS = 12 << 20
_MOST_BYTES_OF_ONE_STRANGER = 4 << 20
_PATIENCE_S = 30.0
_BUSY = "Too many Storage Commitment requests come at once; ask again later"
_KNOWN = ""


class InformationReader:
    """Limits the Data Sets being read; one object serves all Associations of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()  # bytes, by peer; all known peers count as one
        self._turns = FairLock()

    @contextlib.contextmanager
    def reading(self, association: Association, what: str) -> Iterator[bytes]:
        """Read the Data Set of a request; decode it in the block, which only one thread runs at a time.

        Parameters
        ----------
        what
            "request" or "report", for the error's text.

        Raises
        ------
        InvalidActionInformation
            The Data Set is too long.
        ResourceLimitation
            Too many come at once.
        """
        caller = getattr(association, "caller", None)  # None when we are the requestor
        peer = _KNOWN if caller is None or caller.is_known else peer_of(caller.address)
        encoded = bytearray()
        try:
            self._read(association, peer, encoded, what)
            with self._turns.turn(first=peer == _KNOWN, timeout_s=_PATIENCE_S) as is_ours:
                if not is_ours:
                    raise ResourceLimitation(_BUSY)
                yield bytes(encoded)
        finally:
            self._give_back(peer, encoded)

    def _read(self, association: Association, peer: str, encoded: bytearray, what: str) -> None:
        """Read a Data Set to its end; keep it in ``encoded`` while it is within the limits."""
        error: InvalidActionInformation | ResourceLimitation | None = None
        for data in association.data_set():
            if error is not None:
                self._give_back(peer, encoded)
            if error is None and len(encoded) + len(data) > INFORMATION_BYTES:
                error = InvalidActionInformation(f"The {what} is longer than {INFORMATION_BYTES >> 20} MiB")
            if error is None and not self._take(peer, len(data)):
                error = ResourceLimitation(_BUSY)
            if error is None:
                encoded += data
        if error is not None:
            raise error

    def _give_back(self, peer: str, encoded: bytearray) -> None:
        with self._lock:
            self._held[peer] -= len(encoded)
            if not self._held[peer]:
                del self._held[peer]
        encoded.clear()

    def _take(self, peer: str, size_bytes: int) -> bool:
        with self._lock:
            held, of_all = self._held[peer] + size_bytes, self._held.total() + size_bytes
            if peer != _KNOWN and held > _MOST_BYTES_OF_ONE_STRANGER:
                return False
            if of_all > (_MOST_BYTES if peer == _KNOWN else _MOST_BYTES_OF_STRANGERS):
                return False
            self._held[peer] = held
            return True
