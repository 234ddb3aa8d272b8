"""Refuse writes when the archive's drive is missing, or when another archive's drive is mounted."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from itertools import islice

from backup_scp.errors import ArchiveUnavailable, Damaged, FileMissing, IndexUnavailable
from backup_scp.ports import Archive, Index

log = logging.getLogger(__name__)

_SAMPLE = 16  # how many of the index's versions have their file looked for


class ArchiveGuard:
    """Refuses writes to an archive that does not belong to the index; safe to share between threads.

    Parameters
    ----------
    archive
        Gets a marker here, when it has none.
    index
        Stores the archive's identity, and the fault of its disk.
    """

    def __init__(self, archive: Archive, index: Index) -> None:
        self._archive = archive
        self._index = index
        self._is_checked = False
        self._reported = self._recorded = ""
        self._recording = threading.Lock()

    def check(self) -> None:
        """Raise unless the archive holds the files that the index lists; the result is cached.

        Raises
        ------
        ArchiveUnavailable
            The drive is missing, or it is another archive's.  Nothing was written.
        IndexUnavailable
        """
        if self._is_checked:
            return
        trouble = self._index.archive_trouble()
        if trouble is not None and trouble.ended_at is None:
            self._archive.mark_faulty(trouble.sentence)
            self._reported = self._recorded = trouble.sentence
        self._identify()
        self._is_checked = True

    def invalidate(self) -> None:
        """Drop the cached result, so that the next write checks the archive's identity again."""
        self._is_checked = False

    def report_fault(self) -> None:
        """Record in the index, for other processes, that the archive's disk has a fault or has recovered."""
        trouble = self._archive.trouble
        if trouble != self._reported:
            self._reported = trouble
            if trouble:
                log.error("%s: nothing is stored until a test file can be written; check the drive", trouble)
            else:
                log.warning("The archive's disk works again")
        # One thread writes at a time, so that ``_recorded`` is what was written last.  The others try again later.
        if trouble != self._recorded and self._recording.acquire(blocking=False):
            try:
                self._record(trouble)
            finally:
                self._recording.release()

    def _record(self, trouble: str) -> None:
        with suppress(IndexUnavailable):  # perhaps the index is on the same disk; the next call tries again
            self._index.record_archive_trouble(trouble)
            self._recorded = trouble

    def _identify(self) -> None:
        known, found = self._index.archive_identity(), self._archive.identity()
        if known is None or found is None:
            found = self._make_known(known, found)
        self._archive.expect(known or found)

    def _make_known(self, known: str | None, found: str | None) -> str:
        """Write a marker to an archive that has none; store an identity that the index does not have yet."""
        if (known or not self._index.is_empty()) and not self._holds_what_is_known():
            raise ArchiveUnavailable("Archive cannot be written: is the archive's drive connected?")
        found = found or self._archive.establish(known)
        if known is None:
            self._index.record_archive_identity(found)
        return found

    def _holds_what_is_known(self) -> bool:
        """Look for some of the files that the index lists; one is enough, since others may be lost."""
        for held in islice(self._index.versions(), _SAMPLE):
            try:
                self._archive.read(held.location)
            except FileMissing:
                continue
            except Damaged:
                pass
            return True
        return False


def adopt(archive: Archive, index: Index) -> None:
    """Store this archive's identity in the index, after a rebuild has made the index from its files.

    Raises
    ------
    ArchiveUnavailable, IndexUnavailable
    """
    index.record_archive_identity(archive.identity() or archive.establish())
