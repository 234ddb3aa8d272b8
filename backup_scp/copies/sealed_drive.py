"""Keep sealed copies on an external drive: files, names and lists are those of cloud storage (docs/adr/0039)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Self

from backup_scp.copies.cloud import cloud_names
from backup_scp.copies.cloud.byte_store import NameState
from backup_scp.copies.cloud.cloud_copy import CloudCopy
from backup_scp.copies.cloud.sealing import RecoveryKeys
from backup_scp.copies.cloud.streams import Writable
from backup_scp.copies.drive.drive_batch import CHUNK_BYTES, NewFile, read_back
from backup_scp.copies.drive.drive_connection import DriveConnection
from backup_scp.copies.drive.drive_contents import read_state
from backup_scp.copies.drive.drive_writer import TemporaryFolder
from backup_scp.machine import clock
from backup_scp.machine.root_folder import RootFolder


class SealedDriveCopy(CloudCopy):
    """A copy on drives that take turns, sealed by age: nobody can read a drive that was lost.

    Parameters
    ----------
    name, is_off_site
        Of the copy in the settings.
    folder
        On the drive; one component may have ``*``.
    identity
        Returns the identity of our archive; None while it has none.
    work
        A folder of the node for temporary files: they are on the drive only sealed.
    encrypt
        Public keys.
    recovery_keys
        Open what is sealed; whoever fills the drive has none.

    Raises
    ------
    InvalidSettings
        A key cannot be used.
    """

    is_removable = True
    fetches_at_once = 4

    def __init__(
        self,
        name: str,
        folder: Path,
        identity: Callable[[], str | None],
        work: Path,
        encrypt: Sequence[str],
        *,
        is_off_site: bool = False,
        recovery_keys: RecoveryKeys | None = None,
    ) -> None:
        self._drive = DriveConnection(name, folder, identity)
        store = _DriveStore(self._drive)
        super().__init__(name, store, work, encrypt=encrypt, is_off_site=is_off_site, recovery_keys=recovery_keys)
        self.medium = self.label = ""

    def __enter__(self) -> Self:
        self._drive.__enter__()  # before anything is made for it: most often no drive is here
        try:
            super().__enter__()
        except BaseException:
            self._drive.__exit__()
            raise
        if self.medium != self._drive.medium:  # what it knows is of another drive
            self._begin()
        self.medium, self.label, self.archive = self._drive.medium, self._drive.label, self._drive.archive
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            super().__exit__(*exc)
        finally:
            self._drive.__exit__(*exc)


class _DriveStore:
    """Files below a drive's folder, as a store of bytes; several threads may use it."""

    keeps_versions = False

    def __init__(self, drive: DriveConnection) -> None:
        self.place = f"the drive of copy {drive.name}"
        self._drive = drive
        self._temporary: TemporaryFolder | None = None
        self._naming = threading.Lock()

    def __enter__(self) -> Self:
        self._drive.root.forget_folders()
        return self  # a look whether the drive is here writes nothing

    def __exit__(self, *exc: object) -> None:
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            temporary.close()

    def put(self, name: str, file: Path) -> str:
        root = self._drive.root
        with self._drive.explained(), file.open("rb") as source:
            self._drive.require_here()
            with self._naming:
                self._temporary = self._temporary or TemporaryFolder(root)
                temporary = self._temporary.new_name()
            with NewFile(root, temporary, is_flushed=True) as target:
                while chunk := source.read(CHUNK_BYTES):
                    target.write(chunk)
            with self._naming:  # a flush covers the names that were given before it began
                root.make_folders(name.rpartition("/")[0])
                root.rename_new(temporary, name)
                root.flush()
                root.uncache_device()
        return ""

    def digest(self, name: str, object_version: str = "") -> str:  # noqa: ARG002 - a drive keeps one version
        return self._read(name, lambda _: None)

    def get(self, name: str, object_version: str, into: Writable) -> str:  # noqa: ARG002
        return self._read(name, into.write)

    def _read(self, name: str, write: Callable[[memoryview], object]) -> str:
        digest = sha256()
        self._drive.require_here()
        chunks = read_back(self._drive.root, name)
        while True:
            with self._drive.explained_of_file(name):
                chunk = next(chunks, None)
            if chunk is None:
                return digest.hexdigest()
            digest.update(chunk)
            write(chunk)

    def head(self, name: str) -> NameState | None:
        with self._drive.explained():
            self._drive.require_here()
            size = self._drive.root.size(name)
        return None if size is None else NameState(size)

    def list(self, folder: str) -> Iterator[str]:
        with self._drive.explained():
            self._drive.require_here()
            for found in self._drive.root.names(folder):
                name = f"{folder}/{found}"
                if self._drive.root.size(name) is None:
                    yield from self.list(name)
                else:
                    yield name

    def try_to_delete(self, name: str) -> bool:
        with self._drive.explained():
            self._drive.require_here()
            self._drive.root.remove(name)
        return True


def is_sealed_drive(folder: Path) -> bool:
    """Tell whether the copy on a drive is a sealed one; where a plain one is too, whether the sealed one is newer.

    Raises
    ------
    OSError
    """
    with closing(RootFolder(folder)) as root:
        indexes = [f"{cloud_names.INDEX}/{name}" for name in root.names(cloud_names.INDEX)]
        moments = [moment for moment in map(cloud_names.moment_of, indexes) if moment and not clock.is_future(moment)]
        plain_at = read_state(root).contents.taken_at
        if not root.names(cloud_names.MANIFESTS) or (plain_at and not moments):
            return False
        return plain_at is None or max(moments) >= plain_at
