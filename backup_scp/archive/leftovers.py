"""Make the images visible that a process left in staging when it died: their senders may have been told of success."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from backup_scp.archive import layout
from backup_scp.archive.durable_folders import DurableFolders
from backup_scp.archive.file_format import FileHeader, read_header
from backup_scp.archive.file_writing import install, set_aside
from backup_scp.archive.intake_journal import is_journal, read_journal
from backup_scp.archive.os_errors import NO_LINKS, UNREADABLE, reason
from backup_scp.errors import Damaged, DigestMismatch
from backup_scp.machine import clock
from backup_scp.machine.digests import digest_like, digest_rest
from backup_scp.machine.file_system import can_flush_all, flush_all
from backup_scp.machine.folders import fsync, fsync_folder
from backup_scp.ports import ArchivedFile

log = logging.getLogger(__name__)


class Leftovers:
    """Knows where they belong.

    Parameters
    ----------
    root
        The archive's folder.
    damaged
        Its folder for damaged files.
    folders
        Creates missing folders.
    verify
        Reads the file at a location, and compares it with a SHA-256.
    """

    def __init__(
        self, root: Path, damaged: Path, folders: DurableFolders, verify: Callable[[str, str], ArchivedFile]
    ) -> None:
        self._root = root
        self._damaged = damaged
        self._folders = folders
        self._verify = verify

    def show(self, path: Path) -> Iterator[str]:
        """Make visible what a file in staging holds, and yield its locations; the names are not durable yet.

        Raises
        ------
        OSError
        """
        files, error = _read(path, self._is_shown)
        for header, content in files:
            if content is None:
                yield from self._show_staged(path, header)
            else:
                yield from self._replay(header, content, path.with_suffix(".new"))
        if error is not None:
            self._set_aside(path, error)

    def count(self, paths: Iterable[Path]) -> int:
        """Count the whole images in files of staging; it changes nothing, and passes over what cannot be read."""
        locations = set()
        for path in paths:
            with suppress(OSError):
                if is_journal(path):
                    locations |= {header.location for header, _ in whole_files(path)}
                else:
                    with path.open("rb") as stream:
                        header = _whole(stream, os.fstat(stream.fileno()).st_size)
                    locations |= {header.location} if header else set()
        return len(locations)

    def flush(self, locations: Sequence[str]) -> None:
        """Make these files durable, which their process may not have come to, and their names.

        Raises
        ------
        OSError
        """
        files = [self._root / location for location in locations]
        for folder in dict.fromkeys(file.parent for file in files):
            self._folders.make(folder)
        if can_flush_all(self._root):
            descriptor = os.open(self._root, os.O_RDONLY)
            try:
                flush_all(descriptor)
            finally:
                os.close(descriptor)
            return
        for file in filter(Path.is_file, files):
            with file.open("rb+") as stream:
                fsync(stream.fileno())
        for folder in dict.fromkeys(file.parent for file in files):
            fsync_folder(folder)

    def _replay(self, header: FileHeader, content: bytes, through: Path) -> Iterator[str]:
        """Put a file of a journal in its place, unless an intact one is there."""
        try:
            self._verify(header.location, header.sha256)
        except Damaged:  # its bytes or its name had not come to the disk
            final = self._root / header.location
            if self._holds_another(final, header):
                return  # no sender was told of this one
            self._folders.make(final.parent)
            self._keep_damaged(final, header.location)
            install(content, final, through)
        yield header.location

    def _show_staged(self, path: Path, header: FileHeader) -> Iterator[str]:
        """Show a staged file that is whole, or whose place is taken already: then it is the note of that one."""
        final = self._root / header.location
        self._folders.make(final.parent)
        try:
            os.link(path, final)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            if not final.exists():  # then it was never acknowledged
                return
        yield header.location

    def _is_shown(self, header: FileHeader) -> bool:
        return (self._root / header.location).is_file()

    def _keep_damaged(self, final: Path, location: str) -> None:
        """Keep what is in the place, unless it is empty: it was damaged before, or is a piece of the same."""
        if final.is_file() and final.stat().st_size:
            aside = self._damaged / layout.quarantine_name(location, clock.now())
            self._folders.make(aside.parent)
            set_aside(final, aside)

    def _holds_another(self, final: Path, header: FileHeader) -> bool:
        """Tell whether another Data Set has the place: its digest begins with the same digits."""
        try:
            with final.open("rb") as stream:
                there = _whole(stream, os.fstat(stream.fileno()).st_size)
        except OSError:
            return False
        return there is not None and there.sha256 != header.sha256

    def _set_aside(self, path: Path, error: OSError) -> None:
        """Keep a file that cannot be read: perhaps it holds an image whose sender was told that it is stored."""
        aside = self._damaged / f"{path.parent.name}-{path.name}"
        self._folders.make(self._damaged)
        path.rename(aside)
        log.error("%s cannot be read (%s): images that came before the crash may be lost", aside, reason(error))


def _read(
    path: Path, is_enough: Callable[[FileHeader], bool]
) -> tuple[list[tuple[FileHeader, bytes | None]], OSError | None]:
    """Read what a file in staging holds, and the error of its medium; a staged file has a header only."""
    files: list[tuple[FileHeader, bytes | None]] = []
    try:
        if is_journal(path):
            files.extend(whole_files(path))
        else:
            with path.open("rb") as stream:
                header = _whole(stream, os.fstat(stream.fileno()).st_size, is_enough)
            files += [(header, None)] if header else []
    except FileNotFoundError:  # another sweep was faster
        return files, None
    except OSError as error:
        if error.errno not in UNREADABLE:
            raise
        return files, error
    return files, None


def whole_files(journal: Path) -> Iterator[tuple[FileHeader, bytes]]:
    """Yield the files of a journal that are whole: a torn one was never acknowledged.

    Raises
    ------
    OSError
    """
    for content in read_journal(journal):
        with io.BytesIO(content) as stream:
            header = _whole(stream, len(content))
        if header is not None:
            yield header, content


def _whole(
    stream: BinaryIO, length: int, is_enough: Callable[[FileHeader], bool] = lambda _: False
) -> FileHeader | None:
    """Read a whole file, and return its header; None when it is torn, or not ours.

    Parameters
    ----------
    stream
        At the file's first byte.
    length
        Of the file, in bytes.
    is_enough
        Whether the header is all that must be intact.
    """
    try:
        header = read_header(stream, "A staged file")
    except DigestMismatch:
        return None
    if not layout.is_location(header.location):
        return None
    if is_enough(header):
        return header
    is_complete = length == header.length + header.size_bytes
    return header if is_complete and digest_rest(stream, digest_like(header.sha256)) == header.sha256 else None
