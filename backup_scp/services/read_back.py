"""Read stored files back, as the ``Version`` objects that the index stores."""

from __future__ import annotations

from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.errors import Damaged
from backup_scp.ports import Archive, Version


def version_of(archive: Archive, location: str, *, verify: bool) -> Version:
    """Read a stored file back: its arrival from its File Meta, its attributes from its Data Set.

    Parameters
    ----------
    archive
        Holds the file.
    location
        Its location in the archive.
    verify
        Compare every byte with the file's own digests first.  Otherwise check only the File Meta, and that the Data
        Set names the instance that the location names.

    Raises
    ------
    FileMissing, DigestMismatch
        The file is gone or damaged.
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
    if not verify and not archive.is_place_of(location, version.key, file.sha256, file.arrival.site):
        archive.verify(location, file.sha256)  # damage to its UIDs; or an earlier release decoded them differently
    return version


def intact_version(archive: Archive, location: str) -> Version | None:
    """Read a stored file back; None when it is damaged or gone."""
    try:
        return version_of(archive, location, verify=False)
    except Damaged:
        return None
