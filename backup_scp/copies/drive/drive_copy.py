"""Keep a copy of each image on an external drive (docs/adr/0039)."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Self

from backup_scp.copies.drive.drive_batch import digest_of
from backup_scp.copies.drive.drive_connection import DriveConnection
from backup_scp.copies.drive.drive_contents import INDEX, listed_images, read_settings, read_state
from backup_scp.copies.drive.drive_lists import write_lists
from backup_scp.copies.drive.drive_writer import DriveWriter
from backup_scp.copies.drive.originals_ahead import originals_ahead
from backup_scp.errors import Damaged, DigestMismatch, FileMissing
from backup_scp.machine.folders import fsync
from backup_scp.machine.medium import aligned, read_medium
from backup_scp.machine.root_folder import READ
from backup_scp.ports import Contents, CopyItem, CopyResult, ListedImage, ReadOriginal, Snapshot

_FETCHED_BYTES = 2 << 20  # at once: a disk with a moving head reads several files in turn
_INDEX_PART_BYTES = 8 << 20
_HEADER_BYTES = 4096  # most files of an archive have less before their Data Set


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
    """

    is_removable = True
    fetches_at_once = 8  # most wait for the drive while some hash

    def __init__(
        self, name: str, folder: Path, identity: Callable[[], str | None], *, is_off_site: bool = False
    ) -> None:
        self.name, self.is_off_site = name, is_off_site
        self.medium = self.label = self.archive = ""
        self._drive = DriveConnection(name, folder, identity)
        self._buffers: deque[memoryview] = deque(maxlen=self.fetches_at_once)

    def __enter__(self) -> Self:
        self._drive.__enter__()
        self.medium, self.label, self.archive = self._drive.medium, self._drive.label, self._drive.archive
        return self

    def __exit__(self, *exc: object) -> None:
        self._drive.__exit__(*exc)

    def put(self, items: Sequence[CopyItem], read: ReadOriginal) -> Iterator[CopyResult]:
        root = self._drive.root
        with self._drive.explained():
            self._drive.require_here()
            with DriveWriter(root) as writer, closing(originals_ahead(items, read)) as originals:
                try:
                    for item, original in originals:
                        yield from writer.put(item, original)
                except OSError as error:
                    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                        raise
                    yield from writer.finish()  # what did find room
                    raise
                yield from writer.finish()

    def compare(self, items: Sequence[CopyItem]) -> Iterator[CopyResult]:
        self._drive.require_here()
        self._drive.root.uncache_device()
        for item in items:
            try:
                self._compare(item)
            except Damaged as error:
                yield CopyResult(item.number, None, str(error))
            else:
                yield CopyResult(item.number, item.stored)

    def _compare(self, item: CopyItem) -> None:
        stored, what = item.stored, _named(item)
        if stored is None:
            raise FileMissing(f"{what} is not on the drive")
        with self._drive.explained_of_file(what):
            found = digest_of(self._drive.root, stored.name, sha256())
        if found != stored.sha256:
            raise DigestMismatch(f"{what} is damaged on the drive")

    def fetch(self, item: CopyItem, into: BinaryIO) -> None:
        stored, what = item.stored, _named(item)
        if stored is None:
            raise FileMissing(f"{what} is not on the drive")
        digest = sha256()
        buffer = self._buffer()
        root, expected = self._drive.root, item.held.size_bytes + _HEADER_BYTES if item.held.size_bytes else 0
        with closing(read_medium(lambda flags: root.open(stored.name, READ | flags), buffer, expected)) as chunks:
            while True:
                with self._drive.explained_of_file(what):
                    chunk = next(chunks, None)
                if chunk is None:
                    break
                digest.update(chunk)
                into.write(chunk)
        self._buffers.append(buffer)
        if digest.hexdigest() != stored.sha256:
            raise DigestMismatch(f"{what} is damaged on the drive")

    def _buffer(self) -> memoryview:
        """Take memory that an earlier ``fetch`` has put back: new memory costs as much as reading a small image."""
        try:
            return self._buffers.pop()
        except IndexError:
            return aligned(_FETCHED_BYTES)

    def conclude(self, snapshot: Snapshot, *, is_complete: bool) -> None:
        with self._drive.explained():
            self._drive.require_here()
            write_lists(self._drive.root, snapshot, self.label, is_complete=is_complete)

    def contents(self) -> Contents:
        with self._drive.explained():
            return read_state(self._drive.root).contents

    def saved_settings(self) -> str:
        with self._drive.explained():
            return read_settings(self._drive.root)

    def index_in_place(self) -> Path | None:
        with self._drive.explained():
            return self._drive.root.path_of(INDEX) if self._drive.root.size(INDEX) else None

    def fetch_index(self, path: Path) -> bool:
        found = self.index_in_place()
        if found is None:
            return False
        with path.open("xb") as target, found.open("rb") as source:
            while part := source.read(_INDEX_PART_BYTES):
                target.write(part)
                target.flush()
                fsync(target.fileno())  # an image that somebody asks for meanwhile is flushed with what is written here
        return True

    def listed(self, since: datetime | None = None) -> Iterator[ListedImage]:
        with self._drive.explained():
            self._drive.require_here()
            yield from listed_images(self._drive.root, since)


def _named(item: CopyItem) -> str:
    return f"Image {item.held.sop_instance_uid}"
