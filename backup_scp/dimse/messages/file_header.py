"""Encode the bytes before a Data Set that came over the network, so that it becomes a DICOM file (PS3.10 7.1)."""

from __future__ import annotations

import struct

from pydicom.uid import ExplicitVRLittleEndian

from backup_scp.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from backup_scp.dimse.messages.response_identifier import encode_elements
from backup_scp.ports import StoredVersion

_META_VERSION, _META_CLASS, _META_INSTANCE, _META_SYNTAX = 0x00020001, 0x00020002, 0x00020003, 0x00020010
_META_IMPLEMENTATION, _META_IMPLEMENTATION_NAME = 0x00020012, 0x00020013


def file_header(held: StoredVersion) -> bytes:
    """Return preamble and File Meta Information for the Data Set of a version."""
    syntax = str(ExplicitVRLittleEndian)
    uids = {
        _META_CLASS: held.sop_class_uid,
        _META_INSTANCE: held.sop_instance_uid,
        _META_SYNTAX: held.transfer_syntax_uid,
        _META_IMPLEMENTATION: IMPLEMENTATION_CLASS_UID,
    }
    elements = [(tag, "UI", uid.encode("latin-1", "replace")) for tag, uid in uids.items()]
    elements += [
        (_META_VERSION, "OB", b"\0\1"),
        (_META_IMPLEMENTATION_NAME, "SH", IMPLEMENTATION_VERSION_NAME.encode()),
    ]
    body = encode_elements(elements, syntax)
    return bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(body)) + body
