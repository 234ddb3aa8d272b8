"""Convert a date with its time to another time zone, and check conditions on it as the index does."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from datetime import date, datetime
from typing import NamedTuple

from backup_scp.dicom.query.conditions import DateTimeRange, Empty, Matching, Range, SingleValue, UIDList
from backup_scp.dicom.query.time_zone.local_offset import local_offset
from backup_scp.dicom.value_representation import date_key, last_time_key, time_key

_DAY = 24 * 60
_MIDNIGHT = "240000"
# Such a time keeps its precision; a DT, or a time with a trailing dot, is formatted again.
_DIGITS = re.compile(r"(?:\d{2}){1,3}(?:\.\d+)?")


class Moment(NamedTuple):
    """A date and its time.

    Attributes
    ----------
    date, time
        The values to return.
    first, last
        Keys of date and time between which it lies; the date is empty when unknown.
    time_key
        Key of the time; empty when unknown.
    """

    date: str
    time: str
    first: tuple[str, str]
    last: tuple[str, str]
    time_key: str


def in_zone(date_text: str, time_text: str, stored: int | None, wanted: int) -> Moment:
    """Convert a stored date and time; ``stored`` and ``wanted`` are minutes ahead of UTC.

    A date without a time is returned unchanged, although it may be another in the requester's zone.  A time without a
    date is converted when its offset is stored.  An invalid date or time is returned unchanged.
    """
    day, time = day_number(date_key(date_text)), time_key(time_text)
    minute = _minute(time)
    as_it_is = (date_key(date_text), time)
    try:
        if day and minute is not None:
            return _shifted(date_text, time_text, day, time, _shift(day, minute, stored, wanted))
        if day:
            first = _key(day, 0, _shift(day, 0, stored, wanted), "")
            last = _key(day, _DAY - 1, _shift(day, _DAY - 1, stored, wanted), "59.999999")
            return Moment(date_text, time_text, first, last, "")
    except (OverflowError, ValueError):  # before the first day of the calendar, or after its last
        return Moment(date_text, time_text, as_it_is, as_it_is, time)
    if minute is not None and stored is not None and not date_text:
        return _shifted("", time_text, None, time, wanted - stored)
    return Moment(date_text, time_text, as_it_is, as_it_is, time)


def _shifted(date_text: str, time_text: str, day: int | None, time: str, shift: int) -> Moment:
    minute = _minute(time) or 0
    days, minute = divmod(minute + shift, _DAY)
    date_text = as_date(day + days) if day and shift else date_text
    digits = time_text.strip().replace(":", "")
    digits = digits if _DIGITS.fullmatch(digits) else time
    if shift:
        precise = len(digits) > 2 or minute % 60
        time_text = f"{minute // 60:02}{minute % 60:02}{digits[4:]}" if precise else f"{minute // 60:02}"
    moment = date_key(date_text), time_key(time_text)
    return Moment(date_text, time_text, moment, moment, moment[1])


def _key(day: int, minute: int, shift: int, seconds: str) -> tuple[str, str]:
    days, minute = divmod(minute + shift, _DAY)
    return as_date(day + days), time_key(f"{minute // 60:02}{minute % 60:02}{seconds}")


def _shift(day: int, minute: int, stored: int | None, wanted: int) -> int:
    """Return the minutes from a stored time to the same moment in the requester's zone."""
    return wanted - (_local_offset(day, minute) if stored is None else stored)


def _local_offset(day: int, minute: int) -> int:
    """Return the offset from UTC of a local time of this machine, in minutes.

    For an hour that comes twice, it uses the first one; for a time that the clocks skip, the offset before the change.
    """
    there = date.fromordinal(day)
    local = datetime(there.year, there.month, there.day, minute // 60, minute % 60)  # noqa: DTZ001 - a local time
    return round(local_offset(local).total_seconds() / 60)


def day_number(key: str) -> int | None:
    """Return the number of a day in the calendar."""
    try:
        return date(int(key[:4]), int(key[4:6]), int(key[6:])).toordinal() if key else None
    except ValueError:
        return None


def as_date(day: int) -> str:
    """Return the day with this number as YYYYMMDD."""
    return date.fromordinal(day).strftime("%Y%m%d").rjust(8, "0")


def _minute(key: str) -> int | None:
    """Return the number of a minute in its day; 24:00 is the first one of the next day."""
    if key == _MIDNIGHT:
        return _DAY
    if not key or key[:2] > "23" or key[2:4] > "59":
        return None
    return int(key[:2]) * 60 + int(key[2:4])


# Conditions, compared as in the index; each builds its test once

Test = Callable[[Moment], bool]
_END = "~"  # after every time of a day


def date_test(wanted: Matching) -> Test:
    """Return a test for the date, which is true when it may match; a range with an invalid end matches nothing."""
    match wanted:
        case Empty():
            return lambda moment: not moment.date
        case Range(first, last):
            return _lies_between((date_key(first), "") if first else None, (date_key(last), _END) if last else None)
        case DateTimeRange(_, first, last):
            begin = (date_key(first[0]), time_key(first[1]) or None) if first else None
            return _lies_between(begin, (date_key(last[0]), last_time_key(last[1]) or None) if last else None)
        case _:
            texts, keys = _texts_and_keys(wanted, date_key)
            return lambda moment: _is_among(keys, moment.first[0], moment.last[0]) or moment.date in texts


def _lies_between(begin: tuple[str, str | None] | None, end: tuple[str, str | None] | None) -> Test:
    if any(not each[0] or each[1] is None for each in (begin, end) if each):
        return lambda _: False
    return lambda moment: (
        bool(moment.first[0]) and (not begin or begin <= moment.last) and (not end or moment.first <= end)
    )


def _is_among(keys: list[str], first: str, last: str) -> bool:
    """Tell whether one of the sorted keys lies between two keys."""
    at = bisect_left(keys, first)
    return bool(first) and at < len(keys) and keys[at] <= last


def time_test(wanted: Matching) -> Test:
    """Return a test for the time; an unknown time is in no range."""
    match wanted:
        case Empty():
            return lambda moment: not moment.time
        case Range(first, last):
            begin, end = time_key(first) if first else "", last_time_key(last) if last else _END
            if (first and not begin) or not end:
                return lambda _: False
            return lambda moment: bool(moment.time_key) and begin <= moment.time_key <= end
        case _:
            texts, keys = _texts_and_keys(wanted, time_key)
            return lambda moment: _is_among(keys, moment.time_key, moment.time_key) or moment.time in texts


def _texts_and_keys(wanted: Matching, key: Callable[[str], str]) -> tuple[frozenset[str], list[str]]:
    """Return the values of a list that are compared as text, and the sorted keys of the others."""
    values = [wanted.value] if isinstance(wanted, SingleValue) else wanted.values if isinstance(wanted, UIDList) else ()
    return frozenset(text for text in values if not key(text)), sorted({key(text) for text in values} - {""})
