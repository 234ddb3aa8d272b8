"""Decode encapsulated Pixel Data frame by frame (PS3.5 A.4), and compute its new description.

The mapping from fragments to frames is strict: when it is ambiguous, the Data Set is refused, because a guess can show
one frame in place of another.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from pydicom import uid

from backup_scp.dicom.transcode.codestreams import Codestream
from backup_scp.dicom.transcode.decoder_process import Frame, Write
from backup_scp.dicom.transcode.decoders import begin, decode, finish, give_up, read_codestream, require_decoder
from backup_scp.dicom.transcode.element_walk import Fragment
from backup_scp.dicom.transcode.image_pixel import EXTENDED_OFFSET_TABLE, Description, ImagePixel
from backup_scp.errors import InstanceRefused

_START_OF_CODESTREAM = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")  # JPEG and JPEG-LS; JPEG 2000 and HTJ2K
_ITEM_HEADER_BYTES = 8
_AHEAD_BYTES = 1 << 20
"""The largest frame, in bytes, that is decoded while the one before it is written."""


class DecodedPixelData:
    """The frames of one encapsulated Pixel Data element; reads the header of the first frame at once.

    Parameters
    ----------
    source
        The stream that has the fragments.
    fragments
        The Basic Offset Table, then the other fragments.
    description
        Description of the Data Set or item that the element belongs to.
    transfer_syntax_uid
        The compression.
    keeps_first
        Whether to keep the first frame in memory, so that it is not read again for decoding.

    Attributes
    ----------
    changes : dict of int to bytes or None
        New Values of elements other than Pixel Data; None for one that is removed.
    bytes_per_sample, size_bytes : int
        Size of a sample, and of all frames together without padding.
    number_of_frames : int

    Raises
    ------
    InstanceRefused
        The frames cannot be separated, or do not match the description.
    """

    def __init__(
        self,
        source: BinaryIO,
        fragments: Sequence[Fragment],
        description: Description,
        transfer_syntax_uid: str,
        *,
        keeps_first: bool = False,
    ) -> None:
        require_decoder(transfer_syntax_uid)
        self._source = source
        self._transfer_syntax_uid = transfer_syntax_uid
        self._pixel = ImagePixel.of(description)
        self._fragments_by_frame = split(source, fragments, description, self._pixel.number_of_frames)
        if transfer_syntax_uid == uid.RLELossless and any(len(frame) > 1 for frame in self._fragments_by_frame):
            raise InstanceRefused("it has an RLE frame in several fragments, which PS3.5 G.3 does not allow")
        self.bytes_per_sample = self._pixel.bytes_per_sample
        self.number_of_frames = len(self._fragments_by_frame)
        self.size_bytes = self._pixel.frame_bytes * self.number_of_frames
        first = self._codestream(self._fragments_by_frame[0])
        self.changes = self._pixel.changes(first)
        self._first = first if keeps_first else None

    def write_frames(self, write: Write) -> None:
        """Decode every frame and write it in parts of whole words, color-by-pixel, little endian.

        Raises
        ------
        InstanceRefused
            A frame cannot be decoded, or differs in form from the first.
        """
        if self._pixel.frame_bytes > _AHEAD_BYTES:
            for codestream in self._codestreams():
                decode(self._transfer_syntax_uid, codestream, self._pixel, write)
        else:
            self._write_ahead(write)

    def begin(self, pixels: memoryview) -> Frame:
        """Start to decode the only frame into ``pixels``, as ``write_frames`` writes it, without waiting."""
        (codestream,) = self._codestreams()
        return begin(self._transfer_syntax_uid, codestream, self._pixel, pixels)

    def _write_ahead(self, write: Write) -> None:
        """Write each frame while the next one is decoded."""
        begun: deque[tuple[Frame, memoryview]] = deque()
        idle = [memoryview(bytearray(self._pixel.frame_bytes)) for _ in range(min(2, self.number_of_frames))]

        def write_first() -> None:
            frame, pixels = begun.popleft()
            finish(frame)
            write(pixels)
            idle.append(pixels)

        try:
            for codestream in self._codestreams():
                if not idle:
                    write_first()
                pixels = idle.pop()
                begun.append((begin(self._transfer_syntax_uid, codestream, self._pixel, pixels), pixels))
            while begun:
                write_first()
        finally:
            for frame, _ in begun:
                give_up(frame)

    def _codestreams(self) -> Iterator[Codestream]:
        """Yield each frame; raise when their colour spaces differ."""
        for number, fragments in enumerate(self._fragments_by_frame):
            codestream = self._first if self._first and not number else self._codestream(fragments)
            if self._pixel.changes(codestream) != self.changes:
                raise InstanceRefused("its frames are of different colour spaces")
            yield codestream

    def _codestream(self, fragments: Sequence[Fragment]) -> Codestream:
        content = b"".join(_read(self._source, fragment, fragment.length) for fragment in fragments)
        return read_codestream(self._transfer_syntax_uid, content, self._pixel)


def split(
    source: BinaryIO, fragments: Sequence[Fragment], description: Description, frames: int
) -> list[tuple[Fragment, ...]]:
    """Group the fragments by frame (PS3.5 A.4).

    Raises
    ------
    InstanceRefused
        It is not certain which fragment belongs to which frame.
    """
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
    """Return the positions in ``source`` of each frame's first fragment; empty without a table (PS3.3 C.7.6.3.1.8)."""
    table = fragments[0]
    first_byte = table.offset + table.length + _ITEM_HEADER_BYTES
    data, form = description.get(EXTENDED_OFFSET_TABLE), "<Q"
    if not data:
        data, form = _read(source, table, table.length), "<L"
    whole = len(data) // struct.calcsize(form) * struct.calcsize(form)
    return [first_byte + offset for (offset,) in struct.iter_unpack(form, data[:whole])]


def _read(source: BinaryIO, fragment: Fragment, length: int) -> bytes:
    source.seek(fragment.offset)
    data = source.read(min(length, fragment.length))
    if len(data) != min(length, fragment.length):
        raise InstanceRefused("its file is shorter than it was")
    return data
