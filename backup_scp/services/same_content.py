"""Tell whether a Data Set that arrives for a stored instance is the same image in another encoding.

A study that arrives in two Transfer Syntaxes is neither a clash nor a change.  For example, a console sends Explicit VR
and a PACS forwards Implicit VR, or an image that this node sent decoded comes back.  Both contents are compared, see
``transcode.content``.  This costs time only when the instance is stored with other bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from backup_scp.errors import ArchiveUnavailable, Damaged, InstanceRefused
from backup_scp.ports import Archive, ArchivedFile, StagedFile, StoredVersion

ContentDigest = Callable[[BinaryIO, str, int, Path, float], str]

_LONGEST_S = 10.0  # the sender waits for its answer meanwhile
_LARGEST_BYTES = 1 << 28
_MOST = 8


def find_same(archive: Archive, staged: StagedFile, held: Iterable[StoredVersion]) -> str:
    """Return the SHA-256 of a stored version that has the same content as a received Data Set.

    Parameters
    ----------
    archive
        Holds the stored versions.
    staged
        The received Data Set.
    held
        Versions of its instance, in the order of comparison; the first 8 are compared.

    Returns
    -------
    str
        Empty when none has the same content, and when that cannot be decided: a Data Set cannot be read or decoded to
        its end, or is longer than 256 MiB, or the comparison takes longer than 10 s.
    """
    comparison = _Comparison(archive, staged)
    for one in list(held)[:_MOST]:
        if max(one.size_bytes, staged.size_bytes) > _LARGEST_BYTES:
            continue
        try:
            if comparison.is_same(one):
                return one.sha256
        except (InstanceRefused, Damaged, ArchiveUnavailable):
            continue
    return ""


class _Comparison:
    """Compares one Data Set with several; its own content is hashed once."""

    def __init__(self, archive: Archive, staged: StagedFile) -> None:
        self._archive = archive
        self._staged = staged
        self._until = time.monotonic() + _LONGEST_S
        self._elements = self._content = ""

    def is_same(self, held: StoredVersion) -> bool:
        """Tell whether both have the same content; decode pixels only when everything else is the same."""
        from backup_scp.dicom.transcode.content import digest_of_content, digest_of_elements  # they load pydicom

        file = self._archive.read(held.location)
        folder = file.path.parent  # temporary files go there: it is on the archive's own volume
        self._elements = self._elements or self._of_staged(digest_of_elements, folder)
        if self._of(file, digest_of_elements, folder) != self._elements:
            return False
        self._content = self._content or self._of_staged(digest_of_content, folder)
        if self._of(file, digest_of_content, folder) != self._content:
            return False
        self._archive.verify(held.location, held.sha256)  # a damaged version must not stand for an intact one
        return True

    def _of_staged(self, digest: ContentDigest, folder: Path) -> str:
        staged = self._staged
        with staged.data_set() as stream:
            return digest(stream, staged.heading.transfer_syntax_uid, staged.size_bytes, folder, self._until)

    def _of(self, file: ArchivedFile, digest: ContentDigest, folder: Path) -> str:
        with file.data_set() as stream:
            return digest(stream, file.heading.transfer_syntax_uid, file.size_bytes, folder, self._until)
