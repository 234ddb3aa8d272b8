"""Receive a DICOM file chunk by chunk: find its Data Set, and hash that."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from io import BytesIO
from typing import BinaryIO, Protocol

from backup_scp.dicom.part10 import MAXIMUM_FILE_META_BYTES, TRANSFER_SYNTAX_UID, read_file_meta
from backup_scp.errors import DigestMismatch, NotDICOM

_PREFIX = 132  # preamble and DICM
_BEFORE_META = _PREFIX + 12  # File Meta Information Group Length, PS3.10 7.1
_GROUP_LENGTH = struct.pack("<HH2sH", 2, 0, b"UL", 4)


class DataSetWriter(Protocol):
    """Takes bytes."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""


class ReceivedFile:
    """A DICOM file that comes in chunks.

    Parameters
    ----------
    whole
        Gets every byte, if given.
    data_set
        Gets the Data Set alone, if given.
    begin
        Called with the Transfer Syntax UID when File Meta has come; returns what gets the Data Set.

    Attributes
    ----------
    size_bytes
        Length of the Data Set so far.
    transfer_syntax_uid
        As File Meta says; empty before it has come.
    """

    def __init__(
        self,
        whole: BinaryIO | None = None,
        data_set: DataSetWriter | None = None,
        begin: Callable[[str], DataSetWriter] | None = None,
    ) -> None:
        self.size_bytes = 0
        self.transfer_syntax_uid = ""
        self._whole = whole
        self._data_set = data_set
        self._begin = begin
        self._digest = hashlib.sha256()
        self._header: bytearray | None = bytearray()

    @property
    def sha256(self) -> str:
        """SHA-256 of the Data Set so far."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises
        ------
        DigestMismatch
            They are no DICOM file.
        """
        if self._whole is not None:
            self._whole.write(data)
        if self._header is not None:
            self._header += data
            data = self._data_set_after(self._header)
        self.size_bytes += len(data)
        self._digest.update(data)
        if self._data_set is not None:
            self._data_set.write(data)

    def _data_set_after(self, header: bytearray) -> bytes:
        """Return the bytes after File Meta; nothing while File Meta is incomplete."""
        if len(header) < _BEFORE_META:
            return b""
        (length,) = struct.unpack_from("<I", header, _BEFORE_META - 4)
        is_dicom = header[_PREFIX - 4 : _PREFIX] == b"DICM" and header[_PREFIX:].startswith(_GROUP_LENGTH)
        if not is_dicom or length > MAXIMUM_FILE_META_BYTES:
            raise DigestMismatch("It came back as something that is no DICOM file")
        end = _BEFORE_META + length
        if len(header) < end:
            return b""
        try:
            meta = read_file_meta(BytesIO(header[_BEFORE_META:end]))
        except NotDICOM:
            meta = {}
        self.transfer_syntax_uid = meta.get(TRANSFER_SYNTAX_UID, "")
        self._header = None
        if self._begin is not None:
            self._data_set = self._begin(self.transfer_syntax_uid)
        return bytes(header[end:])
