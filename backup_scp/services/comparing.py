"""Read back what a place has, in some tries, so that one image that cannot be read does not end the work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

from backup_scp.errors import CopyingStopped, DestinationAway, DestinationRefuses, DestinationUnavailable
from backup_scp.ports import CopyItem, CopyPlace, CopyResult

log = logging.getLogger(__name__)

Pace = Callable[[int], None]
"""Called with a number of bytes that were read; limits the rate, and raises to end the work."""

_MOST_COMPARED_BYTES = 64_000_000
_TRIES, _MOST_UNREAD_IN_A_ROW = 3, 3


class Comparing:
    """Compares what a place has.

    Parameters
    ----------
    place
        The copy.
    pace
        Called with the bytes that were read.

    Attributes
    ----------
    unread
        How many images of the running pass could not be read.
    """

    def __init__(self, place: CopyPlace, pace: Pace) -> None:
        self._place, self._pace = place, pace
        self.unread = self._told = 0

    def compare(self, items: Sequence[CopyItem]) -> list[CopyResult]:
        """Compare some; leave out one that cannot be read in several tries, while others can.

        Raises
        ------
        DestinationUnavailable
            Several in a row cannot be read, or the place is away or refuses us.
        """
        results: list[CopyResult] = []
        tries = in_a_row = 0
        left = items
        while left:
            before = len(results)
            try:
                results.extend(self._paced(self._place.compare(left), left))
                break
            except (CopyingStopped, DestinationAway, DestinationRefuses):
                raise
            except DestinationUnavailable as error:
                done = {result.number for result in results}
                left = [item for item in left if item.number not in done]
                tries, in_a_row = (1, 0) if len(results) > before else (tries + 1, in_a_row)
                if tries < _TRIES or not left:
                    continue
                first, *left = left
                tries, in_a_row = 0, in_a_row + 1
                if in_a_row == _MOST_UNREAD_IN_A_ROW:
                    raise
                self.unread += 1
                image = first.held.sop_instance_uid
                log.warning("Copy %s: image %s could not be read back: %s", self._place.name, image, error)
        return results

    def noticed(self) -> str:
        """Return how many images of this pass could not be read, when there are more than was told before."""
        if self.unread <= self._told:
            self._told = self.unread
            return ""
        self._told = self.unread
        what = "1 image was" if self.unread == 1 else f"{self.unread} images were"
        return f"{what} not read back: the place failed at each try; copies verify {self._place.name} tries again"

    def _paced(self, results: Iterable[CopyResult], items: Sequence[CopyItem]) -> Iterator[CopyResult]:
        sizes = {item.number: item.held.size_bytes for item in items}
        for result in results:
            self._pace(sizes[result.number])
            yield result


def some(items: Sequence[CopyItem]) -> Sequence[CopyItem]:
    """Return the first items that together have a limited size, at least one: other work waits for their end."""
    size_bytes = 0
    for position, item in enumerate(items):
        size_bytes += item.held.size_bytes
        if position and size_bytes > _MOST_COMPARED_BYTES:
            return items[:position]
    return items
