"""Read the description of pixels (PS3.3 C.7.6.3), and check that a codestream has all of them."""

from __future__ import annotations

import struct
from typing import NamedTuple

from backup_scp.dicom.transcode.codestreams import Codestream
from backup_scp.errors import InstanceRefused

Description = dict[int, bytes]
"""The encoded Values of ``DESCRIPTION_TAGS`` in one Data Set or item, by tag."""

_SAMPLES, _PHOTOMETRIC_INTERPRETATION, _PLANAR_CONFIGURATION = 0x00280002, 0x00280004, 0x00280006
_NUMBER_OF_FRAMES, _ROWS, _COLUMNS = 0x00280008, 0x00280010, 0x00280011
_BITS_ALLOCATED, _BITS_STORED, _HIGH_BIT, _PIXEL_REPRESENTATION = 0x00280100, 0x00280101, 0x00280102, 0x00280103
EXTENDED_OFFSET_TABLE = 0x7FE00001
_EXTENDED_LENGTHS, _TOTAL_LENGTH = 0x7FE00002, 0x7FE00003
_REQUIRED = {
    _SAMPLES: "Samples per Pixel",
    _PHOTOMETRIC_INTERPRETATION: "Photometric Interpretation",
    _ROWS: "Rows",
    _COLUMNS: "Columns",
    _BITS_ALLOCATED: "Bits Allocated",
    _BITS_STORED: "Bits Stored",
    _PIXEL_REPRESENTATION: "Pixel Representation",
}
DESCRIPTION_TAGS = frozenset({*_REQUIRED, _HIGH_BIT, _NUMBER_OF_FRAMES, _PLANAR_CONFIGURATION, EXTENDED_OFFSET_TABLE})
FOLLOWS_PIXEL_DATA = frozenset(
    {_PHOTOMETRIC_INTERPRETATION, _PLANAR_CONFIGURATION, EXTENDED_OFFSET_TABLE, _EXTENDED_LENGTHS, _TOTAL_LENGTH}
)
"""Tags of elements, other than Pixel Data, that change when it is decoded."""
_FRAME_LIMIT_BYTES = 1 << 30
_COLOURS = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})
_INTERPRETATIONS = {
    1: frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"}),
    3: _COLOURS,
}
_OF_JPEG_2000 = frozenset({"YBR_ICT", "YBR_RCT"})


class ImagePixel(NamedTuple):
    """The attributes of the Image Pixel Module that a decoder needs, of one Data Set or item."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    interpretation: str
    number_of_frames: int

    @classmethod
    def of(cls, description: Description) -> ImagePixel:
        """Read it from the encoded Values.

        Raises
        ------
        InstanceRefused
            An attribute is missing or impossible.
        """
        for tag, name in _REQUIRED.items():
            if not description.get(tag):
                raise InstanceRefused(f"it has no {name}, so its pixels cannot be decoded")
        bits_stored = _number(description, _BITS_STORED)
        pixel = cls(
            rows=_number(description, _ROWS),
            columns=_number(description, _COLUMNS),
            samples=_number(description, _SAMPLES),
            bits_allocated=_number(description, _BITS_ALLOCATED),
            bits_stored=bits_stored,
            high_bit=_number(description, _HIGH_BIT) if description.get(_HIGH_BIT) else bits_stored - 1,
            is_signed=_number(description, _PIXEL_REPRESENTATION) == 1,
            interpretation=text(description, _PHOTOMETRIC_INTERPRETATION),
            number_of_frames=_number_of_frames(description),
        )
        pixel._require_possible(_number(description, _PIXEL_REPRESENTATION))
        return pixel

    @property
    def bytes_per_sample(self) -> int:
        """Length of one uncompressed sample."""
        return self.bits_allocated // 8

    @property
    def frame_bytes(self) -> int:
        """Length of one decoded frame."""
        return self.rows * self.columns * self.samples * self.bytes_per_sample

    def _require_possible(self, pixel_representation: int) -> None:
        if self.bits_allocated not in {8, 16, 32}:
            raise InstanceRefused(f"its Bits Allocated is {self.bits_allocated}, and not 8, 16 or 32")
        if not 0 < self.bits_stored <= self.high_bit + 1 <= self.bits_allocated:
            raise InstanceRefused("its Bits Allocated, Bits Stored and High Bit contradict each other")
        if pixel_representation > 1:
            raise InstanceRefused(f"its Pixel Representation is {pixel_representation}, and not 0 or 1")
        if self.interpretation.startswith("YBR_PARTIAL"):
            raise InstanceRefused(f"{self.interpretation} has no equal without compression")
        if self.interpretation not in _INTERPRETATIONS.get(self.samples, ()):
            raise InstanceRefused("its Samples per Pixel and Photometric Interpretation cannot be decoded together")
        if not self.rows or not self.columns:
            raise InstanceRefused("its Rows or Columns are 0")
        if self.frame_bytes > _FRAME_LIMIT_BYTES:
            raise InstanceRefused("a decoded frame of it would be larger than 1 GiB")

    def require_all_of_it_in(self, codestream: Codestream) -> None:
        """Raise unless the codestream's header has every pixel and every bit that the Data Set describes.

        Raises
        ------
        InstanceRefused
            It has another size, or fewer or more bits.
        """
        if (codestream.rows, codestream.columns) != (self.rows, self.columns):
            raise InstanceRefused("its pixels are compressed in another size than its Rows and Columns say")
        if codestream.samples != self.samples:
            raise InstanceRefused(
                f"its pixels are compressed with {codestream.samples} samples, "
                f"and its Samples per Pixel is {self.samples}"
            )
        if codestream.precision > self.bits_allocated:
            raise InstanceRefused(
                f"its pixels are compressed with {codestream.precision} bits, "
                f"which is wider than its Bits Allocated says"
            )
        if codestream.precision <= self.high_bit:
            raise InstanceRefused(
                f"bits are missing: its pixels are compressed with {codestream.precision} bits, "
                f"and its Bits Stored is {self.bits_stored}, its High Bit {self.high_bit}"
            )
        if codestream.is_signed and not self.is_signed:
            raise InstanceRefused("its pixels are compressed with a sign, and its Pixel Representation has none")

    def interpretation_of(self, codestream: Codestream) -> str:
        """Return the colour space of the decoded pixels, without subsampling and the transformations of JPEG 2000."""
        if self.interpretation in _OF_JPEG_2000:
            return "RGB"
        if self.interpretation == "YBR_FULL_422":
            return codestream.interpretation or "YBR_FULL"
        return codestream.interpretation or self.interpretation

    def changes(self, codestream: Codestream) -> dict[int, bytes | None]:
        """Return new Values of other elements for decoded Pixel Data; None to remove one (PS3.3 C.7.6.3.1.2, .3)."""
        interpretation = self.interpretation_of(codestream)
        changes: dict[int, bytes | None] = dict.fromkeys((EXTENDED_OFFSET_TABLE, _EXTENDED_LENGTHS, _TOTAL_LENGTH))
        changes[_PHOTOMETRIC_INTERPRETATION] = interpretation.encode() + b" " * (len(interpretation) % 2)
        if self.samples > 1:
            changes[_PLANAR_CONFIGURATION] = struct.pack("<H", 0)
        return changes


def _number(description: Description, tag: int) -> int:
    return int.from_bytes(description[tag][:2], "little")


def _number_of_frames(description: Description) -> int:
    number = text(description, _NUMBER_OF_FRAMES) or "1"
    if not number.isdecimal() or len(number) > 12 or int(number) < 1:
        raise InstanceRefused("its Number of Frames is no number")
    return int(number)


def text(description: Description, tag: int) -> str:
    """Decode a Value that is a code or a number as text."""
    return description.get(tag, b"").decode("latin-1").strip(" \0")
