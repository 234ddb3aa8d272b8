"""Bring files of the archive back from further copies: those that are damaged here, or are not here yet."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from backup_scp.dicom.attributes import BY_KEYWORD
from backup_scp.dicom.query.conditions import Condition, SingleValue
from backup_scp.errors import BackupSCPError, Damaged, IndexUnavailable, Unavailable
from backup_scp.ports import (
    Archive,
    ArchivedFile,
    CopyItem,
    CopyPlace,
    Index,
    ReturnedFile,
    Selection,
    StandAloneCopy,
    StoredVersion,
)
from backup_scp.services.healing import heal
from backup_scp.services.ingest import Ingest

log = logging.getLogger(__name__)

MOST_IN_A_BATCH = 500
MOST_BYTES_IN_A_BATCH = 64_000_000
_NOT_ASKED_FOR_S = 30.0
"""So long a copy that could not be reached is not asked again while somebody waits."""

Pace = Callable[[int], None]
"""Called with the size of each file before it is fetched; limits the rate, and raises to end the work."""


class Batch(NamedTuple):
    """What was fetched together.

    Attributes
    ----------
    returned
        Not kept yet.
    errors
        Why others are not among them, by location.
    """

    returned: list[ReturnedFile]
    errors: dict[str, str]


class Fetching:
    """A batch on its way: threads fetch its files, and compare each.

    Parameters
    ----------
    pool
        Its threads; the next batch may begin while some of this one are still busy.
    place, items
        A copy that has the files as the archive had them.
    archive
        Where they go; nothing has its name before ``keep``.
    pace
        See ``Pace``.
    """

    def __init__(
        self, pool: Executor, place: CopyPlace, items: Sequence[CopyItem], archive: Archive, pace: Pace = lambda _: None
    ) -> None:
        self._place, self._archive, self._pace = place, archive, pace
        self._batch = Batch([], {})
        self._futures = [pool.submit(self._take, item) for item in items]

    def _take(self, item: CopyItem) -> None:
        self._pace(item.held.size_bytes)
        location, sha256 = item.held.location, item.held.sha256
        try:
            returned = self._archive.take_back(location, sha256, lambda into: self._place.fetch(item, into))
        except Damaged as error:
            self._batch.errors[location] = str(error)
        else:
            self._batch.returned.append(returned)

    def result(self) -> Batch:
        """Wait until all have come.

        Raises
        ------
        DestinationUnavailable, ArchiveUnavailable
            What has come is discarded.
        """
        try:
            for future in self._futures:
                future.result()
        except BaseException:
            self.discard()
            raise
        return self._batch

    def discard(self) -> None:
        """Fetch no more, and discard what has come."""
        wait(future for future in self._futures if not future.cancel())
        for each in self._batch.returned:
            each.discard()


def threads_for(place: CopyPlace) -> ThreadPoolExecutor:
    """Return as many threads as may fetch from a copy at once."""
    return ThreadPoolExecutor(place.fetches_at_once if isinstance(place, StandAloneCopy) else 1, "fetch")


def fetch(place: CopyPlace, items: Sequence[CopyItem], archive: Archive, pace: Pace = lambda _: None) -> Batch:
    """Fetch files from a copy, see ``Fetching``."""
    with threads_for(place) as pool:
        return Fetching(pool, place, items, archive, pace).result()


def keep(archive: Archive, index: Index, returned: Sequence[ReturnedFile]) -> None:
    """Make files durable at their places, and note that they came back.

    Raises
    ------
    ArchiveUnavailable
    """
    if returned:
        archive.keep(returned)
        with suppress(IndexUnavailable):  # the files are here, whatever can be noted now
            index.record_return([each.location for each in returned])


_Part = TypeVar("_Part")


def in_batches(parts: Iterable[_Part], size_of: Callable[[_Part], int]) -> Iterator[list[_Part]]:
    """Divide images into batches of a limited number and size, of one image at least."""
    batch: list[_Part] = []
    size_bytes = 0
    for part in parts:
        if batch and (len(batch) == MOST_IN_A_BATCH or size_bytes + size_of(part) > MOST_BYTES_IN_A_BATCH):
            yield batch
            batch, size_bytes = [], 0
        batch.append(part)
        size_bytes += size_of(part)
    if batch:
        yield batch


def size_of(held: StoredVersion) -> int:
    """Return the length of a version's Data Set, in bytes."""
    return held.size_bytes


Places = Callable[[str, str], CopyPlace | None]
"""Returns the place of a copy, by name and medium, not entered; None when it cannot be used."""


class BringingBack:
    """Brings back what is asked for; threads share it.

    Parameters
    ----------
    archive, index, ingest
        Where it goes.
    places
        Opens the copies.
    spool
        A folder of ours, for what comes from another PACS.

    Attributes
    ----------
    waiting
        How many threads wait for an image: other work stands back.
    on_brought
        Called with versions that are here now, and the name of the copy that they came from.
    """

    def __init__(self, archive: Archive, index: Index, ingest: Ingest, places: Places, spool: Path) -> None:
        self._archive = archive
        self._index = index
        self._ingest = ingest
        self._places = places
        self._spool = spool
        self._one_at_a_time = threading.Lock()
        self._not_before: dict[tuple[str, str], float] = {}
        self._counting = threading.Lock()
        self.waiting = 0
        self.on_brought: Callable[[Sequence[StoredVersion], str], None] = lambda *_: None

    def __call__(self, location: str, sha256: str) -> bool:
        """Bring back one image, and what else of its series is not here; True when it is here now."""
        self._count(1)
        try:
            with self._one_at_a_time:
                if self.is_whole(location, sha256):  # another thread has brought it
                    return True
                return self._bring(location)
        except BackupSCPError as error:
            log.warning("%s cannot be brought back: %s", location, error)
            return False
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        with self._counting:  # a count that is lost would hold other work back for ever
            self.waiting += more

    def bring_all(self, versions: Sequence[StoredVersion]) -> dict[str, str]:
        """Bring back these versions; return why some did not come, by location.

        Raises
        ------
        ArchiveUnavailable, IndexUnavailable
        """
        errors: dict[str, str] = {}
        with self._one_at_a_time:
            for batch in in_batches(versions, size_of):
                errors |= self._bring_batch(batch)
        return errors

    def is_whole(self, location: str, sha256: str) -> bool:
        """Read a file, and tell whether it is here and intact."""
        try:
            self._archive.verify(location, sha256)
        except Damaged:
            return False
        return True

    def _bring(self, location: str) -> bool:
        holders = self._index.copies.holders([location]).get(location)
        if not holders:
            return False
        held = holders[0][2].held
        others = (each for each in self._of_its_series(held) if not self._archive.has(each.location))
        together = next(in_batches([held, *(each for each in others if each.location != location)], size_of))
        return location not in self._bring_batch(together)

    def _of_its_series(self, held: StoredVersion) -> list[StoredVersion]:
        uids = {"StudyInstanceUID": held.study_instance_uid, "SeriesInstanceUID": held.series_instance_uid}
        conditions = tuple(Condition(BY_KEYWORD[keyword], SingleValue(uid)) for keyword, uid in uids.items())
        return self._index.select(Selection(conditions, all_versions=True))

    def _bring_batch(self, versions: Sequence[StoredVersion]) -> dict[str, str]:
        """Try the copies one after the other; return what did not come."""
        holders = self._index.copies.holders([held.location for held in versions])
        errors = {held.location: "No further copy has it" for held in versions}
        names = dict.fromkeys((name, medium) for each in holders.values() for name, medium, _ in each)
        for name, medium in names:
            items = [
                item
                for location, each in holders.items()
                for its_name, its_medium, item in each
                if location in errors and (its_name, its_medium) == (name, medium)
            ]
            if items:
                self._bring_from(name, medium, items, errors)
        return errors

    def _bring_from(self, name: str, medium: str, items: Sequence[CopyItem], errors: dict[str, str]) -> None:
        if time.monotonic() < self._not_before.get((name, medium), 0):
            return
        try:
            place = self._places(name, medium)
            if place is None:
                return
            with place:
                if place.medium != medium:
                    errors.update((item.held.location, f"Another drive of copy {name} has it") for item in items)
                    return
                for item in items:
                    errors[item.held.location] = ""
                errors.update(self._fetched(place, items))
        except Unavailable as error:
            self._not_before[name, medium] = time.monotonic() + _NOT_ASKED_FOR_S
            errors.update((item.held.location, str(error)) for item in items)
        come = [item.held for item in items if errors.get(item.held.location) == ""]
        for held in come:
            del errors[held.location]
        self.on_brought(come, name)

    def _fetched(self, place: CopyPlace, items: Sequence[CopyItem]) -> dict[str, str]:
        """Fetch and keep; return why some did not come."""
        if not isinstance(place, StandAloneCopy):  # another PACS gives back the Data Set alone
            return dict(self._healed(place, items))
        batch = fetch(place, items, self._archive)
        keep(self._archive, self._index, batch.returned)
        return batch.errors

    def _healed(self, place: CopyPlace, items: Sequence[CopyItem]) -> Iterator[tuple[str, str]]:
        for item in items:
            try:
                heal(place, item, self._ingest, self._spool)
            except Damaged as error:
                yield item.held.location, str(error)


class ArchiveWithCopies:
    """Reads an archive; what is damaged or missing there is brought back from a copy first.

    It implements ``ports.ReadableArchive``.
    """

    def __init__(self, archive: Archive, bring_back: BringingBack) -> None:
        self._archive = archive
        self._bring_back = bring_back

    def load(
        self, location: str, sha256: str, room: Callable[[int], memoryview | None], *, by_sha256: bool = False
    ) -> ArchivedFile:
        """See ``Archive.load``."""
        try:
            return self._archive.load(location, sha256, room, by_sha256=by_sha256)
        except Damaged:
            if not self._bring_back(location, sha256):
                raise
        return self._archive.load(location, sha256, room, by_sha256=by_sha256)

    def read(self, location: str) -> ArchivedFile:
        """See ``Archive.read``."""
        return self._archive.read(location)

    def announce(self, location: str) -> None:
        """See ``Archive.announce``."""
        with suppress(BackupSCPError):
            self._archive.announce(location)
