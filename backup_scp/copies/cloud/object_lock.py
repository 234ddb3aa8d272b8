"""Require that each object is locked (Object Lock), and find out before an image is stored that none would be."""

from __future__ import annotations

import hashlib
import secrets
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from backup_scp.copies.cloud import cloud_names
from backup_scp.copies.cloud.byte_store import ByteStore, NameState
from backup_scp.copies.cloud.spool import Spool
from backup_scp.errors import DestinationUnavailable
from backup_scp.machine import clock

if TYPE_CHECKING:
    from backup_scp.ports import StoredCopy

_ROUNDING = timedelta(minutes=1)


class NotLocked(DestinationUnavailable):
    """An object is not locked, or somebody takes names away."""


class ObjectLock:
    """Asks for the lock of objects.

    Parameters
    ----------
    store, spool
        They must be open while this is used.
    days
        Days for which each object must be locked; 0: nothing is asked.
    """

    def __init__(self, store: ByteStore, spool: Spool, days: int) -> None:
        self._store = store
        self._spool = spool
        self._days = days
        self._mutex = threading.Lock()
        self._is_proven = not days

    def is_locked(self, state: NameState) -> bool:
        """Tell whether an object is locked for long enough from when it was stored."""
        return not self._days or days_locked(state) >= self._days

    def prove(self) -> None:
        """Store a probe of a hundred bytes, unless the last object was locked: each image would stay there unlocked.

        Raises
        ------
        DestinationUnavailable
        """
        with self._mutex:
            if self._is_proven:
                return
            content = secrets.token_hex(50).encode()
            sha256 = hashlib.sha256(content).hexdigest()
            name = cloud_names.stamped_name(cloud_names.CHECK, clock.now(), sha256, ".txt")
            with self._spool.file() as path:
                with self._spool.writing(path) as file:
                    file.write(content)
                version = self._store.put(name, path)
            self._require(name, version)
            self._is_proven = True

    def require(self, stored: StoredCopy) -> None:
        """Raise when an object that was just stored is not locked: the next ones would not be either.

        Raises
        ------
        DestinationUnavailable
        """
        if self._days:
            try:
                self._require(stored.name, stored.object_version)
            except NotLocked:
                self._is_proven = False
                raise

    def _require(self, name: str, object_version: str) -> None:
        state = self._store.head(name)
        if state is None or state.object_version != object_version:
            raise NotLocked(
                f"{self._store.place}: a name was deleted or overwritten right after it was stored: find out who "
                "writes there (docs/cloud.md)"
            )
        if not self.is_locked(state):
            raise NotLocked(
                f"{self._store.place} does not lock objects for {self._days} days: set the bucket's default "
                "retention (docs/cloud.md), or lock_days"
            )


def days_locked(state: NameState) -> int:
    """Return for how many days an object is locked from when it was stored, by the clock of the store; 0 without."""
    if not state.lock or state.locked_until is None:
        return 0
    return (state.locked_until - (state.stored_at or clock.now()) + _ROUNDING).days
