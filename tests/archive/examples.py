"""Data Sets for the tests of the archive."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

from backup_scp.ports import Archive, Arrival, Heading, InstanceKey

CR = "1.2.840.10008.5.1.4.1.1.1"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"

HEADING = Heading(CR, "1.2.3.4", EXPLICIT_VR_LITTLE_ENDIAN, "CONSOLE")
KEY = InstanceKey("1.2.3", "1.2.3.1", "1.2.3.4")
ARRIVAL = Arrival(
    datetime(2026, 11, 21, 20, 24, 56, 123456, UTC), "C-STORE", "CONSOLE", "BACKUP_SCP", "192.0.2.7", "Clinic Łódź"
)


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """Encode one element in Explicit VR Little Endian."""
    return group.to_bytes(2, "little") + number.to_bytes(2, "little") + vr + len(value).to_bytes(2, "little") + value


DATA_SET = b"".join(
    (
        element(0x0008, 0x0016, b"UI", CR.encode() + b"\0"),
        element(0x0008, 0x0018, b"UI", b"1.2.3.4\0"),
        element(0x0010, 0x0020, b"LO", b"P1"),
        element(0x0020, 0x000D, b"UI", b"1.2.3\0"),
        element(0x0020, 0x000E, b"UI", b"1.2.3.1\0"),
    )
)


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def store(
    archive: Archive,
    data: bytes = DATA_SET,
    key: InstanceKey = KEY,
    heading: Heading = HEADING,
    arrival: Arrival = ARRIVAL,
) -> str:
    """Bring one Data Set in, all the way."""
    staged = archive.stage(heading)
    staged.write(data)
    location, _ = archive.commit(staged, key, arrival)
    archive.settle([staged])
    archive.forget(staged)
    return location
