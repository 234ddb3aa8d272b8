"""What time it is: the one place that asks the system's clock, and that a test can set.

A clock may be wrong, and be set right: a dead battery, a mistyped year, a virtual machine that was asleep.  So no work
may wait for a time that only a wrong clock has named: ``is_future`` tells such a time, and whoever meets one takes it
as unknown.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

TOLERANCE = timedelta(hours=1)
"""So far ahead of the clock a recorded time may be: computers that share an index are never set quite alike."""


source: Callable[[], datetime] = partial(datetime.now, UTC)  # noqa: TID251 - here alone


def now() -> datetime:
    """Give the time, UTC."""
    return source()


def horizon() -> datetime:
    """Return the latest plausible time: what is dated later was written while a clock was ahead."""
    return now() + TOLERANCE


def is_future(moment: datetime) -> bool:
    """Tell whether a time is in the future: it was written while a clock was ahead."""
    return moment > horizon()


class Steady:
    """A clock that starts at a time and never goes back, whatever happens to the system's clock.

    Parameters
    ----------
    at_least
        It begins now, but not before this.
    """

    def __init__(self, at_least: datetime | None = None) -> None:
        self._began = max(now(), at_least) if at_least else now()
        self._origin = time.monotonic()

    def now(self) -> datetime:
        """Give the time, UTC."""
        return self._began + timedelta(seconds=time.monotonic() - self._origin)
