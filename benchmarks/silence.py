"""Replay synthetic years of arrivals: false alarms of silence, and how soon a pulled cable is told.

``python -m benchmarks.silence --years 10 --seeds 2`` prints the tables of docs/performance.md.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from backup_scp.watch.silence import FORGOTTEN, LEARNED, Habits
from benchmarks.arrival_years import CLINICS, DAY, HOUR, ClinicYears, clinic_years

_SEEN = LEARNED + FORGOTTEN
_QUARTER_DAYS = 365.25 / 4
_LATEST = timedelta(days=14)


@dataclass
class Replay:
    """Looks at one clinic as the node would: it learns anew from time to time, and looks each hour.

    Attributes
    ----------
    years
        The clinic.
    relearn_days
        Interval between two times of learning.
    alarms
        Begin of each alarm, by console.
    """

    years: ClinicYears
    relearn_days: int = 1
    alarms: dict[str, list[datetime]] = field(default_factory=dict)

    def run(self) -> None:
        """Replay all hours."""
        self.alarms = {name: [] for name in self.years.arrivals}
        last: dict[str, datetime] = {}
        silent: set[str] = set()
        habits: Habits | None = None
        seen: dict[str, Counter[datetime]] = {name: Counter() for name in self.years.arrivals}
        hour = datetime.combine(self.years.begin, datetime.min.time())
        end = datetime.combine(self.years.end, datetime.min.time())
        while hour < end:
            if not hour.hour and (hour.date() - self.years.begin).days % self.relearn_days == 0:
                habits = self._learn(seen, hour)
            if habits is not None and hour not in self.years.stopped:
                now = {one.console for one in habits.silences(last, seen, hour)}
                for name in now - silent:
                    self.alarms[name].append(hour)
                silent = now
            for name, counts in self.years.arrivals.items():
                if hour in counts:
                    seen[name][hour] = counts[hour]
                    last[name] = hour
            hour += HOUR

    def _learn(self, seen: dict[str, Counter[datetime]], now: datetime) -> Habits:
        for name, counts in seen.items():
            seen[name] = Counter({hour: number for hour, number in counts.items() if now - hour < _SEEN})
        return Habits({name: counts for name, counts in seen.items() if counts}, now, self.years.stopped)

    @property
    def per_quarter(self) -> dict[str, float]:
        """False alarms a quarter, by console."""
        quarters = (self.years.end - self.years.begin).days / _QUARTER_DAYS
        return {name: len(found) / quarters for name, found in self.alarms.items()}


def delays(years: ClinicYears, name: str, days: list[datetime]) -> Iterator[float]:
    """Pull the cable of one console at each of these hours, and yield the usual days until it is told, or inf."""
    own = years.arrivals[name]
    for cut in days:
        ends = {other: cut if other == name else cut + _LATEST for other in years.arrivals}
        counts = {
            other: Counter({at: n for at, n in came.items() if cut - _SEEN < at < ends[other]})
            for other, came in years.arrivals.items()
        }
        if not counts[name]:
            continue
        yield _delay(years, name, cut, {other: came for other, came in counts.items() if came}, own)


def _delay(
    years: ClinicYears, name: str, cut: datetime, counts: dict[str, Counter[datetime]], own: Counter[datetime]
) -> float:
    """Return the share of a usual day's studies that were lost until it was told."""
    known = {other: Counter({at: n for at, n in came.items() if at < cut}) for other, came in counts.items()}
    known = {other: came for other, came in known.items() if came}
    habits = Habits(known, cut, years.stopped)
    usual = sum(number for at, number in own.items() if cut - 28 * DAY < at <= cut)
    working = len({at.date() for at in own if cut - 28 * DAY < at <= cut})
    lost, hour = 0, cut
    while hour < cut + _LATEST:
        lost += own.get(hour, 0)
        hour += HOUR
        last = {other: max(at for at in came if at < hour) for other, came in counts.items() if other in known}
        if any(one.console == name for one in habits.silences(last, counts, hour)):
            return lost / (usual / working)
    return float("inf")


def cuts(years: ClinicYears, name: str, every_days: int = 17) -> list[datetime]:
    """Return times to pull the cable of a console: in the middle of days on which it works, after twelve weeks."""
    first = years.begin + 90 * DAY
    last = years.end - _LATEST
    days = [first + back * DAY for back in range(0, (last - first).days, every_days)]
    own = years.arrivals[name]
    noon = [datetime.combine(day, datetime.min.time()) + 11 * HOUR for day in days]
    return [at for at in noon if any(own.get(at - back * HOUR) for back in range(4))]


def main() -> None:
    """Print a line for each console."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--relearn-days", type=int, default=1)
    chosen = parser.parse_args()
    print("| clinic | console | false alarms a quarter | told after usual days: median | 90 % |\n|---|---|--:|--:|--:|")
    for clinic, kinds in CLINICS.items():
        rates: dict[str, list[float]] = {}
        waits: dict[str, list[float]] = {}
        for seed in range(chosen.seeds):
            replay = Replay(clinic_years(kinds, chosen.years, seed), chosen.relearn_days)
            replay.run()
            for name, rate in replay.per_quarter.items():
                rates.setdefault(name, []).append(rate)
                waits.setdefault(name, []).extend(delays(replay.years, name, cuts(replay.years, name)))
        for name, found in rates.items():
            late = sorted(waits[name])
            told = f"{statistics.median(late):.1f} | {late[9 * len(late) // 10]:.1f}"
            print(f"| {clinic} | {name} | {statistics.mean(found):.2f} | {told} |", flush=True)


if __name__ == "__main__":
    main()
