"""Dates and times in the requester's zone: conversion, and matching compared with Python's own arithmetic."""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from datetime import datetime, timedelta, timezone

import pytest

from backup_scp.dicom.attributes import BY_KEYWORD, Level
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
from backup_scp.dicom.query.identifier import Identifier, RequestedKey
from backup_scp.dicom.query.time_zone import InTimeZone, requested_offset
from backup_scp.errors import InvalidIdentifier
from tests.index.conftest import opened
from tests.index.examples import filling, query, version

TIME_ZONE, STUDY_TIME = BY_KEYWORD["TimezoneOffsetFromUTC"], BY_KEYWORD["StudyTime"]


@pytest.fixture(autouse=True)
def local_zone(request, monkeypatch):
    """Set this machine's time zone: the test's, else one with summer time."""
    monkeypatch.setenv("TZ", getattr(request, "param", "Europe/Berlin"))
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def asked(value: str) -> Identifier:
    return Identifier(Level.STUDY, (RequestedKey(TIME_ZONE.tag, "SH", value),))


@pytest.mark.parametrize("value", ["+0000", "-0000", "+1400", "-1200", "+0545", ""])
def test_offsets(value):
    assert requested_offset(asked(value)) == value


def test_a_request_without_an_offset():
    assert not requested_offset(Identifier(Level.STUDY))


@pytest.mark.parametrize("value", ["0100", "+1:", "+01:00", "+1401", "-1230", "+0160", "CET", "+0100\\+0200", "+٠١٠٠"])
def test_malformed_offsets_are_refused(value):
    with pytest.raises(InvalidIdentifier, match=r"TimezoneOffsetFromUTC \(0008,0201\)") as error:
        requested_offset(asked(value))
    assert value not in str(error.value)


def converted(day: str, clock: str, stored: str, wanted: str) -> tuple[str, str]:
    adjusted = InTimeZone(query(Level.STUDY, "StudyDate"), wanted)
    found = {"StudyDate": day, "StudyTime": clock, "TimezoneOffsetFromUTC": stored}
    (answer,) = adjusted.matches([found])
    assert answer is not None
    assert answer["TimezoneOffsetFromUTC"] == wanted
    return answer["StudyDate"], answer["StudyTime"]


@pytest.mark.parametrize(
    ("day", "clock", "stored", "wanted", "there"),
    [
        ("20240131", "1000", "+0100", "+0100", ("20240131", "1000")),
        ("2024.01.31", "10:00:05", "+0100", "+0100", ("2024.01.31", "10:00:05")),
        ("20240131", "2330", "+0100", "+0900", ("20240201", "0730")),
        ("20240131", "240000", "+0100", "+0200", ("20240201", "010000")),
        ("20240131", "240000", "+0100", "+0000", ("20240131", "230000")),
        ("20240131", "2330.", "+0100", "+0000", ("20240131", "223000")),
        ("20240131", "20240131233000", "+0100", "+0000", ("20240131", "223000")),
        ("20240101", "001059.25", "+0100", "-0500", ("20231231", "181059.25")),
        ("20240228", "2330", "+0000", "+0100", ("20240229", "0030")),
        ("2024.01.31", "23:30:05", "+0100", "+0200", ("20240201", "003005")),
        ("20240131", "10", "+0100", "+0200", ("20240131", "11")),
        ("20240131", "10", "+0000", "+0530", ("20240131", "1530")),
        ("20240101", "2300", "-1200", "+1400", ("20240103", "0100")),
        ("20240103", "0100", "+1400", "-1200", ("20240101", "2300")),
        ("20240131", "235960", "+0000", "+0030", ("20240201", "002960")),
        # without a zone of its own: the machine's, at that date
        ("20240131", "1000", "", "+0000", ("20240131", "0900")),
        ("20240701", "1000", "", "+0000", ("20240701", "0800")),
        ("20240331", "0130", "", "+0000", ("20240331", "0030")),
        ("20240331", "0300", "", "+0000", ("20240331", "0100")),
        ("20240331", "0230", "", "+0000", ("20240331", "0130")),  # no such time: as before the change
        ("20241027", "0130", "", "+0000", ("20241026", "2330")),
        ("20241027", "0230", "", "+0000", ("20241027", "0030")),  # twice: the first
        ("20241027", "0300", "", "+0000", ("20241027", "0200")),
        ("20240131", "1000", "CET", "+0000", ("20240131", "0900")),
        ("20240131", "1000", "+9900", "+0000", ("20240131", "0900")),
        # a time or a date is missing, or none
        ("20240131", "", "+0100", "+0900", ("20240131", "")),
        ("20240131", "noon", "+0100", "+0900", ("20240131", "noon")),
        ("20240131", "2460", "+0100", "+0900", ("20240131", "2460")),
        ("", "2330", "+0100", "+0900", ("", "0730")),
        ("", "2330", "", "+0900", ("", "2330")),
        ("20240231", "2330", "+0100", "+0900", ("20240231", "2330")),
        ("yesterday", "2330", "+0100", "+0900", ("yesterday", "2330")),
        ("", "", "", "+0900", ("", "")),
        # the ends of the calendar
        ("00010101", "0000", "+0100", "-0100", ("00010101", "0000")),
        ("00010102", "0000", "+0000", "-0100", ("00010101", "2300")),
        ("99991231", "2359", "-0100", "+0100", ("99991231", "2359")),
        ("00010101", "0000", "", "+0000", ("00010101", "0000")),
        ("00000000", "0000", "+0000", "+0100", ("00000000", "0000")),
    ],
)  # fmt: skip
def test_conversion(day, clock, stored, wanted, there):
    assert converted(day, clock, stored, wanted) == there


@pytest.mark.parametrize("local_zone", ["Pacific/Auckland", "America/St_Johns", "UTC"], indirect=True)
def test_the_zone_is_the_machines(local_zone):
    expected = datetime(2024, 1, 31, 10, 15).astimezone().astimezone(timezone.utc)  # noqa: UP017
    assert converted("20240131", "1015", "", "+0000") == (f"{expected:%Y%m%d}", f"{expected:%H%M}")


def holds(matching: dict[str, Matching], *moment: str, wanted: str = "+0000") -> bool:
    """Tell whether a study with this date, time and offset is answered."""
    adjusted = InTimeZone(query(Level.STUDY, **matching), wanted)
    found = dict(zip(("StudyDate", "StudyTime", "TimezoneOffsetFromUTC"), moment, strict=True))
    (answer,) = adjusted.matches([found])
    return answer is not None


@pytest.mark.parametrize(
    ("matching", "moment", "held"),
    [
        # the whole day in the requester's zone, with and without a time
        ({"StudyDate": SingleValue("20240131")}, ("20240201", "0030", "+0100"), True),
        ({"StudyDate": SingleValue("20240131")}, ("20240131", "0030", "+0100"), False),
        ({"StudyDate": SingleValue("2024.01.31")}, ("20240201", "0030", "+0100"), True),
        ({"StudyDate": SingleValue("20240131"), "StudyTime": SingleValue("2330")}, ("20240201", "0030", "+0100"), True),
        ({"StudyDate": SingleValue("20240131"), "StudyTime": Range("23", None)}, ("20240201", "0030", "+0100"), True),
        ({"StudyDate": SingleValue("20240131"), "StudyTime": Range(None, "22")}, ("20240201", "0030", "+0100"), False),
        ({"StudyDate": UIDList(("20240101", "20240131"))}, ("20240201", "0030", "+0100"), True),
        ({"StudyDate": UIDList(("20240101", "20240201"))}, ("20240201", "0030", "+0100"), False),
        # ranges, open at either end
        ({"StudyDate": Range("20240101", "20240131")}, ("20240201", "0030", "+0100"), True),
        ({"StudyDate": Range("20240201", None)}, ("20240201", "0030", "+0100"), False),
        ({"StudyDate": Range(None, "20240131")}, ("20240201", "0030", "+0100"), True),
        ({"StudyDate": Range("someday", None)}, ("20240201", "0030", "+0100"), False),
        ({"StudyDate": Range(None, "20240231")}, ("20240201", "0030", "+0100"), True),
        # a time alone, which any day may have
        ({"StudyTime": Range("2300", "2359")}, ("20240201", "0030", "+0100"), True),
        ({"StudyTime": Range("2300", "23")}, ("20240201", "0030", "+0100"), True),
        ({"StudyTime": Range("0000", "0030")}, ("20240201", "0030", "+0100"), False),
        ({"StudyTime": Range("2300", "2359")}, ("", "0030", "+0100"), True),
        ({"StudyTime": Range("later", None)}, ("20240201", "0030", "+0100"), False),
        ({"StudyTime": UIDList(("2330", "0030"))}, ("20240201", "0030", "+0100"), True),
        # combined
        ({"StudyDate": DateTimeRange(STUDY_TIME, ("20240131", "2330"), ("20240131", "2330"))},
         ("20240201", "003059.5", "+0100"), True),
        ({"StudyDate": DateTimeRange(STUDY_TIME, ("20240131", "2331"), None)}, ("20240201", "0030", "+0100"), False),
        ({"StudyDate": DateTimeRange(STUDY_TIME, None, ("20240131", "2329"))}, ("20240201", "0030", "+0100"), False),
        ({"StudyDate": DateTimeRange(STUDY_TIME, None, ("20240131", "later"))}, ("20240101", "0030", "+0100"), False),
        ({"StudyDate": DateTimeRange(STUDY_TIME, None, ("20240131", "2329"))}, ("", "0030", "+0100"), False),
        # the time is unknown: the date could be that
        ({"StudyDate": SingleValue("20240131")}, ("20240201", "", "+0100"), True),
        ({"StudyDate": SingleValue("20240201")}, ("20240201", "", "+0100"), True),
        ({"StudyDate": SingleValue("20240202")}, ("20240201", "", "+0100"), False),
        ({"StudyDate": SingleValue("20240201")}, ("20240201", "", "-1200"), True),
        ({"StudyDate": SingleValue("20240202")}, ("20240201", "", "-1200"), True),
        ({"StudyDate": Range(None, "20240131")}, ("20240201", "", "+0100"), True),
        ({"StudyDate": SingleValue("20240131"), "StudyTime": Range("00", None)}, ("20240201", "", "+0100"), False),
        ({"StudyDate": DateTimeRange(STUDY_TIME, None, ("20240131", "2300"))}, ("20240201", "", "+0100"), True),
        ({"StudyDate": DateTimeRange(STUDY_TIME, None, ("20240131", "2259"))}, ("20240201", "", "+0100"), False),
        ({"StudyDate": SingleValue("20241027")}, ("20241027", "", ""), True),
        # what has no value, and what is none
        ({"StudyDate": Empty()}, ("", "0030", "+0100"), True),
        ({"StudyDate": Empty()}, ("20240201", "0030", "+0100"), False),
        ({"StudyTime": Empty()}, ("20240201", "", "+0100"), True),
        ({"StudyTime": Empty()}, ("20240201", "0030", "+0100"), False),
        ({"StudyDate": SingleValue("yesterday")}, ("yesterday", "0030", "+0100"), True),
        ({"StudyDate": SingleValue("20240131")}, ("yesterday", "0030", "+0100"), False),
        ({"StudyTime": SingleValue("noon")}, ("20240201", "noon", "+0100"), True),
        ({"StudyDate": SingleValue("20240231")}, ("20240231", "0030", "+0100"), True),
    ],
)  # fmt: skip
def test_matching(matching, moment, held):
    assert holds(matching, *moment) is held


def test_a_day_without_a_time_may_be_three_days():
    """The clocks go back: it has 25 hours, and where it begins at 2330 it ends two days later."""
    for day, held in (("20241025", False), ("20241026", True), ("20241027", True), ("20241028", True)):
        assert holds({"StudyDate": SingleValue(day)}, "20241027", "", "", wanted="+0130") is held
    assert not holds({"StudyDate": SingleValue("20241029")}, "20241027", "", "", wanted="+0130")


def test_only_what_is_needed_is_asked_for_in_addition():
    adjusted = InTimeZone(query(Level.SERIES, "Modality", StudyDate=Range("20240101", "20240131")), "+0100")
    assert [a.keyword for a in adjusted.query.return_keys] == [
        "Modality",
        "StudyDate",
        "StudyTime",
        "TimezoneOffsetFromUTC",
    ]
    (condition,) = adjusted.query.conditions
    assert condition.matching == Range("20231230", "20240202")


@pytest.mark.parametrize(
    ("matching", "wide"),
    [
        (SingleValue("20240301"), Range("20240228", "20240303")),
        (SingleValue("someday"), SingleValue("someday")),
        (UIDList(("20240301", "20240201")), Range("20240130", "20240303")),
        (UIDList(("20240301", "someday")), None),
        (Range("20240301", None), Range("20240228", None)),
        (Range("someday", None), Range("someday", None)),
        (Range("00010102", None), None),
        (Range(None, "99991230"), None),
        (DateTimeRange(STUDY_TIME, ("20240301", "10"), None), Range("20240228", None)),
        (Empty(), Empty()),
    ],
)
def test_the_index_is_asked_for_some_days_more(matching, wide):
    (*conditions,) = InTimeZone(query(Level.STUDY, StudyDate=matching), "+0100").query.conditions
    assert [condition.matching for condition in conditions] == ([wide] if wide else [])


def test_other_conditions_stay():
    wanted = {"PatientBirthDate": SingleValue("20000101"), "PatientID": SingleValue("P1")}
    adjusted = InTimeZone(query(Level.STUDY, StudyTime=Range("10", None), **wanted), "+0100")
    assert {c.attribute.keyword: c.matching for c in adjusted.query.conditions} == wanted


def test_a_patient_has_no_times():
    asked_for = query(Level.PATIENT, "PatientBirthDate", PatientBirthTime=Range("10", "12"))
    adjusted = InTimeZone(asked_for, "+0100")
    assert adjusted.query == asked_for
    found = {"PatientID": "P1", "PatientBirthDate": "20000101"}
    assert list(adjusted.matches([found])) == [found]


def test_each_pair_is_converted_at_its_own_level():
    pairs = ("Study", "Series", "Content", "Acquisition", "PerformedProcedureStepStart")
    asked_for = query(Level.IMAGE, *(f"{name}Date" for name in pairs), "PatientBirthDate")
    found = {f"{name}{kind}": value for name in pairs for kind, value in (("Date", "20240131"), ("Time", "2330"))}
    adjusted = InTimeZone(asked_for, "+0200")
    assert {a.keyword for a in adjusted.query.return_keys} >= {*found, "TimezoneOffsetFromUTC"}
    (answer,) = adjusted.matches([found | {"TimezoneOffsetFromUTC": "+0100", "PatientBirthDate": "20240131"}])
    assert answer is not None
    assert {answer[f"{name}Date"] for name in pairs} == {"20240201"}
    assert {answer[f"{name}Time"] for name in pairs} == {"0030"}
    assert answer["PatientBirthDate"] == "20240131"


def test_a_list_of_many_dates_is_no_work_for_each_answer():
    """A hundred thousand values against ten thousand answers would be a thousand million comparisons."""
    days = tuple(f"{day:08}" for day in range(20_000_101, 20_100_101))
    adjusted = InTimeZone(query(Level.STUDY, StudyDate=UIDList((*days, "20240131"))), "+0000")
    found = {"StudyDate": "20240201", "StudyTime": "", "TimezoneOffsetFromUTC": "+0100"}
    assert all(adjusted.matches(itertools.repeat(found, 10_000)))


def test_it_finds_what_python_s_own_arithmetic_finds(tmp_path):
    """The index narrows by days; nothing is lost by it at any pair of offsets."""
    rng = random.Random(7)
    offsets = ["-1200", "-0500", "+0000", "+0545", "+1400"]
    moments = {}
    with opened(f"sqlite:///{tmp_path}/index.db") as index, contextlib.ExitStack() as stack:
        enter = stack.enter_context(filling(index))
        for number in range(300):
            local, offset = datetime(2024, 2, 26) + timedelta(minutes=rng.randrange(10 * 1440)), rng.choice(offsets)
            moments[f"1.{number}"] = local.replace(tzinfo=zone(offset))
            day, clock = f"{local:%Y%m%d}", f"{local:%H%M}"
            enter(version(f"3.{number}", f"2.{number}", f"1.{number}", StudyDate=day, StudyTime=clock,
                          TimezoneOffsetFromUTC=offset))  # fmt: skip
        stack.close()
        for _ in range(150):
            offset = rng.choice(offsets)
            begin = datetime(2024, 2, 26, tzinfo=zone(offset))
            first, last = sorted(begin + timedelta(minutes=rng.randrange(10 * 1440)) for _ in range(2))
            ends = [(f"{end:%Y%m%d}", f"{end:%H%M}") for end in (first, last)]
            combined = DateTimeRange(STUDY_TIME, *ends)
            days = Range(f"{first:%Y%m%d}", f"{last:%Y%m%d}")
            assert found(index, offset, StudyDate=combined) == {
                uid: there for uid, there in in_zone(moments, offset).items() if first <= there <= last
            }
            assert found(index, offset, StudyDate=days, StudyTime=Range("0600", "1159")) == {
                uid: there
                for uid, there in in_zone(moments, offset).items()
                if first.date() <= there.date() <= last.date() and 6 <= there.hour < 12
            }
            assert found(index, offset, StudyDate=SingleValue(f"{first:%Y%m%d}")) == {
                uid: there for uid, there in in_zone(moments, offset).items() if there.date() == first.date()
            }


def zone(offset: str) -> timezone:
    return timezone(timedelta(hours=int(offset[:3]), minutes=int(offset[0] + offset[3:])))


def in_zone(moments, offset):
    return {uid: moment.astimezone(zone(offset)) for uid, moment in moments.items()}


def found(index, offset: str, **wanted: Matching) -> dict[str, datetime]:
    conditions = tuple(Condition(BY_KEYWORD[keyword], matching) for keyword, matching in wanted.items())
    adjusted = InTimeZone(Query(Level.STUDY, conditions), offset)
    answers = [answer for answer in adjusted.matches(index.search(adjusted.query)) if answer]
    texts = {answer["StudyInstanceUID"]: answer["StudyDate"] + answer["StudyTime"] for answer in answers}
    return {uid: datetime.strptime(f"{text}{offset}", "%Y%m%d%H%M%z") for uid, text in texts.items()}
