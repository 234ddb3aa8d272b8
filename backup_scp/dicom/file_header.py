"""Encode the bytes before a Data Set that came over the network, so that it becomes a DICOM file (PS3.10 7.1)."""

from __future__ import annotations

import struct

from backup_scp.dicom.file_meta import Heading
from backup_scp.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def file_header(heading: Heading) -> bytes:
    """Return preamble and File Meta Information for a Data Set; they do not say where it came from."""
    elements = [
        struct.pack("<HH2s2xI", 2, 0x0001, b"OB", 2) + b"\0\1",
        _uid(0x0002, heading.sop_class_uid),
        _uid(0x0003, heading.sop_instance_uid),
        _uid(0x0010, heading.transfer_syntax_uid),
        _uid(0x0012, IMPLEMENTATION_CLASS_UID),
        _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode(), b" "),
    ]
    body = b"".join(elements)
    return bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(body)) + body


def _uid(number: int, uid: str) -> bytes:
    return _element(number, b"UI", uid.encode("latin-1", "replace"), b"\0")


def _element(number: int, vr: bytes, value: bytes, padding: bytes) -> bytes:
    value += padding * (len(value) % 2)
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value
