"""Keep what can be made again in files, up to a size: a cache that outlives the process.

Nothing in it is trusted: each file has a checksum of its key and its value.  A file that is damaged, truncated or not
its own is removed, and its value is made again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from hashlib import sha256
from pathlib import Path

from xxhash import xxh3_128_digest

from backup_scp.machine.folders import make_folders

log = logging.getLogger(__name__)

_CHECKSUM_BYTES = 16
_BLOCK_BYTES = 4096  # what a file takes at least
_REMOVED_AT_ONCE = 0.1  # of the limit, so that not every new file makes one old file go
_PART = ".part"


class DiskCache:
    """Values by key in files of one folder; the longest unused ones are removed.  Threads share it.

    An error of the disk is no error of the caller: then the value is not kept, or not found.

    Parameters
    ----------
    folder
        Only for this cache; created when it is first written.
    limit_bytes
        Of all files together.
    least_free_bytes
        With less free space on the disk, nothing is kept, and what was kept is removed.
    """

    def __init__(self, folder: Path, limit_bytes: int, least_free_bytes: int = 0) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._least_free = least_free_bytes
        self._lock = threading.Lock()
        self._size = 0
        self._written = 0

    def get(self, key: str) -> bytes | None:
        """Return a value; None when it is not there, or not intact."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        value = content[_CHECKSUM_BYTES:]
        if content[:_CHECKSUM_BYTES] != _checksum(key, value):
            log.warning("A file of the cache was damaged and is made again: %s", path.name)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return value

    def keep(self, key: str, value: bytes) -> None:
        """Keep a value; one that is longer than a tenth of the limit is not kept."""
        if len(value) > self._limit * _REMOVED_AT_ONCE:
            return
        with self._lock:
            try:
                self._write(self._path(key), _checksum(key, value) + value)
            except OSError as error:
                log.debug("The cache in %s cannot be written: %s", self._folder, error.strerror)

    def _write(self, path: Path, content: bytes) -> None:
        make_folders(self._folder, 0o700)  # private: values may name patients
        if shutil.disk_usage(self._folder).free < self._least_free + len(content):
            self._remove_down_to(0)
            return
        self._written += 1
        part = path.with_name(f"{path.name}-{os.getpid()}-{self._written}{_PART}")
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
            part.replace(path)  # not flushed: after a power cut the checksum tells
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()
            raise
        self._size += _on_disk(len(content))
        if self._size > self._limit or self._written == 1:  # at first it is not known what is there
            self._remove_down_to(self._limit)

    def _remove_down_to(self, limit: int) -> None:
        """Remove the longest unused files until the others are shorter together; count them."""
        files = []
        for entry in os.scandir(self._folder):
            with contextlib.suppress(OSError):
                status = entry.stat()
                files.append((status.st_mtime_ns, _on_disk(status.st_size), entry.path))
        size = sum(each[1] for each in files)
        target = limit if size <= limit else limit * (1 - _REMOVED_AT_ONCE)
        for _, length, path in sorted(files):
            if size <= target:
                break
            with contextlib.suppress(OSError):
                Path(path).unlink()
                size -= length
        self._size = size

    def _path(self, key: str) -> Path:
        return self._folder / sha256(key.encode()).hexdigest()


def _on_disk(length: int) -> int:
    return -(-length // _BLOCK_BYTES) * _BLOCK_BYTES


def _checksum(key: str, value: bytes) -> bytes:
    return xxh3_128_digest(xxh3_128_digest(key.encode()) + xxh3_128_digest(value))
