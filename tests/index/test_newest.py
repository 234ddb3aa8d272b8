"""The newest studies for a page: the same as a whole search has, whichever way finds them."""

from __future__ import annotations

from typing import Any

import pytest

from backup_scp.dicom.attributes import Level
from backup_scp.dicom.query.information_model import FuzzyName, Range, WildCard
from backup_scp.index.reading import newest
from backup_scp.ports import SEES_ALL
from tests.index.examples import at, filling, query, version

NUMBER = 60
NAMES = ("DOE^JANE", "Müller^Jörg", "SMITH^JOHN", "Yamada^Tarou=山田^太郎", "X^QUENTIN")
SHOWN = ("PatientName", "StudyDate")
QUESTIONS: list[dict[str, Any]] = [
    {},
    {"PatientName": FuzzyName("smi")},
    {"PatientName": FuzzyName("j")},
    {"PatientName": FuzzyName("jor mul")},
    {"PatientName": FuzzyName("山田")},
    {"PatientName": FuzzyName("nobody")},
    {"PatientName": FuzzyName("q"), "StudyDate": Range("20240105", "20240120")},
    {"PatientID": WildCard("00*")},
    {"PatientID": "0007"},
    {"PatientID": WildCard("00*"), "ModalitiesInStudy": "CT"},
    {"ModalitiesInStudy": "CT"},
    {"StudyDate": Range(None, "20240110")},
    {"StudyDate": "20240103", "PatientName": FuzzyName("doe")},
    {"PatientBirthDate": "19700101"},
]


@pytest.fixture(scope="module")
def index(shared_index):
    with filling(shared_index) as enter:
        for number in range(NUMBER):
            enter(
                version(
                    f"1.{number}",
                    f"2.{number}",
                    f"3.{number}",
                    minute=number,
                    PatientID=f"{number:04}",
                    PatientName=NAMES[number % len(NAMES)],
                    PatientBirthDate=f"19700{1 + number % 9}01",
                    Modality="CT" if number % 7 == 0 else "DX",
                    StudyDate=f"202401{1 + number * 7 % 28:02}" if number % 10 else "",
                )
            )
        enter(version("1.1.2", "2.1", "3.1", minute=54, PatientID="0001", PatientName=NAMES[1], StudyDate="20240108"))
    return shared_index


@pytest.fixture(params=[(0, 1), (0, 10), (3, 10), (1000, 1000)], ids=str)
def limits(request, monkeypatch):
    few, tested = request.param
    monkeypatch.setattr(newest, "FEW", few)
    monkeypatch.setattr(newest, "TESTED", tested)
    return request.param


def uids(matches) -> list[str]:
    return [match["StudyInstanceUID"] for match in matches]


@pytest.mark.parametrize("wanted", QUESTIONS, ids=str)
def test_it_is_the_begin_of_the_whole_answer(index, limits, wanted):
    asked = query(Level.STUDY, *SHOWN, **wanted)
    whole = list(index.search(asked))
    for most, skip in ((1, 0), (5, 0), (5, 3), (100, 0), (5, 59)):
        all_of_it = index.newest_matches([asked], most, skip=skip, in_all=True)
        assert all_of_it == (whole[skip : skip + most], False)
        some = index.newest_matches([asked], most, skip=skip)
        assert some.matches == whole[skip : skip + most][: len(some.matches)]
        assert some.is_cut or some.matches == all_of_it.matches


def test_what_was_not_tested_is_told(index, monkeypatch):
    monkeypatch.setattr(newest, "TESTED", 10)
    asked = query(Level.STUDY, PatientName=FuzzyName("q"))
    found = index.newest_matches([asked], 5)
    assert found.is_cut
    assert uids(found.matches) == uids(index.search(asked))[: len(found.matches)]
    assert 0 < len(found.matches) < 5
    assert not index.newest_matches([query(Level.STUDY)], 5).is_cut, "they are enough"


def test_several_questions_make_one_answer(index, limits):
    questions = [query(Level.STUDY, PatientID="0007"), query(Level.STUDY, PatientID=WildCard("000*"))]
    found = index.newest_matches(questions, 100, in_all=True)
    assert uids(found.matches) == uids(index.search(questions[1]))
    assert index.newest_matches([query(Level.STUDY, PatientID="none")], 5) == ([], False)


class TestByArrival:
    def test_what_came_last_is_first(self, index, limits):
        found = index.newest_matches([query(Level.STUDY)], 100, arrived_since=at(55))
        assert uids(found.matches) == [f"3.{number}" for number in (59, 58, 57, 56, 55)][: len(found.matches)]
        assert found.is_cut is (limits[1] < NUMBER)
        whole = index.newest_matches([query(Level.STUDY)], 100, arrived_since=at(55), in_all=True)
        assert (len(whole.matches), whole.is_cut) == (5, False)

    def test_it_narrows_any_question(self, index, limits):
        asked = query(Level.STUDY, PatientName=FuzzyName("doe"))
        found = index.newest_matches([asked], 100, arrived_since=at(45), in_all=True)
        assert uids(found.matches) == ["3.55", "3.50", "3.45"]

    def test_a_further_image_is_an_arrival(self, index):
        found = index.newest_matches([query(Level.STUDY)], 100, arrived_since=at(54))
        assert uids(found.matches) == [f"3.{number}" for number in (59, 58, 57, 56, 55, 54, 1)]


def test_sqlite_tests_in_the_order_of_its_index(index):
    """Else it would look every candidate up, and sort them."""
    if not index._database.is_sqlite:
        pytest.skip("PostgreSQL decides by its statistics")
    asked = query(Level.STUDY, PatientName=FuzzyName("smi"), PatientID=WildCard("00*"))
    with index._database.reading() as connection:
        search = newest._NewestSearch(connection, index._database.dialect, asked, None, SEES_ALL, is_sqlite=True)
        statement = search.test_in_order([], 51)
        compiled = statement.compile(connection.engine, compile_kwargs={"literal_binds": True})
        plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")]
    assert plan == ["SCAN study USING INDEX ix_study_study_date_key_id"]
