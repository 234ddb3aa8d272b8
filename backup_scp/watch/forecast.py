"""Estimate when the archive's disk will be full, from the images of the last 30 days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from backup_scp.machine.readable import size
from backup_scp.ports import IndexRecords

WINDOW = timedelta(days=30)
LEAST = timedelta(days=7)
"""Fewer days give no forecast: they are not typical of a month."""

_FARTHEST_DAYS = 3650


@dataclass(frozen=True, slots=True)
class Forecast:
    """When the disk will be full.

    Attributes
    ----------
    observed_days
        Number of days that the forecast uses, at most 30; fewer than 7 give no forecast.
    bytes_per_day
        Mean size of the studies that received images in these days, a day; 0 without a forecast.
    full_on
        When the reserve will be reached; None without a forecast, or when that is more than ten years away.
    """

    observed_days: float
    bytes_per_day: float
    full_on: date | None

    @property
    def is_known(self) -> bool:
        """Whether there was enough data for a forecast."""
        return self.observed_days * timedelta(days=1) >= LEAST

    @property
    def sentence(self) -> str:
        """Say when the disk will be full."""
        if not self.is_known:
            return "no forecast: images have come in for less than a week"
        pace = f"at {size(self.bytes_per_day)} a day, as in the last {self.observed_days:.0f} days"
        return f"full about {self.full_on} {pace}" if self.full_on else f"enough for ten years {pace}"

    def is_near(self, today: date) -> bool:
        """Whether the disk is full within a month."""
        return self.full_on is not None and self.full_on - today <= WINDOW


def forecast(index: IndexRecords, free_bytes: int, reserve_bytes: int, now: datetime) -> Forecast:
    """Estimate when the disk will be full, if as much comes in each day as in the last 30 days.

    Raises
    ------
    IndexUnavailable
    """
    received = index.received_since(now - WINDOW)
    observed = min(now - received.first_at, WINDOW) if received.first_at else timedelta()
    days = round(max(observed / timedelta(days=1), 0.0), 1)
    if observed < LEAST:
        return Forecast(days, 0.0, None)
    bytes_per_day = received.size_bytes / (observed / timedelta(days=1))
    days_left = max(free_bytes - reserve_bytes, 0) / bytes_per_day if bytes_per_day else _FARTHEST_DAYS
    full_on = (now + timedelta(days=days_left)).date() if days_left < _FARTHEST_DAYS else None
    return Forecast(days, round(bytes_per_day, 1), full_on)
