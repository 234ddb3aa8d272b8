"""Open DICOM files of other programs (PS3.10 section 7), also old ones without preamble or File Meta.

The Data Set is neither changed nor copied: the caller gets a stream at its first byte.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from backup_scp.dicom.file_meta import Heading
from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.dicom.uids import is_well_formed
from backup_scp.errors import NotDICOM, SourceUnavailable

MAXIMUM_FILE_META_BYTES = 1 << 20
MAXIMUM_VALUE_BYTES = 1 << 16

_MEDIA_STORAGE_SOP_CLASS_UID = 0x00020002
_MEDIA_STORAGE_SOP_INSTANCE_UID = 0x00020003
TRANSFER_SYNTAX_UID = 0x00020010
_SOURCE_AE_TITLE = 0x00020016

_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_VRS = _LONG_VRS | frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL"}
    | {b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)


def open_part10(path: Path) -> tuple[Heading, BinaryIO]:
    """Open a DICOM file at the first byte of its Data Set.

    The Heading has the Data Set's own UIDs, because File Meta is often copied from the file that a file was made from.
    When the Data Set cannot be read, it has the UIDs of File Meta.

    Errors do not name the path: old drives have folders with patients' names.

    Returns
    -------
    Heading, BinaryIO
        The stream is the caller's to close.

    Raises
    ------
    NotDICOM
        The file is no DICOM file, is a DICOMDIR, or names no SOP Instance.
    SourceUnavailable
        The file cannot be read; it may be a DICOM file.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise SourceUnavailable(f"The file cannot be read ({error.strerror})") from error
    try:
        return read_heading(stream), stream
    except OSError as error:
        stream.close()
        raise SourceUnavailable(f"The file cannot be read ({error.strerror})") from error
    except BaseException:
        stream.close()
        raise


def read_heading(stream: BinaryIO) -> Heading:
    """Read the bytes before the Data Set of a file, and leave the stream at the Data Set's first byte.

    Raises
    ------
    NotDICOM
    OSError
    """
    _skip_preamble(stream)
    meta = read_file_meta(stream)
    offset = stream.tell()
    if meta.get(_MEDIA_STORAGE_SOP_CLASS_UID) == MediaStorageDirectoryStorage:
        raise NotDICOM("A DICOMDIR: a list of files, not an image")
    transfer_syntax_uid = meta.get(TRANSFER_SYNTAX_UID) or _guess_transfer_syntax(stream)
    if not transfer_syntax_uid:
        raise NotDICOM("Not a DICOM file")
    stream.seek(offset)
    instance = SOPInstance.read(
        stream,
        transfer_syntax_uid,
        meta.get(_MEDIA_STORAGE_SOP_CLASS_UID, ""),
        meta.get(_MEDIA_STORAGE_SOP_INSTANCE_UID, ""),
    )
    if not instance.sop_instance_uid:
        raise NotDICOM("It names no SOP Instance UID")
    stream.seek(offset)
    source = meta.get(_SOURCE_AE_TITLE, "")
    return Heading(instance.sop_class_uid, instance.sop_instance_uid, transfer_syntax_uid, source)


def _skip_preamble(stream: BinaryIO) -> None:
    """Skip preamble and ``DICM``, or only ``DICM`` at the beginning: some writers leave the preamble out."""
    beginning = stream.read(132)
    if beginning[128:] != b"DICM":
        stream.seek(4 if beginning.startswith(b"DICM") else 0)


def read_file_meta(stream: BinaryIO) -> dict[int, str]:
    """Read group 0002 up to the Data Set; ignore its group length, which is often wrong.

    Raises
    ------
    NotDICOM
        It has no end.
    """
    meta: dict[int, str] = {}
    end = stream.tell() + MAXIMUM_FILE_META_BYTES
    while stream.tell() < end:
        start = stream.tell()
        element = _meta_element(stream)
        if element is None:
            stream.seek(start)
            return meta
        tag, length = element
        if length > end - stream.tell():
            raise NotDICOM("A File Meta element claims to be longer than File Meta can be")
        value = stream.read(min(length, MAXIMUM_VALUE_BYTES))
        stream.seek(max(0, length - MAXIMUM_VALUE_BYTES), 1)
        meta[tag] = value.partition(b"\0")[0].decode("ascii", errors="replace").strip(" ")
    raise NotDICOM("File Meta without an end")


def _meta_element(stream: BinaryIO) -> tuple[int, int] | None:
    """Read the tag and value length of an element; None after the end of group 0002."""
    header = stream.read(8)
    if len(header) < 8 or header[:2] != b"\x02\x00":
        return None
    group, element = struct.unpack("<HH", header[:4])
    vr = header[4:6]
    if vr in _LONG_VRS:
        (length,) = struct.unpack("<I", stream.read(4).ljust(4, b"\xff"))
    elif vr in _VRS:
        (length,) = struct.unpack("<H", header[6:])
    else:  # some writers encode even File Meta in Implicit VR
        (length,) = struct.unpack("<I", header[4:])
    return group << 16 | element, length


def _guess_transfer_syntax(stream: BinaryIO) -> str:
    """Detect the Transfer Syntax from the first element of a Data Set; empty when the bytes do not look like one.

    The Data Set of a SOP Instance begins in group 0008.
    """
    header = stream.read(8)
    if len(header) < 8:
        return ""
    little, big = header[:2] == b"\x08\x00", header[:2] == b"\x00\x08"
    if header[4:6] in _VRS:
        return ExplicitVRLittleEndian if little else ExplicitVRBigEndian if big else ""
    if little and struct.unpack("<I", header[4:])[0] <= MAXIMUM_VALUE_BYTES:
        return ImplicitVRLittleEndian
    return ""


def relabelled(header: bytes, from_uid: str, to_uid: str) -> bytes:
    """Replace the Transfer Syntax UID in a header of ours, without changing its length; if impossible, change nothing.

    The rest of the value is padding: more than PS3.5 9.1 allows, but readers remove it.
    """
    if from_uid == to_uid or not is_well_formed(to_uid):
        return header
    length = len(from_uid) + len(from_uid) % 2
    before = struct.pack("<HH2sH", 2, TRANSFER_SYNTAX_UID & 0xFFFF, b"UI", length)
    element = before + from_uid.encode("utf-8", "surrogatepass").ljust(length, b"\0")
    if len(to_uid) > length:
        return header
    return header.replace(element, before + to_uid.encode().ljust(length, b"\0"), 1)
