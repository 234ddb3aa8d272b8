"""Read the items of sequences (PS3.5 7.5), and skip sequences of undefined length at any depth."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from io import BytesIO

from backup_scp.dicom.data_set.byte_source import CUT_OFF, EndsEarly, Source, Stored
from backup_scp.dicom.data_set.element_header import (
    EXPLICIT_BE,
    EXPLICIT_LE,
    HEADER_BYTES,
    IMPLICIT_LE,
    UNDEFINED,
    Elements,
    HeaderEncoding,
    detect_item,
    little_endian,
    read_header,
    vr_name,
)
from backup_scp.errors import InvalidDataSet

NEXT_BYTES = 4 << 10
"""How many bytes to load for the next headers."""

_ITEM, _ITEM_END, _SEQUENCE_END = 0xE000, 0xE00D, 0xE0DD


def items(data: bytes, wanted: Collection[int]) -> Iterator[Elements]:
    """Yield the wanted elements of each item of a sequence; the value of a nested sequence is the bytes of its items.

    Of a repeated tag the first one counts.  The encoding of each item is detected from its bytes.

    Parameters
    ----------
    data
        The value of a sequence, as ``scan`` and ``read`` return it.
    wanted
        Tags, as numbers.

    Raises
    ------
    InvalidDataSet
        The bytes from here on are no items.
    """
    order = EXPLICIT_BE if data.startswith(b"\xff\xfe") else EXPLICIT_LE
    # Room for the struct behind the last item; added once, since there may be very many items.
    buffer = data + bytes(HEADER_BYTES)
    at = 0
    while at + 8 <= len(data):
        group, element, length = order.item.unpack_from(data, at)
        at += 8
        if group != 0xFFFE:
            raise InvalidDataSet("a sequence holds something that is no item")
        if element != _ITEM:  # it is a delimiter
            continue
        end = len(data) if length == UNDEFINED else at + length
        if end > len(data):
            raise InvalidDataSet("an item is longer than its sequence")
        found, at = _item(Stored(BytesIO(data)), buffer, at, end, detect_item(data, at, order), wanted)
        yield found
        at = at if length == UNDEFINED else end


def _item(
    source: Source, buffer: bytes, at: int, end: int, encoding: HeaderEncoding, wanted: Collection[int]
) -> tuple[Elements, int]:
    """Collect the elements of one item, and return its end."""
    found: Elements = {}
    while at + 8 <= end:
        group, element, _ = encoding.item.unpack_from(buffer, at)
        if group == 0xFFFE:
            return found, at + 8 if element == _ITEM_END else at
        header = read_header(encoding, buffer, at)
        tag, vr, start = group << 16 | element, header.vr, header.start
        if header.length == UNDEFINED:
            inside = IMPLICIT_LE if vr == b"UN" else encoding
            at = pass_items(source, start, inside, explicit=encoding.explicit)
            vr, value = b"SQ", buffer[start : at - 8]
        else:
            at = start + header.length
            value = buffer[start:at]
        if at > end:
            raise InvalidDataSet("an element is longer than the rest of its item")
        if tag in wanted and tag not in found:
            found[tag] = vr_name(tag, vr), little_endian(vr, value) if encoding is EXPLICIT_BE else value
    return found, at


def load_header(source: Source, position: int) -> bytes:
    """Load bytes from the start of an element; empty at the end of the Data Set."""
    return with_room(source.load(position, NEXT_BYTES))


def with_room(buffer: bytes) -> bytes:
    """Pad the last bytes with zeros, so that a header can be unpacked; return nothing when they are only zeros.

    A last element without value has eight bytes.

    Raises
    ------
    EndsEarly
    """
    if len(buffer) >= 8:
        return buffer.ljust(HEADER_BYTES, b"\0")
    if buffer.strip(b"\0"):
        raise EndsEarly(CUT_OFF)
    return b""


def pass_items(source: Source, position: int, encoding: HeaderEncoding, *, explicit: bool) -> int:
    """Return the position after a sequence of undefined length (PS3.5 7.5.2), at any depth.

    ``opened`` holds the encodings of the open sequences and items, in turn: with an odd length, the innermost one is
    a sequence.  Inside UN, the encoding is Implicit VR Little Endian (PS3.5 6.2.2), or what senders write instead.
    """
    opened = [encoding]
    at, buffer = 0, b""
    while opened:
        if len(buffer) - at < 20:
            position, at, buffer = position + at, 0, load_header(source, position + at)
            if not buffer:
                raise EndsEarly("a sequence does not end")
        group, element, length = opened[-1].item.unpack_from(buffer, at)
        if group == 0xFFFE:
            at += 8
            _close(opened, element)
            if element == _ITEM and length == UNDEFINED:
                opened.append(detect_item(buffer, at, opened[-1]) if explicit else opened[-1])
            elif element == _ITEM:
                at += length
            continue
        if len(opened) % 2:
            raise InvalidDataSet("a sequence holds something that is no item")
        header = read_header(opened[-1], buffer, at)
        at = header.start
        if header.length == UNDEFINED:
            opened.append(IMPLICIT_LE if header.vr == b"UN" else opened[-1])
        else:
            at += header.length
    return position + at


def pass_fragments(source: Source, position: int, encoding: HeaderEncoding) -> int:
    """Return the position after encapsulated Pixel Data (PS3.5 A.4); ``position`` is at the Basic Offset Table.

    It reads no further fragments when the Data Set ends with a delimiter, or with one fragment and room for it.
    """
    buffer = load_header(source, position)
    at = 0
    while at + 8 <= len(buffer):
        group, element, length = encoding.item.unpack_from(buffer, at)
        if (group, element) != (0xFFFE, _ITEM) or length == UNDEFINED:
            break
        at += 8 + length
    if at >= len(buffer) and source.ends_at(position + at + 8):
        return position + at + 8
    if source.ends_with(encoding.item.pack(0xFFFE, _SEQUENCE_END, 0)):
        return source.size
    return pass_items(source, position, encoding, explicit=encoding.explicit)


def _close(opened: list[HeaderEncoding], element: int) -> None:
    """Close what an item or a delimiter ends, also when the delimiter before it is missing."""
    in_item = len(opened) % 2 == 0
    if element == _SEQUENCE_END:
        del opened[-2 if in_item else -1 :]
    elif in_item:
        del opened[-1]
