"""Read a stored Data Set by position, as if it was stored in little endian and not deflated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian

from backup_scp.dicom import transcode
from backup_scp.services.verified_files import PART_BYTES, VerifiedFile

Part = bytes | memoryview

_TO_CONVERT = frozenset((str(DeflatedExplicitVRLittleEndian), str(ExplicitVRBigEndian)))


@dataclass(frozen=True)
class PlainDataSet:
    """A Data Set in little endian, not deflated.

    Attributes
    ----------
    transfer_syntax_uid
        Its encoding.
    size_bytes
        Its length.
    read_at
        Returns so many bytes from a position, fewer only at its end.
    view_at
        Returns the same as memory.
    parts
        Yields so many bytes from a position; each part is valid until the next one is requested.
    stream
        The same, at its first byte.
    """

    transfer_syntax_uid: str
    size_bytes: int
    read_at: Callable[[int, int], bytes]
    view_at: Callable[[int, int], memoryview]
    parts: Callable[[int, int], Iterator[Part]]
    stream: BinaryIO


@contextmanager
def plain(file: VerifiedFile) -> Iterator[PlainDataSet]:
    """Give a Data Set as it is stored; one that is deflated or in big endian, in Explicit VR Little Endian.

    Raises
    ------
    InstanceRefused
        It cannot be converted without loss.
    """
    if file.transfer_syntax_uid not in _TO_CONVERT:
        yield PlainDataSet(
            file.transfer_syntax_uid, file.size_bytes, file.read_at, file.view_at, file.parts, file.stream()
        )
        return
    syntax = str(ExplicitVRLittleEndian)
    folder = file.file.path.parent
    result = transcode.transcode(file.stream(), file.transfer_syntax_uid, [syntax], file.size_bytes, folder)
    with result.data_set as stream:

        def read_at(position: int, length: int) -> bytes:
            stream.seek(position)
            return stream.read(length)

        def view_at(position: int, length: int) -> memoryview:
            return memoryview(read_at(position, length))

        def parts(position: int, length: int) -> Iterator[bytes]:
            end = min(result.size_bytes, position + length)
            for start in range(position, end, PART_BYTES):
                yield read_at(start, min(PART_BYTES, end - start))

        yield PlainDataSet(syntax, result.size_bytes, read_at, view_at, parts, stream)
