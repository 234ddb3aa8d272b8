"""Walk an encoded Data Set, and write each element as text; long binary values are skipped and become URIs.

Most elements of an image are those of the image before it: the text of short elements is cached by their bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from backup_scp.dicom import character_set
from backup_scp.dicom.character_set import CharacterSet
from backup_scp.dicom.data_set.element_header import (
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    LONG,
    SHORT,
    UNDEFINED,
    HeaderEncoding,
    detect,
    detect_item,
    little_endian,
    read_header,
)
from backup_scp.dicom.model_text.model_values import BINARY, ModelText, dictionary_vr, value_text
from backup_scp.errors import InvalidDataSet

INLINE_BYTES = 1024
"""The longest binary value that is inline, in Base64; a longer one, and every Pixel Data, gets a URI."""

ReadAt = Callable[[int, int], bytes]
"""Returns so many bytes from a position of the Data Set, fewer only at its end."""

_SPECIFIC_CHARACTER_SET, _PIXEL_REPRESENTATION = 0x00080005, 0x00280103
_READ_ALONE = frozenset((_SPECIFIC_CHARACTER_SET, _PIXEL_REPRESENTATION))  # they change how others are read
_PIXELS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"
_WINDOW_BYTES = 1 << 15
_CACHED_BYTES = 256
_MOST_CACHED = 1 << 14
_MOST_LONG_BYTES = 64 << 20
_MOST_DEPTH = 100
_UTF_8 = "ISO_IR 192"

_cache: dict[tuple[str, bytes, bytes], str] = {}


class DataSetText(NamedTuple):
    """The texts of the elements of a Data Set, in its order.

    Attributes
    ----------
    is_whole
        False when the Data Set breaks off: these are the elements before.
    """

    elements: list[str]
    is_whole: bool


def data_set_text(read_at: ReadAt, size: int, transfer_syntax_uid: str, model: ModelText, bulk_uri: str) -> DataSetText:
    """Write the elements of a Data Set.

    Text is in Unicode, so Specific Character Set becomes ISO_IR 192 (PS3.18 F.2).  Group Lengths are left out.

    Parameters
    ----------
    read_at, size
        The Data Set, not deflated.
    bulk_uri
        The beginning of the URIs of long values.  The path of each value follows: its tag, behind tag and item number
        (from 1) of each sequence around it.
    """
    walk = _TextWalk(read_at, size, model, bulk_uri)
    try:
        walk.run(transfer_syntax_uid)
    except InvalidDataSet:
        return DataSetText(walk.texts, is_whole=False)
    return DataSetText(walk.texts, is_whole=True)


@dataclass(slots=True)
class _Level:
    """One Data Set or item while it is read.

    ``end`` is None while only a delimiter says where it ends; ``named`` are the bytes of its Specific Character Set.
    """

    encoding: HeaderEncoding
    end: int | None
    path: str = ""
    depth: int = 0
    declared: CharacterSet = character_set.DEFAULT
    named: bytes = b""
    is_signed: bool = False
    texts: list[str] = field(default_factory=list)


class _TextWalk:
    def __init__(self, read_at: ReadAt, size: int, model: ModelText, bulk_uri: str) -> None:
        self._read_at = read_at
        self._size = size
        self._model = model
        self._bulk_uri = bulk_uri
        self._base = 0
        self._buffer = b""
        self._left = _MOST_LONG_BYTES
        self.texts: list[str] = []

    def run(self, transfer_syntax_uid: str) -> None:
        if at := self._pass_file_meta():
            self._load(at)
        level = _Level(detect(self._buffer, transfer_syntax_uid), self._size, texts=self.texts)
        self._elements(at, level)

    def _pass_file_meta(self) -> int:
        """Return the position behind File Meta Information, which does not belong in a Data Set."""
        at = 0
        while len(buffer := self._from(at, 12)) >= 12 and buffer[:2] == b"\x02\0":
            header = read_header(detect_item(buffer, 0, EXPLICIT_LE), buffer, 0)
            at += header.start + header.length
        return at

    def _load(self, at: int) -> None:
        self._base, self._buffer = at, self._read_at(at, _WINDOW_BYTES)

    def _from(self, at: int, length: int) -> bytes:
        """Return bytes that begin at a position, at least so many if there are."""
        start = at - self._base
        if not 0 <= start <= len(self._buffer) - length:
            self._load(at)
            return self._buffer
        return self._buffer[start : start + length]

    def _bytes(self, at: int, length: int) -> bytes:
        """Return exactly these bytes."""
        start = at - self._base
        if 0 <= start <= len(self._buffer) - length:
            return self._buffer[start : start + length]
        self._left -= length
        if self._left < 0:
            raise InvalidDataSet("the Data Set has too many long values")
        return self._read_at(at, length)

    def _elements(self, at: int, level: _Level) -> int:  # noqa: C901, PLR0912 - the hot loop
        """Write the elements of a Data Set or item; return the position behind it."""
        encoding, texts, name = level.encoding, level.texts, self._model.name
        explicit, unpack, is_big = encoding.explicit, encoding.header.unpack_from, encoding is EXPLICIT_BE
        limit, seen = self._size if level.end is None else level.end, set[int]()
        while at < limit:
            start = at - self._base
            if start < 0 or start + 12 > len(self._buffer):
                self._load(at)
                start = 0
                if len(self._buffer) < 12:
                    if not self._buffer.strip(b"\0 "):
                        return self._size
                    self._buffer = self._buffer.ljust(12, b"\0")
            buffer = self._buffer
            if explicit:
                group, element, vr, length, long = unpack(buffer, start)
                if vr in SHORT:
                    value_at = start + 8
                elif vr in LONG:
                    value_at, length = start + 12, long
                else:
                    vr, value_at, length = read_header(encoding, buffer, start)
            else:
                group, element, length = unpack(buffer, start)
                vr, value_at = b"", start + 8
            tag = group << 16 | element
            if group == 0xFFFE:
                if level.end is None and tag != _ITEM:
                    return at + 8 if tag == _ITEM_END else at  # its own delimiter, or that of the sequence around it
                at += 8
                continue
            if not tag and not level.depth:
                return self._size  # padding
            position = self._base + value_at
            if length != UNDEFINED and position + length > limit:
                raise InvalidDataSet("an element is longer than what holds it")
            before = len(texts) if tag in seen else None
            seen.add(tag)
            if length <= _CACHED_BYTES and tag not in _READ_ALONE and before is None:
                raw = buffer[start : value_at + length]
                if len(raw) == value_at - start + length:
                    key = (name, level.named, raw)
                    text = None if is_big else _cache.get(key)
                    if text is None and (text := self._short(tag, vr, raw[value_at - start :], level)) is not None:
                        self._remember(key, text, tag, level)
                    if text is not None:
                        if text:
                            texts.append(text)
                        at = position + length
                        continue
            at = self._long(tag, vr, position, length, level)
            if before is not None:
                del texts[before:]  # of a repeated tag the first one counts
        return at

    @staticmethod
    def _remember(key: tuple[str, bytes, bytes], text: str, tag: int, level: _Level) -> None:
        """Cache a text that depends on nothing but its bytes and the character set."""
        if level.encoding is EXPLICIT_BE or " or " in dictionary_vr(tag):
            return
        if len(_cache) >= _MOST_CACHED:
            _cache.clear()
        _cache[key] = text

    @staticmethod
    def _vr(tag: int, raw: bytes, level: _Level) -> str:
        vr = raw.decode("latin-1") if raw and raw != b"UN" and (raw in SHORT or raw in LONG) else dictionary_vr(tag)
        return ("SS" if level.is_signed else "US") if vr == "US or SS" else vr

    def _short(self, tag: int, raw_vr: bytes, value: bytes, level: _Level) -> str | None:
        """Return the text of an element, empty when it is left out; None for a sequence and for Pixel Data."""
        vr = self._vr(tag, raw_vr, level)
        if vr == "SQ" or tag in _PIXELS:
            return None
        if not tag & 0xFFFF:
            return ""  # a Group Length, retired
        if level.encoding is EXPLICIT_BE:
            value = little_endian(vr.encode(), value)
        if vr in BINARY:
            return self._model.binary(tag, vr, value)
        return self._model.values(tag, vr, value_text(vr, value, level.declared))

    def _long(self, tag: int, raw_vr: bytes, position: int, length: int, level: _Level) -> int:
        """Write an element that is long, a sequence, or changes how others are read; return the position behind it."""
        vr = self._vr(tag, raw_vr, level)
        path = f"{level.path}{tag:08X}"
        if tag in _PIXELS or (length == UNDEFINED and vr in BINARY and raw_vr != b"UN"):
            level.texts.append(self._model.bulk(tag, vr, self._bulk_uri + path))
            return position + length if length != UNDEFINED else self._pass_fragments(position, level.encoding)
        if vr == "SQ" or length == UNDEFINED:
            inside = IMPLICIT_LE if raw_vr == b"UN" else level.encoding
            items, at = self._items(position, length, inside, level, path)
            level.texts.append(self._model.sequence(tag, items))
            return at
        if vr in BINARY and length > INLINE_BYTES:
            level.texts.append(self._model.bulk(tag, vr, self._bulk_uri + path))
            return position + length
        value = self._bytes(position, length)
        if tag == _SPECIFIC_CHARACTER_SET:
            level.named, level.declared = value, character_set.parse(value)
            if not level.depth:
                level.texts.append(self._model.values(tag, "CS", _UTF_8))
            return position + length
        if tag == _PIXEL_REPRESENTATION:
            level.is_signed = b"\1" in value[:2]
        if text := self._short(tag, raw_vr, value, level):
            level.texts.append(text)
        return position + length

    def _items(self, at: int, length: int, encoding: HeaderEncoding, level: _Level, path: str) -> tuple[list[str], int]:
        """Write the items of a sequence; return them, and the position behind it."""
        if level.depth >= _MOST_DEPTH:
            raise InvalidDataSet(f"the Data Set nests more than {_MOST_DEPTH} levels deep")
        end = None if length == UNDEFINED else at + length
        items: list[str] = []
        while at < (self._size if end is None else end):
            buffer = self._from(at, 20).ljust(8, b"\0")
            group, element, item_length = encoding.item.unpack_from(buffer)
            tag = group << 16 | element
            at += 8
            if tag == _SEQUENCE_END:
                break
            if tag == _ITEM_END:
                continue
            if tag != _ITEM:
                raise InvalidDataSet("a sequence holds something that is no item")
            is_explicit = level.encoding.explicit and len(buffer) >= 14
            below = _Level(
                detect_item(buffer, 8, encoding) if is_explicit else encoding,
                None if item_length == UNDEFINED else at + item_length,
                f"{path}/{len(items) + 1}/",
                level.depth + 1,
                level.declared,
                level.named,
                level.is_signed,
            )
            if below.end is not None and below.end > (self._size if end is None else end):
                raise InvalidDataSet("an item is longer than what holds it")
            behind = self._elements(at, below)
            at = behind if below.end is None else below.end
            items.append(self._model.item(below.texts))
        return items, at

    def _pass_fragments(self, at: int, encoding: HeaderEncoding) -> int:
        """Return the position behind encapsulated Pixel Data; it is mostly the last element."""
        if self._read_at(max(0, self._size - 8), 8) == _DELIMITER:
            return self._size
        while at + 8 <= self._size:
            group, element, length = encoding.item.unpack_from(self._from(at, 8).ljust(8, b"\0"))
            at += 8
            if group != 0xFFFE or element != 0xE000 or length == UNDEFINED:
                break
            at += length
        return at
