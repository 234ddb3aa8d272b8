"""Read what lets a copy in cloud storage stand alone, as a computer does that has nothing but the copy.

The names hold the time and the digest of each object.  Whoever may write to the copy can store others, so what is not
whole, or not sealed for us, is left out, and the one before it counts.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from backup_scp.copies.cloud import cloud_names
from backup_scp.copies.cloud.byte_store import ByteStore
from backup_scp.copies.cloud.manifests import read_manifest
from backup_scp.copies.cloud.object_reader import ObjectReader, by_its_name
from backup_scp.copies.cloud.sealing import RecoveryKeys
from backup_scp.copies.contents_file import decode_contents
from backup_scp.errors import Damaged, DigestMismatch, OtherKey
from backup_scp.machine import clock
from backup_scp.machine.folders import fsync, fsync_folder
from backup_scp.ports import Contents, ListedImage

_log = logging.getLogger(__name__)

_MOST_TRIED, _MOST_PROVED = 30, 3
_GZIP = 31  # for zlib: a header and a checksum of gzip
_CLOCKS_DIFFER_BY = timedelta(days=2)
_OVERWRITTEN = "names may have been overwritten: see docs/cloud.md"


class CloudContents:
    """Reads index, settings and lists of a copy.  All methods raise ``DestinationUnavailable``.

    Attributes
    ----------
    unread
        Manifests that could not be read.
    """

    def __init__(self, store: ByteStore, reader: ObjectReader) -> None:
        self.unread: list[str] = []
        self._store, self._reader = store, reader
        self._index = ""

    def contents(self) -> Contents:
        """Return what is said of the index that ``fetch_index`` wrote, before that of the newest one.

        Without the recovery key that is the time in its name.
        """
        index = self._index or next(iter(self._names(cloud_names.INDEX)), "")
        if not index:
            return Contents()
        for name in self._names(cloud_names.CONTENTS):
            with suppress(Damaged), self._reader.opened(name) as file:
                said = decode_contents(file.read())
                if said.index_name == index:
                    return said.contents
            if _moment(name) < _moment(index):
                break
        return Contents(_moment(index))

    def settings(self) -> str:
        """Return the newest settings that are whole; empty when there are none.

        Raises
        ------
        DigestMismatch
        """
        found = [""]

        def read(name: str) -> None:
            with self._reader.opened(name) as file:
                found.append(file.read().decode(errors="replace"))

        self._use_newest(cloud_names.SETTINGS, read)
        return found[-1]

    def fetch_index(self, path: Path) -> bool:
        """Write the newest index that is whole to a new file, durably; False when there is none.

        Raises
        ------
        OtherKey
            They are sealed for another key.
        DigestMismatch
            None is whole, or they are sealed and the key is missing.
        OSError
        """
        self._index = self._use_newest(cloud_names.INDEX, lambda name: self._unzip(name, path))
        return bool(self._index)

    def _unzip(self, name: str, path: Path) -> None:
        with path.open("xb") as file:
            try:
                unzipped = _Unzipped(file)
                self._reader.read(by_its_name(name), unzipped)
                unzipped.finish()
                fsync(file.fileno())
            except BaseException:
                file.close()
                path.unlink()
                raise
        fsync_folder(path.parent)

    def listed(self, since: datetime | None) -> Iterator[ListedImage]:
        """Yield the images of the manifests, the newest first; an image that was stored again comes twice.

        A manifest that cannot be read is left out, and named in ``unread``.

        Raises
        ------
        DigestMismatch
            They are sealed, and there is no recovery key.
        """
        for name in self._readable_names(cloud_names.MANIFESTS):
            if since is not None and _moment(name) < since - _CLOCKS_DIFFER_BY:
                continue
            try:
                with self._reader.opened(name) as manifest:
                    yield from read_manifest(manifest)
            except Damaged as error:
                if name not in self.unread:
                    _log.error("The list %s cannot be read: %s", name, error)
                    self.unread.append(name)

    def is_sealed(self) -> bool:
        """Tell whether the recovery key is needed."""
        newest = (next(iter(self._names(kind)), "") for kind in (cloud_names.INDEX, cloud_names.MANIFESTS))
        return next(filter(None, newest), "").endswith(cloud_names.SEALED)

    def proves(self, keys: RecoveryKeys) -> bool:
        """Tell whether these keys open what is sealed here: one small object is enough.

        Raises
        ------
        DigestMismatch
            Nothing whole is here to try them on.
        """
        damage: Damaged | None = None
        is_other = False
        for kind in (cloud_names.CONTENTS, cloud_names.SETTINGS, cloud_names.MANIFESTS):
            for name in self._names(kind)[:_MOST_PROVED]:
                try:
                    self._reader.read(by_its_name(name), _Nowhere(), keys)
                except OtherKey:
                    is_other = True
                except Damaged as error:
                    damage = error
                else:
                    return True
        if damage is not None and not is_other:
            raise DigestMismatch(f"The recovery key cannot be tried ({damage}): {_OVERWRITTEN}")
        return not is_other

    def _use_newest(self, kind: str, use: Callable[[str], None]) -> str:
        """Call ``use`` for the newest object of a kind, then for the one before, until it raises nothing.

        Return the name of that object, or nothing.

        Raises
        ------
        DigestMismatch
            None is whole.
        """
        first: Damaged | None = None
        for name in self._readable_names(kind)[:_MOST_TRIED]:
            try:
                use(name)
            except Damaged as error:
                _log.warning("%s is not used: %s", name, error)
                first = first or error
            else:
                return name
        if isinstance(first, OtherKey):
            raise OtherKey("The recovery key has no typing error, but what is here is sealed for another one")
        if first is not None:
            raise DigestMismatch(f"Nothing in {kind} can be used ({first}): {_OVERWRITTEN}")
        return ""

    def _readable_names(self, kind: str) -> list[str]:
        """Return names as ``_names`` does.

        Raises
        ------
        DigestMismatch
            They are sealed, and there is no recovery key.
        """
        names = self._names(kind)
        if any(name.endswith(cloud_names.SEALED) for name in names):
            self._reader.require_keys()
        return names

    def _names(self, kind: str) -> list[str]:
        """Return the names of a kind, the newest first.

        Those of the future are the last: a clock was wrong, or somebody else stored them.
        """
        names = [name for name in self._store.list(kind) if cloud_names.moment_of(name)]
        return sorted(names, key=lambda name: (not clock.is_future(_moment(name)), name), reverse=True)


def _moment(name: str) -> datetime:
    moment = cloud_names.moment_of(name)
    assert moment is not None  # noqa: S101 - only such names are here
    return moment


class _Unzipped:
    """Writes the content of a stream of gzip into a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._stream = zlib.decompressobj(_GZIP)

    def write(self, data: bytes | memoryview) -> int:
        try:
            self._file.write(self._stream.decompress(data))
        except zlib.error:
            raise DigestMismatch("it is no gzip file") from None
        return len(data)

    def flush(self) -> None:
        self._file.flush()

    def finish(self) -> None:
        """Flush, and raise when the stream is cut off."""
        if not self._stream.eof:
            raise DigestMismatch("it is cut off")
        self._file.flush()


class _Nowhere:
    """Takes bytes and keeps none."""

    def write(self, data: bytes | memoryview) -> int:
        return len(data)

    def flush(self) -> None:
        """Nothing."""
