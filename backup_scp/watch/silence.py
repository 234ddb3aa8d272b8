"""Tell which console has been silent for longer than its own habit (docs/adr/0084).

The habit of a console is what it sends in each hour of the week, in this computer's time zone.  A silence is measured
in what the habit would have brought meanwhile: nights and free days do not count.
"""

from __future__ import annotations

import heapq
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from backup_scp.ports import FirstArrival

Arrivals = Mapping[str, Counter[datetime]]
"""For each console, how much came in each hour; the hours are local times without a zone."""

LEARNED = timedelta(weeks=8)
FORGOTTEN = timedelta(weeks=4)
"""A console that is silent for longer is no longer expected."""

_NEW = timedelta(weeks=3)
_LEAST_ARRIVALS = 12  # in the weeks that are learned
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_BUSY = 30  # studies on a usual day
_RARE = 3  # usual days in a week
_BUSY_DAYS, _RARE_DAYS, _OTHER_DAYS = (0.4, 2.3), (2.2, 3.0), (1.5, 3.0)
"""Usual days of silence, of a busy console, a rare one and another: while others send, and while they do not."""

_OVER_LONGEST = 1.5
_LEAST_SILENCE = 11.0  # with fewer expected, a small room is silent by chance, above all in weeks with half the work
_LEAST_VOTE = 3.0  # with fewer expected, a console does not tell whether the clinic is open: e**-3 is one in twenty
_LIVELY = 0.3  # of what is expected: a console that sends so much is at work
_LULL = 0.25  # a console keeps its weekends free if its Sunday has at most this share of a usual day


@dataclass(frozen=True, slots=True)
class Silence:
    """A console that has been silent for too long.

    Attributes
    ----------
    console
        Its name in the settings, or its AE title.
    last_at
        When its last image came.
    every_s
        How often a study usually comes in the hours of the week in which it works now, in seconds.
    is_closed
        Whether the other consoles that usually send are silent as well, or there are none.
    """

    console: str
    last_at: datetime
    every_s: float
    is_closed: bool


@dataclass(frozen=True, slots=True)
class Habit:
    """What one console usually sends.

    Attributes
    ----------
    rates
        Arrivals in each of the 168 hours of the week, Monday first.
    longest
        Its second longest silence of the past weeks, as the arrivals that it should have brought.
    """

    rates: Sequence[float]
    longest: float

    @property
    def a_day(self) -> float:
        """Arrivals on a usual day of work; a weekday with little counts as none."""
        return statistics.mean(self._working_days())

    @property
    def patience(self) -> tuple[float, float]:
        """Arrivals without which it is silent while others send, and while they do not: a small room may be free."""
        is_rare = len(self._working_days()) <= _RARE
        is_open, is_closed = _RARE_DAYS if is_rare else _BUSY_DAYS if self.a_day >= _BUSY else _OTHER_DAYS
        return self.a_day * is_open, self.a_day * is_closed

    @property
    def has_free_sundays(self) -> bool:
        """Whether it hardly sends on Sundays: only such a console tells by its silence that the clinic is closed."""
        return self._days()[6] <= _LULL * self.a_day

    def expected(self, hours: Iterable[datetime]) -> float:
        """Return how much it usually sends in these hours."""
        return sum(self.rates[_slot(hour)] for hour in hours)

    def every_s(self, hours: Sequence[datetime]) -> float:
        """Return the usual seconds between two arrivals in the last of these hours in which it usually sends."""
        least = self.a_day / 48
        busy = [rate for hour in hours if (rate := self.rates[_slot(hour)]) > least][-8:]
        return 3600 / statistics.mean(busy) if busy else 86400 / self.a_day

    def _working_days(self) -> list[float]:
        days = self._days()
        return [day for day in days if day >= max(days) / 5]

    def _days(self) -> list[float]:
        return [sum(self.rates[24 * day : 24 * day + 24]) for day in range(7)]


class Habits:
    """Learns the habits of all consoles.

    Parameters
    ----------
    arrivals
        What came, for ``LEARNED`` and ``FORGOTTEN`` before now.
    now
        The local time.
    stopped
        Hours in which this node did not run: they say nothing.
    """

    def __init__(self, arrivals: Arrivals, now: datetime, stopped: Collection[datetime] = ()) -> None:
        self._stopped = frozenset(stopped)
        usual = {name: _usual_days(counts, now) for name, counts in arrivals.items()}
        self._closed = _closed_days(arrivals, usual, now)
        found = {name: self._learn(counts, now) for name, counts in arrivals.items()}
        self._habits = {name: habit for name, habit in found.items() if habit is not None}

    def silences(self, last: Mapping[str, datetime], arrivals: Arrivals, now: datetime) -> list[Silence]:
        """List the consoles that are silent for too long, by name.

        Parameters
        ----------
        last
            The local time of the last arrival of each console.
        arrivals
            What came lately.
        now
            The local time.
        """
        found = []
        for name, habit in sorted(self._habits.items()):
            hours = self._quiet_hours(last[name], now)
            quiet = habit.expected(hours)
            open_patience, closed_patience = habit.patience
            if quiet < max(open_patience, _OVER_LONGEST * habit.longest, _LEAST_SILENCE):
                continue
            is_closed = habit.has_free_sundays and not self._others_send(name, hours, last, arrivals)
            if not is_closed or quiet >= closed_patience:
                found.append(Silence(name, last[name], habit.every_s(hours), is_closed))
        return found

    def _quiet_hours(self, last: datetime, now: datetime) -> list[datetime]:
        """Return the whole hours after the last arrival, up to the present one; none of a console that is forgotten."""
        if now - last > FORGOTTEN:
            return []
        return [hour for hour in _hours(_hour(last) + _HOUR, _hour(now)) if hour not in self._stopped]

    def _others_send(self, name: str, hours: list[datetime], last: Mapping[str, datetime], arrivals: Arrivals) -> bool:
        """Tell whether most other consoles with free Sundays sent about as usual in these hours."""
        votes = []
        for other, habit in self._habits.items():
            expected = habit.expected(hours)
            is_away = last[other] < hours[0] - timedelta(weeks=1)
            if other == name or is_away or not habit.has_free_sundays or expected < _LEAST_VOTE:
                continue
            counts = arrivals[other]
            votes.append(sum(counts.get(hour, 0) for hour in hours) >= _LIVELY * expected)
        return 2 * sum(votes) > len(votes)

    def _learn(self, counts: Counter[datetime], now: datetime) -> Habit | None:
        """Learn one habit from the weeks before the last arrival; None when there is too little to learn from."""
        if not counts:
            return None
        first, end = min(counts), max(counts)
        if now - first < _NEW or now - end > FORGOTTEN:
            return None
        hours = [
            hour
            for hour in _hours(max(first, end - LEARNED), end)
            if hour not in self._stopped and hour.date() not in self._closed
        ]
        if sum(counts.get(hour, 0) for hour in hours) < _LEAST_ARRIVALS:
            return None
        slots: list[list[int]] = [[] for _ in range(168)]
        for hour in hours:
            slots[_slot(hour)].append(counts.get(hour, 0))
        rates = [_usual(slot) for slot in slots]
        return Habit(rates, _second_longest(hours, counts, rates)) if any(rates) else None


def console_silences(
    arrivals: Iterable[FirstArrival], now: datetime, stopped: Iterable[tuple[datetime, datetime]] = ()
) -> list[Silence]:
    """List the consoles that are silent for too long.

    Parameters
    ----------
    arrivals
        The first and last image of each study from each console.
    now
        The time.
    stopped
        Begin and end of each time in which this node did not run.
    """
    came: dict[str, Counter[datetime]] = defaultdict(Counter)
    last: dict[str, datetime] = {}
    for arrival in arrivals:
        came[arrival.console][_local_hour(arrival.at)] += 1
        came[arrival.console][_local_hour(arrival.last_at)] += 0  # this hour was not silent, and had no further study
        last[arrival.console] = max(last.get(arrival.console, arrival.last_at), arrival.last_at)
    local = _local(now)
    away = {hour for begin, end in stopped for hour in _hours(_local_hour(begin), _local_hour(end) + _HOUR)}
    habits = Habits(came, local, away)
    found = habits.silences({name: _local(at) for name, at in last.items()}, came, local)
    return [Silence(one.console, last[one.console], one.every_s, one.is_closed) for one in found]


def _usual_days(counts: Counter[datetime], now: datetime) -> tuple[Counter[date], dict[int, float]]:
    """Return what came on each day, and the median of each weekday."""
    days: Counter[date] = Counter()
    for hour, number in counts.items():
        days[hour.date()] += number
    first, today = min(days, default=now.date()), now.date()
    weeks = range(1, LEARNED.days + 1)
    known = [day for back in weeks if (day := today - back * _DAY) >= first]
    each = {weekday: [days[day] for day in known if day.weekday() == weekday] for weekday in range(7)}
    return days, {weekday: statistics.median(numbers) if numbers else 0.0 for weekday, numbers in each.items()}


def _closed_days(
    arrivals: Arrivals, usual: Mapping[str, tuple[Counter[date], Mapping[int, float]]], now: datetime
) -> frozenset[date]:
    """Return the past days on which most consoles that usually send were silent, or sent very little."""
    votes: dict[date, list[bool]] = defaultdict(list)
    for name, counts in arrivals.items():
        days, medians = usual[name]
        begin, end = min(counts, default=now).date(), max(counts, default=now).date()
        for back in range(1, (LEARNED + FORGOTTEN).days + 1):
            day = now.date() - back * _DAY
            # A console that is away says nothing, and one without free Sundays neither.
            if begin <= day <= end and (expected := medians[day.weekday()]) >= 2 and not medians[6] >= expected / 4:
                votes[day].append(days[day] < _LIVELY * expected)
    return frozenset(day for day, silent in votes.items() if 2 * sum(silent) > len(silent))


def _usual(numbers: list[int]) -> float:
    """Return the mean; a number far above the median counts less, since an import may have made it."""
    if not numbers:
        return 0.0
    most = 5 + 3 * statistics.median(numbers)
    return sum(min(number, most) for number in numbers) / len(numbers)


def _second_longest(hours: Sequence[datetime], counts: Counter[datetime], rates: Sequence[float]) -> float:
    """Return the second longest silence, in arrivals: the longest may be a day on which the console was serviced."""
    silences, quiet = [], 0.0
    for hour in hours:
        if hour in counts:
            silences.append(quiet)
            quiet = 0.0
        else:
            quiet += rates[_slot(hour)]
    return heapq.nlargest(2, [*silences, quiet])[-1]


def _slot(hour: datetime) -> int:
    return 24 * hour.weekday() + hour.hour


def _hours(begin: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the hours from one, which is included, to another, which is not."""
    while begin < end:
        yield begin
        begin += _HOUR


def _hour(local: datetime) -> datetime:
    return local.replace(minute=0, second=0, microsecond=0)


def _local(at: datetime) -> datetime:
    return at.astimezone().replace(tzinfo=None)


def _local_hour(at: datetime) -> datetime:
    return _hour(_local(at))
