"""Read a file as its medium has it, and not as the page cache does."""

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
    """Return memory that ``read_medium`` can fill without a copy."""
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
                is_direct = _end_direct(descriptor)  # the medium wants longer sectors
                continue
            at_end = not count or (is_direct and count % _SECTOR_BYTES != 0)
            if count:
                yield buffer[:count]
    finally:
        os.close(descriptor)


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


def _end_direct(descriptor: int) -> bool:
    if sys.platform == "linux":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) & ~os.O_DIRECT)
    return False


def _read_into(descriptor: int, buffer: memoryview) -> int:
    if sys.platform != "win32":
        return os.readv(descriptor, (buffer,))
    with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as stream:
        return stream.readinto(buffer) or 0
