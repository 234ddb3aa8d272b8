"""Find single frames in a stored Data Set, and read or decode one without the others (PS3.5 8, A.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from backup_scp.dicom.data_set import FoundPixels, find_pixels
from backup_scp.dicom.transcode.codestreams import Codestream
from backup_scp.dicom.transcode.decoders import begin, finish, read_codestream, require_decoder
from backup_scp.dicom.transcode.element_walk import UNDEFINED, Fragment
from backup_scp.dicom.transcode.frames import split
from backup_scp.dicom.transcode.image_pixel import DESCRIPTION_TAGS, Description, ImagePixel, text
from backup_scp.errors import InstanceRefused, InvalidDataSet

ReadAt = Callable[[int, int], bytes]
"""Returns so many bytes from a position of the Data Set."""

_ROWS, _COLUMNS, _SAMPLES, _BITS_ALLOCATED = 0x00280010, 0x00280011, 0x00280002, 0x00280100
_NUMBER_OF_FRAMES, _PHOTOMETRIC_INTERPRETATION = 0x00280008, 0x00280004
_FLOAT, _DOUBLE = 0x7FE00008, 0x7FE00009
_ITEM, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_ITEM_HEADER_BYTES = 8
_MOST_FRAGMENTS = 1 << 20


@dataclass(frozen=True)
class FrameLayout:
    """Where the frames of a Data Set are.

    Attributes
    ----------
    number_of_frames
        At least 1.
    frame_bits
        Length of a native frame; 0 when they are encapsulated.
    position, length
        The value of native Pixel Data.
    fragments
        The fragments of each encapsulated frame.
    description
        The Image Pixel attributes.
    """

    number_of_frames: int
    frame_bits: int
    position: int
    length: int
    fragments: tuple[tuple[Fragment, ...], ...]
    description: Description

    @property
    def is_encapsulated(self) -> bool:
        """Whether the frames are compressed."""
        return not self.frame_bits

    def require(self, number: int) -> None:
        """Raise when there is no such frame, counted from 1.

        Raises
        ------
        InstanceRefused
            The Data Set says that there is one, but its Pixel Data ends before.
        """
        if self.frame_bits and number * self.frame_bits > self.length * 8:
            raise InstanceRefused(f"its Pixel Data ends before frame {number} of {self.number_of_frames}")

    def size_of(self, number: int) -> int:
        """Return the length of a frame as it is stored; of a native one, in whole bytes."""
        if self.is_encapsulated:
            return sum(fragment.length for fragment in self.fragments[number - 1])
        return -(-self.frame_bits // 8)

    def native_position(self, number: int) -> int | None:
        """Return where a native frame is; None when it does not begin at a byte."""
        bit = (number - 1) * self.frame_bits
        return None if bit % 8 else self.position + bit // 8

    def shifted(self, number: int, read_at: ReadAt) -> bytes:
        """Return a native frame that does not begin at a byte, from its first bit on (PS3.5 8.1.1)."""
        bit = (number - 1) * self.frame_bits
        first, last = bit // 8, -(-(bit + self.frame_bits) // 8)
        bits = int.from_bytes(read_at(self.position + first, last - first), "little") >> bit % 8
        return (bits & (1 << self.frame_bits) - 1).to_bytes(-(-self.frame_bits // 8), "little")

    def encoded(self, number: int, read_at: ReadAt) -> bytes:
        """Return an encapsulated frame as it is stored."""
        return b"".join(read_at(fragment.offset, fragment.length) for fragment in self.fragments[number - 1])


def frame_layout(stream: BinaryIO, read_at: ReadAt, size_bytes: int, transfer_syntax_uid: str) -> FrameLayout:
    """Find the frames of a Data Set in little endian that is not deflated.

    Parameters
    ----------
    stream
        At the first byte; ``read_at`` reads the same.

    Raises
    ------
    InstanceRefused
        It has no pixels, or it is not certain where its frames are.
    """
    try:
        found = find_pixels(stream, transfer_syntax_uid, DESCRIPTION_TAGS)
    except InvalidDataSet as error:
        raise InstanceRefused(f"it cannot be read: {error}") from error
    if found is None:
        raise InstanceRefused("it has no pixels")
    description = {tag: value for tag, (_, value) in found.elements.items()}
    frames = _number_of_frames(description)
    if found.length is not None:
        length = min(found.length, size_bytes - found.position)
        return FrameLayout(frames, _frame_bits(found, description), found.position, length, (), description)
    fragments = _fragments(read_at, found.position)
    return FrameLayout(frames, 0, 0, 0, tuple(split(stream, fragments, description, frames)), description)


def video_fragments(stream: BinaryIO, read_at: ReadAt, transfer_syntax_uid: str) -> Sequence[Fragment]:
    """Return the fragments of a video, which together are one file whatever the number of its frames (PS3.5 8.2.5).

    Raises
    ------
    InstanceRefused
        It has no encapsulated Pixel Data.
    """
    try:
        found = find_pixels(stream, transfer_syntax_uid, DESCRIPTION_TAGS)
    except InvalidDataSet as error:
        raise InstanceRefused(f"it cannot be read: {error}") from error
    if found is None or found.length is not None:
        raise InstanceRefused("it has no encapsulated Pixel Data")
    return _fragments(read_at, found.position)[1:]


def decoded_frame(
    layout: FrameLayout, number: int, read_at: ReadAt, transfer_syntax_uid: str
) -> tuple[memoryview, ImagePixel, Codestream]:
    """Decode one encapsulated frame: color-by-pixel, little endian, all bits.

    Raises
    ------
    InstanceRefused
        It cannot be decoded.
    """
    require_decoder(transfer_syntax_uid)
    pixel = ImagePixel.of(layout.description)
    codestream = read_codestream(transfer_syntax_uid, layout.encoded(number, read_at), pixel)
    pixels = memoryview(bytearray(pixel.frame_bytes))
    finish(begin(transfer_syntax_uid, codestream, pixel, pixels))
    return pixels, pixel, codestream


def _number_of_frames(description: Description) -> int:
    number = text(description, _NUMBER_OF_FRAMES) or "1"
    if not number.isdecimal() or len(number) > 9 or int(number) < 1:
        raise InstanceRefused("its Number of Frames is no number")
    return int(number)


def _frame_bits(found: FoundPixels, description: Description) -> int:
    values = [int.from_bytes(description.get(tag, b"")[:2], "little") for tag in (_ROWS, _COLUMNS)]
    samples = int.from_bytes(description.get(_SAMPLES, b"\1")[:2], "little")
    bits = int.from_bytes(description.get(_BITS_ALLOCATED, b"")[:2], "little")
    bits = {_FLOAT: 32, _DOUBLE: 64}.get(found.tag, bits)
    if text(description, _PHOTOMETRIC_INTERPRETATION) == "YBR_FULL_422":
        samples = 2  # of two pixels, each has a luminance, and both have one chrominance (PS3.3 C.7.6.3.1.2)
    total = values[0] * values[1] * samples * bits
    if not total:
        raise InstanceRefused("its Rows, Columns, Samples per Pixel or Bits Allocated are missing")
    return total


def _fragments(read_at: ReadAt, position: int) -> Sequence[Fragment]:
    fragments: list[Fragment] = []
    while len(fragments) < _MOST_FRAGMENTS:
        header = read_at(position, _ITEM_HEADER_BYTES)
        length = int.from_bytes(header[4:], "little")
        if header[:4] == _SEQUENCE_END or (not header and fragments):
            return fragments
        if header[:4] != _ITEM or length == UNDEFINED:
            raise InstanceRefused("it has fragments of Pixel Data that do not fit together")
        fragments.append(Fragment(position + _ITEM_HEADER_BYTES, length))
        position += _ITEM_HEADER_BYTES + length
    raise InstanceRefused(f"its Pixel Data has more than {_MOST_FRAGMENTS} fragments")
