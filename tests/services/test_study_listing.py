"""The list of another PACS is complete, also when it cuts its answers; or it says that it may not be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_scp.ports import Answers, RemoteStudy, Span
from backup_scp.services.study_listing import StudyListing

TODAY = date(2026, 6, 15)


@dataclass
class PACS:
    """A PACS that gives ``most`` answers to a question; ``tells`` whether it says so."""

    studies: list[RemoteStudy]
    most: int = 1 << 30
    tells: bool = False
    knows_times: bool = True
    knows_dates: bool = True
    asked: list[Span] = field(default_factory=list)
    given: int = 0

    def find(self, span, keep) -> Answers[RemoteStudy]:
        self.asked.append(span)
        matches = [study for study in self.studies if self._matches(study, span)]
        answers = matches[: self.most]
        self.given += len(answers)
        cut = "status 0xFE00" if self.tells and len(matches) > self.most else ""
        return Answers([study for study in answers if keep(study)], len(answers), cut)

    def _matches(self, study: RemoteStudy, span: Span) -> bool:
        if not self.knows_dates or span == Span():
            return True
        if not study.date or not (span.first or "0") <= study.date <= (span.last or "9"):
            return False
        if not span.from_time or not self.knows_times:
            return True
        return bool(study.time) and span.from_time <= study.time <= span.to_time


def made(dates) -> list[RemoteStudy]:
    return [RemoteStudy(f"1.2.{number}", *when) for number, when in enumerate(dates)]


def day(number: int) -> str:
    return (TODAY - timedelta(days=number)).strftime("%Y%m%d")


def listed(pacs: PACS, since: str = "", until: str = "") -> tuple[list[RemoteStudy], list[str]]:
    listing = StudyListing("PACS", pacs.find, since, until)
    return listing.studies(TODAY), listing.doubts


moments = st.tuples(
    st.one_of(
        st.integers(0, 40), st.integers(0, 40_000), st.integers(-3, 0), st.just(365 * 200), st.just(-365 * 900)
    ).map(day),
    st.integers(0, 24 * 60 - 1).map(lambda minute: f"{minute // 60:02}{minute % 60:02}00"),
)


@given(st.lists(moments, max_size=150), st.integers(10, 60), st.booleans())
def test_a_pacs_that_cuts_at_any_number_is_listed_completely(dates, most, tells):
    studies = made(dates)
    busiest = max(Counter(dates).values(), default=0)
    pacs = PACS(studies, max(most, busiest + 1), tells)
    found, doubts = listed(pacs)
    assert sorted(found) == sorted(studies)
    assert [study.date for study in found] == sorted((study.date for study in studies), reverse=True)
    if not tells and len(studies) <= pacs.most:
        assert doubts == []


@given(st.lists(moments, max_size=60), st.dates(date(2020, 1, 1), TODAY), st.integers(0, 900))
def test_only_the_days_that_were_asked_for_are_listed(dates, since, days):
    pacs = PACS([*made(dates), RemoteStudy("1.3", "", "")], 20)
    first, last = since.strftime("%Y%m%d"), (since + timedelta(days=days)).strftime("%Y%m%d")
    found, _ = listed(pacs, first, last)
    assert set(found) == {study for study in made(dates) if first <= study.date <= last}
    found, _ = listed(pacs, first)
    assert set(found) == {study for study in made(dates) if first <= study.date}
    found, _ = listed(pacs, "", last)
    assert set(found) == {study for study in made(dates) if study.date <= last}


def test_studies_without_a_date_are_listed_last():
    studies = made([("", ""), (day(3), "101500"), ("2024.1.5", ""), (day(3), "101600"), (day(1), "")])
    pacs = PACS(studies)
    found, doubts = listed(pacs)
    uids = [study.study_instance_uid for study in found]
    assert uids[:3] == ["1.2.4", "1.2.3", "1.2.1"]
    assert sorted(uids[3:]) == ["1.2.0", "1.2.2"]
    assert doubts == []


@pytest.mark.parametrize("tells", [True, False])
def test_that_studies_without_a_date_may_be_missing_is_told(tells):
    pacs = PACS([*made((day(number), "") for number in range(150)), RemoteStudy("1.3", "", "")], 100, tells)
    found, (doubt,) = listed(pacs)
    assert len(found) == 150
    assert doubt.startswith("PACS does not list all studies at once (100 of them")
    assert "studies without a Study Date may be missing here" in doubt


def test_a_day_that_is_longer_than_an_answer_is_asked_for_by_the_hour():
    times = [f"{number // 60:02}{number % 60:02}00" for number in range(300)]
    pacs = PACS(made((day(5), time) for time in times), 100)
    found, _ = listed(pacs, day(10))
    assert len(found) == 300


@pytest.mark.parametrize("tells", [True, False])
def test_a_day_that_cannot_be_asked_for_by_the_hour_is_told(tells):
    times = [f"{number // 60:02}{number % 60:02}00" for number in range(300)]
    pacs = PACS(made((day(5), time) for time in times), 100, tells, knows_times=False)
    found, doubts = listed(pacs, day(10))
    assert len(found) == 100
    assert any(
        f"studies of {day(5)}, which cannot be asked for by Study Time, may be missing" in doubt for doubt in doubts
    )


def test_more_studies_in_a_minute_than_an_answer_has_are_told():
    pacs = PACS(made((day(5), "101500") for _ in range(300)), 100)
    found, doubts = listed(pacs, day(10))
    assert len(found) == 100
    assert any(f"studies of {day(5)} may be missing" in doubt for doubt in doubts)


def test_a_pacs_that_ignores_dates_is_asked_few_questions():
    pacs = PACS(made((day(7 * number), "") for number in range(333)), knows_dates=False)
    found, doubts = listed(pacs)
    assert (len(found), doubts) == (333, [])
    assert len(pacs.asked) < 5
    found, _ = listed(pacs, day(20))
    assert len(found) == 3


def test_a_pacs_that_ignores_dates_and_cuts_is_told():
    pacs = PACS(made((day(7 * number), "") for number in range(333)), 100, knows_dates=False)
    _, doubts = listed(pacs)
    assert any("may be missing" in doubt for doubt in doubts)


def test_a_large_pacs_is_asked_for_little_more_than_it_has():
    pacs = PACS(made((day(number % 3650), "") for number in range(36_500)))
    found, doubts = listed(pacs)
    assert (len(found), doubts) == (36_500, [])
    assert len(pacs.asked) < 500
    assert pacs.given < 5 * len(found)


def test_an_empty_pacs_is_asked_a_few_times():
    pacs = PACS([])
    assert listed(pacs) == ([], [])
    assert len(pacs.asked) < 20
