"""The offset from UTC of a time on this machine's own clocks, the same on every Python."""

from __future__ import annotations

from datetime import datetime, timedelta

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - on a local clock, so that local times can be subtracted


def local_offset(local: datetime) -> timedelta:
    """Give the offset from UTC of this machine's zone at a time of its own clocks (PEP 495).

    Of an hour that the clocks show twice ``fold`` says which.  A time that they leave out is read with the offset from
    before the change, with ``fold=1`` from after it.  ``astimezone`` of Python 3.11 reads those the other way round,
    and ``zoneinfo`` does not know a TZ that is a rule (``CET-1CEST,M3.5.0,M10.5.0/3``) instead of a name.

    Parameters
    ----------
    local
        Without a time zone.

    Raises
    ------
    ValueError, OverflowError
        It is at an end of the calendar.
    """
    whole = local.replace(microsecond=0)
    return whole - _EPOCH - timedelta(seconds=whole.timestamp())
