"""A scoped reader answers from its sites as an index does that has no others; every method is asked."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import replace
from datetime import datetime

import pytest

from backup_scp.dicom.attributes import BY_KEYWORD, Level
from backup_scp.dicom.query.information_model import Query, SingleValue, WildCard
from backup_scp.index.reading import select
from backup_scp.ports import SEES_ALL, SEES_NOTHING, Reference, Requester, Selection, SiteScope, StudyReader
from tests.index.examples import at, filling, query, version, where

NORTH, SOUTH = SiteScope.of(["north"]), SiteScope.of(["south"])
FAR = at(59)
NOW = datetime(2026, 1, 1).astimezone()
KEYS = (
    "PatientName",
    "PatientID",
    "NumberOfPatientRelatedStudies",
    "NumberOfPatientRelatedInstances",
    "NumberOfStudyRelatedInstances",
)
STUDY_KEYS = ("PatientName", "PatientID", "NumberOfStudyRelatedInstances", "StudyDescription")


def of_north():
    """Two studies of P1; the second image of the first study has an older version."""
    yield version("1.1.1", "1.1", "1", site="north", PatientName="NORTH^A", StudyDate="20260101")
    yield version("1.1.2", "1.1", "1", site="north", PatientName="NORTH^A", minute=1)
    yield version("1.1.2", "1.1", "1", site="north", PatientName="NORTH^A", minute=2, content="corrected")
    yield version("2.1.1", "2.1", "2", site="north", PatientName="NORTH^A", minute=3, StudyDate="20260102")


def of_south():
    """The same Patient ID, later; one study without a Patient ID; and what the other clinic has too, bytes and UIDs."""
    same = version("1.1.1", "1.1", "1", site="south", PatientName="NORTH^A", StudyDate="20260101", minute=7)
    yield replace(same, location="aa/brought-on-a-disc.dcm")
    yield version("1.1.2", "1.1", "1", site="south", PatientName="NORTH^A", minute=8, content="edited")
    yield version("5.1.1", "5.1", "5", site="south", PatientName="SOUTH^B", StudyDate="20260105", minute=4)
    yield version("6.1.1", "6.1", "6", site="south", PatientName="SOUTH^C", PatientID="", minute=5)


def of_nobody():
    yield version("9.1.1", "9.1", "9", PatientName="NOBODY^D", minute=6)


def enter_all(index, *some):
    files = {}
    with filling(index) as enter:
        for each in sorted((one for part in some for one in part), key=lambda one: one.arrival.received_at):
            files[each.location] = each
            enter(each)
    return files.get


def asked(reader, read):
    """Ask all that a caller can ask; numbers of rows aside, which no caller sees."""
    key = version("1.1.2", "1.1", "1").key, version("5.1.1", "5.1", "5").key
    everything = Selection(all_versions=True)
    levels = [(Level.PATIENT, KEYS), *((level, STUDY_KEYS) for level in (Level.STUDY, Level.SERIES, Level.IMAGE))]
    held = reader.holdings()
    return {
        "versions_of": [reader.versions_of(each) for each in key],
        "search": [sorted(map(str, reader.search(query(level, *keys)))) for level, keys in levels],
        "search, narrowed": [
            in_one_order(reader.search(query(Level.STUDY, *STUDY_KEYS, PatientID="P1"))),
            in_one_order(reader.search(query(Level.STUDY, *STUDY_KEYS, PatientName=WildCard("*O*")))),
            in_one_order(reader.search(query(Level.PATIENT, *KEYS, PatientName=WildCard("S*")))),
            in_one_order(reader.search(query(Level.STUDY, StudyInstanceUID="5"))),
        ],
        "search_as_of": [in_one_order(reader.search_as_of(query(level, *STUDY_KEYS), when, read))
                         for level in (Level.STUDY, Level.IMAGE) for when in (at(1), at(4), FAR)],
        "search_versions": sorted(str(each) for each in reader.search_versions(query(Level.IMAGE))),
        "retrieve": [reader.retrieve(query(Level.PATIENT, PatientID="P1")), reader.retrieve(query(Level.STUDY))],
        "select": [
            reader.select(Selection(where(PatientID="P1"))),
            reader.select(everything),
            reader.select(Selection(where(PatientID="P1"), as_of=at(1))),
            reader.select(Selection(digests=(read_digest(),))),
        ],
        "select_in_batches": [list(reader.select_in_batches(Selection())), list(reader.select_in_batches(everything))],
        "holdings": held,
        "newest_matches": [
            reader.newest_matches([query(Level.STUDY, *STUDY_KEYS, PatientName=name)], 9, arrived_since=since)
            for name in (WildCard("*O*"), WildCard("*"))
            for since in (None, at(4))
        ],
        "newest_studies": [each[1:] for each in reader.newest_studies(9)],
    }  # fmt: skip


def in_one_order(matches):
    return sorted(map(str, matches))  # none has one of its own below a study


def read_digest() -> str:
    return hashlib.sha256(b"5/5.1/5.1.1/pixels").hexdigest()[:12]


def test_every_method_is_asked(shared_index):
    read = enter_all(shared_index, of_north())
    public = {name for name, _ in inspect.getmembers(StudyReader, inspect.isfunction) if not name.startswith("_")}
    assert public - {"seen_by"} == {name for name in asked(shared_index, read) if "," not in name}


@pytest.mark.parametrize(("scope", "own"), [(NORTH, of_north), (SOUTH, of_south), (SiteScope.of([""]), of_nobody)])
def test_a_reader_answers_as_if_there_were_no_other_site(shared_index, scope, own):
    read = enter_all(shared_index, own())
    alone = asked(shared_index, read)
    read = enter_all(shared_index, of_north(), of_south(), of_nobody())
    assert asked(shared_index.seen_by(scope), read) == alone
    assert asked(shared_index, read) != alone


def test_several_sites(shared_index):
    read = enter_all(shared_index, of_north(), of_south())
    alone = asked(shared_index, read)
    read = enter_all(shared_index, of_north(), of_south(), of_nobody())
    assert asked(shared_index.seen_by(SiteScope.of(["south", "north"])), read) == alone


def test_no_site_and_an_unknown_one_have_nothing(shared_index):
    read = enter_all(shared_index)
    nothing = asked(shared_index, read)
    read = enter_all(shared_index, of_north(), of_south(), of_nobody())
    for scope in (SEES_NOTHING, SiteScope.of(["nowhere"])):
        assert asked(shared_index.seen_by(scope), read) == nothing


def test_a_reader_cannot_widen_what_it_sees(shared_index):
    read = enter_all(shared_index, of_north(), of_south())
    north = shared_index.seen_by(NORTH)
    assert asked(north.seen_by(SEES_ALL), read) == asked(north, read)
    assert north.seen_by(SOUTH).select(Selection()) == []
    assert shared_index.seen_by(SEES_ALL) is shared_index


def test_one_patient_id_in_two_clinics_is_two_people(shared_index):
    enter_all(shared_index, of_north(), of_south())
    people = list(shared_index.search(query(Level.PATIENT, *KEYS, PatientID="P1")))
    assert sorted(each["PatientName"] for each in people) == ["NORTH^A", "SOUTH^B"]
    assert [each["NumberOfPatientRelatedStudies"] for each in people] == ["2", "2"]


def test_the_same_bytes_of_two_clinics_are_held_by_each(shared_index):
    enter_all(shared_index, of_north(), of_south())
    north, south = next(of_north()), next(of_south())
    assert shared_index.held(north.key, north.sha256, "north") == (north.location, north.arrival)
    assert shared_index.held(south.key, south.sha256, "south") == (south.location, south.arrival)
    assert shared_index.look_up(north.key, north.sha256, "west") == (None, None)


def test_one_clinic_s_edit_is_no_clash_of_another(shared_index):
    enter_all(shared_index, of_north(), of_south())
    found = list(shared_index.search_versions(query(Level.IMAGE, SOPInstanceUID="1.1.2")))
    assert sorted((each.arrival.site, each.answering, each.flags) for each in found) == [
        ("north", False, ()),
        ("north", True, ()),
        ("south", True, ()),
    ]


def test_commitment_is_for_what_the_clinic_of_the_requester_has(shared_index):
    enter_all(shared_index, of_north(), of_south())
    south = Reference("1.2.840.10008.5.1.4.1.1.1.1.1", "5.1.1")

    def found(site: str) -> int:
        return len(shared_index.commitments.find([south], Requester(site, "DR1", "192.0.2.7"))[south])

    assert [found("south"), found("north"), found(""), found("north\\south")] == [1, 0, 1, 1]


@pytest.mark.parametrize("level", [Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE])
def test_all_sites_cost_no_condition(shared_index, level):
    asked_for = Query(level, where(PatientID=SingleValue("P1")), (BY_KEYWORD["PatientName"],))
    dialect = shared_index._database.dialect
    for build in (select.prepare, select.retrieve):
        statement = str(build(asked_for, dialect, SEES_ALL).statement)
        assert ".site" not in statement.partition("FROM")[2]
        assert ".site" in str(build(asked_for, dialect, NORTH).statement)


def test_statements_of_two_sites_are_one_statement(shared_index):
    asked_for, dialect = query(Level.STUDY, PatientID="P1"), shared_index._database.dialect
    north, south = (select.prepare(asked_for, dialect, scope) for scope in (NORTH, SOUTH))
    assert north.statement is south.statement
    assert [list((each.values or {}).values()) for each in (north, south)] == [["P1", "north"], ["P1", "south"]]


@pytest.mark.parametrize("names", [(), ("",), ("north",), ("", "north"), ("a b", "ü")])
def test_a_scope_is_written_and_read(names):
    scope = SiteScope.of(names)
    assert SiteScope.read(str(scope)) == scope
    assert str(scope) != str(SEES_ALL)


def test_scopes():
    assert SiteScope.read("") == SiteScope.of(["north", "*"]) == SEES_ALL
    assert NORTH & SEES_ALL == SEES_ALL & NORTH == NORTH
    assert NORTH & SOUTH == SEES_NOTHING
    assert (SEES_ALL.covers(NORTH), NORTH.covers(SEES_ALL), NORTH.covers(NORTH)) == (True, False, True)
    assert (NORTH.covers(SOUTH), NORTH.covers(SEES_NOTHING)) == (False, True)
    assert (SEES_ALL.meets(NORTH), NORTH.meets(SOUTH), NORTH.meets(SEES_NOTHING)) == (True, False, False)
