"""List the files that an import reads, in folders and zip files, and why it skips the others."""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
import zipfile
import zlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from backup_scp.errors import SourceUnavailable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LINK_TO_NOTHING = "A link to nothing"
LINK_TO_ITSELF = "A link that leads back to itself"
LINK_ABOVE = "A link to a folder above the imported one: not followed"
READ_ALREADY = "A link to a file that is imported anyway, or a second name of it"
NO_FILE = "Neither a file nor a folder: a device, a pipe or a socket"
ZIP_IN_ZIP = "A zip file in a zip file: not opened; unpack the outer one to import it"

ZIP_MAGIC = b"PK\x03\x04"
_MOST_DIRECTORY_BYTES = 16 << 20
_USUAL_EXPANSION = 200
_FREE_EXPANSION_BYTES = 1_000_000_000
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ENCRYPTED = 0x1
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, NotImplementedError, RuntimeError)
_CHUNK_BYTES = 1 << 20
_UNPACK = "unpack it and import the folder"


@dataclass(frozen=True, slots=True)
class NotRead:
    """A file or folder that an import does not read.

    Attributes
    ----------
    path
        Text for people, not for opening the file.
    may_be_image
        Whether the import may miss images because of it.
    """

    path: str
    reason: str
    may_be_image: bool = False


def walk(roots: Iterable[Path]) -> Iterator[Path | NotRead]:
    """Yield every regular file at and below ``roots``, in order, then the targets of links; each folder once.

    Links come last, so that a file below the roots is read under its own name.
    """
    return _Walk([*roots]).files()


class _Walk:
    def __init__(self, roots: list[Path]) -> None:
        self._roots = roots
        self._folders: set[tuple[int, int]] = set()
        self._targets: set[tuple[int, int]] = set()
        self._links: deque[Path] = deque()

    def files(self) -> Iterator[Path | NotRead]:
        for root in self._roots:
            if _kind_behind(root) == stat.S_IFREG:
                yield root
            else:
                yield from self._below(root)
        to_files: list[Path] = []
        while self._links:  # folders first: a file in one of them is then read under that folder
            link = self._links.popleft()
            if _kind_behind(link) == stat.S_IFDIR:
                yield from self._follow(link)
            else:
                to_files.append(link)
        for link in to_files:
            yield from self._follow(link)

    def _below(self, top: Path) -> Iterator[Path | NotRead]:
        folders = [top]
        while folders:
            folder = folders.pop()
            try:
                is_new = self._is_new_folder(folder)
                entries = _entries(folder) if is_new else []
            except OSError as error:
                yield NotRead(printable(folder), f"The folder cannot be read ({error.strerror})", may_be_image=True)
                continue
            if not is_new:
                yield NotRead(printable(folder), READ_ALREADY)
            subfolders = []
            for path, kind in entries:
                if kind == stat.S_IFREG:
                    yield path
                elif kind == stat.S_IFDIR:
                    subfolders.append(path)
                elif kind == stat.S_IFLNK:
                    self._links.append(path)
                else:
                    yield NotRead(printable(path), NO_FILE)
            folders += reversed(subfolders)

    def _is_new_folder(self, folder: Path) -> bool:
        found = _identity(folder.stat())
        is_new = found not in self._folders
        self._folders.add(found)
        return is_new

    def _follow(self, link: Path) -> Iterator[Path | NotRead]:
        try:
            found = link.stat()
            target = link.resolve()
            is_read = _identity(found) in self._targets or _identity(target.parent.stat()) in self._folders
        except (FileNotFoundError, NotADirectoryError):
            yield NotRead(printable(link), LINK_TO_NOTHING)
        except OSError as error:
            if error.errno == errno.ELOOP:
                yield NotRead(printable(link), LINK_TO_ITSELF)
            else:
                yield NotRead(printable(link), f"The link cannot be followed ({error.strerror})", may_be_image=True)
        else:
            if stat.S_ISDIR(found.st_mode):
                if any(root.resolve().is_relative_to(target) for root in self._roots):
                    yield NotRead(printable(link), LINK_ABOVE)
                else:
                    yield from self._below(link)
            elif not stat.S_ISREG(found.st_mode):
                yield NotRead(printable(link), NO_FILE)
            elif is_read:
                yield NotRead(printable(link), READ_ALREADY)
            else:
                self._targets.add(_identity(found))
                yield link


def _entries(folder: Path) -> list[tuple[Path, int]]:
    with os.scandir(folder) as entries:
        return [(folder / entry.name, _kind(entry)) for entry in sorted(entries, key=lambda entry: entry.name)]


def _kind(entry: os.DirEntry[str]) -> int:
    """Return the kind of an entry.  An unreadable one counts as a file: opening it then gives the reason."""
    try:
        return stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)
    except OSError:
        return stat.S_IFREG


def _kind_behind(path: Path) -> int:
    """Return the kind of the target of a path or link; 0 when the system refuses: opening it then gives the reason."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except OSError:
        return 0


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def printable(path: Path | str) -> str:
    """Return a path as printable text; its bytes may be in another character set."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class Member:
    """One file in a zip file.

    Attributes
    ----------
    path
        Text for people, not for opening the file.
    """

    def __init__(self, file: zipfile.ZipFile, info: zipfile.ZipInfo, path: str) -> None:
        self._file = file
        self._info = info
        self.path = path

    def open(self) -> BinaryIO:
        """Open its bytes.  Reading raises SourceUnavailable when their number or checksum is not the zip file's.

        The checksum is compared when the last byte is read.

        Raises
        ------
        SourceUnavailable
        """
        with _explained("It is damaged in its zip file"):
            return io.BufferedReader(_MemberStream(self._file.open(self._info)), _CHUNK_BYTES)


class _MemberStream(io.RawIOBase):
    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer)
        with _explained("It is damaged in its zip file"):
            data = self._stream.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        with _explained("It is damaged in its zip file"):
            return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        self._stream.close()
        super().close()


@contextmanager
def _explained(sentence: str) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise SourceUnavailable(sentence) from error


def is_zip(path: Path) -> bool:
    """Tell whether a file begins like a zip file; False when it cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    except OSError:
        return False


def members(path: Path) -> Generator[Member | NotRead, None, None]:
    """Yield the files in a zip file.  Their size is limited, and their names are never used as paths.

    Raises
    ------
    SourceUnavailable
        The zip file is damaged, or has too many files to list.
    """
    with ExitStack() as stack:
        with _explained("The zip file cannot be read: it is damaged, or cut off"):
            stream = cast("BinaryIO", stack.enter_context(_Bounded(path)))
            file = stack.enter_context(zipfile.ZipFile(stream))
        room = _FREE_EXPANSION_BYTES + _USUAL_EXPANSION * path.stat().st_size
        for info in file.infolist():
            if info.is_dir():
                continue
            name = f"{printable(path)}: {info.filename}"
            room -= info.file_size
            reason = _unreadable(info) if room >= 0 else f"Its zip file expands to too many bytes: {_UNPACK}"
            yield NotRead(name, reason, may_be_image=True) if reason else Member(file, info, name)


def _unreadable(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & _ENCRYPTED:
        return f"It is encrypted in its zip file: {_UNPACK}"
    if info.compress_type not in _METHODS:  # other methods may need gigabytes of memory
        return f"It is packed in its zip file by a method that is not read here: {_UNPACK}"
    return ""


class _Bounded(io.FileIO):
    """A file that reads a zip's list of members in one call, when the list has a usual length."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MOST_DIRECTORY_BYTES:
            raise zipfile.BadZipFile("its directory is too long")
        return super().read(_MOST_DIRECTORY_BYTES if size is None or size < 0 else size) or b""
