"""Write a walked Data Set again in another encoding (PS3.5 7, Annex A): Values are copied, never interpreted."""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from backup_scp.dicom.transcode.decoder_process import Frame
from backup_scp.dicom.transcode.element_walk import (
    IMPLICIT,
    ITEM,
    ITEM_END,
    LONG_VRS,
    PIXEL_DATA,
    SEQUENCE_END,
    SHORT_VRS,
    UNDEFINED,
    Encoding,
    Kind,
    OpenLevel,
    Token,
    Walk,
)
from backup_scp.dicom.transcode.frames import DecodedPixelData
from backup_scp.dicom.transcode.image_pixel import DESCRIPTION_TAGS, Description
from backup_scp.dicom.transcode.padding import padding_of
from backup_scp.dicom.transcode.result import InMemory
from backup_scp.errors import InstanceRefused

_CHUNK_BYTES = 1 << 20
_SHORT_LENGTH_LIMIT = 0xFFFF
_NATIVE_LIMIT_BYTES = 0xFFFFFFFE
_PIXEL_REPRESENTATION, _BITS_ALLOCATED = 0x00280103, 0x00280100
_LENGTH_TO_END = 0x00080001  # retired; like Group Length, a number of bytes in the old encoding
_BITS_PER_BYTE, _BITS_PER_WORD = 8, 16
_DESCRIPTION_LIMIT_BYTES = 1 << 26
_MOST_TOKENS = 1 << 10  # kept in memory; with more, the Data Set is walked a second time
# Width of the unit whose bytes are reversed when the byte order changes (PS3.5 7.3), by VR
_UNIT_BYTES = dict.fromkeys(("US", "SS", "OW", "AT"), 2)
_UNIT_BYTES |= dict.fromkeys(("UL", "SL", "FL", "OL", "OF"), 4)
_UNIT_BYTES |= dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8)
_TYPECODE = {2: "H", 4: "I", 8: "Q"}


class Reencoding:
    """One Data Set to write in another encoding; walks it at once.

    Parameters
    ----------
    source, size_bytes
        At its first byte, and its length.
    compression
        Transfer Syntax UID of the encapsulated Pixel Data, which is decoded; None if it should have none.
    left_out
        For comparing Data Sets, not for sending them: tags to leave out.  Sequences of unknown VR are then written as
        sequences.  Frames that are left out are not decoded.

    Raises
    ------
    InstanceRefused
        Its structure is broken, or a first frame is not as described.
    """

    def __init__(
        self,
        source_encoding: Encoding,
        target_encoding: Encoding,
        compression: str | None,
        source: BinaryIO,
        size_bytes: int,
        *,
        left_out: frozenset[int] | None = None,
    ) -> None:
        self._source, self._source_encoding, self._size_bytes = source, source_encoding, size_bytes
        self._target_encoding = target_encoding
        self._left_out = left_out
        self._start = source.tell()
        self._tokens: list[Token] | None = []
        self._descriptions, encapsulated = _survey(self._noting(self._walk()), source, compression)
        self._decoded = {
            token.level.start: DecodedPixelData(
                source,
                token.fragments,
                self._descriptions[token.level.start],
                compression,
                keeps_first=len(encapsulated) == 1,
            )
            for token in encapsulated
            if compression and not (left_out and PIXEL_DATA in left_out)
        }

    def write(self, result: BinaryIO) -> None:
        """Write the Data Set.

        Raises
        ------
        InstanceRefused
            It cannot be read, decoded, or kept unchanged.
        """
        self._write(_Reencoder(self._source, result, self._target_encoding, self._descriptions, self._decoded))

    def begin(self, limit_bytes: int) -> tuple[InMemory, Frame] | None:
        """Write all but the only frame into memory, and start to decode the frame there; ``source`` is then not needed.

        Return None when there is more than one frame, or the result may be longer than the limit.
        """
        if len(self._decoded) != 1 or self._target_encoding.big_endian:
            return None
        (decoded,) = self._decoded.values()
        if decoded.number_of_frames > 1 or decoded.size_bytes + self._size_bytes > limit_bytes:
            return None
        result = InMemory()
        writer = _Reencoder(
            self._source, result, self._target_encoding, self._descriptions, self._decoded, leaves_room=True
        )
        self._write(writer)
        pixels = result.getbuffer()[writer.room_at : writer.room_at + decoded.size_bytes]
        return result, decoded.begin(pixels)

    def _write(self, writer: _Reencoder) -> None:
        for token in self._walk() if self._tokens is None else self._tokens:
            if not self._left_out or token.tag not in self._left_out:
                writer.write(token)

    def _noting(self, tokens: Iterable[Token]) -> Iterator[Token]:
        """Yield the tokens, and keep them when there are few."""
        for token in tokens:
            if self._tokens is not None:
                self._tokens.append(token)
                self._tokens = self._tokens if len(self._tokens) <= _MOST_TOKENS else None
            yield token

    def _walk(self) -> Walk:
        self._source.seek(self._start)
        into_unknown = self._left_out is not None
        return Walk(self._source, self._source_encoding, self._size_bytes, into_unknown=into_unknown)


def _survey(
    walk: Iterable[Token], source: BinaryIO, compression: str | None
) -> tuple[dict[int, Description], list[Token]]:
    """Walk the Data Set once; return descriptions by the start of their Data Set or item, and encapsulated tokens."""
    descriptions: dict[int, Description] = {}
    encapsulated = []
    for token in walk:
        if token.kind is Kind.ELEMENT and token.tag in DESCRIPTION_TAGS and token.length <= _DESCRIPTION_LIMIT_BYTES:
            descriptions.setdefault(token.level.start, {})[token.tag] = _read(source, token.offset, token.length)
        elif token.kind is Kind.ENCAPSULATED:
            descriptions.setdefault(token.level.start, {})
            encapsulated.append(token)
        _check_pixel_data(token, compression)
    if len({token.level.start for token in encapsulated}) < len(encapsulated):
        raise InstanceRefused("it has Pixel Data twice, with only one description")
    return descriptions, encapsulated


def _check_pixel_data(token: Token, compression: str | None) -> None:
    """Raise unless Pixel Data is in fragments exactly when its Transfer Syntax compresses; except icons (PS3.5 A.4)."""
    if token.kind is Kind.ENCAPSULATED and compression is None:
        raise InstanceRefused("its Pixel Data is encapsulated, which that Transfer Syntax does not allow")
    if token.kind is Kind.ELEMENT and token.tag == PIXEL_DATA and token.level.parent is None and compression:
        raise InstanceRefused("its Pixel Data is not encapsulated, which that Transfer Syntax requires")


class _Reencoder:
    """Writes tokens, one after another; sequences and items get undefined length (PS3.5 7.5.1)."""

    def __init__(
        self,
        source: BinaryIO,
        result: BinaryIO,
        encoding: Encoding,
        descriptions: dict[int, Description],
        decoded: dict[int, DecodedPixelData],
        *,
        leaves_room: bool = False,
    ) -> None:
        self.room_at = 0
        self._leaves_room = leaves_room
        self._source = source
        self._result = result
        self._encodings = [encoding]
        self._descriptions = descriptions
        self._decoded = decoded

    def write(self, token: Token) -> None:
        """Write one token."""
        match token.kind:
            case Kind.ELEMENT:
                self._element(token)
            case Kind.ENCAPSULATED:
                self._pixel_data(self._decoded[token.level.start])
            case Kind.SEQUENCE:
                self._sequence(token)
            case Kind.ITEM:
                self._delimiter(ITEM, UNDEFINED)
            case Kind.END_ITEM:
                self._delimiter(ITEM_END, 0)
            case Kind.END_SEQUENCE:
                self._delimiter(SEQUENCE_END, 0)
                self._encodings.pop()

    def _element(self, token: Token) -> None:
        if token.tag & 0xFFFF == 0 or token.tag == _LENGTH_TO_END:
            return
        decoded = self._decoded.get(token.level.start)
        if decoded is not None and token.tag in decoded.changes:
            self._changed(token, decoded.changes[token.tag])
            return
        swaps = token.level.encoding.big_endian != self._encodings[-1].big_endian
        if swaps and token.tag == PIXEL_DATA:
            _check_words(self._nearest(token.level, _BITS_ALLOCATED))
        vr = self._vr(token)
        missing = padding_of(vr) if token.length % 2 else b""
        vr = self._header(token.tag, vr, token.length + len(missing))
        self._copy(token, _unit_bytes(vr) if swaps else 1)
        self._result.write(missing)

    def _changed(self, token: Token, value: bytes | None) -> None:
        if value is not None:
            self._header(token.tag, self._vr(token), len(value))
            self._result.write(value)

    def _pixel_data(self, decoded: DecodedPixelData) -> None:
        """Write decoded frames as native Pixel Data (PS3.5 8.2, A.1, A.2)."""
        padding = decoded.size_bytes % 2
        if decoded.size_bytes + padding > _NATIVE_LIMIT_BYTES:
            raise InstanceRefused(
                "decoded its Pixel Data is longer than 4 GiB, which no other Transfer Syntax can hold"
            )
        vr = "OB" if decoded.bytes_per_sample == 1 else "OW"
        self._header(PIXEL_DATA, vr, decoded.size_bytes + padding)
        if self._leaves_room:
            self.room_at = self._result.tell()
            self._result.seek(decoded.size_bytes - 1, os.SEEK_CUR)
            self._result.write(bytes(1 + padding))
            return
        unit = 1
        if self._encodings[-1].big_endian:
            _check_words(decoded.bytes_per_sample * _BITS_PER_BYTE)
            unit = _unit_bytes(vr)
        decoded.write_frames(lambda part: self._result.write(_swapped(part, unit)))
        self._result.write(bytes(padding))

    def _sequence(self, token: Token) -> None:
        """Open a sequence; one of VR UN stays in Implicit VR Little Endian (PS3.5 6.2.2), if possible."""
        outer = self._encodings[-1]
        kept = token.vr == "UN" and not outer.big_endian
        self._header(token.tag, "UN" if kept else "SQ", UNDEFINED)
        self._encodings.append(IMPLICIT if kept else outer)

    def _delimiter(self, tag: int, length: int) -> None:
        self._pack("HHL", tag >> 16, tag & 0xFFFF, length)

    def _header(self, tag: int, vr: str, length: int) -> str:
        """Write an element's header; return its VR there."""
        group, element = tag >> 16, tag & 0xFFFF
        if self._encodings[-1].implicit_vr:
            self._pack("HHL", group, element, length)
            return vr
        if vr in SHORT_VRS and length > _SHORT_LENGTH_LIMIT:
            vr = "UN"  # PS3.5 6.2.2: too long for the length field of its own VR
        if vr in SHORT_VRS:
            self._pack("HH2sH", group, element, vr.encode(), length)
        else:
            self._pack("HH2sHL", group, element, vr.encode(), 0, length)
        return vr

    def _vr(self, token: Token) -> str:
        """Choose the VR when the dictionary has several (PS3.5 A.1, A.2; PS3.3 C.7.6.3)."""
        if " or " not in token.vr:
            return token.vr
        if token.tag == PIXEL_DATA:
            return "OB" if 0 < self._nearest(token.level, _BITS_ALLOCATED) <= _BITS_PER_BYTE else "OW"
        if token.vr == "US or SS":
            return "SS" if self._nearest(token.level, _PIXEL_REPRESENTATION) == 1 else "US"
        return "OW"

    def _nearest(self, level: OpenLevel | None, tag: int) -> int:
        """Return the number in this Data Set, or in the nearest enclosing one that has it; 0 when none has it."""
        while level is not None:
            if value := self._descriptions.get(level.start, {}).get(tag):
                return int.from_bytes(value[:2], "big" if level.encoding.big_endian else "little")
            level = level.parent
        return 0

    def _pack(self, layout: str, *values: int | bytes) -> None:
        self._result.write(struct.pack(self._encodings[-1].byte_order + layout, *values))

    def _copy(self, token: Token, unit: int) -> None:
        done = 0
        while done < token.length:
            data = _read(self._source, token.offset + done, min(_CHUNK_BYTES, token.length - done))
            self._result.write(_swapped(data, unit))
            done += len(data)


def _read(source: BinaryIO, offset: int, length: int) -> bytes:
    source.seek(offset)
    data = source.read(length)
    if len(data) != length:
        raise InstanceRefused("its file is shorter than it was")
    return data


def _check_words(bits_allocated: int) -> None:
    """Raise for wider pixels: dcmtk swaps OW as 16-bit words (PS3.5 6.2), pydicom and GDCM swap whole pixels."""
    if bits_allocated > _BITS_PER_WORD:
        raise InstanceRefused(f"programs disagree about the byte order of {bits_allocated}-bit pixels in big endian")


def _unit_bytes(vr: str) -> int:
    """Return how many bytes are reversed together; those of UN never are (PS3.5 6.2.2)."""
    if vr not in SHORT_VRS | LONG_VRS:
        raise InstanceRefused("it has an element of unknown VR, whose byte order cannot be changed")
    return _UNIT_BYTES.get(vr, 1)


def _swapped(data: bytes | memoryview, unit: int) -> bytes | memoryview:
    """Reverse the bytes of each unit; an incomplete unit at the end stays."""
    if unit == 1:
        return data
    whole = len(data) // unit * unit
    units = array(_TYPECODE[unit])
    units.frombytes(data[:whole])
    units.byteswap()
    return units.tobytes() + bytes(data[whole:])
