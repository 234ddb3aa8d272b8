"""Bring a whole archive back from a further copy: the newest studies first, each file compared as it comes.

The index came before: queries are answered already, and ``BringingBack`` fetches what somebody asks for.  What is here
is not fetched again, so that a further run continues after any interruption.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Container, Generator, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from backup_scp.errors import Damaged, Unavailable
from backup_scp.machine import clock
from backup_scp.ports import (
    Archive,
    CopyItem,
    Index,
    ListedImage,
    Progress,
    ReturnedFile,
    Selection,
    StandAloneCopy,
    StoredVersion,
    VerificationResult,
)
from backup_scp.services.bringing_back import (
    BringingBack,
    Fetching,
    Pace,
    fetch,
    in_batches,
    keep,
    size_of,
    threads_for,
)
from backup_scp.services.ingest import Ingest

log = logging.getLogger(__name__)

_LISTED_AT_ONCE = 1000
_MOST_TOLD = 1000


class MissingImage(NamedTuple):
    """An image that did not come back, and why."""

    held: StoredVersion
    reason: str


class _Part(NamedTuple):
    """A batch that is being fetched: all its versions, those that were not here, and what comes of them."""

    versions: Sequence[StoredVersion]
    wanted: Sequence[StoredVersion]
    fetching: Fetching


@dataclass(slots=True)
class Recovered:
    """What came back.

    Attributes
    ----------
    here
        Images of the index that are here now.
    brought, brought_bytes
        Images that came in this run, and the bytes of their Data Sets.
    from_lists
        Those of them that only the copy's lists knew: they were stored after its index was written.
    unlisted
        Images that the lists alone know, and that did not come, so that nobody knows their patients.
    missing_count, missing
        Images that did not come; the first thousand of them.
    """

    here: int = 0
    brought: int = 0
    brought_bytes: int = 0
    from_lists: int = 0
    unlisted: int = 0
    missing_count: int = 0
    missing: list[MissingImage] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether everything is here."""
        return not (self.missing_count or self.unlisted)


class Recovery:
    """One recovery; one thread runs it.

    Parameters
    ----------
    place
        The copy, not entered.
    name
        Of the copy in the index.
    archive, index, ingest
        Where everything goes.
    bring_back
        Tries other copies for what this one does not give, and tells when somebody waits.
    taken_at
        When the copy's index was written; None when there was none.
    pace
        Called with the size of each file before it is fetched.
    on_progress
        Called after each batch.
    others
        Further copies by their name, not entered: their lists may know where an image is that this one has damaged.
    """

    def __init__(  # noqa: PLR0913 - each by its name
        self,
        place: StandAloneCopy,
        name: str,
        archive: Archive,
        index: Index,
        ingest: Ingest,
        bring_back: BringingBack,
        *,
        taken_at: datetime | None,
        pace: Pace = lambda _: None,
        on_progress: Callable[[Progress], None] = lambda _: None,
        others: Iterable[tuple[str, StandAloneCopy]] = (),
    ) -> None:
        self._place = place
        self._name = name
        self._archive = archive
        self._index = index
        self._ingest = ingest
        self._bring_back = bring_back
        self._taken_at = taken_at
        self._pace = pace
        self._on_progress = on_progress
        self._others = others
        self._failed: dict[str, str] = {}  # images of the lists that this copy has damaged, and why
        self._keeping: Future[None] | None = None
        self._passed = self._passed_bytes = 0
        self._total = self._total_bytes = 0
        self.done = Recovered()

    def run(self) -> Recovered:
        """Bring everything back, and compare it.

        Raises
        ------
        DestinationUnavailable, ArchiveUnavailable, IndexUnavailable
            Run it again: what is here stays.
        """
        self.done = Recovered()
        with self._place as place:
            self._learn(self._name, place, self._taken_at)
            lacks_some = self._walk(is_last=False) > 0
            if lacks_some and self._taken_at is not None:
                self._learn(self._name, place, None)  # the lists may know where the others are
            if lacks_some or self._failed:
                self._learn_from_others()
                self._walk(is_last=True)
        self.done.unlisted = len(self._failed)
        for error in self._failed.values():
            log.error("Recovery: %s", error)
        return self.done

    # -- what the copy's lists know ------------------------------------------------------------------------------------

    def _learn(self, name: str, place: StandAloneCopy, since: datetime | None) -> None:
        """Learn what a copy's lists say, and take in the images that the index does not know."""
        copy = self._index.copies.register(name, place.medium, clock.now(), place.label)
        images = place.listed(since)
        while some := list(islice(images, _LISTED_AT_ONCE)):
            listed = {self._location(image): image for image in some}
            stored = {location: image.stored for location, image in listed.items()}
            if unknown := self._index.copies.learn(copy, stored):
                self._take_in(place, [_item(location, listed[location]) for location in sorted(unknown)])
                self._index.copies.learn(copy, stored)

    def _learn_from_others(self) -> None:
        for name, place in self._others:
            with suppress(Unavailable, Damaged), place:
                self._learn(name, place, None)

    def _location(self, image: ListedImage) -> str:
        if image.location or image.key is None:
            return image.location
        return self._archive.location_of(image.key, image.sha256)

    def _take_in(self, place: StandAloneCopy, items: Sequence[CopyItem]) -> None:
        """Fetch images and add their rows, which their files say."""
        for part in in_batches(items, lambda item: item.held.size_bytes):
            fetched = fetch(place, part, self._archive, self._pace)
            self._archive.keep(fetched.returned)
            self._ingest.add_rows([each.location for each in fetched.returned])
            self._count(fetched.returned)
            come = {each.location for each in fetched.returned}
            self._bring_back.on_brought([item.held for item in part if item.held.location in come], self._name)
            self.done.from_lists += len(fetched.returned)
            self._failed |= fetched.errors
            for each in fetched.returned:
                self._failed.pop(each.location, None)

    # -- what the index knows ------------------------------------------------------------------------------------------

    def _walk(self, *, is_last: bool) -> int:
        """Bring what is not here, newest studies first; return how many images did not come."""
        held = self._index.holdings()
        self._total, self._total_bytes, self._passed, self._passed_bytes = held.versions, held.size_bytes, 0, 0
        self.done.missing_count, self.done.missing = 0, []
        with threads_for(self._place) as pool, ThreadPoolExecutor(1, "keep") as keeper:
            parts = self._parts(pool)
            try:
                for part in parts:
                    self._finish(part, keeper, is_last=is_last)
            finally:
                parts.close()
            self._wait_for_keeper()
        self.done.here = self._passed - self.done.missing_count
        return self.done.missing_count

    def _parts(self, pool: Executor) -> Generator[_Part, None, None]:
        """Yield the batches in order; the threads go on with the next one while one is finished."""
        begun: deque[_Part] = deque()
        try:
            for studies in self._index.select_in_batches(Selection(all_versions=True)):
                for versions in in_batches(studies, size_of):
                    begun.append(self._begin(versions, pool))
                    if len(begun) > 1:
                        yield begun.popleft()
            while begun:
                yield begun.popleft()
        finally:
            for part in begun:
                part.fetching.discard()

    def _begin(self, versions: Sequence[StoredVersion], pool: Executor) -> _Part:
        """Begin to fetch what the copy has of these, as far as they are not here."""
        wanted = [each for each in versions if not self._archive.has(each.location)]
        self._pace(0)
        source = self._name, self._place.medium
        holders = self._index.copies.holders([held.location for held in wanted]) if wanted else {}
        items = [item for each in holders.values() for *copy, item in each if tuple(copy) == source]
        return _Part(versions, wanted, Fetching(pool, self._place, items, self._archive, self._pace))

    def _finish(self, part: _Part, keeper: Executor, *, is_last: bool) -> None:
        """Try other copies for what did not come; let the rest be kept while the next batch comes."""
        fetched = part.fetching.result()
        try:
            come = {each.location for each in fetched.returned}
            if rest := [held for held in part.wanted if held.location not in come]:
                errors = self._bring_back.bring_all(rest)
                self._count_others(rest, errors)
                missing = [MissingImage(held, errors[held.location]) for held in rest if held.location in errors]
                self._miss(missing, is_last=is_last)
            self._wait_for_keeper()
        except BaseException:
            part.fetching.discard()
            raise
        self._keeping = keeper.submit(self._keep, part)

    def _wait_for_keeper(self) -> None:
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.result()

    def _count_others(self, versions: Sequence[StoredVersion], errors: Container[str]) -> None:
        for held in versions:
            if held.location not in errors:
                self.done.brought += 1
                self.done.brought_bytes += held.size_bytes

    def _miss(self, missing: Sequence[MissingImage], *, is_last: bool) -> None:
        self.done.missing_count += len(missing)
        self.done.missing += missing[: max(0, _MOST_TOLD - len(self.done.missing))]
        if is_last:
            for each in missing:
                log.error("%s did not come back: %s", each.held.location, each.reason)
            self._index.record_verification(VerificationResult(each.held.location, each.reason) for each in missing)

    def _keep(self, part: _Part) -> None:
        returned = part.fetching.result().returned
        try:
            keep(self._archive, self._index, returned)
        except BaseException:
            part.fetching.discard()
            raise
        self._count(returned)
        come = {each.location for each in returned}
        self._bring_back.on_brought([held for held in part.wanted if held.location in come], self._name)
        self._pass(part.versions)  # only now: what is said to be here survives a power cut

    def _count(self, returned: Sequence[ReturnedFile]) -> None:
        self.done.brought += len(returned)
        self.done.brought_bytes += sum(each.size_bytes for each in returned)

    def _pass(self, versions: Sequence[StoredVersion]) -> None:
        self._passed += len(versions)
        self._passed_bytes += sum(held.size_bytes for held in versions)
        self._on_progress(Progress(self._passed, self._total, self._passed_bytes, self._total_bytes))


def _item(location: str, image: ListedImage) -> CopyItem:
    uid = image.key.sop_instance_uid if image.key else ""
    held = StoredVersion("", "", uid, "", "", location, image.sha256, image.size_bytes, clock.now())
    return CopyItem(0, held, image.stored)
