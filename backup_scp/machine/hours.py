"""A time of day in which work may be done: ``20:00-06:30``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time

_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d"
_HOURS = re.compile(rf"({_TIME})-({_TIME})")


@dataclass(frozen=True, slots=True)
class Hours:
    """Begin (included) and end (not included) of a time of day, which may go over midnight."""

    begin: time
    end: time

    @classmethod
    def parse(cls, text: str) -> Hours:
        """Parse ``20:00-06:30``.

        Raises
        ------
        ValueError
            It is no such text, or both times are the same.
        """
        found = _HOURS.fullmatch(text)
        if not found or found[1] == found[2]:
            raise ValueError('write the begin and the end of a time of day, such as "20:00-06:30"')
        return cls(time.fromisoformat(found[1]), time.fromisoformat(found[2]))

    def include(self, local: datetime) -> bool:
        """Tell whether a local time is within the hours."""
        at = local.time()
        if self.begin <= self.end:
            return self.begin <= at < self.end
        return at >= self.begin or at < self.end

    def __str__(self) -> str:
        return f"{self.begin:%H:%M}-{self.end:%H:%M}"
