"""Decode encapsulated Pixel Data frame by frame (PS3.5 A.4), and say what its description becomes.

What belongs to which frame is settled strictly: where the fragments leave a choice, the Data Set is refused, because
a guess can show one frame in place of another.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from pydicom import uid

from backup_scp.errors import InstanceRefused
from backup_scp.transcode.decoders import Decoders
from backup_scp.transcode.elements import Fragment

if TYPE_CHECKING:
    import numpy as np

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
    decoders
        Of its Transfer Syntax; they stay open as long as ``frames`` is used.

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
        self, source: BinaryIO, fragments: Sequence[Fragment], description: Description, decoders: Decoders
    ) -> None:
        self._source = source
        self._decoders = decoders
        self._options = _options(description)
        self._fragments_by_frame = _split(source, fragments, description)
        if decoders.transfer_syntax_uid == uid.RLELossless and any(
            len(frame) > 1 for frame in self._fragments_by_frame
        ):
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
        codestream = b"".join(_read(self._source, fragment, fragment.length) for fragment in fragments)
        pixels, properties = self._decoders.decode(codestream, self._options)
        return self._as_described(pixels), _changes(properties)

    def _as_described(self, pixels: np.ndarray) -> bytes:
        """Put each sample into as many bytes as Bits Allocated says; a codestream of 8 bits may need one more."""
        if pixels.itemsize > self.bytes_per_sample:
            raise InstanceRefused("its pixels are wider than its Bits Allocated says")
        return pixels.astype(f"<{pixels.dtype.kind}{self.bytes_per_sample}", copy=False).tobytes()


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
    if not fragments:
        raise InstanceRefused("its Pixel Data has no Basic Offset Table, which PS3.5 A.4 requires")
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
    """List where in ``source`` the first fragment of each frame is; empty without a table (PS3.3 C.7.6.3.1.8)."""
    table = fragments[0]
    first_byte = table.offset + table.length + _ITEM_HEADER_BYTES
    data, form = description.get(_EXTENDED_OFFSET_TABLE), "<Q"
    if not data:
        data, form = _read(source, table, table.length), "<L"
    whole = len(data) // struct.calcsize(form) * struct.calcsize(form)
    return [first_byte + offset for (offset,) in struct.iter_unpack(form, data[:whole])]


def _number_of_frames(description: Description) -> int:
    text = _text(description, _NUMBER_OF_FRAMES) or "1"
    if not text.isdecimal() or len(text) > 12 or int(text) < 1:
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
