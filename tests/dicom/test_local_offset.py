"""The offset of a local time, compared with zoneinfo; times that a change of the clocks skips or shows twice."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from backup_scp.dicom.query.time_zone.local_offset import local_offset

HALF_HOUR = timedelta(minutes=30)


@pytest.fixture
def local_zone(monkeypatch):
    """Return a function that moves this machine to a zone."""

    def move(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("name", ["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Africa/Casablanca"])
@pytest.mark.parametrize("fold", [0, 1])
def test_the_offset_is_zoneinfo_s_all_the_year(local_zone, name, fold):
    local_zone(name)
    zone = ZoneInfo(name)
    for number in range(366 * 48):
        local = (datetime(2024, 1, 1) + number * HALF_HOUR).replace(fold=fold)
        assert local_offset(local) == local.replace(tzinfo=zone).utcoffset(), local


def test_a_day_that_a_zone_left_out(local_zone):
    """Samoa crossed the date line: there was no 30 December 2011."""
    local_zone("Pacific/Apia")
    assert local_offset(datetime(2011, 12, 30, 12)) == timedelta(hours=-10)
    assert local_offset(datetime(2011, 12, 30, 12, fold=1)) == timedelta(hours=14)


def test_a_zone_that_is_a_rule_without_a_name(local_zone):
    local_zone("CET-1CEST,M3.5.0,M10.5.0/3")
    assert local_offset(datetime(2024, 3, 31, 2, 30)) == timedelta(hours=1)
    assert local_offset(datetime(2024, 3, 31, 3, 0, 0, 1)) == timedelta(hours=2)
