"""Read the instances of a Storage Commitment request back from the disk, and give the reason for each failure.

A request may name thousands of instances: so it is read in turns with other requests, and only this process remembers
how far it has read.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from backup_scp.errors import ArchiveUnavailable, Damaged, FileMissing
from backup_scp.ports import (
    RECOVERY,
    Archive,
    Commitment,
    CommitmentRequest,
    FailureReason,
    Index,
    Reference,
    StoredVersion,
    VerificationResult,
)

log = logging.getLogger(__name__)

_BATCH = 500  # references in one search
_READ_AT_ONCE = 20  # instances to read before a turn may end
_MOST_BEGUN = 4  # remembered requests; one with 10,000 references takes some MB

Results = dict[Reference, FailureReason | None]
"""By reference, why it is not committed; None when its bytes were read back as they were received."""


@dataclass(frozen=True, slots=True)
class CopiesNeeded:
    """How many further copies must have an image before it is committed.

    Attributes
    ----------
    copies, off_site
        How many, and how many of them off-site.
    names, off_site_names
        Names of the copies in the settings, and of those that are off-site.  What the index records of another copy
        counts no more: nobody compares it again.
    """

    copies: int = 0
    off_site: int = 0
    names: frozenset[str] = frozenset()
    off_site_names: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.copies or self.off_site)

    def are_met(self, names: set[str]) -> bool:
        """Tell whether the copies with these names are enough."""
        return len(names & self.names) >= self.copies and len(names & self.off_site_names) >= self.off_site


@dataclass(slots=True)
class ReadingProgress:
    """How far this process has searched and read the instances of one request.

    Attributes
    ----------
    missing
        References not found by the last search, or not searched yet.
    results
        Results of the first references, in order.
    turn_is_over
        Whether reading was interrupted for other requests.
    """

    request: CommitmentRequest
    missing: list[Reference]
    results: Results = field(default_factory=dict)
    turn_is_over: bool = False


class _NotBackYet(Exception):  # noqa: N818 - no error: it comes
    """The file of an instance has not come back from a further copy yet."""


class ReferenceVerifier:
    """Searches the instances of requests, and reads them back.

    Parameters
    ----------
    archive, index
        Hold the instances; the index also records the results of verification.
    is_storable
        Tells whether a SOP Class can be stored here.
    needed
        The further copies that an image must have.
    turn
        How long to read the instances of one request before those of another one.
    clock
        The time, UTC.
    stopping
        Ends the reading.
    """

    def __init__(
        self,
        archive: Archive,
        index: Index,
        is_storable: Callable[[str], bool],
        needed: CopiesNeeded,
        turn: timedelta,
        *,
        clock: Callable[[], datetime],
        stopping: threading.Event,
    ) -> None:
        self._archive = archive
        self._index = index
        self._records = index.commitments
        self._is_storable = is_storable
        self._turn = turn
        self._clock = clock
        self._stopping = stopping
        self._needed = needed
        self._begun: OrderedDict[int, ReadingProgress] = OrderedDict()  # by number, the last used one at the end

    def progress_of(self, leased: Commitment) -> ReadingProgress:
        """Return how far this process has come with a request; the progress of other processes is unknown."""
        request = leased.request
        progress = self._begun.get(leased.number) or ReadingProgress(request, list(dict.fromkeys(request.references)))
        self._begun[leased.number] = progress
        self._begun.move_to_end(leased.number)
        if len(self._begun) > _MOST_BEGUN:
            self._begun.popitem(last=False)
        return progress

    def is_recovering(self) -> bool:
        """Tell whether the archive is coming back from a further copy: what is not here proves nothing yet."""
        return RECOVERY in self._index.tasks()

    def forget(self, leased: Commitment) -> None:
        """Drop the progress of a request that has its results."""
        self._begun.pop(leased.number, None)

    def is_missing_some(self, progress: ReadingProgress) -> bool:
        """Tell whether an instance that may still arrive is missing; do not search again for those that were found."""
        while progress.missing:
            some, rest = progress.missing[:_BATCH], progress.missing[_BATCH:]
            found = self._find(some, progress.request)
            missing = [one for one, held in found.items() if not held and self._is_storable(one.sop_class_uid)]
            progress.missing = missing + rest
            if missing:
                return True
        return False

    def lack_copies(self, progress: ReadingProgress) -> set[Reference]:
        """Return the references that have an image here which is not at enough further copies."""
        if not self._needed:
            return set()
        references, lacking = list(dict.fromkeys(progress.request.references)), set()
        for start in range(0, len(references), _BATCH):
            found = self._find(references[start : start + _BATCH], progress.request)
            locations = {held.location for versions in found.values() for held in versions}
            copies = self._index.copies.copies_of(locations)
            lacking |= {
                reference
                for reference, versions in found.items()
                if any(
                    not self._needed.are_met(copies.get(held.location, set()))
                    for held in versions
                    if held.sop_class_uid == reference.sop_class_uid
                )
            }
        return lacking

    def has_read_all(self, progress: ReadingProgress, *, is_late: bool) -> bool:
        """Read the rest; False when the turn is over, or when nothing can be read now.

        Parameters
        ----------
        is_late
            Whether an instance that cannot be read now fails, because the time for waiting is over.
        """
        until = time.monotonic() + self._turn.total_seconds()
        progress.turn_is_over = False
        references = list(dict.fromkeys(progress.request.references))
        while len(progress.results) < len(references):
            some = references[len(progress.results) :][:_READ_AT_ONCE]
            results = self._read(self._find(some, progress.request), is_late=is_late)
            if results is None:  # the node stops, or the archive is away: no result yet
                progress.results.clear()  # read all again later, so that the proof is fresh
                return False
            progress.results |= {reference: results[reference] for reference in some}
            if time.monotonic() >= until and len(progress.results) < len(references):
                progress.turn_is_over = True
                return False
        return True

    def _find(self, references: list[Reference], request: CommitmentRequest) -> dict[Reference, list[StoredVersion]]:
        return self._records.find(references, request.requester, own_only=request.own_only)

    def _read(self, found: dict[Reference, list[StoredVersion]], *, is_late: bool) -> Results | None:
        """Read the instances of these references; None when that is impossible now."""
        results: Results = {}
        verified: list[VerificationResult] = []
        try:
            for reference, held in found.items():
                if self._stopping.is_set():
                    return None
                results[reference] = self._read_one(reference, held, verified)
        except _NotBackYet:
            return None
        except ArchiveUnavailable as error:
            log.error("Storage Commitment waits for the archive: %s", error)
            if not is_late:
                return None
            unseen = found.keys() - results.keys()
            results |= dict.fromkeys(unseen, FailureReason.PROCESSING_FAILURE)
        finally:
            self._index.record_verification(verified)
        return results

    def _read_one(
        self, reference: Reference, held: list[StoredVersion], verified: list[VerificationResult]
    ) -> FailureReason | None:
        """Read the instance of one reference; None proves that its bytes on the disk are the received ones."""
        if not held:
            is_storable = self._is_storable(reference.sop_class_uid)
            return FailureReason.NO_SUCH_OBJECT_INSTANCE if is_storable else FailureReason.SOP_CLASS_NOT_SUPPORTED
        meant = [one for one in held if one.sop_class_uid == reference.sop_class_uid]
        if not meant:
            return FailureReason.CLASS_INSTANCE_CONFLICT
        for one in meant:
            began = self._clock()
            try:
                self._archive.verify(one.location, one.sha256)
            except Damaged as error:
                is_gone = isinstance(error, FileMissing)
                if is_gone and self.is_recovering():
                    raise _NotBackYet from error
                log.error("%s; not committed", error)
                verified.append(VerificationResult(one.location, str(error), began))
                return FailureReason.NO_SUCH_OBJECT_INSTANCE if is_gone else FailureReason.PROCESSING_FAILURE
            verified.append(VerificationResult(one.location, None, began))
        return None
