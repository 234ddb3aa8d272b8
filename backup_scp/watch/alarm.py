"""Tell whether a virus may be at work, so that no further copy is touched until a person has looked."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from backup_scp.errors import Damaged, Unavailable
from backup_scp.machine import clock
from backup_scp.ports import Archive, Index, MassChange, Task, VerificationResult

Storms = Callable[[datetime | None], list[MassChange]]

SEEN = "alarm seen"
"""The task that notes when a person looked at the last alarm, and how many images were lost by then."""

_EVERY_S = 30.0
_SAMPLE = 32
_LISTED = 1000


class CopyAlarm:
    """Looks for mass changes, and for stored images that were changed or are gone.

    Parameters
    ----------
    archive, index
        Hold the images.  Some of them, drawn at random, have their header read each time.
    storms
        Lists the senders that changed unusually many studies since a moment; since None, in the days of the settings.
    lost_images
        So many damaged or missing images are an alarm; 0 never.
    """

    def __init__(self, archive: Archive, index: Index, storms: Storms, lost_images: int) -> None:
        self._archive = archive
        self._index = index
        self._storms = storms
        self._lost_images = lost_images
        self._next_at = 0.0
        self._sentence = ""

    @property
    def sentence(self) -> str:
        """Why nothing is copied; empty when nothing is odd.

        Raises
        ------
        IndexUnavailable
        """
        if time.monotonic() >= self._next_at:
            self._sentence = self._look()
            self._next_at = time.monotonic() + _EVERY_S
        return self._sentence

    def _look(self) -> str:
        seen = self._index.tasks().get(SEEN)
        if storms := self._storms(seen.began_at if seen else None):
            return storms[0].sentence
        if not self._lost_images:
            return ""
        self._sample()
        lost = lost_images(self._index)
        if lost < self._lost_images + (seen.done if seen else 0):
            return ""
        return f"{lost} stored images were changed or are gone"

    def _sample(self) -> None:
        """Read the headers of some images, so that a virus in the archive's folder is noticed soon."""
        found = []
        for held in self._index.copies.sample(_SAMPLE):
            try:
                self._archive.read(held.location)
            except Damaged as error:
                found.append(VerificationResult(held.location, str(error)))
            except Unavailable:
                return
        if found:
            self._index.record_verification(found)


def lost_images(index: Index) -> int:
    """Count the stored images that were found damaged or missing, up to a thousand."""
    return sum("damaged" in remark.flags for remark in index.remarks(_LISTED))


def go_on(index: Index) -> None:
    """Note that a person has looked: the alarm returns only when more has changed.

    Raises
    ------
    IndexUnavailable
    """
    index.record_task(Task(SEEN, clock.now(), done=lost_images(index)))
