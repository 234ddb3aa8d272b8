"""Fill a further copy, compare it again on a schedule, and heal damaged originals from it.

The index knows what is due at a copy; a crash, a restart or a second node loses nothing and does nothing twice.  Each
batch is written, read back and compared by the place before it is recorded.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from backup_scp.errors import Damaged, DestinationUnavailable
from backup_scp.machine import clock
from backup_scp.ports import (
    Archive,
    ArchivedFile,
    CopyBatch,
    CopyPlace,
    CopyResult,
    Index,
    NoticingPlace,
    Progress,
    Snapshot,
    StoredVersion,
    VerificationResult,
    WaitingPlace,
)
from backup_scp.services.allowance import Allowance
from backup_scp.services.comparing import Comparing, Pace, some
from backup_scp.services.healing import heal
from backup_scp.services.ingest import Ingest
from backup_scp.services.lease_keeper import kept
from backup_scp.services.place_recognition import is_another

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

log = logging.getLogger(__name__)

MOST_IN_A_BATCH = 500
MOST_BYTES_IN_A_BATCH = 500_000_000
_MOST_COMPARED = 100
_SEEN_EVERY_S = 60.0
_MOST_HEALED = 100
_UNSAID = "The place says nothing of it"

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class CopyTimers:
    """Intervals of copying.

    Attributes
    ----------
    lease
        Duration of a lease; after it another worker continues the work of a dead one.
    retry, longest
        First pause before a version is tried again, and the longest one; it doubles each time.
    """

    lease: timedelta = timedelta(minutes=1)
    retry: timedelta = timedelta(minutes=1)
    longest: timedelta = timedelta(hours=1)


@dataclass(slots=True)
class CopyRun:
    """What one run did at a copy.

    Attributes
    ----------
    copied, copied_bytes
        Versions that are there now, read back and compared, and the bytes of their Data Sets.
    failed, error
        Versions that failed and are tried again later, and why the last one did.
    lost
        Versions whose original is damaged or gone.
    left_out
        Versions that the place cannot hold beside a later one of the same image.
    compared, damaged
        Versions read back again, and those of them that are damaged or missing there.
    healed
        Damaged originals that were restored from this copy.
    alarm
        What a comparison noticed that is no damage, but needs a person.
    is_complete
        Whether nothing is due there any more.
    """

    copied: int = 0
    copied_bytes: int = 0
    failed: int = 0
    error: str = ""
    lost: int = 0
    left_out: int = 0
    compared: int = 0
    damaged: int = 0
    healed: int = 0
    alarm: str = ""
    is_complete: bool = False


class Copying:
    """Works for one copy; one thread uses it.

    Parameters
    ----------
    place
        The copy.
    archive, index, ingest
        Hold the originals, what is due, and the way in for what is healed.
    snapshot
        Gives what the copy needs to stand alone.
    spool
        A folder of ours, for what is fetched.
    pace
        Called with the bytes that were read, some million at a time.
    timers
        Intervals.

    Attributes
    ----------
    allowance
        Limits the bytes of images that are compared, and of those that are written, twice, because each is read back.
        A batch that has begun is finished.
    on_copied
        Called with the versions of each batch that are there now.
    on_healed
        Called with each original that was restored from this copy.
    """

    def __init__(
        self,
        place: CopyPlace,
        archive: Archive,
        index: Index,
        ingest: Ingest,
        snapshot: Snapshot,
        *,
        spool: Path,
        pace: Pace = lambda _: None,
        timers: CopyTimers | None = None,
    ) -> None:
        self._place = place
        self._archive = archive
        self._index = index
        self._records = index.copies
        self._ingest = ingest
        self._snapshot = snapshot
        self._spool = spool
        self._pace = pace
        self._timers = timers or CopyTimers()
        self.allowance = Allowance(index, place.name)
        self.on_copied: Callable[[Sequence[StoredVersion]], None] = lambda _: None
        self.on_healed: Callable[[StoredVersion], None] = lambda _: None
        self._unhealed: set[tuple[int, int]] = set()  # what a copy cannot heal: it is sealed, or damaged itself
        self._registered_at = 0.0
        self._known = 0  # the number of the copy that was recognised
        self._concluded = 0  # the number of the copy that stands alone, with all that we know of
        self._comparing = Comparing(place, pace)
        self.done = CopyRun()
        if isinstance(place, WaitingPlace):
            place.watch = lambda: pace(0)

    def register(self) -> int:
        """Note that the place, which was entered, can be reached; return the number of the copy.

        Raises
        ------
        DestinationUnavailable
            The drive is another copy's: one drive is one copy.
        """
        if self._place.medium:
            for name in sorted(self._records.names_of(self._place.medium) - {self._place.name}):
                raise DestinationUnavailable(
                    f"The drive that is here is one of copy {name}, and one drive is one copy: connect another. If the "
                    f"settings name {name} no more: backup-scp copies forget {name}"
                )
        self._registered_at = time.monotonic()
        return self._records.register(self._place.name, self._place.medium, clock.now(), self._place.label)

    def fill(self, copy: int, on_progress: OnProgress = lambda _: None) -> None:
        """Write all that is due now, then what lets the copy stand alone; also that alone, if a crash has left it out.

        Raises
        ------
        DestinationUnavailable, ArchiveUnavailable, IndexUnavailable
            What was written by then is recorded.
        """
        is_other = self._known != copy and is_another(self._place, self._records, copy)
        self._write_due(copy, on_progress)
        if is_other:
            log.error(
                "Copy %s: nothing of it is at its place; was the url changed? It is written again", self._place.name
            )
            self.compare(copy)
            self._write_due(copy, on_progress)
        self._known = copy
        self.done.is_complete = not self._due(copy)
        if self._concluded != copy:
            self._place.conclude(self._snapshot, is_complete=self.done.is_complete)
            self._concluded = copy
        if self._records.comparison(copy) == (0, None):  # what is there was read back when it was written
            self._records.record_comparison(copy, (), clock.now(), until=None)
        if self.done.is_complete:
            self._records.note_complete(copy, clock.now())

    def _write_due(self, copy: int, on_progress: OnProgress) -> None:
        total = self._due(copy)
        while batch := self._lease(copy):
            self._concluded = 0
            self._write(batch, total, on_progress)

    def _due(self, copy: int) -> int:
        return self._records.count_due(copy)

    def size_bytes(self) -> int:
        """Return how many bytes the copy has, of this drive where several take turns."""
        states = self._records.states(clock.now())
        ours = (self._place.name, self._place.medium)
        return next((state.held_bytes for state in states if (state.name, state.medium) == ours), 0)

    def _lease(self, copy: int) -> CopyBatch | None:
        self._pace(0)
        self.allowance.require()
        if time.monotonic() - self._registered_at > _SEEN_EVERY_S:  # filling may take days
            self.register()
        now = clock.now()
        return self._records.lease(copy, now, now + self._timers.lease, MOST_IN_A_BATCH, MOST_BYTES_IN_A_BATCH)

    def _write(self, batch: CopyBatch, total: int, on_progress: OnProgress) -> None:
        results: list[CopyResult] = []
        sizes = {item.number: item.held.size_bytes for item in batch.items}
        is_over = False
        with kept(lambda: self._records.renew(batch, clock.now() + self._timers.lease), self._timers.lease):
            try:
                for result in self._place.put(batch.items, self._read):
                    results.append(result)
                    self._count(result, sizes[result.number])
                    on_progress(Progress(self.done.copied + self.done.failed, total, self.done.copied_bytes))
                is_over = True
            finally:
                self._record(batch, results, is_over=is_over)

    def _record(self, batch: CopyBatch, results: list[CopyResult], *, is_over: bool) -> None:
        """Record results; what has none because the place went away is due as it was before.

        What failed waits also then: else one image that a place refuses would be the first of each turn, and all others
        would wait for it.
        """
        now = clock.now()
        if is_over:
            said = {result.number for result in results}
            results += [CopyResult(item.number, None, _UNSAID) for item in batch.items if item.number not in said]
        if results:
            pause = min(self._timers.retry * 2 ** min(batch.attempts, 16), self._timers.longest)
            self._records.conclude(batch, results, now, now + pause)
        elif is_over:  # a re-index has left all of it out
            self._records.conclude(batch, (), now, now)
        else:
            self._records.give_back(batch, now)
        there = {each.number for each in results if each.stored is not None}
        self.on_copied([item.held for item in batch.items if item.number in there])
        locations = {item.number: item.held.location for item in batch.items}
        if lost := [VerificationResult(locations[each.number], each.error, now) for each in results if each.is_lost]:
            self._index.record_verification(lost)

    def _count(self, result: CopyResult, size_bytes: int) -> None:
        self.allowance.count(2 * size_bytes)
        if result.stored is not None:
            self.done.copied += 1
            self.done.copied_bytes += size_bytes
            return
        if result.is_left_out:
            self.done.left_out += 1
            return
        self.done.failed += 1
        self.done.lost += result.is_lost
        if result.error != self.done.error:
            log.warning("Copy %s: %s", self._place.name, result.error)
        self.done.error = result.error

    def _read(self, held: StoredVersion) -> ArchivedFile:
        """Open an original; each read of it is paced."""
        file = self._archive.read(held.location)
        return replace(file, reopen=lambda: cast("BinaryIO", io.BufferedReader(_Paced(file.reopen(), self._pace), 1)))

    # -- comparing again -----------------------------------------------------------------------------------------------

    def compare(self, copy: int, on_progress: OnProgress = lambda _: None, *, all_of_it: bool = True) -> bool:
        """Read back what the copy has, and compare; True when the pass is over.

        What cannot be read while the place answers otherwise is told as an alarm, and is for the next pass.

        Parameters
        ----------
        all_of_it
            Begin at the first, and go on to the end; else compare some, where the slow pass of the node has come to.

        Raises
        ------
        DestinationUnavailable, IndexUnavailable
        """
        total = self._records.count_held(copy)
        position = 0 if all_of_it else self._records.comparison(copy)[0]
        while True:
            self._pace(0)
            self.allowance.require()
            items = some(self._records.stored(copy, position, _MOST_COMPARED))
            results = self._comparing.compare(items)
            self.allowance.count(sum(item.held.size_bytes for item in items))
            until = items[-1].number if items else None
            alarm = self._place.noticed() if isinstance(self._place, NoticingPlace) else ""
            alarm = alarm or self._comparing.noticed()
            self._records.record_comparison(copy, results, clock.now(), until=until, alarm=alarm)
            self.done.alarm = alarm or self.done.alarm
            self.done.compared += len(results)
            self._tell_damage(results)
            on_progress(Progress(self.done.compared, total))
            if not items:
                self._comparing.unread = 0
            if not items or not all_of_it:
                return not items
            position = items[-1].number

    def _tell_damage(self, results: Sequence[CopyResult]) -> None:
        for result in results:
            if result.stored is None and not result.is_left_out:
                self.done.damaged += 1
                log.error("Copy %s: %s; it is written again", self._place.name, result.error)

    # -- healing -------------------------------------------------------------------------------------------------------

    def heal(self, copy: int) -> None:
        """Restore damaged originals that this copy has.

        Raises
        ------
        DestinationUnavailable, ArchiveUnavailable, IndexUnavailable
        """
        for item in self._records.lost(copy, _MOST_HEALED + len(self._unhealed)):
            if (copy, item.number) in self._unhealed:
                continue
            try:
                heal(self._place, item, self._ingest, self._spool)
            except Damaged as error:
                self._unhealed.add((copy, item.number))
                log.error("%s cannot be healed from copy %s: %s", item.held.location, self._place.name, error)
            else:
                self.done.healed += 1
                self.on_healed(item.held)
                log.warning("%s was damaged and is healed from copy %s", item.held.location, self._place.name)


class _Paced(io.RawIOBase):
    """Reads a stream at a pace."""

    def __init__(self, stream: BinaryIO, pace: Pace) -> None:
        self._stream = stream
        self._pace = pace

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        count = cast("io.RawIOBase", self._stream).readinto(buffer) or 0
        self._pace(count)
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def fileno(self) -> int:
        return self._stream.fileno()

    def close(self) -> None:
        self._stream.close()
        super().close()
