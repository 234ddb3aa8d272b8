"""Hash the content of a Data Set independently of its encoding: its elements, and its decoded pixels too.

Two Data Sets with the same digest have the same content.  The digest is that of the Data Set in Implicit VR Little
Endian: VRs, lengths of sequences, Group Lengths and the description of encapsulated Pixel Data belong to the encoding,
and are left out.
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

_DERIVATION_DESCRIPTION = 0x00082111  # dcmtk writes there that it compressed losslessly
_TRAILING_PADDING = 0xFFFCFFFC
_NOT_SAID = frozenset({_DERIVATION_DESCRIPTION, _TRAILING_PADDING})
_NOT_OF_THE_ELEMENTS = _NOT_SAID | FOLLOWS_PIXEL_DATA | {PIXEL_DATA}


def digest_of_elements(
    data_set: BinaryIO, transfer_syntax_uid: str, size_bytes: int, folder: Path, until: float
) -> str:
    """Hash all elements except Pixel Data and the description of its encoding.

    Parameters
    ----------
    data_set
        At its first byte; seekable.
    transfer_syntax_uid, size_bytes
        Its encoding and its length.
    folder
        Folder for a temporary file without a name.
    until
        Deadline, on the clock of ``time.monotonic``.

    Raises
    ------
    InstanceRefused
        It cannot be read or decoded to its end, or not in time, so its content is unknown.
    """
    return _digest(data_set, transfer_syntax_uid, size_bytes, folder, until, _NOT_OF_THE_ELEMENTS)


def digest_of_content(data_set: BinaryIO, transfer_syntax_uid: str, size_bytes: int, folder: Path, until: float) -> str:
    """Hash all elements and the decoded pixels; see ``digest_of_elements``."""
    return _digest(data_set, transfer_syntax_uid, size_bytes, folder, until, _NOT_SAID)


def _digest(
    data_set: BinaryIO, transfer_syntax_uid: str, size_bytes: int, folder: Path, until: float, left_out: frozenset[int]
) -> str:
    result = _Digest(until)
    write_plainly(data_set, transfer_syntax_uid, size_bytes, folder, cast("BinaryIO", result), left_out)
    return result.hexdigest()


class _Digest:
    """A file object that hashes what is written."""

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
