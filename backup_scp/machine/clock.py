"""Return the time: the only place that reads the system's clock, so that a test can set it.

A clock may be wrong and be corrected later: a dead battery, a mistyped year, a virtual machine that was suspended.  So
no work may wait for a time that a wrong clock has recorded.  ``is_future`` detects such a time; the caller treats it as
unknown.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

TOLERANCE = timedelta(hours=1)
"""How far a recorded time may be ahead of the clock: clocks of computers that share an index differ a little."""


source: Callable[[], datetime] = partial(datetime.now, UTC)  # noqa: TID251 - allowed only here


def now() -> datetime:
    """Return the time, UTC."""
    return source()


def horizon() -> datetime:
    """Return the latest plausible time; a later one was written while a clock was ahead."""
    return now() + TOLERANCE


def is_future(moment: datetime) -> bool:
    """Tell whether a time is in the future, so that a clock was ahead when it was written."""
    return moment > horizon()


class Steady:
    """A clock that starts at a given time and never goes back, even when the system's clock is set back.

    Parameters
    ----------
    at_least
        Its earliest start; it starts now when that is later.
    """

    def __init__(self, at_least: datetime | None = None) -> None:
        self._began = max(now(), at_least) if at_least else now()
        self._origin = time.monotonic()

    def now(self) -> datetime:
        """Return the time, UTC."""
        return self._began + timedelta(seconds=time.monotonic() - self._origin)
