"""Tell what is wrong with an image that did not come back from a copy as it was."""

from __future__ import annotations

from hashlib import sha256
from itertools import zip_longest
from typing import BinaryIO

from backup_scp.dicom.part10 import read_heading
from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.errors import ArchiveUnavailable, Damaged, FileMissing, NotDICOM, OtherKey
from backup_scp.ports import Archive, CopyItem, DrillKind, DrillProblem, IndexReader, InstanceKey

_CHUNK_BYTES = 1 << 20
_FEW_BYTES = 16

_SENTENCES = {
    DrillKind.SWAPPED: "another image of the archive is in its place",
    DrillKind.OLD_VERSION: "another version of this image is in its place",
    DrillKind.FOREIGN: "something is in its place that the archive never had",
    DrillKind.TRUNCATED: "only its beginning is there",
    DrillKind.DAMAGED: "its bytes are changed",
    DrillKind.MISSING: "it is missing there",
}


def diagnose(
    item: CopyItem, error: Damaged | None, found: BinaryIO, archive: Archive, index: IndexReader, *, is_sealed: bool
) -> DrillProblem:
    """Name what is wrong.

    Parameters
    ----------
    error
        What ``CopyPlace.fetch`` raised; None when only the Data Set is another one.
    found
        What it wrote until then.
    archive, index
        Hold the original, and know all other images.
    is_sealed
        Whether nobody can see what is in a damaged file.
    """
    uid = item.held.sop_instance_uid
    if isinstance(error, OtherKey):
        return DrillProblem(DrillKind.WRONG_KEY, uid, "it is sealed for another recovery key")
    if isinstance(error, FileMissing):
        kind = DrillKind.MISSING
    elif error is not None and (isinstance(error.__cause__, OSError) or is_sealed):
        return DrillProblem(DrillKind.DAMAGED, uid, str(error).removeprefix(f"Image {uid} "))
    else:
        kind = _kind_of(item, found, archive, index)
    return DrillProblem(kind, uid, _SENTENCES[kind])


def _kind_of(item: CopyItem, found: BinaryIO, archive: Archive, index: IndexReader) -> DrillKind:
    key, digest = _identify(found)
    versions = index.versions_of(key) if key else []
    is_same_image = key is not None and key.sop_instance_uid == item.held.sop_instance_uid
    if any(version.sha256 == digest for version in versions):
        return DrillKind.OLD_VERSION if is_same_image else DrillKind.SWAPPED
    differing, is_shorter = _difference(found, item, archive)
    if differing == 0 and is_shorter:
        return DrillKind.TRUNCATED
    if is_same_image or (differing <= _FEW_BYTES and not is_shorter):
        return DrillKind.DAMAGED
    return DrillKind.SWAPPED if versions else DrillKind.FOREIGN


def _identify(found: BinaryIO) -> tuple[InstanceKey | None, str]:
    """Return the UIDs and the SHA-256 of the Data Set that was found; None when it is no DICOM file."""
    found.seek(0)
    try:
        heading = read_heading(found)
    except NotDICOM:
        return None, ""
    start = found.tell()
    instance = SOPInstance.read(found, heading.transfer_syntax_uid, heading.sop_class_uid, heading.sop_instance_uid)
    found.seek(start)
    digest = sha256()
    while part := found.read(_CHUNK_BYTES):
        digest.update(part)
    key = InstanceKey(instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid)
    return key, digest.hexdigest()


def _difference(found: BinaryIO, item: CopyItem, archive: Archive) -> tuple[int, bool]:
    """Compare with the original: count differing bytes, and tell whether what was found is shorter than it.

    The count ends above ``_FEW_BYTES``, and is above it when the original cannot be read.
    """
    found.seek(0)
    differing = 0
    try:
        with archive.read(item.held.location).reopen() as original:
            while True:
                ours, theirs = original.read(_CHUNK_BYTES), found.read(_CHUNK_BYTES)
                differing += _differing(ours[: len(theirs)], theirs)
                if differing > _FEW_BYTES:
                    return differing, False
                if len(theirs) < len(ours):
                    return differing, True
                if not ours:
                    return differing, False
    except (ArchiveUnavailable, Damaged):
        return _FEW_BYTES + 1, False


def _differing(ours: bytes, theirs: bytes) -> int:
    if ours == theirs:
        return 0
    count = 0
    for one, other in zip_longest(ours, theirs):
        count += one != other
        if count > _FEW_BYTES:
            break
    return count
