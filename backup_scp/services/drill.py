"""Prove that a copy comes back: read it as on an empty machine, and send its images to a console.

The copy is only read.  What is fetched goes into a scratch home, some hundred images at a time, which is removed
afterwards; the archive and its images are not touched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from backup_scp.errors import (
    BackupSCPError,
    Damaged,
    DestinationForeign,
    DestinationUnavailable,
    InvalidSettings,
)
from backup_scp.machine import clock
from backup_scp.ports import (
    Archive,
    CopyItem,
    CopyPlace,
    DrillKind,
    DrillProblem,
    DrillResult,
    Index,
    Progress,
    StandAloneCopy,
)
from backup_scp.services.drill_copy_lists import check_lists
from backup_scp.services.drill_images import DrillStage, ImageDrill, Pace, no_room
from backup_scp.services.drill_sample import Sampler

OnProgress = Callable[[Progress], None]

_MOST_IN_A_BATCH, _MOST_BYTES_IN_A_BATCH = 200, 500_000_000
_LISTED_AT_ONCE = 1000
_MOST_PROBLEMS = 100
_SEALED = (
    "That images, settings and index can be opened: they are sealed, and the recovery key was not there (--key FILE)"
)
_IMAGES_ALONE = "Settings and index: this place keeps images alone"


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """How a drill is done.

    Attributes
    ----------
    sample
        How many images are tried; None for all.
    is_sealed
        Whether the copy is sealed.
    proves_key
        Tells of the entered copy whether the recovery key opens it; None without a key.
    sent_to
        Name of the test AE; empty for none.
    """

    sample: int | None = 50
    is_sealed: bool = False
    proves_key: Callable[[], bool] | None = None
    sent_to: str = ""


class Drill:
    """One drill of one copy; one thread uses it.

    Parameters
    ----------
    place
        The copy, not yet entered.
    archive, index
        The originals, which are only read, and what the copy should have.
    stage
        Scratch homes, and where images are sent.
    pace
        Called with the size of each image before it is fetched.
    """

    def __init__(
        self,
        place: CopyPlace,
        archive: Archive,
        index: Index,
        stage: DrillStage,
        options: DrillOptions,
        *,
        pace: Pace = lambda _: None,
        on_progress: OnProgress = lambda _: None,
    ) -> None:
        self._place = place
        self._index = index
        self._stage = stage
        self._options = options
        self._on_progress = on_progress
        self._images = ImageDrill(place, archive, index, stage, is_sealed=options.is_sealed, pace=pace)
        self._sampler = None if options.sample is None else Sampler(options.sample)
        self._opens = not options.is_sealed
        self._problems: list[DrillProblem] = []
        self._problem_count = self._held = self._held_bytes = self._index_lacks = 0
        self._index_taken_at: datetime | None = None
        self._opened_s = 0.0
        self._unproven: list[str] = []

    def run(self) -> DrillResult:
        """Do the drill; of a copy without images it tries nothing.

        Raises
        ------
        DestinationUnavailable
            The copy cannot be reached.  When it goes away later, that is a problem in the result.
        InvalidSettings
            The recovery key is mistyped.
        ArchiveUnavailable, IndexUnavailable
            The scratch home has no room, or our own index does not answer.
        """
        began_at, began, is_entered = clock.now(), time.monotonic(), False
        try:
            with self._place:
                is_entered = True
                self._try_all(began)
        except DestinationForeign as error:
            self._add(DrillKind.OTHER_ARCHIVE, str(error))
        except DestinationUnavailable as error:
            if not is_entered:
                raise
            self._add(DrillKind.UNREACHABLE, str(error))
        return self._result(began_at)

    def _add(self, kind: DrillKind, sentence: str) -> None:
        self._note(DrillProblem(kind, "", sentence))

    def _note(self, problem: DrillProblem) -> None:
        self._problem_count += 1
        if len(self._problems) < _MOST_PROBLEMS:
            self._problems.append(problem)

    def _try_all(self, began: float) -> None:
        place, copies = self._place, self._index.copies
        copy = copies.register(place.name, place.medium, clock.now(), place.label)
        if not copies.count_held(copy):
            return
        if self._options.is_sealed and self._options.proves_key:
            self._try_key(self._options.proves_key)
        if not self._opens:
            self._unproven.append(_SEALED)
        elif isinstance(place, StandAloneCopy):
            self._open(place, copy, began)
        else:
            self._unproven.append(_IMAGES_ALONE)
        self._opened_s = self._opened_s or time.monotonic() - began
        if not self._held:
            for _ in self._survey(copy):
                pass
        self._try_images(copy)

    def _try_key(self, proves_key: Callable[[], bool]) -> None:
        try:
            self._opens = proves_key()
        except Damaged as error:
            self._add(DrillKind.DAMAGED, str(error))
            return
        if not self._opens:
            self._add(DrillKind.WRONG_KEY, "The recovery key does not open this copy")

    # -- what lets the copy stand alone --------------------------------------------------------------------------------

    def _open(self, place: StandAloneCopy, copy: int, began: float) -> None:
        try:
            text = place.saved_settings()
            if text:
                self._stage.read_settings(text)
            else:
                self._add(DrillKind.BAD_SETTINGS, "The settings are missing there")
        except (Damaged, InvalidSettings) as error:
            self._add(DrillKind.BAD_SETTINGS, f"The settings there cannot be used: {error}")
        self._open_index(place, copy, began)

    def _open_index(self, place: StandAloneCopy, copy: int, began: float) -> None:
        is_complete = not self._index.copies.count_due(copy)
        path = self._stage.folder / "index-of-copy.sqlite"
        try:
            taken_at = place.contents().taken_at
            if not place.fetch_index(path):
                self._add(DrillKind.BAD_INDEX, "The index is missing there")
                return
            with self._stage.open_index(path) as found:
                self._opened_s = time.monotonic() - began
                identity = found.archive_identity()
                if identity and identity != self._index.archive_identity():
                    self._add(DrillKind.OTHER_ARCHIVE, "The index there is another archive's")
                    return
                lists = check_lists(place, taken_at, found, self._survey(copy))
        except OSError as error:
            raise no_room(self._stage.folder, error) from error
        except DestinationUnavailable:
            raise
        except BackupSCPError as error:
            self._add(DrillKind.BAD_INDEX, f"The index there cannot be used: {error}")
            return
        finally:
            path.unlink(missing_ok=True)
        self._index_taken_at, self._index_lacks = taken_at, lists.index_lacks
        for problem in lists.problems(clock.now(), is_complete=is_complete):
            self._note(problem)

    def _survey(self, copy: int) -> Iterator[list[CopyItem]]:
        """Yield all images that the copy should have; count them, and draw the sample on the way."""
        self._held = self._held_bytes = 0
        self._sampler = None if self._options.sample is None else Sampler(self._options.sample)
        for items in self._listed(copy):
            self._held += len(items)
            self._held_bytes += sum(item.stored.size_bytes for item in items if item.stored)
            if self._sampler:
                self._sampler.add(items)
            yield items

    def _listed(self, copy: int) -> Iterator[list[CopyItem]]:
        after = 0
        while items := self._index.copies.stored(copy, after, _LISTED_AT_ONCE):
            yield items
            after = items[-1].number

    # -- images --------------------------------------------------------------------------------------------------------

    def _try_images(self, copy: int) -> None:
        images = self._images
        chosen = self._listed(copy) if self._sampler is None else iter([self._sampler.items()])
        total = self._held if self._sampler is None else min(self._held, self._options.sample or 0)
        for batch in _batches(item for items in chosen for item in items):
            if self._opens:
                images.bring_back(batch)
            else:
                images.compare(batch)
            while images.problems:
                self._note(images.problems.pop(0))
            self._on_progress(Progress(images.tried, max(total, images.tried)))
        if images.undecoded:
            self._unproven.append(f"The pixels of {images.undecoded} images: nothing here decodes them")

    def _result(self, began_at: datetime) -> DrillResult:
        place, images = self._place, self._images
        first_study_s, everything_s = self._times()
        return DrillResult(
            copy=place.name,
            medium=place.medium,
            label=place.label,
            began_at=began_at,
            ended_at=clock.now(),
            passed=not self._problem_count,
            is_full=self._options.sample is None,
            tried=images.tried,
            came_back=images.came_back,
            size_bytes=images.size_bytes,
            compared=images.compared,
            decoded=images.decoded,
            held=self._held,
            held_bytes=self._held_bytes,
            index_taken_at=self._index_taken_at,
            index_lacks=self._index_lacks,
            first_study_s=first_study_s,
            everything_s=everything_s,
            problems=tuple(self._problems),
            problem_count=self._problem_count,
            unproven=tuple(self._unproven),
            sent_to=self._options.sent_to,
        )

    def _times(self) -> tuple[float | None, float | None]:
        """Extrapolate what was measured, by number or by bytes, whichever takes longer."""
        images = self._images
        if not images.came_back:
            return None, None
        share = max(self._held / images.came_back, self._held_bytes / max(images.size_bytes, 1))
        everything_s = images.worked_s * share
        studies = max(self._index.holdings().studies, 1)
        return self._opened_s + everything_s / studies, self._opened_s + everything_s


def _batches(items: Iterable[CopyItem]) -> Iterator[list[CopyItem]]:
    """Divide images into batches that a scratch home can hold."""
    batch: list[CopyItem] = []
    size_bytes = 0
    for item in items:
        if batch and (len(batch) >= _MOST_IN_A_BATCH or size_bytes + item.held.size_bytes > _MOST_BYTES_IN_A_BATCH):
            yield batch
            batch, size_bytes = [], 0
        batch.append(item)
        size_bytes += item.held.size_bytes
    if batch:
        yield batch
