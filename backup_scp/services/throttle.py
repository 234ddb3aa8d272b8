"""Limit how fast and when a restore sends, and how long it waits for a destination that is away, silent or full."""

from __future__ import annotations

import time
from collections.abc import Callable

from backup_scp.machine import clock as wall_clock
from backup_scp.machine.hours import Hours

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_LOOK_EVERY_S = 10.0  # at the clock, which may be set, and does not run while the computer sleeps


class Throttle:
    """Keeps the mean transfer rate below a limit.

    Parameters
    ----------
    mb_per_s
        The limit, in million bytes a second; 0 for none.
    """

    def __init__(
        self,
        mb_per_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bytes_per_s = mb_per_s * 1e6
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()

    def wait(self, sent_bytes: int) -> None:
        """Sleep until the mean rate is within the limit; unused time is not saved for later."""
        if not self._bytes_per_s:
            return
        now = self._clock()
        self._free_at = self._free_at + sent_bytes / self._bytes_per_s
        if self._free_at > now:
            self._sleep(self._free_at - now)
        else:
            self._free_at = now


class Patience:
    """Waits for a destination, with pauses that grow, and announces each one.

    Parameters
    ----------
    wait_s
        How long, in seconds, from the first failure after the last success; 0 gives up at once.
    say
        Called with a sentence before each pause.
    """

    def __init__(
        self,
        wait_s: float,
        say: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._wait_s = wait_s
        self._say = say
        self._clock = clock
        self._sleep = sleep
        self._since: float | None = None
        self._pause_s = _FIRST_PAUSE_S

    def pause(self, why: str) -> bool:
        """Wait a while, longer each time; return False at once when the time is used up."""
        now = self._clock()
        if self._since is None:
            self._since, self._pause_s = now, _FIRST_PAUSE_S
        left_s = self._since + self._wait_s - now
        if left_s <= 0:
            return False
        pause_s = min(self._pause_s, left_s)
        self._say(f"{why}. Trying again in {pause_s:.0f} s, for up to {_duration(left_s)}")
        self._sleep(pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        return True

    def over(self) -> None:
        """Reset the waiting time, after a confirmed instance."""
        if self._since is not None:
            self._say(f"It continues, after {_duration(self._clock() - self._since)}")
            self._since = None

    def forget(self) -> None:
        """Reset the waiting time after a pause that had another reason."""
        self._since = None

    @property
    def limit(self) -> str:
        """Describe how long it waits at most."""
        return _duration(self._wait_s)


class SendingHours:
    """Waits for the time of day in which images may be sent.

    Parameters
    ----------
    hours
        The time of day; None for always.
    say
        Called with a sentence when it begins to wait, and when it ends.
    """

    def __init__(
        self,
        hours: Hours | None = None,
        say: Callable[[str], None] = lambda _: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._hours = hours
        self._say = say
        self._sleep = sleep

    @property
    def are_now(self) -> bool:
        """Whether images may be sent now."""
        return self._hours is None or self._hours.include(wall_clock.now().astimezone())

    def wait(self) -> None:
        """Wait until they begin."""
        if self._hours is None or self.are_now:
            return
        self._say(f"It sends only at {self._hours}, and waits until {self._hours.begin:%H:%M}")
        while not self.are_now:
            self._sleep(_LOOK_EVERY_S)
        self._say("It continues")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
