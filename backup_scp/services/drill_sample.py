"""Draw the images of a drill: at random, and always some of the newest, the oldest and of each kind."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable

from backup_scp.ports import CopyItem

_ENDS = 5  # of the oldest, and of the newest
_MOST_KINDS = 200


class Sampler:
    """Draws a sample in one pass over all images, in memory that does not grow with their number.

    Parameters
    ----------
    most
        How many images; a few more when there are many kinds.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._random = random.SystemRandom()
        self._seen = 0
        self._drawn: list[CopyItem] = []
        self._oldest: list[CopyItem] = []
        self._newest: deque[CopyItem] = deque(maxlen=min(_ENDS, most))
        self._kinds: dict[tuple[str, str], tuple[int, CopyItem]] = {}

    def add(self, items: Iterable[CopyItem]) -> None:
        """Offer images, in the order of their arrival."""
        for item in items:
            self._seen += 1
            if len(self._oldest) < min(_ENDS, self._most):
                self._oldest.append(item)
            self._newest.append(item)
            self._add_kind(item)
            if len(self._drawn) < self._most:
                self._drawn.append(item)
            elif (place := self._random.randrange(self._seen)) < self._most:  # each is drawn with equal probability
                self._drawn[place] = item

    def _add_kind(self, item: CopyItem) -> None:
        kind = item.held.sop_class_uid, item.held.transfer_syntax_uid
        number, _ = self._kinds.get(kind, (0, item))
        if number or len(self._kinds) < _MOST_KINDS:
            is_drawn = self._random.randrange(number + 1) == 0
            self._kinds[kind] = number + 1, item if is_drawn else self._kinds[kind][1]

    def items(self) -> list[CopyItem]:
        """Return the sample, in the order of arrival."""
        wanted = [*(item for _, item in self._kinds.values()), *self._newest, *self._oldest, *self._drawn]
        most = max(self._most, len(self._kinds))
        chosen: dict[int, CopyItem] = {}
        for item in wanted:
            if len(chosen) < most:
                chosen[item.number] = item
        return [chosen[number] for number in sorted(chosen)]
