"""Read size, samples and bits from the header of a codestream, to check a decoder's result.

A decoder may mask, shift or fill in samples without an error; the frame header shows what it must return.  The headers
also limit what a decoder is given: one decoder ran for hours for a size in the millions.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from typing import NamedTuple

from backup_scp.errors import InstanceRefused

_START_OF_IMAGE, _END_OF_IMAGE = b"\xff\xd8", b"\xff\xd9"
_JPEG_LS_FRAME = 0xF7
_JPEG_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # without Huffman tables, JPG, arithmetic coding
_LOSSLESS_FRAME = 0xC3
_START_OF_SCAN, _FILL = 0xDA, 0xFF
_START_OF_JPEG_2000 = b"\xff\x4f\xff\x51"
_SIZE_BYTES, _COMPONENT_BYTES = 42, 3
_MOST_TILES = 65_535
_JP2_SIGNATURE, _JP2_SIGNATURE_BYTES = b"\0\0\0\x0cjP  ", 12  # ISO/IEC 15444-1 I.5.1
_RLE_HEADER_BYTES, _MOST_RLE_SEGMENTS = 64, 15
_ADOBE_YCBCR = b"\1"
_YBR_FULL = "YBR_FULL"


class Codestream(NamedTuple):
    """One compressed frame and its own header.

    Attributes
    ----------
    content
        The bytes for the decoder.
    rows, columns, samples
        Size of the frame, and samples of one pixel.
    precision
        Bits of one sample.
    is_signed
        Whether samples are in two's complement, which only JPEG 2000 can declare.
    interpretation
        The colour space that its markers name (JFIF, Adobe); empty when they name none.
    """

    content: bytes
    rows: int
    columns: int
    samples: int
    precision: int
    is_signed: bool = False
    interpretation: str = ""


def read_jpeg(content: bytes) -> Codestream:
    """Read the frame header of JPEG (ISO/IEC 10918-1 B.2.2).

    Raises
    ------
    InstanceRefused
        There is no header, or the codestream has no end: libjpeg fills in missing data without an error.
    """
    codestream = _read_frame_header(content, _JPEG_FRAMES, "JPEG")
    if content.rfind(_END_OF_IMAGE, _first_scan(content)) < 0:
        raise InstanceRefused("its compressed pixels are cut short: the end of the image is missing")
    return codestream


def read_jpeg_ls(content: bytes) -> Codestream:
    """Read the frame header of JPEG-LS (ISO/IEC 14495-1 C.2.2).

    Raises
    ------
    InstanceRefused
        There is no header.
    """
    return _read_frame_header(content, frozenset({_JPEG_LS_FRAME}), "JPEG-LS")


def read_jpeg_2000(content: bytes) -> Codestream:
    """Read the image and tile size of JPEG 2000, also in a JP2 file (ISO/IEC 15444-1 A.5.1; PS3.5 A.4.4 forbids it).

    Raises
    ------
    InstanceRefused
        There is no header, it has too many tiles, or its components differ.
    """
    content = content[_jp2_box(content) :]
    if len(content) < _SIZE_BYTES or not content.startswith(_START_OF_JPEG_2000):
        raise InstanceRefused("its pixels are not JPEG 2000, as its Transfer Syntax says")
    right, bottom, left, top, tile_width, tile_height = struct.unpack_from(">6L", content, 8)
    if not tile_width or not tile_height or right // tile_width * (bottom // tile_height) > _MOST_TILES:
        raise InstanceRefused("its pixels are compressed in an impossible size of tiles")
    (samples,) = struct.unpack_from(">H", content, 40)
    data = content[_SIZE_BYTES : _SIZE_BYTES + samples * _COMPONENT_BYTES]
    components = set(struct.iter_unpack("3B", data[: len(data) // _COMPONENT_BYTES * _COMPONENT_BYTES]))
    if len(components) != 1 or (component := components.pop())[1:] != (1, 1):
        raise InstanceRefused("the samples of its pixels are compressed in different ways")
    depth = component[0]
    return Codestream(content, bottom - top, right - left, samples, (depth & 0x7F) + 1, is_signed=depth > 0x7F)


def read_rle(content: bytes, rows: int, columns: int, samples: int, bits_allocated: int) -> Codestream:
    """Read the header of an RLE frame, which does not contain its size (PS3.5 G.5).

    Raises
    ------
    InstanceRefused
        The number of segments is not that of the bytes of a pixel, or they are not one behind another.
    """
    if len(content) < _RLE_HEADER_BYTES:
        raise InstanceRefused("its pixels are not RLE, as its Transfer Syntax says")
    count, *offsets = struct.unpack_from("<16L", content)
    if count != samples * (bits_allocated // 8) or count > _MOST_RLE_SEGMENTS:
        raise InstanceRefused("its RLE segments are not as many as its pixels have bytes")
    bounds = [_RLE_HEADER_BYTES - 1, *offsets[:count], len(content)]
    if any(first >= second for first, second in itertools.pairwise(bounds)):
        raise InstanceRefused("its pixels cannot be decoded: its RLE segments do not lie one behind another")
    return Codestream(content, rows, columns, samples, bits_allocated)


def _read_frame_header(content: bytes, frames: frozenset[int], name: str) -> Codestream:
    for marker, segment in _segments(content) if content.startswith(_START_OF_IMAGE) else ():
        if marker in frames and len(segment) >= 10:
            precision, rows, columns, samples = struct.unpack_from(">BHHB", segment, 4)
            lossy = marker in _JPEG_FRAMES - {_LOSSLESS_FRAME}
            interpretation = _interpretation(content) if lossy and samples == 3 else ""
            return Codestream(content, rows, columns, samples, precision, interpretation=interpretation)
    raise InstanceRefused(f"its pixels are not {name}, as its Transfer Syntax says")


def _interpretation(content: bytes) -> str:
    """Detect YCbCr from the segments of JFIF and Adobe, RGB from the names of the components (ISO/IEC 10918-5, -6)."""
    for marker, segment in _segments(content):
        names = segment[10:19:3]
        if marker in _JPEG_FRAMES and names in (b"RGB", b"rgb"):
            return "RGB"
        if segment[4:9] == b"JFIF\0" or (segment[4:9] == b"Adobe" and segment[-1:] == _ADOBE_YCBCR):
            return _YBR_FULL
    return ""


def _segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and bytes of each segment before the first scan (ISO/IEC 10918-1 B.1.1)."""
    for marker, at, length in _walk(content):
        if marker != _START_OF_SCAN:
            yield marker, content[at : at + 2 + length]


def _first_scan(content: bytes) -> int:
    return next((at for marker, at, _ in _walk(content) if marker == _START_OF_SCAN), len(content))


def _walk(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, position and length of each segment, up to the start of the first scan."""
    at = 2
    while content[at : at + 1] == b"\xff" and len(content) > at + 3:
        marker, length = struct.unpack_from(">xBH", content, at)
        if marker == _FILL:
            at += 1
            continue
        yield marker, at, length
        if marker == _START_OF_SCAN:
            return
        at += 2 + length


def _jp2_box(content: bytes) -> int:
    """Return the position of the codestream in a JP2 file; 0 when it is no JP2 file."""
    if not content.startswith(_JP2_SIGNATURE):
        return 0
    at = _JP2_SIGNATURE_BYTES
    while at < len(content) and content[at + 4 : at + 8] != b"jp2c":
        length = int.from_bytes(content[at : at + 4], "big")
        if length < 8:
            raise InstanceRefused("its JPEG 2000 pixels are in a damaged JP2 file")
        at += length
    return at + 8
