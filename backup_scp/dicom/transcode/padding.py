"""Add the missing byte to a Data Set of odd length, since fragments must have even length (PS3.8 E.1).

Every Value, and so every Data Set, must have even length (PS3.5 7.1.1, A.5).  Some senders ignore that, and the archive
keeps what they sent; but dcmtk and programs built on it abort when they get it back.  So one byte is added when it is
sent, at the place that the standard requires, and the lengths that include it are corrected.  Nothing else changes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from backup_scp.dicom.transcode.element_walk import LONG_VRS, Encoding, Kind, OpenLevel, Token, Walk
from backup_scp.errors import InstanceRefused

Piece = bytes | bytearray | memoryview

_TEXT_VRS = frozenset(
    "AE AS CS DA DS DT IS LO LT PN SH ST TM UC UR UT".split()  # noqa: SIM905 - VRs padded with a space, PS3.5 6.2
)
_PART_BYTES = 1 << 20
_LONGEST = {"H": 0xFFFF, "L": 0xFFFFFFFE}


class Edit(NamedTuple):
    """Bytes that replace ``length`` bytes at ``offset``; a length of 0 inserts them."""

    offset: int
    length: int
    data: bytes


def edits(stream: BinaryIO, encoding: Encoding | None, size_bytes: int) -> list[Edit]:
    """Return the edits that make a Data Set of odd length even, in ascending order.

    Parameters
    ----------
    stream
        At the first byte of the Data Set.
    encoding
        None for a deflated Data Set, which is padded behind its end (PS3.5 A.5).
    size_bytes
        Length of the Data Set.

    Returns
    -------
    list of Edit
        Empty when the length is even, or when the structure is broken, so that the place of the byte is unknown.
    """
    if size_bytes % 2 == 0:
        return []
    if encoding is None:
        return [Edit(size_bytes, 0, b"\0")]
    start = stream.tell()
    try:
        odd = _last_odd(Walk(stream, encoding, size_bytes))
        return [] if odd is None else _edits(stream, start, odd)
    except InstanceRefused:
        return []


def applied(parts: Iterable[Piece], edits: Iterable[Edit]) -> Iterator[bytes]:
    """Yield the parts of a Data Set with the edits applied; each has even length, except the last of an odd whole.

    A part becomes one or more fragments, each of which must have even length.
    """
    odd = b""
    for edited in _edited(parts, edits):
        part = odd + edited
        even = len(part) & ~1
        odd = part[even:]
        if even:
            yield part[:even]
    if odd:
        yield odd


def _edited(parts: Iterable[Piece], edits: Iterable[Edit]) -> Iterator[bytes]:
    waiting = iter(edits)
    edit = next(waiting, None)
    at = skip = 0  # position of the rest of this part in the Data Set, and how much of it is replaced
    for part in _small(parts):
        rest, made = part, bytearray()
        while edit is not None and edit.offset <= at + len(rest):
            made += rest[skip : edit.offset - at]
            made += edit.data
            rest, skip, at = rest[edit.offset - at :], edit.length, edit.offset
            edit = next(waiting, None)
        made += rest[skip:]
        skip, at = max(skip - len(rest), 0), at + len(rest)
        yield bytes(made)
    if edit is not None:
        yield edit.data


def _small(parts: Iterable[Piece]) -> Iterator[memoryview]:
    for part in parts:
        whole = memoryview(part)
        yield from (whole[start : start + _PART_BYTES] for start in range(0, len(whole), _PART_BYTES))


def padding_of(vr: str) -> bytes:
    """Return the padding byte for a Value of odd length (PS3.5 6.2)."""
    return b" " if vr in _TEXT_VRS else b"\0"


class _Odd(NamedTuple):
    """The place of a missing byte: behind ``end``, in the value or fragment that begins at ``offset``."""

    token: Token
    end: int
    padding: bytes
    offset: int


def _last_odd(walk: Iterable[Token]) -> _Odd | None:
    """Find the last element, or the last fragment of its Pixel Data, whose length is odd."""
    found = None
    for token in walk:
        if token.kind is Kind.ELEMENT and token.length % 2:
            found = _Odd(token, token.offset + token.length, padding_of(token.vr), token.offset)
        elif token.kind is Kind.ENCAPSULATED and token.fragments and token.fragments[-1].length % 2:
            fragment = token.fragments[-1]  # padding an earlier one would invalidate the offset table
            found = _Odd(token, fragment.offset + fragment.length, b"\0", fragment.offset)
    return found


def _own_length(stream: BinaryIO, odd: _Odd) -> tuple[int, str, Encoding]:
    """Return position and format of its length field (PS3.5 7.1.2); some writers use implicit VR in between."""
    token, encoding = odd.token, odd.token.level.encoding
    if token.kind is Kind.ELEMENT and not encoding.implicit_vr and token.vr not in LONG_VRS:
        stream.seek(odd.offset - 4)
        if stream.read(2) == token.vr.encode("latin-1"):
            return odd.offset - 2, "H", encoding
    return odd.offset - 4, "L", encoding


def _enclosing(level: OpenLevel | None) -> Iterator[tuple[int, str, Encoding]]:
    """Yield the length fields of the enclosing items and sequences, except those of undefined length."""
    while level is not None and level.parent is not None:
        if level.end is not None:
            yield level.start - 4, "L", level.encoding if not level.is_sequence else level.parent.encoding
        level = level.parent


def _edits(stream: BinaryIO, start: int, odd: _Odd) -> list[Edit]:
    made = [Edit(odd.end - start, 0, odd.padding)]
    for position, code, encoding in (_own_length(stream, odd), *_enclosing(odd.token.level)):
        form = struct.Struct(encoding.byte_order + code)
        stream.seek(position)
        (length,) = form.unpack(stream.read(form.size))
        if length >= _LONGEST[code]:
            return []
        made.append(Edit(position - start, form.size, form.pack(length + 1)))
    return sorted(made)
