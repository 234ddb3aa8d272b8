"""Time zone query adjustment, if negotiated: a query with times in the requester's zone (PS3.4 C.2.2.2, C.5.1.1).

The index compares dates and times as they were stored.  So this asks it for some more days than requested, converts the
results to the requester's zone, and checks the conditions there.  A stored time is in the zone of its Timezone Offset
From UTC (0008,0201); without one, in the zone of this machine at that date.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from backup_scp.dicom.attributes import ATTRIBUTES, BY_KEYWORD, Level
from backup_scp.dicom.query.conditions import (
    Condition,
    DateTimeRange,
    Empty,
    Matching,
    Query,
    Range,
    SingleValue,
    UIDList,
)
from backup_scp.dicom.query.identifier import Identifier
from backup_scp.dicom.query.time_zone.moment import as_date, date_test, day_number, in_zone, time_test
from backup_scp.dicom.value_representation import date_key
from backup_scp.errors import InvalidIdentifier

__all__ = ["InTimeZone", "requested_offset"]

Answer = dict[str, str]
"""Values by keyword, like ``ports.Match``."""

_TIME_ZONE = BY_KEYWORD["TimezoneOffsetFromUTC"]
_OFFSET = re.compile(r"([+-])([0-9]{2})([0-5][0-9])")
_EARLIEST, _LATEST = -12 * 60, 14 * 60  # PS3.3 C.12.1.1.8, PS3.5 6.2
_MOST_DAYS = 2  # between -1200 and +1400 are 26 hours

# A birth date is not adjusted: it is the one in the patient's documents.
_PAIRS = {
    each: BY_KEYWORD[f"{each.keyword.removesuffix('Date')}Time"]
    for each in ATTRIBUTES
    if each.vr == "DA" and each.level is not Level.PATIENT
}
"""Attributes of VR DA, each with its attribute of VR TM."""


def requested_offset(identifier: Identifier) -> str:
    """Return the time zone of a request; empty when it has none.

    Raises
    ------
    InvalidIdentifier
        Timezone Offset From UTC (0008,0201) has an invalid value.
    """
    value = next((key.value for key in identifier.keys if key.tag == _TIME_ZONE.tag), "")
    if value and _minutes(value) is None:
        raise InvalidIdentifier(f"{_TIME_ZONE.named} is no offset from -1200 to +1400")
    return value


def _minutes(offset: str) -> int | None:
    """Return how many minutes a zone is ahead of UTC."""
    found = _OFFSET.fullmatch(offset)
    if not found:
        return None
    minutes = int(found[2]) * 60 + int(found[3])
    minutes = -minutes if found[1] == "-" else minutes
    return minutes if _EARLIEST <= minutes <= _LATEST else None


class InTimeZone:
    """A query in the requester's zone.

    Parameters
    ----------
    query
        The result of ``read_query``.
    offset
        The result of ``requested_offset``.

    Attributes
    ----------
    query
        The query for the index: it finds everything that may match, and returns the times.
    """

    def __init__(self, query: Query, offset: str) -> None:
        pairs = {day: time for day, time in _PAIRS.items() if day.level.depth <= query.level.depth}
        adjusted = {*pairs, *pairs.values()}
        conditions = {c.attribute: c.matching for c in query.conditions if c.attribute in adjusted}
        used = {*conditions, *query.return_keys}
        self._ahead = _minutes(offset) or 0
        needed = [(day, time) for day, time in pairs.items() if day in used or time in used]
        tests = {a: (date_test if a.vr == "DA" else time_test)(matching) for a, matching in conditions.items()}
        self._pairs = [(d.keyword, t.keyword, [tests[a] for a in (d, t) if a in tests]) for d, t in needed]
        self._answers = {_TIME_ZONE.keyword: offset} if pairs else {}
        asked_for = [*query.return_keys, *(each for pair in needed for each in pair), *([_TIME_ZONE] if pairs else [])]
        self.query = Query(
            query.level,
            tuple(wide for c in query.conditions if (wide := _widened(c, adjusted=c.attribute in adjusted))),
            tuple(dict.fromkeys(asked_for)),
            query.in_order,
        )

    def matches(self, found: Iterable[Answer]) -> Iterator[Answer | None]:
        """Yield the index's answers with times in the requester's zone; None instead of one that does not match."""
        for answer in found:
            yield self._converted(answer)

    def _converted(self, answer: Answer) -> Answer | None:
        stored = _minutes(answer.get(_TIME_ZONE.keyword, ""))
        converted = answer | self._answers
        for day, time, tests in self._pairs:
            moment = in_zone(answer[day], answer[time], stored, self._ahead)
            if not all(holds(moment) for holds in tests):
                return None
            converted[day], converted[time] = moment.date, moment.time
        return converted


def _widened(condition: Condition, *, adjusted: bool) -> Condition | None:
    """Return a condition that matches whenever the adjusted one may match."""
    attribute, matching = condition.attribute, condition.matching
    if not adjusted or isinstance(matching, Empty):
        return condition
    wide = _wide_days(matching) if attribute.vr == "DA" else None  # a time alone may be any time in another zone
    return Condition(attribute, wide) if wide else None


def _wide_days(matching: Matching) -> Matching | None:
    match matching:
        case SingleValue(value):
            return _range_around([value]) or matching
        case UIDList(values):
            return _range_around(values)
        case DateTimeRange(_, first, last):
            return _wide_range(first[0] if first else None, last[0] if last else None)
        case Range(first, last):
            return _wide_range(first, last)
        case _:
            return matching


def _range_around(values: Sequence[str]) -> Range | None:
    """Return one range of all days; None when one is no valid date, whose text is compared instead."""
    if all(day_number(date_key(value)) for value in values):
        return _wide_range(min(values, key=date_key), max(values, key=date_key))
    return None


def _wide_range(first: str | None, last: str | None) -> Range | None:
    first, last = _moved(first, -_MOST_DAYS), _moved(last, _MOST_DAYS)
    return Range(first, last) if first or last else None


def _moved(text: str | None, days: int) -> str | None:
    """Move an end of a range; an invalid date matches nothing, and stays as it is."""
    if not text or not date_key(text):
        return text
    day = day_number(date_key(text))
    try:
        return as_date(day + days) if day else None
    except (OverflowError, ValueError):
        return None
