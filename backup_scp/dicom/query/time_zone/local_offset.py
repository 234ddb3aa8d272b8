"""Compute the offset from UTC of a local time of this machine, equally on every version of Python."""

from __future__ import annotations

from datetime import datetime, timedelta

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a local time, for subtracting local times


def local_offset(local: datetime) -> timedelta:
    """Return the offset from UTC of a local time of this machine (PEP 495).

    ``fold`` chooses one of the two readings of an hour that the clocks show twice.  A time that the clocks skip gets
    the offset from before the change, with ``fold=1`` the one from after it.  ``astimezone`` of Python 3.11 does the
    opposite there, and ``zoneinfo`` does not support a TZ that is a rule (``CET-1CEST,M3.5.0,M10.5.0/3``), not a name.

    Parameters
    ----------
    local
        A time without a time zone.

    Raises
    ------
    ValueError, OverflowError
        The time is at an end of the calendar.
    """
    whole = local.replace(microsecond=0)
    return whole - _EPOCH - timedelta(seconds=whole.timestamp())
