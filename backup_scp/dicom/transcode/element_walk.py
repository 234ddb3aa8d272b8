"""Walk the Data Elements of an encoded Data Set (PS3.5 7) without reading their Values.

It uses constant memory and no recursion: a stack holds the nesting.  A Data Set with a broken structure is refused as a
whole, even if only its last byte is wrong, because its pixels may be incomplete.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, BinaryIO, NamedTuple, NoReturn

from pydicom.datadict import dictionary_VR
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

from backup_scp.errors import InstanceRefused

UNDEFINED = 0xFFFFFFFF
PIXEL_DATA = 0x7FE00010
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
SHORT_VRS = frozenset(str(vr) for vr in EXPLICIT_VR_LENGTH_16)
LONG_VRS = frozenset(str(vr) for vr in EXPLICIT_VR_LENGTH_32)
_ITEM_BYTES = b"\xfe\xff\x00\xe0"  # in Implicit VR Little Endian
_MAX_DEPTH = 256  # deeper than any SOP Class; most receivers fail earlier


class Encoding(NamedTuple):
    """The encoding of Data Elements (PS3.5 10)."""

    implicit_vr: bool
    big_endian: bool

    @property
    def byte_order(self) -> str:
        """The byte order, as a format character of ``struct``."""
        return ">" if self.big_endian else "<"


IMPLICIT = Encoding(implicit_vr=True, big_endian=False)
EXPLICIT = Encoding(implicit_vr=False, big_endian=False)
BIG_ENDIAN = Encoding(implicit_vr=False, big_endian=True)


class Kind(Enum):
    """The kind of a ``Token``."""

    ELEMENT = auto()
    ENCAPSULATED = auto()  # Pixel Data in fragments (PS3.5 A.4)
    SEQUENCE = auto()
    ITEM = auto()
    END_ITEM = auto()
    END_SEQUENCE = auto()


class Fragment(NamedTuple):
    """One item of encapsulated Pixel Data; the first is the Basic Offset Table."""

    offset: int
    length: int


@dataclass(slots=True, eq=False)
class OpenLevel:
    """An open Data Set (the whole one, or an item) or sequence.

    ``end`` is the first byte behind it, None when a delimiter ends it; ``limit`` is the end of what encloses it.
    """

    start: int
    end: int | None
    limit: int
    encoding: Encoding
    parent: OpenLevel | None
    is_sequence: bool = False
    depth: int = 0


class Token(NamedTuple):
    """One step of the walk.

    ``level`` is the Data Set that an element belongs to, or that an item is; ``vr`` is empty for items and ends.
    """

    kind: Kind
    level: OpenLevel
    tag: int = 0
    vr: str = ""
    offset: int = 0
    length: int = 0
    fragments: tuple[Fragment, ...] = ()


def vr_of(tag: int) -> str:
    """Look up the Value Representation of an element that has none; UN when it is unknown (PS3.5 6.2.2).

    It may be a choice, such as ``US or SS``.
    """
    if tag >> 16 & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"  # PS3.5 7.8.1
    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return "UN"


@functools.cache
def _form(big_endian: bool, layout: str) -> struct.Struct:  # noqa: FBT001 - the key of a cache
    return struct.Struct((">" if big_endian else "<") + layout)


class Walk:
    """Yields the tokens of one Data Set in order; can be iterated once.

    Parameters
    ----------
    stream
        At the first byte; the caller may move it between two tokens.
    into_unknown
        Whether to walk a Value of VR UN that begins with an item as a sequence, which it is (PS3.5 6.2.2).
    """

    def __init__(self, stream: BinaryIO, encoding: Encoding, size_bytes: int, *, into_unknown: bool = False) -> None:
        self._stream = stream
        self._into_unknown = into_unknown
        self._at = stream.tell()
        end = self._at + size_bytes
        if stream.seek(0, 2) < end:
            raise InstanceRefused("its file is shorter than it was")
        self._open = [OpenLevel(self._at, end, end, encoding, parent=None)]

    def __iter__(self) -> Iterator[Token]:
        """Yield the tokens.

        Raises
        ------
        InstanceRefused
            The structure is broken.
        """
        while True:
            level = self._open[-1]
            if self._at != level.end:
                yield self._item(level) if level.is_sequence else self._element(level)
            elif len(self._open) > 1:
                yield self._close()
            else:
                return

    def _element(self, level: OpenLevel) -> Token:
        group, element = self._unpack(level, "HH")
        tag = group << 16 | element
        if tag == ITEM_END and level.end is None:
            self._unpack(level, "L")
            return self._close()
        if group == 0xFFFE:
            self._refuse("has a delimiter where an element should be")
        vr, length = self._vr_and_length(level, tag)
        if length == UNDEFINED and tag == PIXEL_DATA:
            return self._encapsulated(level, vr)
        if vr == "SQ" or length == UNDEFINED or (vr == "UN" and self._into_unknown and self._is_item_next(length)):
            return self._sequence(level, tag, vr, length)
        token = Token(Kind.ELEMENT, level, tag, vr, self._at, length)
        self._skip(level, length)
        return token

    def _vr_and_length(self, level: OpenLevel, tag: int) -> tuple[str, int]:
        """Read the rest of an element's header (PS3.5 7.1.2, 7.1.3)."""
        if not level.encoding.implicit_vr:
            raw, short_length = self._unpack(level, "2sH")
            vr = raw.decode("latin-1")
            if vr in SHORT_VRS:
                return vr, short_length
            is_unknown = raw.isalpha() and raw.isupper()
            if vr in LONG_VRS or (is_unknown and not short_length):  # future VRs have the long form
                return vr, self._unpack(level, "L")[0]
            if is_unknown:
                return vr, short_length
            self._at -= 4  # some writers use implicit VR inside sequences
        (length,) = self._unpack(level, "L")
        vr = vr_of(tag)
        return ("SQ" if length == UNDEFINED and vr == "UN" else vr), length

    def _is_item_next(self, length: int) -> bool:
        self._stream.seek(self._at)
        return length >= len(_ITEM_BYTES) and self._stream.read(len(_ITEM_BYTES)) == _ITEM_BYTES

    def _sequence(self, level: OpenLevel, tag: int, vr: str, length: int) -> Token:
        """Open a sequence; UN with undefined length is a sequence in Implicit VR Little Endian (PS3.5 6.2.2)."""
        if vr not in {"SQ", "UN"}:
            self._refuse("has an element of undefined length that is no sequence")
        encoding = IMPLICIT if vr == "UN" else level.encoding
        token = Token(Kind.SEQUENCE, level, tag, vr, self._at, length)
        self._push(length, encoding, is_sequence=True)
        return token

    def _item(self, level: OpenLevel) -> Token:
        group, element, length = self._unpack(level, "HHL")
        tag = group << 16 | element
        if tag == SEQUENCE_END and level.end is None:
            return self._close()
        if tag != ITEM:
            self._refuse("has a sequence with something else than items in it")
        self._push(length, level.encoding, is_sequence=False)
        return Token(Kind.ITEM, self._open[-1])

    def _encapsulated(self, level: OpenLevel, vr: str) -> Token:
        start = self._at
        fragments: list[Fragment] = []
        while True:
            group, element, length = self._unpack(level, "HHL")
            tag = group << 16 | element
            if tag == SEQUENCE_END:
                return Token(Kind.ENCAPSULATED, level, PIXEL_DATA, vr, start, UNDEFINED, tuple(fragments))
            if tag != ITEM or length == UNDEFINED:
                self._refuse("has fragments of Pixel Data that do not fit together")
            fragments.append(Fragment(self._at, length))
            self._skip(level, length)

    def _push(self, length: int, encoding: Encoding, *, is_sequence: bool) -> None:
        parent = self._open[-1]
        limit = parent.limit
        end = None if length == UNDEFINED else self._at + length
        if end is not None:
            if end > limit:
                self._refuse("has a sequence or item longer than what holds it")
            limit = end
        if parent.depth == _MAX_DEPTH:
            self._refuse(f"nests more than {_MAX_DEPTH} levels deep")
        self._open.append(OpenLevel(self._at, end, limit, encoding, parent, is_sequence, parent.depth + 1))

    def _close(self) -> Token:
        level = self._open.pop()
        return Token(Kind.END_SEQUENCE if level.is_sequence else Kind.END_ITEM, level)

    def _unpack(self, level: OpenLevel, layout: str) -> tuple[Any, ...]:
        form = _form(level.encoding.big_endian, layout)
        offset = self._at
        self._skip(level, form.size)
        self._stream.seek(offset)
        data = self._stream.read(form.size)
        if len(data) != form.size:
            self._refuse("ends too early")
        return form.unpack(data)

    def _skip(self, level: OpenLevel, length: int) -> None:
        if self._at + length > level.limit:
            self._refuse("has an element longer than what holds it, or ends too early")
        self._at += length

    def _refuse(self, what: str) -> NoReturn:
        """Raise with the position, without the bytes there, which may be patient data."""
        offset = self._at - self._open[0].start
        raise InstanceRefused(f"its Data Set cannot be read: near byte {offset} it {what}")
