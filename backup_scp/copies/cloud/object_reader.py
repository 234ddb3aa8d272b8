"""Read an object back whole: compare its bytes with the digest in our records or in its name, and open it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from backup_scp.copies.cloud import cloud_names
from backup_scp.copies.cloud.byte_store import ByteStore
from backup_scp.copies.cloud.sealing import RecoveryKeys
from backup_scp.copies.cloud.spool import Spool
from backup_scp.copies.cloud.streams import Writable
from backup_scp.errors import DigestMismatch
from backup_scp.ports import StoredCopy


class ObjectReader:
    """Reads objects of a copy; several threads may use it.

    Parameters
    ----------
    copy
        The copy's name, for messages.

    Attributes
    ----------
    keys
        They open what is sealed; None: it stays closed.
    """

    def __init__(self, copy: str, store: ByteStore, spool: Spool, keys: RecoveryKeys | None) -> None:
        self.keys = keys
        self._copy, self._store, self._spool = copy, store, spool

    def read(self, stored: StoredCopy, into: Writable, keys: RecoveryKeys | None = None) -> None:
        """Write the plain bytes of an object; use them only after this method has returned.

        Parameters
        ----------
        keys
            Open it with these instead of our own.

        Raises
        ------
        DestinationUnavailable
        FileMissing
        DigestMismatch
            It is damaged, or sealed and the key is missing or another one.
        Exception
            Whatever ``into`` raised.
        """
        if not stored.name.endswith(cloud_names.SEALED):
            self._download(stored, into)
            return
        keys = keys or self.require_keys()
        with self._spool.buffer() as sealed:
            self._download(stored, _Spooled(sealed, self._spool))
            sealed.seek(0)
            keys.open(sealed, into)

    @contextmanager
    def opened(self, name: str) -> Iterator[BinaryIO]:
        """Yield the plain bytes of an object whose name holds its digest."""
        with self._spool.buffer() as plain:
            self.read(by_its_name(name), _Spooled(plain, self._spool))
            plain.seek(0)
            yield plain

    def require_keys(self) -> RecoveryKeys:
        """Return our keys.

        Raises
        ------
        DigestMismatch
            There are none.
        """
        if self.keys is None:
            raise DigestMismatch(f"The copy {self._copy} is sealed: give the recovery key, which is in the envelope")
        return self.keys

    def _download(self, stored: StoredCopy, into: Writable) -> None:
        found = self._store.get(stored.name, stored.object_version, into)
        if found != stored.sha256:
            raise DigestMismatch(f"{stored.name} came back changed from {self._store.place}")


def by_its_name(name: str) -> StoredCopy:
    """Return what the name of an index, a manifest or the like says of the object."""
    return StoredCopy(name, cloud_names.digest_of_stamped(name), 0)


class _Spooled:
    """Translates the errors of a temporary file: they are of this computer, not of what is read."""

    def __init__(self, file: BinaryIO, spool: Spool) -> None:
        self._file, self._spool = file, spool

    def write(self, data: bytes | memoryview) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            raise self._spool.unavailable(error) from error

    def flush(self) -> None:
        """Nothing: we read it ourselves."""
