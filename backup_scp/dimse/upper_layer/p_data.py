"""Encode messages as P-DATA-TF PDUs with one PDV each (PS3.8 9.3.5, Annex E), without copying the data."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

Piece = bytes | bytearray | memoryview

COMMAND, LAST = 0x01, 0x02  # Message Control Header, PS3.8 E.2
P_DATA_TF = 0x04
PDU_HEADER = struct.Struct(">BxI")  # type, reserved, length (PS3.8 9.3.1)
PDV_HEADER = struct.Struct(">IBB")  # length, Presentation Context ID, Message Control Header (PS3.8 9.3.5, E.2)
HEADERS = struct.Struct(">BxIIBB")  # both, of a P-DATA-TF and its first PDV

_LONGEST_PDV = 1 << 18  # our limit when the peer sets none
_MOST_PIECES = 512  # in one write; the system takes 1024
_WRITE_BYTES = 1 << 20


def largest_fragment(maximum_length: int | None) -> int:
    """Return how many bytes fit into one PDV under the peer's Maximum Length Received (PS3.8 D.1; 0 is no limit)."""
    return max(min(maximum_length or _LONGEST_PDV, _LONGEST_PDV) - PDV_HEADER.size, 2) & ~1  # even, PS3.8 Annex E.2


def framed(context_id: int, command: bytes, data: Piece | None, largest: int) -> list[Piece]:
    """Return the PDUs of one message whose Data Set, if any, is in memory."""
    pieces = _pdus(context_id, memoryview(command), largest, COMMAND, last=True)
    if data is not None:
        pieces += _pdus(context_id, memoryview(data), largest, 0, last=True)
    return pieces


def writes(context_id: int, command: bytes, parts: Iterable[Piece], largest: int) -> Iterator[list[Piece]]:
    """Yield the PDUs of one message whose Data Set comes in parts, write by write.

    It requests each part before it sends the one before, so that it knows the last part.  When the parts end with an
    error, the message stays incomplete.
    """
    pieces = _pdus(context_id, memoryview(command), largest, COMMAND, last=True)
    at_once = min(max(_WRITE_BYTES // largest, 1), _MOST_PIECES // 2) * largest
    rest = memoryview(b"")
    for part in parts:
        if rest:
            for position in range(0, len(rest), at_once):
                yield pieces + _pdus(context_id, rest[position : position + at_once], largest, 0, last=False)
                pieces = []
        rest = memoryview(part)
    for position in range(0, len(rest) or 1, at_once):
        last = position + at_once >= len(rest)
        yield pieces + _pdus(context_id, rest[position : position + at_once], largest, 0, last=last)
        pieces = []


def _pdus(context_id: int, data: memoryview, largest: int, control: int, *, last: bool) -> list[Piece]:
    """Return headers and fragments in turn; all fragments except the last have the same header."""
    whole, rest = divmod(len(data), largest)
    if not rest and (whole or not last):
        whole, rest = whole - 1, largest
    header = _header(context_id, largest, control)
    pieces: list[Piece] = []
    for position in range(0, whole * largest, largest):
        pieces += (header, data[position : position + largest])
    pieces += (_header(context_id, rest, control | (LAST if last else 0)), data[whole * largest :])
    return pieces


def _header(context_id: int, size: int, control: int) -> bytes:
    return HEADERS.pack(P_DATA_TF, size + 6, size + 2, context_id, control)
