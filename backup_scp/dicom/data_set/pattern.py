"""Recognise the header of a Data Set that differs from earlier ones in the values of a few elements only.

The images of a series do.  Comparing the bytes that they share takes a fraction of the time of a scan, and finds the
same: a scan depends on tags, Value Representations and lengths, and these are compared or read.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from backup_scp.dicom.data_set.byte_source import DEFLATED
from backup_scp.dicom.data_set.element_header import (
    EXPLICIT_LE,
    HEADER_BYTES,
    IMPLICIT_LE,
    KNOWN,
    LONG,
    UNDEFINED,
    HeaderEncoding,
    detect,
)

_IMPLICIT_LE_UID = "1.2.840.10008.1.2"
_PIXEL_DATA = 0x7FE00008
_FIRST = 0x00080000  # a scan handles File Meta Information in a Data Set
_ITEM, _ITEM_END, _SEQUENCE_END = 0xE000, 0xE00D, 0xE0DD


class Part(NamedTuple):
    """One element of a header.

    Attributes
    ----------
    head
        Its header up to its length; of a sequence of undefined length, the whole element.
    width
        Number of bytes of the length; 0 for a sequence of undefined length.
    rest
        Its length and its value.
    """

    tag: int
    head: bytes
    width: int
    rest: bytes


def parts_of(buffer: bytes, size: int, transfer_syntax_uid: str) -> list[Part] | None:
    """Divide the header of a regular Data Set into its elements; the last one is Pixel Data, without its value.

    None for any other one: deflated, out of order, with unknown Value Representations, without Pixel Data of defined
    length at its end, or with a header longer than the buffer.

    Parameters
    ----------
    buffer
        The beginning of the Data Set.
    size
        The length of the Data Set, in bytes.
    transfer_syntax_uid
        As negotiated.
    """
    if len(buffer) < HEADER_BYTES or transfer_syntax_uid in DEFLATED:
        return None
    encoding = detect(buffer, transfer_syntax_uid)
    if encoding is not EXPLICIT_LE and not (encoding is IMPLICIT_LE and transfer_syntax_uid == _IMPLICIT_LE_UID):
        return None
    try:
        return _parts(buffer, size, encoding)
    except struct.error:  # the buffer ends
        return None


def _parts(buffer: bytes, size: int, encoding: HeaderEncoding) -> list[Part] | None:
    found: list[Part] = []
    at, previous = 0, _FIRST - 1
    while True:
        tag, vr, width, start, length = _header(buffer, at, encoding)
        if tag <= previous or (encoding.explicit and vr not in KNOWN):
            return None
        if tag >= _PIXEL_DATA:
            found.append(Part(tag, buffer[at:start], 0, b""))
            return found if length != UNDEFINED and start + length == size else None
        if length == UNDEFINED:
            end = 0 if vr == b"UN" else _end_of_sequence(buffer, start, encoding)
            part = Part(tag, buffer[at:end], 0, b"")
        else:
            end = start + length
            part = Part(tag, buffer[at : start - width], width, buffer[start - width : end])
        if not start <= end <= len(buffer):
            return None
        found.append(part)
        at, previous = end, tag


def _header(buffer: bytes, at: int, encoding: HeaderEncoding) -> tuple[int, bytes, int, int, int]:
    """Return tag, Value Representation, width of the length, start of the value, and length."""
    group, element, length = encoding.item.unpack_from(buffer, at)
    tag = group << 16 | element
    if not encoding.explicit:
        return tag, b"", 4, at + 8, length
    vr = buffer[at + 4 : at + 6]
    if vr in LONG:
        return tag, vr, 4, at + 12, int(encoding.header.unpack_from(buffer, at)[4])
    return tag, vr, 2, at + 8, length >> 16


def _end_of_sequence(buffer: bytes, at: int, encoding: HeaderEncoding) -> int:
    """Return the position after a regular sequence of undefined length; 0 for another one."""
    opened = [_SEQUENCE_END]  # the delimiters that are due
    while opened:
        group, element, length = encoding.item.unpack_from(buffer, at)
        if group == 0xFFFE:
            at += 8
            if element == opened[-1]:
                opened.pop()
            elif element != _ITEM or opened[-1] != _SEQUENCE_END:
                return 0
            elif length == UNDEFINED:
                opened.append(_ITEM_END)
            else:
                at += length
            continue
        if opened[-1] == _SEQUENCE_END:
            return 0
        _, vr, _, at, length = _header(buffer, at, encoding)
        if vr == b"UN" or (encoding.explicit and vr not in KNOWN):
            return 0
        if length == UNDEFINED:
            opened.append(_SEQUENCE_END)
        else:
            at += length
    return at


def varying(some: Sequence[Part], others: Sequence[Part]) -> set[int] | None:
    """Return the tags of elements that differ in their values; None when the headers differ in more than that."""
    if [part[:3] for part in some] != [part[:3] for part in others]:
        return None
    return {part.tag for part, other in zip(some, others, strict=True) if part.rest != other.rest}


class Pattern:
    """The bytes that the headers of similar Data Sets share.

    Parameters
    ----------
    parts
        One such header.
    varying
        The tags of the elements whose values may differ.
    size
        The length of that Data Set, in bytes.

    Attributes
    ----------
    tags
        The tags of these elements, in order.
    """

    def __init__(self, parts: Sequence[Part], varying: set[int], size: int) -> None:
        self.tags = tuple(part.tag for part in parts if part.tag in varying)
        self._pieces: list[tuple[bytes, int, int]] = []  # shared bytes, how many they are, width of the next length
        shared = b""
        for part in parts:
            shared += part.head
            if part.tag in varying:
                self._pieces.append((shared, len(shared), part.width))
                shared = b""
            else:
                shared += part.rest
        self._last = shared
        self._pixel_bytes = size - sum(len(part.head) + len(part.rest) for part in parts)

    def values(self, buffer: bytes, size: int) -> list[bytes] | None:
        """Return the values of the elements that differ; None for a Data Set that differs in more than these."""
        at, values = 0, []
        for shared, length, width in self._pieces:
            if not buffer.startswith(shared, at):
                return None
            start = at + length + width
            at = start + int.from_bytes(buffer[start - width : start], "little")
            values.append(buffer[start:at])
        if not buffer.startswith(self._last, at) or at + len(self._last) + self._pixel_bytes != size:
            return None
        return values
