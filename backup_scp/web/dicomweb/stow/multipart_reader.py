"""Read ``multipart/related`` (RFC 2387; PS3.18 8.6.1.2.1) as it comes, with constant memory."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Protocol, cast

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from backup_scp.web.direct_socket import Piece
from backup_scp.web.problems import Problem

MOST_PARTS = 20_000
_MOST_HEADERS = 32
_LONGEST_HEADER = 8192
_LONGEST_PREAMBLE = _LONGEST_EPILOGUE = 65536
_LONGEST_BOUNDARY = 200  # RFC 2046 5.1.1 says 70, but Orthanc's DICOMweb 1.7 sends two UUIDs: 73

logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it tells of each malformed request


class PartTaker(Protocol):
    """What takes the parts, one after the other."""

    def begin(self, headers: Mapping[str, str]) -> None:
        """Begin a part; the names of its header fields are in small letters."""

    def write(self, data: memoryview) -> None:
        """Take some bytes of the part; they are valid until the next call of ``write`` or ``end``."""

    def end(self) -> None:
        """End the part: its last byte has come."""


class MultipartReader:
    """Splits a body into its parts.

    Parameters
    ----------
    boundary
        The parameter of the Content-Type.
    taker
        Gets the parts.

    Raises
    ------
    Problem
        400: this cannot be a boundary.
    """

    def __init__(self, boundary: str, taker: PartTaker) -> None:
        self._taker = taker
        self._count = 0
        self._name = self._value = b""
        self._headers: dict[str, str] = {}
        self._is_finished = False
        self._is_in_part = self._has_written = False
        self._epilogue_bytes = 0
        if not boundary or len(boundary) > _LONGEST_BOUNDARY or not boundary.isascii() or not boundary.isprintable():
            raise Problem(
                400, f"The Content-Type needs a boundary parameter of 1 to {_LONGEST_BOUNDARY} ASCII characters"
            )
        self._first = b"--" + boundary.encode("ascii")
        self._before: bytearray | None = bytearray()  # what came before the first boundary
        self._parser = MultipartParser(
            boundary.encode("ascii"),
            {
                "on_part_begin": self._begin,
                "on_header_field": self._field,
                "on_header_value": self._add_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_part,
                "on_part_data": self._data,
                "on_part_end": self._end_part,
                "on_end": self._finish,
            },
            max_header_count=_MOST_HEADERS,
            max_header_size=_LONGEST_HEADER,
        )

    def feed(self, chunks: Iterable[Piece]) -> None:
        """Read further bytes; those of the chunk before are not used any more.

        Raises
        ------
        Problem
            400: they are malformed.  413: too many parts.
        """
        try:
            for chunk in chunks:
                self._count_epilogue(chunk)
                self._has_written = False
                if data := self._without_preamble(chunk):
                    self._parser.write(cast("bytes", data))
                if self._is_in_part and not self._has_written:
                    self._taker.write(memoryview(b""))  # a thread may still hash the chunk before
        except FormParserError:
            raise Problem(
                400, "The body is no multipart/related: a part begins with --BOUNDARY, header fields and an empty line"
            ) from None

    def require_end(self) -> None:
        """Raise unless the closing boundary has come: without it the last part may be incomplete.

        Raises
        ------
        Problem
            400
        """
        if not self._is_finished:
            raise Problem(400, "The body ends without its closing boundary, so that its last part may be incomplete")

    def _without_preamble(self, chunk: Piece) -> Piece:
        """Drop what stands before the first boundary (RFC 2046 5.1.1)."""
        if self._before is None:
            return chunk
        self._before += chunk
        at = self._before.find(self._first)
        if at < 0:
            if len(self._before) > _LONGEST_PREAMBLE:
                raise Problem(400, "The boundary of the Content-Type does not come in the body")
            return b""
        data, self._before = bytes(self._before[at:]), None
        return data

    def _count_epilogue(self, chunk: Piece) -> None:
        """Allow some bytes behind the closing boundary (RFC 2046 5.1.1), but not a body without end."""
        if self._is_finished:
            self._epilogue_bytes += len(chunk)
            if self._epilogue_bytes > _LONGEST_EPILOGUE:
                raise Problem(400, "The body goes on behind its closing boundary", {"Connection": "close"})

    def _begin(self) -> None:
        self._count += 1
        if self._count > MOST_PARTS:
            raise Problem(
                413,
                f"A request may have {MOST_PARTS} parts. Those are stored; send the others in further requests",
                {"Connection": "close"},
            )
        self._headers = {}

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers.setdefault(self._name.decode("latin-1").lower(), self._value.decode("latin-1").strip())
        self._name = self._value = b""

    def _begin_part(self) -> None:
        self._is_in_part = True
        self._taker.begin(self._headers)

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._has_written = True
        self._taker.write(memoryview(data)[start:end])

    def _end_part(self) -> None:
        self._is_in_part = False
        self._taker.end()

    def _finish(self) -> None:
        self._is_finished = True
