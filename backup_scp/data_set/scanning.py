"""The scan itself: element headers one after another."""

from __future__ import annotations

from collections.abc import Collection
from io import BytesIO
from typing import BinaryIO

from backup_scp.data_set.encoding import (
    EXPLICIT_BE,
    EXPLICIT_LE,
    HEADER_BYTES,
    IMPLICIT_LE,
    LONG,
    NAMES,
    SHORT,
    UNDEFINED,
    Elements,
    Encoding,
    detect,
    detect_item,
    little_endian,
    read_header,
    vr_name,
)
from backup_scp.data_set.sequences import load_header, pass_items
from backup_scp.data_set.source import Inflated, Source, Stored
from backup_scp.errors import InvalidDataSet

IDENTITY = frozenset((0x00080016, 0x00080018, 0x0020000D, 0x0020000E))
"""SOP Class, SOP Instance, Study Instance and Series Instance UID: a scan stops early only when it has them."""

_VALUE_BYTES = 64 << 10
_PIXEL_DATA = 0x7FE00008
_DEFLATED = frozenset(("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"))


def scan(
    stream: BinaryIO, transfer_syntax_uid: str, wanted: frozenset[int], required: frozenset[int] = IDENTITY
) -> Elements:
    """Collect the wanted top-level elements of a Data Set.

    It ends at Pixel Data, or at the first tag above the last wanted one if all ``required`` were found by then and
    the tags ascended.  Of a repeated tag the first counts; values over 64 KiB are passed over.  A sequence is the bytes
    of its items, for ``items``.

    Parameters
    ----------
    stream
        At the Data Set's first byte; seekable.
    transfer_syntax_uid
        As negotiated; encapsulated, private and unknown ones are read as Explicit VR Little Endian.
    wanted
        Tags, as numbers.

    Raises
    ------
    InvalidDataSet
        The bytes are no Data Set, or are cut off before the scan may end.
    """
    source = Inflated(stream) if transfer_syntax_uid in _DEFLATED else Stored(stream)
    return _Scan(source, wanted, max(wanted), required, value_bytes=_VALUE_BYTES).run(transfer_syntax_uid)


def read(data: bytes, transfer_syntax_uid: str, limit_bytes: int) -> Elements:
    """Collect every top-level element of a small Data Set, such as an Identifier; sequences with their items.

    Of a sequence of undefined length over 64 KiB only the tag.

    Raises
    ------
    InvalidDataSet
        It is longer than the limit, or no Data Set.
    """
    if transfer_syntax_uid in _DEFLATED:
        data = Inflated(BytesIO(data), limit_bytes + 1).load(0, limit_bytes + 1)
    if len(data) > limit_bytes:
        raise InvalidDataSet(f"the Data Set is longer than {limit_bytes} bytes")
    everything = range(_PIXEL_DATA)
    scan_ = _Scan(Stored(BytesIO(data)), everything, _PIXEL_DATA, value_bytes=limit_bytes)
    return scan_.run(transfer_syntax_uid)


class _Scan:
    """One pass over one Data Set."""

    def __init__(
        self,
        source: Source,
        wanted: Collection[int],
        last: int,
        required: frozenset[int] = frozenset(),
        *,
        value_bytes: int,
    ) -> None:
        self._source = source
        self._wanted = wanted
        self._last = last
        self._required = required
        self._value_bytes = value_bytes
        self._found: dict[int, tuple[bytes, bytes]] = {}

    def run(self, transfer_syntax_uid: str) -> Elements:
        """Collect what is wanted."""
        position = self._pass_file_meta()
        buffer = self._source.load(position)
        encoding = detect(buffer, transfer_syntax_uid)
        self._collect(position, buffer, encoding)
        if encoding is EXPLICIT_BE:
            return {tag: (vr_name(tag, vr), little_endian(vr, value)) for tag, (vr, value) in self._found.items()}
        names = NAMES.get
        return {tag: (names(vr) or vr_name(tag, vr), value) for tag, (vr, value) in self._found.items()}

    def _pass_file_meta(self) -> int:
        """Return where the Data Set begins after File Meta Information that does not belong there."""
        position = 0
        while (buffer := self._source.load(position, 20))[:2] == b"\x02\0" and len(buffer) >= HEADER_BYTES:
            header = read_header(detect_item(buffer, 0, EXPLICIT_LE), buffer, 0)
            position += header.start + header.length
        return position

    def _collect(self, position: int, buffer: bytes, encoding: Encoding) -> None:  # noqa: C901, PLR0912 - the hot loop
        """Go through the top level; ``at`` is relative to the buffer, which begins at ``position``."""
        explicit, unpack = encoding.explicit, encoding.header.unpack_from
        wanted, last, found = self._wanted, self._last, self._found
        at = previous = 0
        ascending = True
        while True:
            if len(buffer) - at < HEADER_BYTES:
                position, at, buffer = position + at, 0, load_header(self._source, position + at)
                if not buffer:
                    return
            if explicit:
                group, element, vr, length, long = unpack(buffer, at)
                if vr in SHORT:
                    start = at + 8
                elif vr in LONG:
                    start, length = at + 12, long
                else:
                    vr, start, length = read_header(encoding, buffer, at)
            else:
                group, element, length = unpack(buffer, at)
                vr, start = b"", at + 8
            tag = group << 16 | element
            if tag > last or tag < previous:
                if group == 0xFFFE:  # a delimiter too many
                    at += 8
                    continue
                ascending = ascending and tag >= previous
                if tag >= _PIXEL_DATA or (ascending and found.keys() >= self._required):
                    return
            previous = tag
            if length == UNDEFINED:
                position, at, buffer = self._sequence(tag, position + start, vr, encoding), 0, b""
                continue
            if tag in wanted and length <= self._value_bytes and tag not in found:
                end = start + length
                inside = end <= len(buffer)  # a value that is cut off shows when the next header is loaded
                found[tag] = (vr, buffer[start:end] if inside else self._source.load(position + start, length))
            at = start + length

    def _sequence(self, tag: int, start: int, vr: bytes, encoding: Encoding) -> int:
        """Keep the items of a wanted sequence of undefined length, and return the position after it."""
        wanted = tag in self._wanted and tag not in self._found
        data = self._source.load(start, _VALUE_BYTES + 8) if wanted else b""  # now: there is no way back
        inside = IMPLICIT_LE if vr == b"UN" else encoding
        end = pass_items(self._source, start, inside, explicit=encoding.explicit)
        if wanted:
            self._found[tag] = (b"SQ", data[: end - start - 8] if end - start <= len(data) else b"")
        return end
