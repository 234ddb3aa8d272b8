"""Return the bytes of a Data Set by position, stored or deflated, with a limit on the work."""

from __future__ import annotations

import zlib
from io import SEEK_END
from typing import BinaryIO, Protocol

from backup_scp.errors import InvalidDataSet

WORK_BYTES = 16 << 20
"""Limit of bytes read or inflated of one Data Set: 16 MiB."""

CHUNK_BYTES = 16 << 10
DEFLATED = {
    "1.2.840.10008.1.2.1.99": "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.4.95": "1.2.840.10008.1.2.4.94",
    "1.2.840.10008.1.2.4.205": "1.2.840.10008.1.2.4.204",
}
"""Transfer Syntaxes with a deflated Data Set, and the same ones without deflation."""

CUT_OFF = "the Data Set ends in the middle of an element"
_TOO_LONG = "an element is longer than the rest of the Data Set"


class EndsEarly(InvalidDataSet):
    """The bytes end in the middle of an element."""


class Source(Protocol):
    """Bytes by position; the requested positions never decrease."""

    size: int

    def load(self, position: int, length: int = CHUNK_BYTES) -> bytes:
        """Return ``length`` bytes, fewer only at the end.

        Raises
        ------
        EndsEarly
            The position is beyond the end.
        InvalidDataSet
            The limit of work is reached.
        """

    def ends_at(self, position: int) -> bool:
        """Tell whether the Data Set ends at this position.

        Raises
        ------
        EndsEarly
            It ended before.
        InvalidDataSet
            The limit of work is reached.
        """

    def is_known_to_end_at(self, position: int) -> bool:
        """Tell whether the Data Set ends at this position, without reading; False when that is unknown."""

    def ends_with(self, data: bytes) -> bool:
        """Tell whether these are its last bytes; False when that is not easy to find out."""


class Stored:
    """A Data Set that is not deflated."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._start = stream.tell()
        self._work = WORK_BYTES
        self.size = stream.seek(0, SEEK_END) - self._start

    def load(self, position: int, length: int = CHUNK_BYTES) -> bytes:
        if position > self.size:
            raise EndsEarly(_TOO_LONG)
        self._stream.seek(self._start + position)
        data = self._stream.read(length)
        self._work -= len(data)
        if self._work < 0:
            raise InvalidDataSet("the Data Set has too many elements before its Pixel Data")
        return data

    def ends_at(self, position: int) -> bool:
        if position > self.size:
            raise EndsEarly(_TOO_LONG)
        return position == self.size

    def is_known_to_end_at(self, position: int) -> bool:
        return position == self.size

    def ends_with(self, data: bytes) -> bool:
        if self.size < len(data):
            return False
        self._stream.seek(self._start + self.size - len(data))
        return self._stream.read(len(data)) == data


class Inflated:
    """A deflated Data Set (PS3.5 A.5); inflates only what is read.

    Parameters
    ----------
    stream
        At the Data Set's first byte.
    limit_bytes
        Limit of inflated bytes, and of bytes read for that.
    """

    def __init__(self, stream: BinaryIO, limit_bytes: int = WORK_BYTES) -> None:
        self.size = limit_bytes
        self._stream = stream
        self._deflated = stream.read(CHUNK_BYTES)
        self._consumed = len(self._deflated)
        # Some writers add a zlib header, which PS3.5 A.5 does not have.
        zlib_header = self._deflated[:1] == b"\x78" and int.from_bytes(self._deflated[:2]) % 31 == 0
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS if zlib_header else -zlib.MAX_WBITS)
        self._base = 0
        self._kept = b""

    def load(self, position: int, length: int = CHUNK_BYTES) -> bytes:
        if position > self.size:
            raise InvalidDataSet("an element is longer than the rest of the deflated Data Set")
        while (missing := position + length - self._base - len(self._kept)) > 0:
            self._drop(position)
            piece = self._inflate(min(missing, CHUNK_BYTES))
            if not piece:
                break
            self._kept += piece
        self._drop(position)
        if self._base < position:
            raise EndsEarly("an element is longer than the rest of the deflated Data Set")
        return self._kept[:length]

    def ends_at(self, position: int) -> bool:
        if self.load(position, 1):
            return False
        if not self._inflater.eof:
            raise EndsEarly("the deflated bytes end early")
        return True

    def is_known_to_end_at(self, position: int) -> bool:  # noqa: ARG002 - unknown before everything is inflated
        return False

    def ends_with(self, data: bytes) -> bool:  # noqa: ARG002 - unknown before everything is inflated
        return False

    def _drop(self, position: int) -> None:
        """Drop the bytes before the position."""
        dropped = min(position - self._base, len(self._kept))
        self._kept = self._kept[dropped:]
        self._base += dropped

    def _inflate(self, length: int) -> bytes:
        """Inflate and return at least one byte; none at the end."""
        length = min(length, self.size - self._base - len(self._kept))
        if length <= 0:
            raise InvalidDataSet("the deflated Data Set has too many elements before its Pixel Data")
        while not self._inflater.eof and self._deflated:
            try:
                piece = self._inflater.decompress(self._deflated, length)
            except zlib.error as error:
                raise InvalidDataSet("the deflated Data Set is damaged") from error
            self._deflated = self._inflater.unconsumed_tail or self._next()
            if piece:
                return piece
        return b""

    def _next(self) -> bytes:
        piece = self._stream.read(CHUNK_BYTES)
        self._consumed += len(piece)
        if self._consumed > self.size + CHUNK_BYTES:
            raise InvalidDataSet("the deflated Data Set inflates to almost nothing")
        return piece
