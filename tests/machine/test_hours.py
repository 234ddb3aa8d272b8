"""Hours of a day: what is within them."""

from __future__ import annotations

from datetime import datetime

import pytest

from backup_scp.machine.hours import Hours


@pytest.mark.parametrize(("hours", "at", "is_within"), [
    ("20:00-06:30", "23:00", True),
    ("20:00-06:30", "06:29:59.999999", True),
    ("20:00-06:30", "06:30", False),
    ("20:00-06:30", "12:00", False),
    ("08:00-10:00", "08:00", True),
    ("08:00-10:00", "07:59:59", False),
    ("08:00-10:00", "10:00", False),
])  # fmt: skip
def test_hours_may_go_over_midnight(hours, at, is_within):
    parsed = Hours.parse(hours)
    assert parsed.include(datetime.fromisoformat(f"2026-03-02T{at}")) is is_within
    assert str(parsed) == hours


@pytest.mark.parametrize("text", ["", "8-9", "20:00", "20:00-24:00", "20:00-06:60", "20:00 - 06:00", "20:00-20:00"])
def test_what_is_no_time_of_day(text):
    with pytest.raises(ValueError, match="such as"):
        Hours.parse(text)
