"""Write and read multipart/related messages in parts, with constant memory (RFC 2387, PS3.18 8.6.1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from backup_scp.errors import DigestMismatch

_LONGEST_HEADER = 1 << 16
_BOUNDARY = re.compile(
    r'multipart/related\b.*?;\s*boundary=(?:"([^"]{1,70})"|([^\s;,"]{1,70}))', re.IGNORECASE | re.DOTALL
)


class FilePart(NamedTuple):
    """One part that is sent: a DICOM file.

    Attributes
    ----------
    size_bytes
        Its length.
    chunks
        Returns its bytes, from the first one each time.
    """

    size_bytes: int
    chunks: Callable[[], Iterator[bytes | memoryview]]


class Message:
    """A message of DICOM files, of known length; its chunks can be read again, for another try.

    The header of a part has nothing but the media type: a server may overlook a part with anything else.
    """

    def __init__(self, parts: Iterable[FilePart], boundary: str) -> None:
        self._parts = tuple(parts)
        self._before = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        self._end = f"--{boundary}--\r\n".encode()
        self.content_type = f'multipart/related; type="application/dicom"; boundary={boundary}'

    def __len__(self) -> int:
        return sum(len(self._before) + part.size_bytes + len(b"\r\n") for part in self._parts) + len(self._end)

    def __iter__(self) -> Iterator[bytes | memoryview]:
        for part in self._parts:
            yield self._before
            yield from part.chunks()
            yield b"\r\n"
        yield self._end


def read_only_part(content_type: str, chunks: Iterable[bytes], write: Callable[[bytes], object]) -> None:
    """Write the body of a message that has one part, chunk by chunk.

    Raises
    ------
    DigestMismatch
        It has no part or several, or ends before its closing boundary: so the part may be incomplete.
    """
    found = _BOUNDARY.match(content_type)
    if not found:
        raise DigestMismatch(f"It came as {content_type[:80]!a}, which is no multipart message")
    delimiter = b"\r\n--" + (found[1] or found[2]).encode("ascii", "replace")
    pending, stream = bytearray(b"\r\n"), iter(chunks)  # the first delimiter may have no line before it
    _read_until(delimiter, pending, stream, None)
    _read_until(b"\r\n\r\n", pending, stream, None)
    _read_until(delimiter, pending, stream, write)
    while len(pending) < 2 and (chunk := next(stream, b"")):
        pending += chunk
    if not pending.startswith(b"--"):
        raise DigestMismatch("It came with a second part, or without its closing boundary")


def _read_until(
    mark: bytes, pending: bytearray, stream: Iterator[bytes], write: Callable[[bytes], object] | None
) -> None:
    """Read up to a mark and drop it; pass on what is before it."""
    while (at := pending.find(mark)) < 0:
        safe = len(pending) - len(mark) + 1  # the rest may be the begin of the mark
        if write is not None and safe > 0:
            write(bytes(pending[:safe]))
            del pending[:safe]
        elif len(pending) > _LONGEST_HEADER:
            raise DigestMismatch("It came with a header without an end")
        chunk = next(stream, b"")
        if not chunk:
            raise DigestMismatch("It came without its closing boundary")
        pending += chunk
    if write is not None:
        write(bytes(pending[:at]))
    del pending[: at + len(mark)]
