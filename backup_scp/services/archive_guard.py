"""Refuse writes when the archive's drive is missing, or is another archive's."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from itertools import islice

from backup_scp.errors import ArchiveUnavailable, Damaged, FileMissing, IndexUnavailable
from backup_scp.ports import Archive, Index

log = logging.getLogger(__name__)

_SAMPLE = 16  # versions whose files are looked for


class ArchiveGuard:
    """Refuses writes to an archive that is not the index's own; safe to share between threads.

    Parameters
    ----------
    archive
        It gets its marker here, when it has none.
    index
        It remembers the archive's identity, and its trouble.
    """

    def __init__(self, archive: Archive, index: Index) -> None:
        self._archive = archive
        self._index = index
        self._is_checked = False
        self._reported = self._recorded = ""
        self._recording = threading.Lock()

    def check(self) -> None:
        """Raise unless the archive is the one whose files the index knows; the result is cached.

        Raises
        ------
        ArchiveUnavailable
            There is no drive, or another's: the archive is not touched.
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
        """Record in the index, for other processes, that the archive's disk has a fault, or has none any more."""
        trouble = self._archive.trouble
        if trouble != self._reported:
            self._reported = trouble
            if trouble:
                log.error("%s: nothing is stored until a new file is kept; look at the drive", trouble)
            else:
                log.warning("The archive's disk keeps data again")
        # One thread at a time: who would wait says it next time, so the index was told last what we think that it was.
        if trouble != self._recorded and self._recording.acquire(blocking=False):
            try:
                self._record(trouble)
            finally:
                self._recording.release()

    def _record(self, trouble: str) -> None:
        with suppress(IndexUnavailable):  # it is on the same disk, perhaps: next time
            self._index.record_archive_trouble(trouble)
            self._recorded = trouble

    def _identify(self) -> None:
        known, found = self._index.archive_identity(), self._archive.identity()
        if known is None or found is None:
            found = self._make_known(known, found)
        self._archive.expect(known or found)

    def _make_known(self, known: str | None, found: str | None) -> str:
        """Mark an archive that has no marker; remember one that the index does not know."""
        if (known or not self._index.is_empty()) and not self._holds_what_is_known():
            raise ArchiveUnavailable("Archive cannot be written: is the archive's drive connected?")
        found = found or self._archive.establish(known)
        if known is None:
            self._index.record_archive_identity(found)
        return found

    def _holds_what_is_known(self) -> bool:
        """Look for some of the files that the index knows; one is enough, for others may have been lost."""
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
    """Record this archive as the index's own: the index was made of its files.

    Raises
    ------
    ArchiveUnavailable, IndexUnavailable
    """
    index.record_archive_identity(archive.identity() or archive.establish())
