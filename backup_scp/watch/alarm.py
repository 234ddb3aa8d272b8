"""Tell whether a virus may be at work, so that no further copy is touched until a person has looked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from backup_scp.errors import Damaged, Unavailable
from backup_scp.machine import clock
from backup_scp.ports import RECOVERY, Archive, Index, MassChange, Task, VerificationResult

Storms = Callable[[datetime | None], list[MassChange]]

SEEN = "alarm seen"
"""The task that notes when a person looked at the last alarm, and how many images were lost by then."""

_EVERY_S = 30.0
_SAMPLE = 32


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
        tasks = self._index.tasks()
        if RECOVERY in tasks:
            return "the archive is being recovered: copying begins when it is whole"
        seen = tasks.get(SEEN)
        if storms := self._storms(seen.began_at if seen else None):
            return storms[0].sentence
        if not self._lost_images:
            return ""
        self._sample()
        lost = self._index.count_damaged()
        if seen and lost < seen.done:  # some are healed: others that are lost from now on count
            seen = replace(seen, done=lost)
            self._index.record_task(seen)
        if lost < self._lost_images + (seen.done if seen else 0):
            return ""
        return f"{lost} stored images were changed or are gone"

    def _sample(self) -> None:
        """Read the headers of some images, so that a virus in the archive's folder is noticed soon."""
        found = []
        for location in self._index.copies.sample(_SAMPLE):
            try:
                self._archive.read(location)
            except Damaged as error:
                found.append(VerificationResult(location, str(error)))
            except Unavailable:  # of the others the next look tells
                break
        if found:
            self._index.record_verification(found)


def go_on(index: Index) -> None:
    """Note that a person has looked: the alarm returns only when more has changed.

    Raises
    ------
    IndexUnavailable
    """
    index.record_task(Task(SEEN, clock.now(), done=index.count_damaged()))
