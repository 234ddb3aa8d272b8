"""The forecast of a full disk, from the last 30 days in the index."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from backup_scp.watch.forecast import Forecast, forecast
from tests.samples import dx, encode
from tests.stored import FIRST_ARRIVAL, stored_in

GB = 1_000_000_000
DAY = 86_400


@pytest.fixture
def stored(tmp_path):
    with stored_in(tmp_path) as stored:
        yield stored


def test_nothing_is_said_of_an_empty_archive(stored):
    assert forecast(stored.index, 10 * GB, GB, FIRST_ARRIVAL) == Forecast(0, 0, None)


@pytest.mark.parametrize(("days", "is_known"), [(6.9, False), (7, True), (29, True)])
def test_a_week_is_the_least(stored, days, is_known):
    stored.put(encode(dx()))
    ahead = forecast(stored.index, 10 * GB, GB, FIRST_ARRIVAL + timedelta(days=days))
    assert (ahead.is_known, ahead.observed_days) == (is_known, days)
    assert (ahead.bytes_per_day > 0) == is_known


def test_what_came_in_30_days_goes_on(stored):
    old, new = encode(dx(study="old")), encode(dx(study="new"))
    stored.put(old)
    stored.put(new, 20 * DAY)
    now = FIRST_ARRIVAL + timedelta(days=40)
    a_day = len(new.data_set) / 30
    ahead = forecast(stored.index, GB + round(100 * a_day), GB, now)
    assert ahead == Forecast(30, round(a_day, 1), (now + timedelta(days=100)).date())
    assert not ahead.is_near(now.date())
    assert ahead.is_near(now.date() + timedelta(days=70))


def test_a_disk_that_lasts(stored):
    stored.put(encode(dx()))
    for days in (10, 40):  # slowly, and not at all
        assert forecast(stored.index, 10**15, GB, FIRST_ARRIVAL + timedelta(days=days)).full_on is None


def test_a_disk_that_is_full_is_full_today(stored):
    stored.put(encode(dx()))
    now = FIRST_ARRIVAL + timedelta(days=10)
    assert forecast(stored.index, GB - 1, GB, now).full_on == now.date()


def test_a_clock_that_was_wrong_is_no_error(stored):
    stored.put(encode(dx()))
    ahead = forecast(stored.index, 10 * GB, GB, datetime(2000, 1, 1, tzinfo=UTC))
    assert not ahead.is_known
    assert not ahead.is_near(date(2000, 1, 1))
