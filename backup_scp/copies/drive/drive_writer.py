"""Write images to a drive in batches: under temporary names, flushed, read back, renamed, listed."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import BinaryIO, NamedTuple, Self

from backup_scp.copies.drive.drive_batch import (
    CHUNK_BYTES,
    DigestOfFile,
    FileDigests,
    NewFile,
    copy_from,
    read_back,
    uncached,
)
from backup_scp.copies.drive.drive_catalog import MANIFEST, encode, image_of
from backup_scp.copies.drive.drive_names import file_names, folder_of, month_of
from backup_scp.dicom.file_set import Entry, Image, entry_of
from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.errors import Damaged, DestinationUnavailable
from backup_scp.machine.medium import aligned
from backup_scp.machine.process_lock import Lock
from backup_scp.machine.root_folder import READ, RootFolder
from backup_scp.ports import ArchivedFile, CopyItem, CopyResult, StoredCopy

OWN = "BACKUPSC"
"""The folder for what is not for people: new lists, the index, settings, temporary files."""

NEW_LISTS = f"{OWN}/NEW"
TEMPORARY = f"{OWN}/TEMP"

_NEW_LIST = re.compile(r"SHA256_([0-9A-Z_]+-[0-9]+)_[0-9A-F]{8}\.TXT")
_TOO_LARGE = frozenset({errno.EOVERFLOW, errno.EINVAL})
_LARGE_BYTES = 256 << 10  # of less, many are written by the flush together
_TOO_LARGE_BYTES = 2 << 30
_MOST_FILES = 256
_MOST_BYTES = 64 << 20  # a batch is read back while the next one is written
_READERS = 2  # one waits for the drive while the other hashes
_TRIES = 5
_LEAST_FREE_BYTES, _MOST_FREE_BYTES = 1 << 20, 256 << 20  # for lists, DICOMDIRs and the index


@dataclass(frozen=True, slots=True)
class _Written:
    """An image that waits for the flush; ``temporary`` is empty when the drive has it already, at ``path``."""

    item: CopyItem
    instance: SOPInstance
    image: Image
    folder: str
    temporary: str
    path: str
    data_set_offset: int
    digests: FileDigests
    site: str


class TemporaryFolder:
    """A folder on the drive for unfinished files, ours alone; those of dead processes are removed.

    Raises
    ------
    OSError
    """

    def __init__(self, root: RootFolder) -> None:
        self._root = root
        root.make_folders(TEMPORARY)
        for name in root.names(TEMPORARY):
            with suppress(OSError):  # its owner lives
                Lock(root.path_of(f"{TEMPORARY}/{name}/LOCK")).close()
                self._remove(f"{TEMPORARY}/{name}")
        for attempt in range(_TRIES):
            self._name = f"{TEMPORARY}/{secrets.token_hex(4).upper()}"
            root.make_folders(self._name)
            try:
                self._lock = Lock(root.path_of(f"{self._name}/LOCK"))
                break
            except OSError:  # somebody took our new folder for one of a dead process
                if attempt == _TRIES - 1:
                    raise
        self._number = 0

    def new_name(self) -> str:
        """Return the name of a new temporary file."""
        self._number += 1
        return f"{self._name}/{self._number:08}"

    def close(self) -> None:
        """Remove it."""
        self._lock.close()
        with suppress(OSError):
            self._remove(self._name)

    def _remove(self, folder: str) -> None:
        for name in self._root.names(folder):
            self._root.remove(f"{folder}/{name}")
        self._root.remove_folder(folder)


class _ReadBack(NamedTuple):
    """A flushed batch, and for each image the SHA-256 of its file; empty when the drive returns other bytes."""

    batch: list[_Written]
    sha256: list[Future[str]]


class DriveWriter:
    """Writes batches to a drive, and reads each one back while the next one is written; a context manager.

    Parameters
    ----------
    root
        The drive's folder.
    """

    def __init__(self, root: RootFolder) -> None:
        self._root = root
        self._buffer = aligned(CHUNK_BYTES)
        self._readers = ThreadPoolExecutor(_READERS, "drive read back")
        self._free = deque(aligned(CHUNK_BYTES) for _ in range(_READERS))
        self._read_back: _ReadBack | None = None
        self._batch: list[_Written] = []
        self._batch_bytes = 0

    def __enter__(self) -> Self:
        self._root.forget_folders()
        self._root.make_folders(NEW_LISTS)
        self._temporary = TemporaryFolder(self._root)
        return self

    def __exit__(self, *exc: object) -> None:
        self._readers.shutdown(cancel_futures=True)
        self._temporary.close()

    def put(self, item: CopyItem, original: Callable[[], ArchivedFile]) -> Iterator[CopyResult]:
        """Write an image; yield the results of the batch before when this one is complete, or that this one failed.

        Raises
        ------
        OSError
            The drive fails.
        DestinationUnavailable
            It is full.
        """
        try:
            written = self._write(item, original())
        except Damaged as error:
            yield CopyResult(item.number, None, str(error), is_lost=True)
            return
        except OSError as error:
            if not _is_too_large(error, item.held.size_bytes):
                raise
            reason = "is too large for the drive's file system (FAT32 holds files up to 4 GB): use exFAT, NTFS or ext4"
            yield CopyResult(item.number, None, f"Image {item.held.sop_instance_uid} {reason}")
            return
        self._batch.append(written)
        self._batch_bytes += written.digests.size_bytes
        if len(self._batch) >= _MOST_FILES or self._batch_bytes >= _MOST_BYTES:
            yield from self._flush()

    def _write(self, item: CopyItem, file: ArchivedFile) -> _Written:
        held = item.held
        if file.sha256 != held.sha256:
            raise Damaged(f"{held.location} holds another Data Set than was received under this name")
        with file.reopen() as source:
            source.seek(file.data_set_offset)
            heading = file.heading
            uids = (heading.transfer_syntax_uid, heading.sop_class_uid, heading.sop_instance_uid)
            instance = SOPInstance.read(source, *uids)
            image = image_of(instance, file)
            folder = folder_of(instance, file.arrival.received_at, file.arrival.site)
            earlier = folder_of(instance, file.arrival.received_at)  # of a drive on which folders had no site
            if found := self._there(source, file, instance, folder) or (
                earlier != folder and self._there(source, file, instance, earlier)
            ):
                path, digests = found
                return _Written(
                    item, instance, image, folder, "", path, file.data_set_offset, digests, file.arrival.site
                )
            self._require_room(file)
            source.seek(0)
            temporary = self._temporary.new_name()
            with NewFile(self._root, temporary, is_large=file.size_bytes >= _LARGE_BYTES) as target:
                digests = copy_from(source, file, target.write, self._buffer)
        return _Written(item, instance, image, folder, temporary, "", file.data_set_offset, digests, file.arrival.site)

    def _there(
        self, source: BinaryIO, file: ArchivedFile, instance: SOPInstance, folder: str
    ) -> tuple[str, FileDigests] | None:
        """Return name and digests of the file when the drive has it already, byte for byte."""
        for name in file_names(instance, file.sha256):
            path = f"{folder}/{name}"
            size = self._root.size(path)
            if size is None:
                return None
            if size == file.data_set_offset + file.size_bytes and (digests := self._same(source, file, path)):
                self._root.keep(path)
                return path, digests
        return None

    def _same(self, source: BinaryIO, file: ArchivedFile, path: str) -> FileDigests | None:
        descriptor = self._root.open(path, READ)
        try:
            uncached(descriptor)
            source.seek(0)
            with os.fdopen(descriptor, "rb", closefd=False) as there:
                return copy_from(source, file, lambda chunk: _require_same(there, chunk), self._buffer)
        except (_Differs, OSError):
            return None  # damaged, or another version's: it stays, and ours gets the next name
        finally:
            os.close(descriptor)

    def _require_room(self, file: ArchivedFile) -> None:
        free, total = self._root.free_bytes()
        reserve = min(max(total // 100, _LEAST_FREE_BYTES), _MOST_FREE_BYTES)
        if free < file.data_set_offset + file.size_bytes + reserve:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def finish(self) -> Iterator[CopyResult]:
        """Make all batches durable, read them back, give them their names; yield the results."""
        while self._batch or self._read_back:
            yield from self._flush()

    def _flush(self) -> Iterator[CopyResult]:
        """Make a batch durable, and begin to read it back; name the one before, and yield its results."""
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        before, self._read_back = self._read_back, None
        self._require_here()
        results = self._keep(before) if before else []
        self._root.flush()
        self._root.uncache_device()
        self._require_here()
        if batch:
            self._read_back = _ReadBack(batch, [self._readers.submit(self._sha256_of, each) for each in batch])
        yield from results

    def _keep(self, before: _ReadBack) -> list[CopyResult]:
        """Name and list what was read back intact; the next flush makes names and lists durable."""
        results: list[CopyResult] = []
        entries: dict[str, list[Entry]] = {}
        for written, future in zip(before.batch, before.sha256, strict=True):
            if file_sha256 := future.result():
                path = written.path or self._name(written)
                entry = entry_of(path, file_sha256, written.instance, written.image, written.site)
                entries.setdefault(month_of(path), []).append(entry)
                stored = StoredCopy(path, file_sha256, written.digests.size_bytes)
                results.append(CopyResult(written.item.number, stored))
            else:
                error = "The drive returns other bytes than were written to it: try another drive"
                results.append(CopyResult(written.item.number, None, error))
        self._list(entries)
        return results

    def _require_here(self) -> None:
        if not self._root.is_here():
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    def _sha256_of(self, written: _Written) -> str:
        """Read an image back and compare it; see ``_ReadBack``."""
        buffer = self._free.pop()
        try:
            return self._sha256_if_intact(written, buffer)
        finally:
            self._free.append(buffer)

    def _sha256_if_intact(self, written: _Written, buffer: memoryview) -> str:
        name = written.temporary or written.path
        found, whole = DigestOfFile(written.data_set_offset, written.digests.data_set), sha256()
        try:
            with closing(read_back(self._root, name, buffer, written.digests.size_bytes)) as chunks:
                for chunk in chunks:
                    found.update(chunk)
                    whole.update(chunk)
        except OSError:
            self._require_here()
        if found.digests == written.digests:
            return whole.hexdigest()
        if written.temporary:
            self._root.remove(written.temporary)
        return ""

    def _name(self, written: _Written) -> str:
        """Give an image its name; a name that is taken stays its owner's."""
        self._root.make_folders(written.folder)
        for name in file_names(written.instance, written.image.version):
            path = f"{written.folder}/{name}"
            try:
                self._root.rename_new(written.temporary, path)
            except FileExistsError:
                continue
            return path
        raise DestinationUnavailable("The drive has files under all names of an image: remove what is not from us")

    def _list(self, entries: dict[str, list[Entry]]) -> None:
        """Add lists of new images, one for each month; the next flush makes names and lists durable."""
        lists = []
        for month, new in entries.items():
            temporary = self._temporary.new_name()
            with NewFile(self._root, temporary, is_flushed=True) as target:
                for lines in encode(new):
                    target.write(lines)
            lists.append((temporary, new_list_name(month)))
        if not self._root.flushes_all:
            self._root.flush()  # a list must not name a file whose name a power cut takes away
        for temporary, name in lists:
            self._root.rename_new(temporary, name)


def _is_too_large(error: OSError, size_bytes: int) -> bool:
    """Tell whether a file system says that a file is longer than it can hold; drivers do so in several ways."""
    return error.errno == errno.EFBIG or (error.errno in _TOO_LARGE and size_bytes >= _TOO_LARGE_BYTES)


def new_list_name(month: str) -> str:
    """Return a new name for a list of images that the month's own list does not have yet."""
    return f"{NEW_LISTS}/{MANIFEST.removesuffix('.TXT')}_{month.replace('/', '-')}_{secrets.token_hex(4).upper()}.TXT"


def month_of_new_list(name: str) -> str | None:
    """Return the month of such a name; None for a file that another system has put there."""
    found = _NEW_LIST.fullmatch(name)
    return found[1].replace("-", "/") if found else None


class _Differs(Exception):  # noqa: N818
    """A file has other bytes."""


def _require_same(there: BinaryIO, chunk: memoryview) -> None:
    if there.read(len(chunk)) != chunk:
        raise _Differs
