"""What a Data Set says, whatever it is encoded in: a digest of its elements, and one of its decoded pixels too.

Two Data Sets with the same digest tell the same of the same image.  It is made of the Data Set as it would be written
in Implicit VR Little Endian: the VR, the lengths of sequences and Group Lengths are encoding, and so is what describes
encapsulated Pixel Data.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import BinaryIO, cast

from backup_scp.dicom.transcode import write_plainly
from backup_scp.dicom.transcode.element_walk import PIXEL_DATA
from backup_scp.dicom.transcode.image_pixel import FOLLOWS_PIXEL_DATA
from backup_scp.errors import InstanceRefused

_DERIVATION_DESCRIPTION = 0x00082111  # dcmtk writes there that it has compressed without loss
_TRAILING_PADDING = 0xFFFCFFFC
_NOT_SAID = frozenset({_DERIVATION_DESCRIPTION, _TRAILING_PADDING})
_NOT_OF_THE_ELEMENTS = _NOT_SAID | FOLLOWS_PIXEL_DATA | {PIXEL_DATA}


def digest_of_elements(
    data_set: BinaryIO, transfer_syntax_uid: str, size_bytes: int, folder: Path, until: float
) -> str:
    """Digest all elements but Pixel Data, and what describes how that is encoded.

    Parameters
    ----------
    data_set
        At its first byte; seekable.
    transfer_syntax_uid, size_bytes
        What it is encoded in, and how long it is.
    folder
        Where a temporary file without a name may lie.
    until
        On the clock of ``time.monotonic``: when to give up.

    Raises
    ------
    InstanceRefused
        It cannot be read or decoded to its end, or not in that time: nobody knows what it says.
    """
    return _digest(data_set, transfer_syntax_uid, size_bytes, folder, until, _NOT_OF_THE_ELEMENTS)


def digest_of_content(data_set: BinaryIO, transfer_syntax_uid: str, size_bytes: int, folder: Path, until: float) -> str:
    """Digest all elements and the decoded pixels; see ``digest_of_elements``."""
    return _digest(data_set, transfer_syntax_uid, size_bytes, folder, until, _NOT_SAID)


def _digest(
    data_set: BinaryIO, transfer_syntax_uid: str, size_bytes: int, folder: Path, until: float, left_out: frozenset[int]
) -> str:
    result = _Digest(until)
    write_plainly(data_set, transfer_syntax_uid, size_bytes, folder, cast("BinaryIO", result), left_out)
    return result.hexdigest()


class _Digest:
    """Takes what would be written into a file."""

    def __init__(self, until: float) -> None:
        self._until = until
        self._digest = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> int:
        if time.monotonic() > self._until:
            raise InstanceRefused("it takes too long to read all of it")
        self._digest.update(data)
        return len(data)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()
