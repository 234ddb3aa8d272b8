"""How many studies each console sent on each day, against its habit."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from backup_scp.ports import FirstArrival, IndexRecords

SHOWN_DAYS = 28
_WEEKS = 8  # the habit of a weekday is what was usual on that day in the weeks before
_MOST_CONSOLES = 12
_AGAIN_S = 60.0


class DayKind(StrEnum):
    """A day against the habit of its weekday."""

    USUAL = "usual"
    LOW = "low"  # less than half
    SILENT = "silent"  # nothing, where something is usual
    FREE = "free"  # nothing, as usual
    TODAY = "today"  # it is not over


@dataclass(frozen=True, slots=True)
class ConsoleDay:
    """One day of one console.

    Attributes
    ----------
    day
        By this computer's time zone.
    studies
        Studies whose first image came on that day.
    habit
        The median of the same weekday in the weeks before.
    kind
        The day against its habit.
    """

    day: date
    studies: int
    habit: float
    kind: DayKind


@dataclass(frozen=True, slots=True)
class ConsoleDays:
    """The last weeks of one console, the oldest day first, and when its last image came."""

    name: str
    days: list[ConsoleDay]
    last_at: datetime

    @property
    def most(self) -> float:
        """The highest number, of studies or of a habit."""
        return max(1.0, *(max(day.studies, day.habit) for day in self.days))


class IntakeCalendar:
    """Counts, at most once a minute.

    Parameters
    ----------
    index
        Lists the first arrivals.
    """

    def __init__(self, index: IndexRecords) -> None:
        self._index = index
        self._next_at = 0.0
        self._days: list[ConsoleDays] = []

    def days(self, now: datetime) -> list[ConsoleDays]:
        """Return the last weeks of the consoles, the busiest first.

        Raises
        ------
        IndexUnavailable
        """
        if time.monotonic() >= self._next_at:
            began = time.monotonic()
            since = now - timedelta(days=SHOWN_DAYS + 7 * _WEEKS)
            self._days = console_days(self._index.first_arrivals(since), now.astimezone().date())
            self._next_at = time.monotonic() + max(_AGAIN_S, 100 * (time.monotonic() - began))
        return self._days


def console_days(arrivals: Iterable[FirstArrival], today: date) -> list[ConsoleDays]:
    """Count arrivals by console and day, and compare each day with its habit."""
    counts: dict[str, Counter[date]] = defaultdict(Counter)
    last: dict[str, datetime] = {}
    for arrival in arrivals:
        last[arrival.console] = max(last.get(arrival.console, arrival.last_at), arrival.last_at)
        counts[arrival.console][arrival.at.astimezone().date()] += 1
    busiest = sorted(counts.items(), key=lambda item: (-item[1].total(), item[0]))[:_MOST_CONSOLES]
    return [ConsoleDays(name, _shown(count, today), last[name]) for name, count in busiest]


def _shown(count: Mapping[date, int], today: date) -> list[ConsoleDay]:
    first = min(count)
    days = [today - timedelta(days=back) for back in reversed(range(SHOWN_DAYS))]
    return [_day(day, count, first, today) for day in days]


def _day(day: date, count: Mapping[date, int], first: date, today: date) -> ConsoleDay:
    before = [day - timedelta(weeks=week) for week in range(1, _WEEKS + 1)]
    known = [count.get(each, 0) for each in before if each >= first]
    habit = statistics.median(known) if known else 0.0
    studies = count.get(day, 0)
    return ConsoleDay(day, studies, habit, _kind(studies, habit, is_today=day == today))


def _kind(studies: int, habit: float, *, is_today: bool) -> DayKind:
    if is_today:
        return DayKind.TODAY
    if not studies:
        return DayKind.SILENT if habit >= 1 else DayKind.FREE
    return DayKind.LOW if studies < habit / 2 else DayKind.USUAL
