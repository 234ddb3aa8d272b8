"""A stored file, read back as the Version that the index is told of."""

from __future__ import annotations

from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.errors import Damaged
from backup_scp.ports import Archive, Version


def version_of(archive: Archive, location: str, *, verify: bool) -> Version:
    """Read a stored file back: its arrival from its File Meta, its attributes from its Data Set.

    Parameters
    ----------
    archive
        Where it is.
    location
        Its location there.
    verify
        Read every byte against the file's own digests first; else only the File Meta is checked, and whether the Data
        Set names the instance that the location is made of.

    Raises
    ------
    FileMissing, DigestMismatch
        It is gone or damaged.
    ArchiveUnavailable
        The archive cannot be read.
    """
    file = archive.read(location)
    if verify:
        file = archive.verify(location, file.sha256)
    heading = file.heading
    with file.data_set() as stream:
        instance = SOPInstance.read(
            stream, heading.transfer_syntax_uid, heading.sop_class_uid, heading.sop_instance_uid
        )
    version = Version(instance, file.arrival, location, file.sha256, file.size_bytes)
    if not verify and not archive.is_place_of(location, version.key, file.sha256):
        archive.verify(location, file.sha256)  # a byte of its UIDs changed; or an earlier version read them otherwise
    return version


def intact_version(archive: Archive, location: str) -> Version | None:
    """Read a stored file back; None where it is damaged or gone."""
    try:
        return version_of(archive, location, verify=False)
    except Damaged:
        return None
