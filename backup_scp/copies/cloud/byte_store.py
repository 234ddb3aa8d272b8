"""The private port of cloud storage: a store of bytes under names, such as a bucket of S3 or a remote of rclone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol, Self

from backup_scp.copies.cloud.streams import Writable


class NameState(NamedTuple):
    """What a name leads to now.

    Attributes
    ----------
    size_bytes
        Of the object.
    object_version
        Its version ID; empty where the store keeps none.
    lock
        ``COMPLIANCE``, ``GOVERNANCE``, or empty: anybody who may delete can delete it.
    locked_until
        Until when; None without a lock.
    stored_at
        When it was stored, by the clock of the store; None when it does not say.
    """

    size_bytes: int
    object_version: str = ""
    lock: str = ""
    locked_until: datetime | None = None
    stored_at: datetime | None = None


class ByteStore(Protocol):
    """Keeps bytes under names.

    A context manager: entering connects, and leaving disconnects.  Several threads may use it at once.  A name is a
    relative path of ASCII letters, digits, ``-``, ``.`` and ``/``.  It deletes nothing.  Each method raises
    ``DestinationUnavailable``; ``DestinationRefuses`` when a person must change something.

    Attributes
    ----------
    place
        What the store is, for messages.
    keeps_versions
        Whether ``put`` returns version IDs, so that overwritten and deleted names can still be read.
    """

    place: str
    keeps_versions: bool

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def put(self, name: str, file: Path) -> str:
        """Store a file that does not change meanwhile under a new name; return its version ID, or nothing.

        The caller reads it back: a store's own success proves little.
        """

    def digest(self, name: str, object_version: str = "") -> str:
        """Read the bytes back from the store; return their SHA-256, 64 hex digits.

        Raises
        ------
        FileMissing
        """

    def get(self, name: str, object_version: str, into: Writable) -> str:
        """Write the bytes into a stream; return their SHA-256, 64 hex digits.

        Raises
        ------
        FileMissing
        """

    def head(self, name: str) -> NameState | None:
        """Tell what a name leads to now; None when it leads to nothing."""

    def list(self, folder: str) -> Iterator[str]:
        """Yield the names below a folder, in any order; nothing when there is no such folder."""

    def try_to_delete(self, name: str) -> bool:
        """Try to delete a name, which is a probe of ours; tell whether the credential may."""
