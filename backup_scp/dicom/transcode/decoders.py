"""Decode one frame, with each word as it was encoded, and list the Transfer Syntaxes that can be decoded.

The codestream's own header is read first (``codestreams.py``) and compared with the Data Set.  Then another process
(``decoder_process.py``) decodes it with imagecodecs, which keeps the bits above Bits Stored.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from pydicom import uid

from backup_scp.dicom.transcode.codestreams import Codestream, read_jpeg, read_jpeg_2000, read_jpeg_ls, read_rle
from backup_scp.dicom.transcode.decoder_process import Codec, DecoderProcess, Frame, Order, Write
from backup_scp.dicom.transcode.image_pixel import ImagePixel
from backup_scp.errors import InstanceRefused

_CODECS: dict[str, Codec] = {
    str(uid.JPEGBaseline8Bit): Codec.JPEG,
    str(uid.JPEGExtended12Bit): Codec.JPEG,
    "1.2.840.10008.1.2.4.53": Codec.JPEG,  # Spectral Selection, Process 6 and 8, retired
    "1.2.840.10008.1.2.4.55": Codec.JPEG,  # Full Progression, Process 10 and 12, retired
    str(uid.JPEGLossless): Codec.JPEG,
    str(uid.JPEGLosslessSV1): Codec.JPEG,
    str(uid.JPEGLSLossless): Codec.JPEG_LS,
    str(uid.JPEGLSNearLossless): Codec.JPEG_LS,
    str(uid.JPEG2000Lossless): Codec.JPEG_2000,
    str(uid.JPEG2000): Codec.JPEG_2000,
    str(uid.HTJ2KLossless): Codec.JPEG_2000,
    str(uid.HTJ2KLosslessRPCL): Codec.JPEG_2000,
    str(uid.HTJ2K): Codec.JPEG_2000,
    str(uid.RLELossless): Codec.RLE,
}
_READERS: dict[Codec, Callable[[bytes], Codestream]] = {
    Codec.JPEG: read_jpeg,
    Codec.JPEG_LS: read_jpeg_ls,
    Codec.JPEG_2000: read_jpeg_2000,
}
_MISSING = "its decoder is not installed; run: pip install backup-scp[images]"

DECODABLE = frozenset(_CODECS)
"""Transfer Syntaxes that can be decoded with the extra ``images``; ``can_decode`` tells whether it is installed."""

_process = DecoderProcess()


def can_decode(transfer_syntax_uid: str) -> bool:
    """Tell whether the decoder of a Transfer Syntax is installed."""
    is_installed = _process.is_running or find_spec("imagecodecs") is not None  # find_spec searches folders each time
    return transfer_syntax_uid in DECODABLE and is_installed


def require_decoder(transfer_syntax_uid: str) -> None:
    """Raise unless the decoder of this Transfer Syntax is installed.

    Raises
    ------
    InstanceRefused
    """
    if not can_decode(transfer_syntax_uid):
        raise InstanceRefused(_MISSING)


def read_codestream(transfer_syntax_uid: str, content: bytes, pixel: ImagePixel) -> Codestream:
    """Read the header of one frame and compare it with the Data Set.

    Raises
    ------
    InstanceRefused
        It has another compression, or lacks pixels or bits.
    """
    codec = _CODECS[transfer_syntax_uid]
    if codec is Codec.RLE:
        codestream = read_rle(content, pixel.rows, pixel.columns, pixel.samples, pixel.bits_allocated)
    else:
        codestream = _READERS[codec](content)
    pixel.require_all_of_it_in(codestream)
    return codestream


def decode(transfer_syntax_uid: str, codestream: Codestream, pixel: ImagePixel, write: Write) -> None:
    """Decode one frame and write it color-by-pixel, little endian, in parts of whole words.

    It keeps the colour space and the bits above Bits Stored.

    Raises
    ------
    InstanceRefused
        The decoder failed, or its process ended.
    """
    _process.decode(_order(transfer_syntax_uid, pixel), codestream.content, write)


def begin(transfer_syntax_uid: str, codestream: Codestream, pixel: ImagePixel, pixels: memoryview) -> Frame:
    """Start to decode one frame into ``pixels``, as ``decode`` writes it, without waiting."""
    return _process.begin(_order(transfer_syntax_uid, pixel), codestream.content, pixels)


def finish(frame: Frame) -> None:
    """Wait until a frame that was begun is decoded.

    Raises
    ------
    InstanceRefused
        The decoder failed, or its process ended.
    """
    _process.finish(frame)


def give_up(frame: Frame) -> None:
    """Cancel a frame that is no longer needed, unless its decoding has begun."""
    _process.give_up(frame)


def _order(transfer_syntax_uid: str, pixel: ImagePixel) -> Order:
    return Order(_CODECS[transfer_syntax_uid], pixel.rows, pixel.columns, pixel.samples, pixel.bytes_per_sample)
