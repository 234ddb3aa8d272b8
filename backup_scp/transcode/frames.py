"""Decode encapsulated Pixel Data frame by frame (PS3.5 A.4), and say what its description becomes.

pydicom and its plug-ins decode; what belongs to which frame is settled here, strictly: where the fragments leave a
choice, the Data Set is refused, because a guess can show one frame in place of another.
"""

from __future__ import annotations

import logging
import struct
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, BinaryIO

from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder

from backup_scp.errors import InstanceRefused
from backup_scp.transcode.elements import Fragment

if TYPE_CHECKING:
    import numpy as np

# Its records repeat what a decoder said of an element's value, with a traceback; the refusal says it in one sentence
logging.getLogger("pydicom.pixels.decoders.base").disabled = True

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

Description = dict[int, bytes]
"""The encoded Values of ``DESCRIPTION_TAGS`` in one Data Set or item, by tag."""

_PHOTOMETRIC_INTERPRETATION, _NUMBER_OF_FRAMES, _PLANAR_CONFIGURATION = 0x00280004, 0x00280008, 0x00280006
_BITS_ALLOCATED = 0x00280100
_EXTENDED_OFFSET_TABLE, _EXTENDED_LENGTHS, _TOTAL_LENGTH = 0x7FE00001, 0x7FE00002, 0x7FE00003
_NUMBERS = {
    0x00280002: "samples_per_pixel",
    _PLANAR_CONFIGURATION: "planar_configuration",
    0x00280010: "rows",
    0x00280011: "columns",
    _BITS_ALLOCATED: "bits_allocated",
    0x00280101: "bits_stored",
    0x00280103: "pixel_representation",
}
DESCRIPTION_TAGS = frozenset({*_NUMBERS, _PHOTOMETRIC_INTERPRETATION, _NUMBER_OF_FRAMES, _EXTENDED_OFFSET_TABLE})
_START_OF_CODESTREAM = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")  # JPEG and JPEG-LS; JPEG 2000 and HTJ2K
_ITEM_HEADER_BYTES = 8
_LOSSY_JPEG = frozenset({uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit})
_JFIF_SEGMENT = b"\xff\xe0\x00\x10JFIF\0\x01\x01\x00\x00\x01\x00\x01\x00\x00"
_ADOBE_YCBCR = 1
_JP2_SIGNATURE, _JP2_SIGNATURE_BYTES = b"\0\0\0\x0cjP  ", 12  # ISO/IEC 15444-1 I.5.1


def can_decode(transfer_syntax_uid: str) -> bool:
    """Whether its decoder and numpy are installed."""
    return (
        transfer_syntax_uid in DECODABLE
        and find_spec("numpy") is not None
        and get_decoder(transfer_syntax_uid).is_available
    )


def _plugins(transfer_syntax_uid: str) -> list[str]:
    """Name the installed ones, the fastest first, gdcm last: pydicom cannot correct signs in its frames.

    RLE is pydicom's own: pylibjpeg-rle panics on damaged frames, with an exception that is no ``Exception``.
    """
    if transfer_syntax_uid == uid.RLELossless:
        return ["pydicom"]
    available = get_decoder(transfer_syntax_uid).available_plugins
    return [plugin for plugin in ("pyjpegls", "pylibjpeg", "pillow", "gdcm") if plugin in available]


class DecodedPixelData:
    """The frames of one encapsulated Pixel Data element; the first one is decoded at once.

    Parameters
    ----------
    source
        Where the fragments are.
    fragments
        The Basic Offset Table, then the rest.
    description
        Of the Data Set or item that the element belongs to.

    Attributes
    ----------
    changes : dict of int to bytes or None
        New Values of elements beside Pixel Data; None for one that goes.
    bytes_per_sample, size_bytes : int
        Of all frames together, without padding.

    Raises
    ------
    InstanceRefused
        The frames cannot be told apart or decoded, or are not what the description says.
    """

    def __init__(
        self, source: BinaryIO, fragments: Sequence[Fragment], description: Description, transfer_syntax_uid: str
    ) -> None:
        if not can_decode(transfer_syntax_uid):
            raise InstanceRefused("its decoder is not installed; run: pip install backup-scp[images]")
        self._source = source
        self._transfer_syntax_uid = transfer_syntax_uid
        self._options = _options(description)
        self._fragments_by_frame = _split(source, fragments, description)
        if transfer_syntax_uid == uid.RLELossless and any(len(frame) > 1 for frame in self._fragments_by_frame):
            raise InstanceRefused("it has an RLE frame in several fragments, which PS3.5 G.3 does not allow")
        self.bytes_per_sample = _bytes_per_sample(description)
        self._first, self.changes = self._decode(self._fragments_by_frame[0])
        self.size_bytes = len(self._first) * len(self._fragments_by_frame)

    def frames(self) -> Iterator[bytes]:
        """Every frame, color-by-pixel, little endian, one in memory at a time."""
        yield self._first
        for fragments in self._fragments_by_frame[1:]:
            frame, changes = self._decode(fragments)
            if changes != self.changes:
                raise InstanceRefused("its frames are of different colour spaces")
            yield frame

    def _decode(self, fragments: Sequence[Fragment]) -> tuple[bytes, dict[int, bytes | None]]:
        """Decode one frame, with no change of colour space, and keep the bits above Bits Stored."""
        codestream = b"".join(_read(self._source, fragment, fragment.length) for fragment in fragments)
        if self._transfer_syntax_uid in _LOSSY_JPEG and self._options.get("samples_per_pixel") == 3:
            codestream = _as_jfif(codestream)
        _check_boxes(codestream)
        encapsulated = encapsulate([codestream], has_bot=False)
        errors = []
        for plugin in _plugins(self._transfer_syntax_uid):
            frames = get_decoder(self._transfer_syntax_uid).iter_array(
                encapsulated, decoding_plugin=plugin, raw=True, correct_unused_bits=False, **self._options
            )
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", module=r"pydicom\.")
                    pixels, properties = next(frames)
            except Exception as error:  # noqa: BLE001 - each plug-in raises what it likes
                errors.append(error)
            else:
                return self._as_described(pixels), _changes(properties)
        raise InstanceRefused("its pixels cannot be decoded here") from (errors[0] if errors else None)

    def _as_described(self, pixels: np.ndarray) -> bytes:
        """Put each sample into as many bytes as Bits Allocated says; a codestream of 8 bits may need one more."""
        if pixels.itemsize > self.bytes_per_sample:
            raise InstanceRefused("its pixels are wider than its Bits Allocated says")
        return pixels.astype(f"<{pixels.dtype.kind}{self.bytes_per_sample}", copy=False).tobytes()


def _check_boxes(codestream: bytes) -> None:
    """Refuse a JP2 file (against PS3.5 A.4.4, but seen) with an empty box in front, on which pydicom never ends."""
    at = _JP2_SIGNATURE_BYTES
    end = len(codestream) if codestream.startswith(_JP2_SIGNATURE) else 0
    while at < end and codestream[at + 4 : at + 8] != b"jp2c":
        length = int.from_bytes(codestream[at : at + 4], "big")
        if not length:
            raise InstanceRefused("its JPEG 2000 pixels are in a damaged JP2 file")
        at += length


def _as_jfif(codestream: bytes) -> bytes:
    """Say YCbCr with a JFIF segment where Adobe's APP14 says it (ISO/IEC 10918-6 6.5.3, 10918-5).

    Pillow turns the pixels of the latter into RGB and pydicom still calls them YCbCr; those of the former stay.
    """
    at, segments = 2, {}
    while codestream[at : at + 1] == b"\xff" and codestream[at + 1 : at + 2] not in {b"\xda", b""}:
        length = 2 + int.from_bytes(codestream[at + 2 : at + 4], "big")
        segments[codestream[at + 4 : at + 9]] = slice(at, at + length)
        at += length
    adobe = segments.get(b"Adobe")
    if adobe is None or (codestream[adobe.stop - 1] != _ADOBE_YCBCR and b"JFIF\0" not in segments):
        return codestream
    return codestream[:2] + _JFIF_SEGMENT + codestream[2 : adobe.start] + codestream[adobe.stop :]


def _changes(properties: dict[str, str | int]) -> dict[int, bytes | None]:
    """Describe the decoded pixels (PS3.3 C.7.6.3.1.2, C.7.6.3.1.3); subsampling ends with decoding."""
    interpretation = str(properties["photometric_interpretation"])
    if interpretation == "YBR_FULL_422":
        interpretation = "YBR_FULL"
    elif interpretation.startswith("YBR_PARTIAL"):
        raise InstanceRefused(f"{interpretation} has no equal without compression")
    changes: dict[int, bytes | None] = dict.fromkeys((_EXTENDED_OFFSET_TABLE, _EXTENDED_LENGTHS, _TOTAL_LENGTH))
    changes[_PHOTOMETRIC_INTERPRETATION] = interpretation.encode() + b" " * (len(interpretation) % 2)
    if "planar_configuration" in properties:
        changes[_PLANAR_CONFIGURATION] = struct.pack("<H", properties["planar_configuration"])
    return changes


def _options(description: Description) -> dict[str, Any]:
    """Tell a decoder what it has to know; what is missing or impossible, pydicom refuses."""
    options: dict[str, Any] = {
        name: int.from_bytes(description[tag][:2], "little") for tag, name in _NUMBERS.items() if description.get(tag)
    }
    options["number_of_frames"] = 1
    options["photometric_interpretation"] = _text(description, _PHOTOMETRIC_INTERPRETATION)
    return options


def _bytes_per_sample(description: Description) -> int:
    bits_allocated = int.from_bytes(description.get(_BITS_ALLOCATED, b""), "little")
    if bits_allocated not in {8, 16, 32}:
        raise InstanceRefused(f"its Bits Allocated is {bits_allocated}, and not 8, 16 or 32")
    return bits_allocated // 8


def _split(source: BinaryIO, fragments: Sequence[Fragment], description: Description) -> list[tuple[Fragment, ...]]:
    """Settle which fragments make up which frame (PS3.5 A.4)."""
    frames = _number_of_frames(description)
    pieces = [fragment for fragment in fragments[1:] if fragment.length]
    if len(pieces) == frames:
        return [(piece,) for piece in pieces]
    begins = {piece.offset for piece in pieces if _read(source, piece, 4).startswith(_START_OF_CODESTREAM)}
    offsets = _offset_table(source, fragments, description) if frames > 1 else []
    groups: list[list[Fragment]] = []
    for index, piece in enumerate(pieces):
        if index == 0 or piece.offset in (offsets or begins):
            groups.append([])
        groups[-1].append(piece)
    if len(groups) != frames or any(piece.offset in begins for group in groups for piece in group[1:]):
        raise InstanceRefused(f"its Pixel Data in {len(pieces)} fragments is not {frames} frame(s), as it says")
    return [tuple(group) for group in groups]


def _offset_table(source: BinaryIO, fragments: Sequence[Fragment], description: Description) -> list[int]:
    """Where in ``source`` the first fragment of each frame is; empty without a table (PS3.3 C.7.6.3.1.8)."""
    table = fragments[0]
    first_byte = table.offset + table.length + _ITEM_HEADER_BYTES
    data, form = description.get(_EXTENDED_OFFSET_TABLE), "<Q"
    if not data:
        data, form = _read(source, table, table.length), "<L"
    whole = len(data) // struct.calcsize(form) * struct.calcsize(form)
    return [first_byte + offset for (offset,) in struct.iter_unpack(form, data[:whole])]


def _number_of_frames(description: Description) -> int:
    text = _text(description, _NUMBER_OF_FRAMES) or "1"
    if not text.isdecimal() or int(text) < 1:
        raise InstanceRefused("its Number of Frames is no number")
    return int(text)


def _text(description: Description, tag: int) -> str:
    return description.get(tag, b"").decode("latin-1").strip(" \0")


def _read(source: BinaryIO, fragment: Fragment, length: int) -> bytes:
    source.seek(fragment.offset)
    data = source.read(min(length, fragment.length))
    if len(data) != min(length, fragment.length):
        raise InstanceRefused("its file is shorter than it was")
    return data
