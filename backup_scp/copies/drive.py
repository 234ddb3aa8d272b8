"""Keep a copy of each image on an external drive (docs/adr/0039)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import unquote, urlsplit

from backup_scp.copies.drive_batch import digest_of, read_back
from backup_scp.copies.drive_lists import write_lists
from backup_scp.copies.drive_marker import MARKER, DriveMarker, find_drive, parse_marker
from backup_scp.copies.drive_writer import DriveWriter
from backup_scp.errors import (
    DestinationAway,
    DestinationUnavailable,
    DigestMismatch,
    FileMissing,
    InvalidSettings,
)
from backup_scp.machine.root_folder import RootFolder
from backup_scp.ports import CopyItem, CopyResult, ReadOriginal, Snapshot

_MARKER_BYTES = 4096


def folder_of_url(url: str) -> Path:
    """Return the folder of ``file:///FOLDER``.

    Raises
    ------
    InvalidSettings
    """
    found = urlsplit(url)
    path = unquote(url.partition("://")[2]) if found.scheme == "file" else ""
    if not path.startswith("/") or path.count("*") > 1:
        raise InvalidSettings(f"{url}: write file:///FOLDER; one * may stand for any name")
    return Path(path[1:] if path[2:3] == ":" else path)  # file:///D:/x-rays


class DriveCopy:
    """A copy on the drives whose marker names our archive; one of them is here at a time.

    Parameters
    ----------
    name
        Of the copy in the settings.
    folder
        On the drive; one component may have ``*``.
    identity
        Returns the identity of our archive; None while it has none.
    is_off_site
        Whether a fire in the building leaves it.
    recipients
        Public keys of age; drives are not sealed.

    Raises
    ------
    InvalidSettings
    """

    is_removable = True

    def __init__(
        self,
        name: str,
        folder: Path,
        identity: Callable[[], str | None],
        *,
        is_off_site: bool = False,
        recipients: tuple[str, ...] = (),
    ) -> None:
        if recipients:
            raise InvalidSettings(
                f"[[copy]] {name}, encrypt: this version does not seal drives; use an encrypted drive"
            )
        self.name, self.is_off_site = name, is_off_site
        self.medium = self.label = ""
        self._pattern, self._identity = folder, identity
        self._root: RootFolder | None = None

    def __enter__(self) -> Self:
        archive = self._identity()
        if archive is None:
            raise DestinationUnavailable("The archive has no identity yet: start the node once")
        folder, _ = find_drive(self.name, self._pattern, archive)
        try:
            self._root = RootFolder(folder)
            marker = self._marker()
        except OSError as error:
            self.__exit__()
            raise DestinationAway(
                f"The drive at {folder} cannot be read ({_reason(error)}): connect it again"
            ) from error
        if marker is None or marker.archive != archive:
            self.__exit__()
            raise DestinationAway(f"The drive at {folder} was disconnected: connect it again")
        self.medium, self.label = marker.drive, marker.label
        return self

    def __exit__(self, *exc: object) -> None:
        root, self._root = self._root, None
        if root is not None:
            root.close()

    def _marker(self) -> DriveMarker | None:
        return parse_marker(self._opened.read(MARKER, _MARKER_BYTES))

    @property
    def _opened(self) -> RootFolder:
        if self._root is None:
            raise DestinationUnavailable("The drive is not connected")
        return self._root

    def put(self, items: Sequence[CopyItem], read: ReadOriginal) -> Iterator[CopyResult]:
        root = self._opened
        with self._explained():
            self._require_here()
            with DriveWriter(root) as writer:
                try:
                    for item in items:
                        yield from writer.put(item, read)
                except OSError as error:
                    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                        raise
                    yield from writer.finish()  # what did find room
                    raise
                yield from writer.finish()

    def compare(self, items: Sequence[CopyItem]) -> Iterator[CopyResult]:
        with self._explained():
            self._require_here()
            self._opened.uncache_device()
            for item in items:
                yield self._compare(item)

    def _compare(self, item: CopyItem) -> CopyResult:
        stored = item.stored
        assert stored is not None, "the contract of compare"  # noqa: S101 - for the type checker
        try:
            found = digest_of(self._opened, stored.name, sha256())
        except OSError as error:
            self._require_here()
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            reason = "is missing on the drive" if missing else f"cannot be read from the drive ({_reason(error)})"
            return CopyResult(item.number, None, f"Image {item.held.sop_instance_uid} {reason}")
        if found != stored.sha256:
            return CopyResult(item.number, None, f"Image {item.held.sop_instance_uid} is damaged on the drive")
        return CopyResult(item.number, stored)

    def fetch(self, item: CopyItem, into: BinaryIO) -> None:
        stored, uid = item.stored, item.held.sop_instance_uid
        if stored is None:
            raise FileMissing(f"Image {uid} is not on the drive")
        digest = sha256()
        self._require_here()
        chunks = read_back(self._opened, stored.name)
        while (chunk := self._next(chunks, uid)) is not None:
            digest.update(chunk)
            into.write(chunk)
        if digest.hexdigest() != stored.sha256:
            raise DigestMismatch(f"Image {uid} is damaged on the drive")

    def _next(self, chunks: Iterator[memoryview], uid: str) -> memoryview | None:
        """Read on; an error concerns this file, unless the drive is gone."""
        try:
            return next(chunks, None)
        except (FileNotFoundError, NotADirectoryError) as error:
            self._require_here()
            raise FileMissing(f"Image {uid} is missing on the drive") from error
        except OSError as error:
            self._require_here()
            raise DigestMismatch(f"Image {uid} cannot be read from the drive ({_reason(error)})") from error

    def conclude(self, snapshot: Snapshot, *, is_complete: bool) -> None:
        with self._explained():
            self._require_here()
            write_lists(self._opened, snapshot, self.label, is_complete=is_complete)

    def _require_here(self) -> None:
        """Raise when the folder's path leads elsewhere: the drive was pulled, or another one took its place."""
        if not self._opened.is_here():
            raise DestinationAway(f"The drive {self.label} was disconnected: connect it again")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Translate the system's errors in the block."""
        try:
            yield
        except OSError as error:
            self._require_here()
            raise self._unavailable(error) from error

    def _unavailable(self, error: OSError) -> DestinationUnavailable:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return DestinationUnavailable(
                f"The drive {self.label} is full: prepare a larger one by backup-scp copies init {self.name}"
            )
        if error.errno == errno.EROFS:
            return DestinationUnavailable(f"The drive {self.label} is write-protected, or its file system has errors")
        return DestinationUnavailable(
            f"The drive {self.label} fails ({_reason(error)}): check its cable, or replace it"
        )


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else type(error).__name__
