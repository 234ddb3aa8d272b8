"""Find the drive of a copy, hold its folder open, and say in words what is wrong with it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from backup_scp.copies.drive.drive_marker import MARKER, find_drive, parse_marker
from backup_scp.errors import DestinationAway, DestinationUnavailable, DigestMismatch, FileMissing, InvalidSettings
from backup_scp.machine.root_folder import RootFolder

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


class DriveConnection:
    """The drive that is here; a context manager, which raises ``DestinationAway`` when none is.

    Parameters
    ----------
    name
        Of the copy in the settings.
    pattern
        Its folder on a drive; one component may have ``*``.
    identity
        Returns the identity of our archive; None while it has none.

    Attributes
    ----------
    medium, label, archive
        The drive's ID, its name for people, and the identity of its archive; known after entering.
    """

    def __init__(self, name: str, pattern: Path, identity: Callable[[], str | None]) -> None:
        self.name, self.pattern = name, pattern
        self.medium = self.label = self.archive = ""
        self._identity = identity
        self._root: RootFolder | None = None

    def __enter__(self) -> Self:
        archive = self._identity()
        if archive is None:
            raise DestinationUnavailable("The archive has no identity yet: start the node once")
        folder, _ = find_drive(self.name, self.pattern, archive)
        try:
            self._root = RootFolder(folder)
            marker = parse_marker(self._root.read(MARKER, _MARKER_BYTES))
        except OSError as error:
            self.__exit__()
            raise DestinationAway(f"{folder} cannot be read ({reason(error)}): connect the drive again") from error
        if marker is None or marker.archive != archive:
            self.__exit__()
            raise DestinationAway(f"The drive at {folder} was disconnected: connect it again")
        self.medium, self.label, self.archive = marker
        return self

    def __exit__(self, *exc: object) -> None:
        root, self._root = self._root, None
        if root is not None:
            root.close()

    @property
    def root(self) -> RootFolder:
        """The drive's folder."""
        if self._root is None:
            raise DestinationUnavailable("The drive is not connected")
        return self._root

    def require_here(self) -> None:
        """Raise when the folder's path leads elsewhere: the drive was pulled, or another one took its place.

        Raises
        ------
        DestinationAway
        """
        if not self.root.is_here():
            raise DestinationAway(f"The drive {self.label} was disconnected: connect it again")

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Translate the system's errors in the block: they are the drive's."""
        try:
            yield
        except OSError as error:
            self.require_here()
            raise self._unavailable(error) from error

    @contextmanager
    def explained_of_file(self, what: str) -> Iterator[None]:
        """Translate the system's errors in the block: they are of one file, as long as the drive is here."""
        try:
            yield
        except OSError as error:
            self.require_here()
            if isinstance(error, FileNotFoundError | NotADirectoryError):
                raise FileMissing(f"{what} is missing on the drive") from error
            raise DigestMismatch(f"{what} cannot be read from the drive ({reason(error)})") from error

    def _unavailable(self, error: OSError) -> DestinationUnavailable:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return DestinationUnavailable(
                f"The drive {self.label} is full: take it away, and prepare another: backup-scp copies init {self.name}"
            )
        if error.errno == errno.EROFS:
            return DestinationUnavailable(f"The drive {self.label} is write-protected, or its file system has errors")
        return DestinationUnavailable(f"The drive {self.label} fails ({reason(error)}): check its cable")


def reason(error: OSError) -> str:
    """Return the system's text, without the path that ``str(error)`` contains."""
    return os.strerror(error.errno) if error.errno else type(error).__name__
