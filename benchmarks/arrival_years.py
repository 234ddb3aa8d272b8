"""Synthetic years of a clinic: when each console sends a study, with holidays, bridge days, vacations and outages."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import NamedTuple

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
_HOLIDAYS = ((1, 1), (5, 1), (10, 3), (12, 25), (12, 26))  # and those that go by Easter
_BY_EASTER = (-2, 1, 39, 50, 60)


class ConsoleKind(NamedTuple):
    """A kind of console.

    ``days`` has the usual number of studies from Monday to Sunday, ``hours`` a weight for each hour.
    """

    name: str
    days: tuple[float, ...]
    hours: dict[int, float]
    works_on_holidays: bool = False
    closed_hours: frozenset[tuple[int, int]] = frozenset()  # weekday and hour


def _shift(begin: int, end: int, lunch: int = 12) -> dict[int, float]:
    return {hour: 0.4 if hour == lunch else 1.0 for hour in range(begin, end)}


DR = ConsoleKind("dr", (80, 75, 70, 75, 60, 0, 0), _shift(7, 18))
SMALL = ConsoleKind(
    "small", (5, 5, 3, 5, 4, 0, 0), _shift(8, 17), closed_hours=frozenset((2, hour) for hour in range(12, 24))
)
MOBILE = ConsoleKind("mobile", (12, 0, 12, 0, 12, 0, 0), _shift(8, 16))
EMERGENCY = ConsoleKind(
    "emergency",
    (40, 38, 38, 38, 42, 30, 28),
    {hour: 1.0 if 8 <= hour < 20 else 0.3 for hour in range(24)},
    works_on_holidays=True,
)
MAMMOGRAPHY = ConsoleKind("mammography", (0, 20, 0, 18, 0, 0, 0), _shift(8, 16))
ULTRASOUND = ConsoleKind("ultrasound", (15, 15, 12, 15, 10, 0, 0), _shift(8, 17))

CLINICS: dict[str, tuple[ConsoleKind, ...]] = {
    "hospital": (EMERGENCY, DR, DR, MAMMOGRAPHY, ULTRASOUND, MOBILE),
    "radiology practice": (DR, DR, ULTRASOUND, MAMMOGRAPHY),
    "DR and emergency": (DR, EMERGENCY),
    "one DR": (DR,),
    "small practice": (SMALL,),
    "two small rooms": (SMALL, ULTRASOUND),
    "mobile unit and small room": (MOBILE, SMALL),
    "mammography alone": (MAMMOGRAPHY,),
    "emergency alone": (EMERGENCY,),
}
"""Twenty consoles."""


@dataclass
class ClinicYears:
    """What came, by console and local hour.

    Attributes
    ----------
    arrivals
        Studies in each hour; a console's name has its kind and a number.
    stopped
        Hours in which the node did not run; what was made then is sent afterwards.
    begin, end
        The first day, and the one after the last.
    """

    begin: date
    end: date
    arrivals: dict[str, Counter[datetime]] = field(default_factory=dict)
    kinds: dict[str, ConsoleKind] = field(default_factory=dict)
    stopped: set[datetime] = field(default_factory=set)


def easter(year: int) -> date:
    """Return Easter Sunday, by the rule of Gauss and Lichtenberg."""
    a, k = year % 19, year // 100
    m, s = 15 + (3 * k + 3) // 4 - (8 * k + 13) // 25, 2 - (3 * k + 3) // 4
    d = (19 * a + m) % 30
    og = 21 + d - (d + a // 11) // 29
    oe = 7 - (og - (7 - (year + year // 4 + s) % 7)) % 7
    return date(year, 3, 1) + (og + oe - 1) * DAY


def holidays(year: int) -> set[date]:
    """Return the public holidays of a year."""
    return {date(year, *one) for one in _HOLIDAYS} | {easter(year) + days * DAY for days in _BY_EASTER}


def clinic_years(kinds: tuple[ConsoleKind, ...], years: int, seed: int) -> ClinicYears:
    """Make the years of one clinic; the same seed makes the same."""
    draw = random.Random(seed)
    begin = date(2026, 1, 5)
    made = ClinicYears(begin, begin + round(365.25 * years) * DAY)
    made.stopped = _outages(draw, made)
    closed = _closed(draw, made)
    for number, kind in enumerate(kinds):
        name = f"{kind.name}{number}"
        made.kinds[name] = kind
        made.arrivals[name] = _console(draw, kind, made, closed)
    return made


def _outages(draw: random.Random, made: ClinicYears) -> set[datetime]:
    """Draw four outages a year, of an hour to three days."""
    hours: set[datetime] = set()
    for _ in range(4 * round((made.end - made.begin) / DAY / 365)):
        first = _midnight(made.begin + draw.randrange((made.end - made.begin).days) * DAY) + draw.randrange(24) * HOUR
        hours.update(first + each * HOUR for each in range(draw.choice((1, 2, 5, 14, 72))))
    return hours


def _closed(draw: random.Random, made: ClinicYears) -> dict[date, float]:
    """Return the share of usual work on special days: public holidays, bridge days, Christmas, vacations."""
    share: dict[date, float] = {}
    for year in range(made.begin.year, made.end.year + 1):
        free = holidays(year)
        for day in free:
            if day.weekday() == 3:
                share[day + DAY] = draw.choice((0.0, 0.3, 0.6))
            if day.weekday() == 1:
                share[day - DAY] = draw.choice((0.0, 0.3, 0.6))
        share |= {date(year, 12, day): draw.choice((0.2, 0.4)) for day in (27, 28, 29, 30)}
        share |= {date(year, 12, 24): 0.0, date(year, 12, 31): 0.0}
        vacation = date(year, 7, 20) + draw.randrange(30) * DAY
        share |= {vacation + each * DAY: 0.5 for each in range(21)}
        share |= dict.fromkeys(free, 0.0)
    return share


def _console(draw: random.Random, kind: ConsoleKind, made: ClinicYears, closed: dict[date, float]) -> Counter[datetime]:
    """Draw the arrivals of one console: it grows or shrinks, is serviced, and has vacations of its own."""
    own = _own_absences(draw, kind, made)
    growth = draw.uniform(-0.1, 0.2)
    counts: Counter[datetime] = Counter()
    late = 0
    for back in range((made.end - made.begin).days):
        day = made.begin + back * DAY
        part = 1.0 if kind.works_on_holidays else closed.get(day, 1.0)
        mean = kind.days[day.weekday()] * part * (1 + growth * back / 365) * draw.lognormvariate(0, 0.25)
        mean = 0.0 if day in own else mean
        weights = {h: w for h, w in kind.hours.items() if (day.weekday(), h) not in kind.closed_hours}
        for hour, weight in weights.items():
            number = _poisson(draw, mean * weight / sum(weights.values()))
            at = _midnight(day) + hour * HOUR
            if at in made.stopped:
                late += number
            elif number + late:
                counts[at] += number + late
                late = 0
    return counts


def _own_absences(draw: random.Random, kind: ConsoleKind, made: ClinicYears) -> set[date]:
    """Draw two days of service a year; a small room, mammography and a mobile unit also have two weeks of vacation."""
    days: set[date] = set()
    for year in range(made.begin.year, made.end.year + 1):
        days |= {date(year, 1, 1) + draw.randrange(365) * DAY for _ in range(2)}
        if kind in (SMALL, MAMMOGRAPHY, MOBILE):
            for first in (date(year, 2, 1), date(year, 8, 1)):
                monday = first + (7 - first.weekday()) % 7 * DAY + draw.randrange(3) * 7 * DAY
                days |= {monday + each * DAY for each in range(7)}
    return days


def _poisson(draw: random.Random, mean: float) -> int:
    number, left = 0, draw.expovariate(1)
    while left < mean:
        number, left = number + 1, left + draw.expovariate(1)
    return number


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)  # noqa: DTZ001 - local hours have no zone
