"""Restore a damaged or missing file of the archive from a further copy."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import BinaryIO, cast

from backup_scp.errors import ArchiveUnavailable, DigestMismatch, NotDICOM
from backup_scp.machine import clock
from backup_scp.ports import IMPORT, AddResult, Arrival, CopyItem, CopyPlace
from backup_scp.services.ingest import Ingest

_IN_MEMORY_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20


def heal(place: CopyPlace, item: CopyItem, ingest: Ingest, spool: Path) -> None:
    """Fetch a version from a copy, and store it by the one way in, which repairs a damaged file from the same bytes.

    Parameters
    ----------
    spool
        A folder of ours: a large image is there for a moment, without a name, never in the folder that all users share.

    Raises
    ------
    FileMissing, DigestMismatch
        The copy does not have its bytes either.
    DestinationUnavailable, ArchiveUnavailable, IndexUnavailable
    """
    try:
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=str(spool)) as fetched:
            stream = cast("BinaryIO", fetched)
            place.fetch(item, stream)
            stream.seek(0)
            _take_in(stream, item, ingest)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ArchiveUnavailable(f"{spool} cannot hold what is fetched to heal an image ({reason})") from error


def _take_in(stream: BinaryIO, item: CopyItem, ingest: Ingest) -> None:
    from backup_scp.dicom.part10 import read_heading  # which loads pydicom

    held = item.held
    try:
        heading = read_heading(stream)
    except NotDICOM as error:
        raise DigestMismatch(f"the copy of {held.location} is no DICOM file") from error
    staged = ingest.begin(heading)
    try:
        while part := stream.read(_CHUNK_BYTES):
            staged.write(part)
        is_same = staged.sha256 == held.sha256
    except BaseException:
        staged.discard()
        raise
    if not is_same:
        staged.discard()
        raise DigestMismatch(f"the copy of {held.location} holds other bytes")
    # HELD without a repair: another worker was quicker.
    if ingest.accept(staged, Arrival(clock.now(), IMPORT, site=held.site)).admission is not AddResult.HELD:
        raise ArchiveUnavailable(f"{held.location} was not repaired; it is tried again")
