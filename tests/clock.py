"""A clock that a test sets; all code reads the time from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

MORNING = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


class Clock:
    """Gives the time that it was set to, a microsecond later each time that it is asked."""

    def __init__(self) -> None:
        self.time = MORNING

    def __call__(self) -> datetime:
        self.time += timedelta(microseconds=1)
        return self.time

    def jump(self, **by: float) -> None:
        """Go wrong, or right again: ``days=400``."""
        self.time += timedelta(**by)
