"""Write a ZIP archive in pieces while it is sent, without a file and with little memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import IO, TYPE_CHECKING, Self, cast
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_FIRST_YEAR = 1980  # of ZIP
_LONG_BYTES = 1 << 30
_CHUNK_BYTES = 1 << 18
_LENGTHS = slice(18, 26)  # of a member's header


class _Sink:
    """Collects what ZipFile writes; it cannot be sought, so sizes follow the files."""

    def __init__(self) -> None:
        self._written: list[bytes] = []
        self.size = 0

    def write(self, data: ReadableBuffer, /) -> int:
        taken = bytes(data)
        self._written.append(taken)
        self.size += len(taken)
        return len(taken)

    def flush(self) -> None:
        """Do nothing."""

    def take(self) -> bytes:
        taken, self._written, self.size = b"".join(self._written), [], 0
        return taken


class _LongMember(ZipInfo):
    """A member in the form of ZIP64: Debian 12's Python 3.11.2 leaves the short lengths 0, as if it were empty."""

    def FileHeader(self, zip64: bool | None = None) -> bytes:  # noqa: FBT001, N802 - the library's
        header = super().FileHeader(zip64)
        return header[: _LENGTHS.start] + b"\xff" * 8 + header[_LENGTHS.stop :]


class ZipStream:
    """A ZIP archive that is made while it is sent.

    Its directory stands at the end, and only ``end`` gives it: without that no program takes the archive for whole.
    Files are not compressed, but have the form of compressed ones: the length of a file follows behind it, and programs
    that read a stream can do without it only then.
    """

    def __init__(self) -> None:
        self._sink = _Sink()
        self._archive = ZipFile(cast("IO[bytes]", self._sink), "w", allowZip64=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def add(self, name: str, at: datetime, size: int, content: Iterable[bytes | memoryview]) -> Iterator[bytes]:
        """Add a file, and yield what is to be sent; unpacked, it is for its owner alone.

        Parameters
        ----------
        at
            Its time.
        size
            Its length in bytes; a long file has the form of ZIP64.
        content
            A part is not used any more when the next one is requested.
        """
        is_long = size >= _LONG_BYTES
        moment = at.timetuple()[:6] if at.year >= _FIRST_YEAR else (_FIRST_YEAR, 1, 1, 0, 0, 0)
        info = (_LongMember if is_long else ZipInfo)(name, moment)
        info.external_attr = 0o600 << 16
        info.compress_type, info._compresslevel = ZIP_DEFLATED, 0  # type: ignore[attr-defined] # noqa: SLF001 - public from Python 3.13 on
        with self._archive.open(info, "w", force_zip64=is_long) as member:
            for part in content:
                member.write(part)
                if self._sink.size >= _CHUNK_BYTES:
                    yield self._sink.take()

    def end(self) -> Iterator[bytes]:
        """Yield the rest, which makes the archive whole."""
        self._archive.close()
        yield self._sink.take()
