"""Read and write files past the page cache: what is read is what the medium has."""

from __future__ import annotations

import errno
import mmap
import os
import sys
from collections.abc import Callable, Generator
from contextlib import suppress

_DIRECT = getattr(os, "O_DIRECT", 0) if sys.platform == "linux" else 0
_SECTOR_BYTES = 4096  # at least what any medium wants lengths and offsets to be multiples of


def aligned(size_bytes: int) -> memoryview:
    """Return memory that ``read_medium`` can fill, and ``MediumWriter`` can write, without a copy."""
    return memoryview(mmap.mmap(-1, size_bytes))


def read_medium(
    open_with: Callable[[int], int], buffer: memoryview, expected_bytes: int = 0
) -> Generator[memoryview, None, None]:
    """Yield the parts of a file, each in the same memory; close the generator.

    On Linux it bypasses the page cache (O_DIRECT), where the file system can: that takes half of the CPU time, and what
    others have there stays.  Elsewhere it drops the file's flushed bytes from the cache first, where the system can.

    Parameters
    ----------
    open_with
        Opens the file with these flags besides; returns the descriptor.
    buffer
        From ``aligned``.
    expected_bytes
        The length of the file, or a little more; 0 when it is not known.  It may be wrong.

    Raises
    ------
    OSError
    """
    descriptor, is_direct = _opened(open_with)
    try:
        if expected_bytes:  # the system fills memory behind the end of the file with zeros
            buffer = buffer[: (expected_bytes // _SECTOR_BYTES + 1) * _SECTOR_BYTES]
        at_end = False
        while not at_end:
            try:
                count = _read_into(descriptor, buffer)
            except OSError as error:
                if not is_direct or error.errno != errno.EINVAL:
                    raise
                is_direct = False  # the medium wants longer sectors
                _set_direct(descriptor, is_on=False)
                continue
            at_end = not count or (is_direct and count % _SECTOR_BYTES != 0)
            if count:
                yield buffer[:count]
    finally:
        os.close(descriptor)


class MediumWriter:
    """Writes a new file past the page cache (O_DIRECT), where the file system can.

    That takes a quarter of the CPU time of a usual write, and leaves the flush after it little to do.  The last bytes,
    which fill no sector, go through the page cache, as does all that is written after them.

    Parameters
    ----------
    descriptor
        The open file, which the caller flushes and closes.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._is_direct = _set_direct(descriptor, is_on=True)

    def write(self, chunk: memoryview) -> None:
        """Write all of these bytes, which are in memory from ``aligned``.

        Raises
        ------
        OSError
        """
        while chunk:
            sectors = len(chunk) - len(chunk) % _SECTOR_BYTES
            if self._is_direct and not sectors:
                self._end_direct()
            try:
                count = os.write(self._descriptor, chunk[:sectors] if self._is_direct else chunk)
            except OSError as error:
                if not self._is_direct or error.errno != errno.EINVAL:
                    raise
                self._end_direct()  # the medium wants longer sectors
                continue
            if self._is_direct and count % _SECTOR_BYTES:
                self._end_direct()
            chunk = chunk[count:]

    def _end_direct(self) -> None:
        self._is_direct = False
        _set_direct(self._descriptor, is_on=False)


def _opened(open_with: Callable[[int], int]) -> tuple[int, bool]:
    if _DIRECT:
        try:
            return open_with(_DIRECT), True
        except OSError as error:
            if error.errno != errno.EINVAL:  # else the file system cannot
                raise
    descriptor = open_with(0)
    if sys.platform == "linux":
        with suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return descriptor, False


def _set_direct(descriptor: int, *, is_on: bool) -> bool:
    """Turn O_DIRECT on or off for an open file; False where the system cannot."""
    if sys.platform != "linux":
        return False
    import fcntl

    others = fcntl.fcntl(descriptor, fcntl.F_GETFL) & ~os.O_DIRECT
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, others | (os.O_DIRECT if is_on else 0))
    except OSError:  # the file system cannot
        return False
    return True


def _read_into(descriptor: int, buffer: memoryview) -> int:
    if sys.platform != "win32":
        return os.readv(descriptor, (buffer,))
    with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as stream:
        return stream.readinto(buffer) or 0
