"""Scan a Data Set: read element headers one after another."""

from __future__ import annotations

from collections.abc import Collection
from io import SEEK_CUR, BytesIO
from typing import BinaryIO, NamedTuple

from backup_scp.dicom.data_set.byte_source import CUT_OFF, DEFLATED, EndsEarly, Inflated, Source, Stored
from backup_scp.dicom.data_set.element_header import (
    EXPLICIT_BE,
    EXPLICIT_LE,
    HEADER_BYTES,
    IMPLICIT_LE,
    KNOWN,
    LONG,
    NAMES,
    SHORT,
    UNDEFINED,
    Elements,
    Header,
    HeaderEncoding,
    detect,
    detect_item,
    is_plain,
    little_endian,
    read_header,
    vr_name,
)
from backup_scp.dicom.data_set.sequences import NEXT_BYTES, load_header, pass_fragments, pass_items, with_room
from backup_scp.errors import InvalidDataSet

IDENTITY = frozenset((0x00080016, 0x00080018, 0x0020000D, 0x0020000E))
"""SOP Class, SOP Instance, Study Instance and Series Instance UID: a scan stops early only when it has them."""

_VALUE_BYTES = 64 << 10
_PIXEL_DATA = 0x7FE00008
_PIXEL_TAGS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
_LONGEST_TABLE_BYTES = 8 << 20  # of offsets, for a million frames
_PATIENT_ID = 0x00100020
_MOST_BEHIND = 1000  # limit of elements that are read behind the Pixel Data
_PADDING_VR = frozenset((b"\0\0", b"  "))
_PADDING_LENGTH = 0x20202020  # padding with spaces, read as a length; zeros read as elements without value


class Scanned(NamedTuple):
    """The result of a scan.

    Attributes
    ----------
    elements
        The wanted elements that were found.
    is_whole
        False when the Data Set ends in the middle of an element, so that it was cut off.
    transfer_syntax_uid
        The given one; for a Data Set that should be deflated and is not, the same one without deflation.
    """

    elements: Elements
    is_whole: bool
    transfer_syntax_uid: str


def scan(
    stream: BinaryIO, transfer_syntax_uid: str, wanted: frozenset[int], required: frozenset[int] = IDENTITY
) -> Scanned:
    """Collect the wanted top-level elements of a Data Set; from Pixel Data on, read headers only.

    Of a repeated tag the first one counts; values over 64 KiB are skipped.  The value of a sequence is the bytes of its
    items, for ``items``.  Errors behind the last wanted tag are ignored, if all ``required`` tags were found before and
    the tags ascended.

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
        The bytes are no Data Set, or they are cut off before any wanted element.
    """
    is_deflated = transfer_syntax_uid in DEFLATED
    if is_deflated and _begins_plain(stream):
        is_deflated, transfer_syntax_uid = False, DEFLATED[transfer_syntax_uid]
    source = Inflated(stream) if is_deflated else Stored(stream)
    scan_ = _Scan(source, wanted, max(wanted), required, value_bytes=_VALUE_BYTES)
    try:
        is_whole = scan_.run(transfer_syntax_uid, to_the_end=True)
    except EndsEarly:
        if not scan_.has_found:
            raise
        is_whole = False
    except InvalidDataSet:
        if not scan_.has_enough:
            raise
        is_whole = True  # as far as can be found out
    return Scanned(scan_.elements, is_whole, transfer_syntax_uid)


def _begins_plain(stream: BinaryIO) -> bool:
    beginning = stream.read(6)
    stream.seek(-len(beginning), SEEK_CUR)
    return is_plain(beginning)


def read(data: bytes, transfer_syntax_uid: str, limit_bytes: int) -> Elements:
    """Collect every top-level element of a small Data Set, such as an Identifier; sequences with their items.

    Raises
    ------
    InvalidDataSet
        The bytes are longer than the limit, or no Data Set.
    """
    if transfer_syntax_uid in DEFLATED:
        data = Inflated(BytesIO(data), limit_bytes + 1).load(0, limit_bytes + 1)
    if len(data) > limit_bytes:
        raise InvalidDataSet(f"the Data Set is longer than {limit_bytes} bytes")
    everything = range(_PIXEL_DATA)
    scan_ = _Scan(Stored(BytesIO(data)), everything, _PIXEL_DATA, value_bytes=limit_bytes)
    scan_.run(transfer_syntax_uid)
    return scan_.elements


class _Scan:
    """One pass over one Data Set.

    Attributes
    ----------
    has_enough
        Whether all required tags were found, and no wanted tag can follow in order.
    """

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
        self._encoding = EXPLICIT_LE
        self.has_enough = False
        self._ends_with_pixels = False

    def run(self, transfer_syntax_uid: str, *, to_the_end: bool = False) -> bool:
        """Collect the wanted elements; tell whether the Data Set ends with a complete element, as far as was read."""
        position = self._pass_file_meta()
        buffer = self._source.load(position)
        self._encoding = detect(buffer, transfer_syntax_uid)
        stopped = self._collect(position, buffer, self._encoding)
        return not to_the_end or stopped is None or self._ends_with_pixels or self._is_whole_from(stopped)

    def find(self, transfer_syntax_uid: str) -> int | None:
        """Collect the wanted elements before the Pixel Data; return its position, None without any."""
        position = self._pass_file_meta()
        buffer = self._source.load(position)
        self._encoding = detect(buffer, transfer_syntax_uid)
        return self._collect(position, buffer, self._encoding)

    @property
    def encoding(self) -> HeaderEncoding:
        """How the element headers are encoded."""
        return self._encoding

    @property
    def has_found(self) -> bool:
        """Whether anything was found."""
        return bool(self._found)

    @property
    def elements(self) -> Elements:
        """The elements found so far."""
        if self._encoding is EXPLICIT_BE:
            return {tag: (vr_name(tag, vr), little_endian(vr, value)) for tag, (vr, value) in self._found.items()}
        names = NAMES.get
        return {tag: (names(vr) or vr_name(tag, vr), value) for tag, (vr, value) in self._found.items()}

    def _pass_file_meta(self) -> int:
        """Return the position after File Meta Information, which does not belong in a Data Set."""
        position = 0
        while (buffer := self._source.load(position, 20))[:2] == b"\x02\0" and len(buffer) >= HEADER_BYTES:
            header = read_header(detect_item(buffer, 0, EXPLICIT_LE), buffer, 0)
            position += header.start + header.length
        return position

    def _collect(  # noqa: C901, PLR0912 - the hot loop
        self, position: int, buffer: bytes, encoding: HeaderEncoding
    ) -> int | None:
        """Read the top-level elements; return the position of Pixel Data, or None at the end.

        ``at`` is relative to the buffer, which begins at ``position``.
        """
        explicit, unpack = encoding.explicit, encoding.header.unpack_from
        wanted, last, found = self._wanted, self._last, self._found
        at = previous = 0
        size, ascending = len(buffer), True
        while True:
            if size - at < HEADER_BYTES:
                position, at, buffer = position + at, 0, self._source.load(position + at, NEXT_BYTES)
                size = len(buffer)
                if size < HEADER_BYTES and not (buffer := with_room(buffer)):
                    return None
            if explicit:
                group, element, vr, length, long = unpack(buffer, at)
                if vr in SHORT:
                    start = at + 8
                elif vr in LONG:
                    start, length = at + 12, long
                    if start > size:
                        raise EndsEarly(CUT_OFF)
                else:
                    if vr in _PADDING_VR and self._is_padding(position + at):
                        return None
                    vr, start, length = read_header(encoding, buffer, at)
            else:
                group, element, length = unpack(buffer, at)
                vr, start = b"", at + 8
                if length == _PADDING_LENGTH and self._is_padding(position + at):
                    return None
            tag = group << 16 | element
            if tag > last or tag < previous:
                if group == 0xFFFE:  # an unexpected delimiter
                    at += 8
                    continue
                ascending = ascending and tag >= previous
                if tag >= _PIXEL_DATA:
                    end = position + start + length
                    self._ends_with_pixels = length != UNDEFINED and self._source.is_known_to_end_at(end)
                    return position + at
                if ascending and not self.has_enough:
                    self.has_enough = found.keys() >= self._required
            previous = tag
            if length == UNDEFINED:
                position, at, size = self._sequence(tag, position + start, vr, encoding), 0, 0
                continue
            if tag in wanted and length <= self._value_bytes and tag not in found:
                end = start + length
                inside = end <= size
                found[tag] = (vr, buffer[start:end] if inside else self._load_value(position + start, length))
            at = start + length

    def _load_value(self, position: int, length: int) -> bytes:
        value = self._source.load(position, length)
        if len(value) < length:
            raise EndsEarly(CUT_OFF)
        return value

    def _is_whole_from(self, position: int) -> bool:
        """Continue from Pixel Data to the end; collect wanted elements that are only found there."""
        try:
            return self._is_whole(position)
        except EndsEarly:
            return False
        except InvalidDataSet:
            return True  # as far as can be found out

    def _is_whole(self, position: int) -> bool:
        encoding, highest = self._encoding, 0
        for _ in range(_MOST_BEHIND):
            if self._source.ends_at(position):
                return True
            try:
                buffer = load_header(self._source, position)
            except EndsEarly:
                return True  # surplus bytes, no element: the Pixel Data is complete
            if not buffer:
                return True
            group, element, _ = encoding.item.unpack_from(buffer)
            tag, header = group << 16 | element, read_header(encoding, buffer, 0)
            is_in_order = tag > highest
            if (encoding.explicit and header.vr not in KNOWN) or not (is_in_order or self._misses_identity):
                return True  # the appended bytes are no element of this Data Set
            try:
                position = self._pass_behind(tag, header, position)
            except EndsEarly:
                if is_in_order:
                    raise
                return True
            highest = max(highest, tag)
        return True

    @property
    def _misses_identity(self) -> bool:
        return not self._found.keys() >= self._required | {_PATIENT_ID}

    def _pass_behind(self, tag: int, header: Header, position: int) -> int:
        """Collect an element behind the Pixel Data, if it was not found before; return the position behind it."""
        vr, start, length = header
        if length == UNDEFINED:
            return pass_fragments(self._source, position + start, self._encoding)
        position += start
        if tag in self._wanted and tag not in self._found and length <= self._value_bytes:
            self._found[tag] = (vr, self._load_value(position, length))
        position += length
        self._source.ends_at(position)  # raises when it ended before
        return position

    def _is_padding(self, position: int) -> bool:
        """Tell whether only zeros or only spaces follow: some senders pad to a buffer of fixed length."""
        rest = self._source.load(position, self._value_bytes)
        return len(rest) < self._value_bytes and (not rest.strip(b"\0") or not rest.strip(b" "))

    def _sequence(self, tag: int, start: int, vr: bytes, encoding: HeaderEncoding) -> int:
        """Collect the items of a wanted sequence of undefined length; return the position after it."""
        wanted = tag in self._wanted and tag not in self._found
        can_return = isinstance(self._source, Stored)
        data = self._source.load(start, _VALUE_BYTES + 8) if wanted and not can_return else b""
        inside = IMPLICIT_LE if vr == b"UN" else encoding
        end = pass_items(self._source, start, inside, explicit=encoding.explicit)
        if wanted:
            length = end - start - 8
            if can_return and length <= self._value_bytes:
                data = self._source.load(start, length)
            self._found[tag] = (b"SQ", data[:length] if length <= len(data) else b"")
        return end


class FoundPixels(NamedTuple):
    """Where the Pixel Data of a Data Set is.

    Attributes
    ----------
    elements
        The wanted elements before it.
    tag
        That of Pixel Data, Float Pixel Data or Double Float Pixel Data.
    position
        Of its value.
    length
        Of its value; None when it is encapsulated.
    """

    elements: Elements
    tag: int
    position: int
    length: int | None


def find_pixels(stream: BinaryIO, transfer_syntax_uid: str, wanted: frozenset[int]) -> FoundPixels | None:
    """Find the Pixel Data of a Data Set that is not deflated, and the wanted elements before it; None without any.

    Raises
    ------
    InvalidDataSet
        The bytes are no Data Set.
    """
    source = Stored(stream)
    scan_ = _Scan(source, wanted, _PIXEL_DATA - 1, value_bytes=_LONGEST_TABLE_BYTES)
    position = scan_.find(transfer_syntax_uid)
    while position is not None and (buffer := load_header(source, position)):
        group, element, _ = scan_.encoding.item.unpack_from(buffer)
        _, start, length = read_header(scan_.encoding, buffer, 0)
        if (tag := group << 16 | element) in _PIXEL_TAGS:
            return FoundPixels(scan_.elements, tag, position + start, None if length == UNDEFINED else length)
        position = None if tag > max(_PIXEL_TAGS) or length == UNDEFINED else position + start + length
    return None
