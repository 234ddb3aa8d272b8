"""A console that is silent for longer than its habit, in synthetic years with holidays, vacations and outages."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from backup_scp.ports import FirstArrival
from backup_scp.watch.silence import Habits, console_silences
from benchmarks.arrival_years import CLINICS, DAY, DR, HOUR, clinic_years, easter, holidays
from benchmarks.silence import Replay, cuts, delays

MONDAY = datetime(2026, 3, 2)


@pytest.fixture
def in_berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def weeks(number: int, each_hour: int = 4, hours: range = range(8, 18)) -> Counter[datetime]:
    """Return the hours of so many whole weeks before Monday, with the same number on each working day."""
    days = [MONDAY - back * DAY for back in range(1, 7 * number + 1)]
    return Counter({day + hour * HOUR: each_hour for day in days if day.weekday() < 5 for hour in hours})


def silent(now: datetime, stopped: frozenset[datetime] = frozenset(), **consoles: Counter[datetime]) -> list[str]:
    """Return who is silent, with an exclamation mark where the clinic is open."""
    last = {name: max(counts) for name, counts in consoles.items()}
    found = Habits(consoles, now, stopped).silences(last, consoles, now)
    return [one.console + ("" if one.is_closed else "!") for one in found]


def today(until: int, each_hour: int = 4) -> Counter[datetime]:
    return weeks(8) + Counter({MONDAY + hour * HOUR: each_hour for hour in range(8, until)})


def test_a_console_that_stops_while_another_sends_is_told_within_half_a_day():
    assert silent(MONDAY + 12 * HOUR, dr=today(9), ct=today(12)) == []
    assert silent(MONDAY + 13 * HOUR, dr=today(9), ct=today(13)) == ["dr!"]


def test_when_all_are_silent_the_clinic_may_be_closed():
    assert silent(MONDAY + 18 * HOUR, dr=weeks(8), ct=weeks(8)) == []
    assert silent(MONDAY + DAY + 18 * HOUR, dr=weeks(8), ct=weeks(8)) == []
    assert silent(MONDAY + 2 * DAY + 18 * HOUR, dr=weeks(8), ct=weeks(8)) == ["ct", "dr"]


def test_one_that_works_at_all_times_does_not_tell_that_the_clinic_is_open():
    always = Counter({MONDAY - back * HOUR: 2 for back in range(-24, 8 * 168)})
    assert silent(MONDAY + 18 * HOUR, dr=weeks(8), emergency=always) == []


def test_nights_and_weekends_do_not_count():
    friday = weeks(8)
    assert max(friday).weekday() == 4
    assert silent(MONDAY + 8 * HOUR, dr=friday, ct=friday) == []


def test_a_new_console_has_no_habit_for_three_weeks():
    later = MONDAY + 4 * DAY
    assert silent(later, dr=weeks(2)) == []
    assert silent(later, dr=weeks(3)) == ["dr"]


def test_a_retired_console_is_forgotten():
    assert silent(MONDAY + 25 * DAY, dr=weeks(8)) == ["dr"]
    assert silent(MONDAY + 26 * DAY, dr=weeks(8)) == []


def test_a_node_that_did_not_run_heard_nothing():
    day = frozenset(MONDAY + hour * HOUR for hour in range(14))
    other = today(9) + Counter({MONDAY + 14 * HOUR: 40})
    assert silent(MONDAY + 15 * HOUR, day, dr=today(9), ct=other) == []
    assert silent(MONDAY + 15 * HOUR, dr=today(9), ct=other) == ["dr!"]


def test_an_import_of_thousands_makes_no_habit():
    filled = weeks(8) + Counter({MONDAY - 9 * DAY + 3 * HOUR: 5000})  # a Saturday night
    habit = Habits({"dr": filled}, MONDAY)._habits["dr"]
    assert habit.a_day == pytest.approx(40)


@pytest.mark.usefixtures("in_berlin")
def test_it_goes_by_the_clock_on_the_wall():
    """Summer time began on Sunday, 29 March: the console begins at 8 as before, which is 6 UTC and was 7."""

    def utc(local: datetime) -> datetime:
        return local.astimezone(UTC)  # a naive time is one of this computer

    days = [datetime(2026, 2, 2) + back * DAY for back in range(56)]
    came = [utc(day + hour * HOUR) for day in days if day.weekday() < 5 for hour in range(8, 18) for _ in range(4)]
    first = [FirstArrival("dr", at, at) for at in came]
    monday = datetime(2026, 3, 30)
    assert console_silences(first, utc(monday + 8 * HOUR)) == []
    (one,) = console_silences(first, utc(monday + 4 * DAY))
    assert (one.console, one.last_at, one.every_s, one.is_closed) == ("dr", max(came), 900, True)


def test_a_study_that_takes_hours_is_no_silence():
    begin = MONDAY.astimezone(UTC)
    came = [at.astimezone(UTC) for at, number in today(9).items() for _ in range(number)]
    others = [FirstArrival("ct", at.astimezone(UTC), at.astimezone(UTC)) for at in today(16)] * 4
    first = [FirstArrival("dr", at, at) for at in came]
    now = begin + 15 * HOUR
    assert [one.console for one in console_silences(first + others, now)] == ["dr"]
    long = FirstArrival("dr", max(came), now - timedelta(minutes=5))
    assert console_silences([*first, long], now) == []


def test_holidays_are_those_of_the_calendar():
    assert [easter(year).isoformat()[5:] for year in (2024, 2025, 2026, 2038)] == ["03-31", "04-20", "04-05", "04-25"]
    assert len(holidays(2026)) == 10


def test_one_clinic_is_the_same_each_time():
    assert clinic_years((DR,), 1, 3) == clinic_years((DR,), 1, 3)
    assert clinic_years((DR,), 1, 3) != clinic_years((DR,), 1, 4)


@pytest.mark.parametrize(
    ("clinic", "years"), [("radiology practice", 1), ("DR and emergency", 1), ("small practice", 2)]
)
def test_replayed_years_have_few_false_alarms(clinic, years):
    """Fewer than one a quarter; ``python -m benchmarks.silence`` replays ten years of all clinics."""
    replay = Replay(clinic_years(CLINICS[clinic], years, seed=5), relearn_days=7)
    replay.run()
    assert max(replay.per_quarter.values()) < 1
    assert sum(map(len, replay.alarms.values())) > 0, "nothing would be told at all"


@pytest.mark.parametrize(
    ("clinic", "console", "usual_days"),
    [("radiology practice", "dr0", 0.6), ("one DR", "dr0", 3.0), ("emergency alone", "emergency0", 0.6)],
)
def test_a_cable_that_is_pulled_is_told_soon(clinic, console, usual_days):
    years = clinic_years(CLINICS[clinic], 1, seed=5)
    late = list(delays(years, console, cuts(years, console)))
    assert len(late) > 8
    assert statistics.median(late) <= usual_days
