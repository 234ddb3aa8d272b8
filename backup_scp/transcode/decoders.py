"""One codestream to pixels: pydicom, its plug-ins, and what has to be kept from them.

Found by feeding them damaged frames: pylibjpeg-rle panics with an exception that is no ``Exception``, pydicom never
ends on an empty JP2 box, OpenJPEG takes hours over a size in the millions, gdcm ends the whole process.
"""

from __future__ import annotations

import logging
import struct
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

from pydicom import uid
from pydicom.encaps import encapsulate

from backup_scp.errors import InstanceRefused
from backup_scp.light_imports import let_in

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

    import numpy as np
    from pydicom.pixels.decoders.base import Decoder

# Its records repeat what a decoder said of an element's value, with a traceback; the refusal says it in one sentence
logging.getLogger("pydicom.pixels.decoders.base").disabled = True

Decoded = tuple["np.ndarray[Any, Any]", dict[str, str | int]]
"""Pixels of one frame, color-by-pixel; and pydicom's description of them."""

DECODABLE = frozenset(
    str(syntax)
    for syntax in (
        uid.JPEGBaseline8Bit,
        uid.JPEGExtended12Bit,
        uid.JPEGLossless,
        uid.JPEGLosslessSV1,
        uid.JPEGLSLossless,
        uid.JPEGLSNearLossless,
        uid.JPEG2000Lossless,
        uid.JPEG2000,
        uid.HTJ2KLossless,
        uid.HTJ2KLosslessRPCL,
        uid.HTJ2K,
        uid.RLELossless,
    )
)
"""The Transfer Syntaxes that pydicom 3 has a decoder for; whether it is installed, ``can_decode`` says."""

_LOSSY_JPEG = frozenset({uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit})
_JFIF_SEGMENT = b"\xff\xe0\x00\x10JFIF\0\x01\x01\x00\x00\x01\x00\x01\x00\x00"
_ADOBE_YCBCR = b"\1"
_START_OF_IMAGE, _START_OF_JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})  # not Huffman tables, JPG, arithmetic
_START_OF_SCAN, _FILL = 0xDA, 0xFF
_MOST_TILES = 65_535
_JP2_SIGNATURE, _JP2_SIGNATURE_BYTES = b"\0\0\0\x0cjP  ", 12  # ISO/IEC 15444-1 I.5.1


def can_decode(transfer_syntax_uid: str) -> bool:
    """Whether its decoder and numpy are installed."""
    if transfer_syntax_uid not in DECODABLE:
        return False
    decoder = _decoder(transfer_syntax_uid)
    return find_spec("numpy") is not None and decoder.is_available


def _decoder(transfer_syntax_uid: str) -> Decoder:
    """Give pydicom's; numpy and what is installed to decode are loaded when the first one is asked for."""
    let_in()
    from pydicom.pixels.decoders.base import get_decoder

    return get_decoder(transfer_syntax_uid)


class Decoders:
    """The installed decoders of one Transfer Syntax; a context manager.

    Raises
    ------
    InstanceRefused
        None is installed.
    """

    def __init__(self, transfer_syntax_uid: str) -> None:
        if not can_decode(transfer_syntax_uid):
            raise InstanceRefused("its decoder is not installed; run: pip install backup-scp[images]")
        self.transfer_syntax_uid = transfer_syntax_uid
        self._process: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process is not None:
            self._process.shutdown(cancel_futures=True)

    def decode(self, codestream: bytes, options: dict[str, Any]) -> Decoded:
        """Decode one frame, with no change of colour space, and keep the bits above Bits Stored.

        Raises
        ------
        InstanceRefused
            No decoder can.
        """
        if self.transfer_syntax_uid in _LOSSY_JPEG and options.get("samples_per_pixel") == 3:
            codestream = _as_jfif(codestream)
        if self.transfer_syntax_uid != uid.RLELossless:
            _check_size(codestream, options)
        errors = []
        for plugin in _plugins(self.transfer_syntax_uid):
            call = self._apart if plugin == "gdcm" else _decode
            try:
                return call(self.transfer_syntax_uid, plugin, codestream, options)
            except Exception as error:  # noqa: BLE001 - each plug-in raises what it likes
                errors.append(error)
        raise InstanceRefused("its pixels cannot be decoded here") from errors[0]

    def _apart(self, *arguments: Any) -> Decoded:
        """Decode in a process of its own, which a damaged frame may end; the next frame finds it ended."""
        if self._process is None:
            from concurrent.futures import ProcessPoolExecutor
            from multiprocessing import get_context

            self._process = ProcessPoolExecutor(1, get_context("spawn"))
        return self._process.submit(_decode, *arguments).result()


def _decode(transfer_syntax_uid: str, plugin: str, codestream: bytes, options: dict[str, Any]) -> Decoded:
    frames = _decoder(transfer_syntax_uid).iter_array(
        encapsulate([codestream], has_bot=False),
        decoding_plugin=plugin,
        raw=True,
        correct_unused_bits=False,
        **options,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"pydicom\.")
        return next(frames)


def _plugins(transfer_syntax_uid: str) -> list[str]:
    """Name the installed ones, the fastest first, gdcm where there is no other; RLE is pydicom's own."""
    if transfer_syntax_uid == uid.RLELossless:
        return ["pydicom"]
    available = _decoder(transfer_syntax_uid).available_plugins
    return [plugin for plugin in ("pyjpegls", "pylibjpeg", "pillow") if plugin in available] or list(available)


def _check_size(codestream: bytes, options: dict[str, Any]) -> None:
    """Refuse a codestream of another size than the Data Set says, before a decoder fills memory or hours with it."""
    is_jpeg = codestream.startswith(_START_OF_IMAGE)
    size = _jpeg_size(codestream) if is_jpeg else _jpeg_2000_size(codestream[_jp2_box(codestream) :])
    if size != (options.get("rows"), options.get("columns")):
        raise InstanceRefused("its pixels are compressed in another size than its Rows and Columns say")


def _jpeg_size(codestream: bytes) -> tuple[int, int] | None:
    """Read rows and columns from the frame header of JPEG or JPEG-LS (ISO/IEC 10918-1 B.2.2)."""
    for marker, segment in _segments(codestream):
        if marker in _START_OF_FRAME and len(segment) >= 9:
            rows, columns = struct.unpack_from(">HH", segment, 5)
            return rows, columns
    return None


def _jpeg_2000_size(codestream: bytes) -> tuple[int, int] | None:
    """Read rows and columns from the image and tile size (ISO/IEC 15444-1 A.5.1); None with more tiles than allowed."""
    if len(codestream) < 40 or not codestream.startswith(_START_OF_JPEG_2000):
        return None
    right, bottom, left, top, tile_width, tile_height = struct.unpack_from(">6L", codestream, 8)
    if not tile_width or not tile_height or right // tile_width * (bottom // tile_height) > _MOST_TILES:
        return None
    return bottom - top, right - left


def _jp2_box(codestream: bytes) -> int:
    """Return where the codestream begins in a JP2 file (against PS3.5 A.4.4, but seen); 0 when it is none."""
    if not codestream.startswith(_JP2_SIGNATURE):
        return 0
    at = _JP2_SIGNATURE_BYTES
    while at < len(codestream) and codestream[at + 4 : at + 8] != b"jp2c":
        length = int.from_bytes(codestream[at : at + 4], "big")
        if not length:
            raise InstanceRefused("its JPEG 2000 pixels are in a damaged JP2 file")
        at += length
    return at + 8


def _as_jfif(codestream: bytes) -> bytes:
    """Say YCbCr with a JFIF segment where Adobe's APP14 says it (ISO/IEC 10918-6 6.5.3, 10918-5).

    Pillow turns the pixels of the latter into RGB and pydicom still calls them YCbCr; those of the former stay.
    """
    segments = {segment[4:9]: segment for _, segment in _segments(codestream)}
    adobe = segments.get(b"Adobe")
    if adobe is None or (adobe[-1:] != _ADOBE_YCBCR and b"JFIF\0" not in segments):
        return codestream
    return codestream[:2] + _JFIF_SEGMENT + codestream[2:].replace(adobe, b"", 1)


def _segments(codestream: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and bytes of each segment of JPEG or JPEG-LS before the first scan (ISO/IEC 10918-1 B.1.1)."""
    at = 2
    while codestream[at : at + 1] == b"\xff" and len(codestream) > at + 3:
        marker, length = struct.unpack_from(">xBH", codestream, at)
        if marker == _FILL:
            at += 1
        elif marker == _START_OF_SCAN:
            return
        else:
            yield marker, codestream[at : at + 2 + length]
            at += 2 + length
