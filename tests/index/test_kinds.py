"""Each kind of matching for each Value Representation: from the text of a key to the answers (PS3.4 C.2.2.2)."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from backup_scp.dicom.attributes import ATTRIBUTES, BY_KEYWORD, Level
from backup_scp.dicom.query.information_model import STUDY_ROOT, Identifier, Negotiated, RequestedKey, read_query
from tests.index.examples import filling, version


class Kinds(NamedTuple):
    """The stored values of one attribute, and for each kind of matching a key and the values that it finds."""

    stored: tuple[str, ...]
    single: tuple[str, tuple[str, ...]]
    several: tuple[str, tuple[str, ...]]
    wild_card: tuple[str, tuple[str, ...]]
    question_mark: tuple[str, tuple[str, ...]]
    interval: tuple[str, tuple[str, ...]]


# In a VR without wild cards or without ranges the same characters are literal, C.2.2.2.4 and C.2.2.2.5.
TABLE = {
    ("AS", "PatientAge"): Kinds(
        ("045Y", "046Y", "045M", ""),
        ("045Y", ("045Y",)),
        ("045Y\\046Y", ("045Y", "046Y")),
        ("045*", ()),
        ("045?", ()),
        ("045Y-046Y", ()),
    ),
    ("CS", "Modality"): Kinds(
        ("CT", "CR", "MR", "ct", ""),
        ("CT", ("CT",)),
        ("CT\\MR", ("CT", "MR")),
        ("C*", ("CT", "CR")),
        ("?R", ("CR", "MR")),
        ("CR-MR", ()),
    ),
    ("DA", "StudyDate"): Kinds(
        ("20240131", "20240201", "2024.02.02", ""),
        ("20240201", ("20240201",)),
        ("20240131\\20240202", ("20240131", "2024.02.02")),
        ("2024*", ()),
        ("2024013?", ()),
        ("20240201-20240202", ("20240201", "2024.02.02")),
    ),
    ("DS", "PatientWeight"): Kinds(
        ("70", "70.0", "71.5", ""),
        ("7e1", ("70", "70.0")),
        ("70\\71.50", ("70", "70.0", "71.5")),
        ("7*", ()),
        ("7?", ()),
        ("70-71", ()),
    ),
    ("IS", "SeriesNumber"): Kinds(
        ("1", "01", "12", ""),
        ("1", ("1", "01")),
        ("1\\12", ("1", "01", "12")),
        ("1*", ()),
        ("1?", ()),
        ("1-12", ()),
    ),
    ("LO", "PatientID"): Kinds(
        ("A1", "a1", "A12", "1-2"),
        ("A1", ("A1",)),
        ("A1\\A12", ("A1", "A12")),
        ("A*", ("A1", "A12")),
        ("A?", ("A1",)),
        ("1-2", ("1-2",)),
    ),
    ("LT", "PatientComments"): Kinds(
        ("one\\two", "one", "two", "1-2", ""),
        ("one", ("one",)),
        ("one\\two", ("one\\two",)),
        ("one*", ("one", "one\\two")),
        ("?wo", ("two",)),
        ("1-2", ("1-2",)),
    ),
    ("PN", "PatientName"): Kinds(
        ("Doe^Jane", "DOE^JOHN", "Müller^J=山田^太郎", ""),
        ("doe^jane", ("Doe^Jane",)),
        ("doe^jane\\muller^j", ("Doe^Jane", "Müller^J=山田^太郎")),
        ("mü*", ("Müller^J=山田^太郎",)),
        ("doe^j???", ("Doe^Jane", "DOE^JOHN")),
        ("d-m", ()),
    ),
    ("SH", "AccessionNumber"): Kinds(
        ("A1", "a1", "A12", "1-2", ""),
        ("a1", ("a1",)),
        ("A1\\1-2", ("A1", "1-2")),
        ("*2", ("A12", "1-2")),
        ("?1", ("A1", "a1")),
        ("1-2", ("1-2",)),
    ),
    ("TM", "StudyTime"): Kinds(
        ("10", "100000.5", "11:30", ""),
        ("1000", ("10",)),
        ("10\\1130", ("10", "11:30")),
        ("1*", ()),
        ("1?", ()),
        ("100000.1-1130", ("100000.5", "11:30")),
    ),
    ("UI", "StudyInstanceUID"): Kinds(
        ("1.2", "1.20", "1.2.3"),
        ("1.2", ("1.2",)),
        ("1.2\\1.2.3", ("1.2", "1.2.3")),
        ("1.2*", ()),
        ("1.?", ()),
        ("1.2-1.3", ()),
    ),
    ("US", "Rows"): Kinds(
        ("512", "1024", ""),
        ("512", ("512",)),
        ("512\\1024", ("512", "1024")),
        ("5*", ()),
        ("51?", ()),
        ("512-1024", ()),
    ),
}
UNIVERSAL = ("", "*", "**", " ")


def test_every_value_representation_is_in_the_table():
    assert {vr for vr, _ in TABLE} == {attribute.vr for attribute in ATTRIBUTES if attribute.vr != "SQ"}


@pytest.fixture(params=TABLE, ids="-".join)
def kinds(request, shared_index):
    """Return ``(found, kinds)``: the stored values that a key finds."""
    _, keyword = request.param
    attribute, stored = BY_KEYWORD[keyword], TABLE[request.param].stored
    with filling(shared_index) as enter:
        for number, value in enumerate(stored):
            uids: dict[str, Any] = {"sop": f"9.{number}", "series": f"8.{number}", "study": f"7.{number}"}
            uids["study" if attribute.vr == "UI" else keyword] = value
            enter(version(**uids))

    def found(value: str, **negotiated: bool) -> list[str]:
        level = max(attribute.level, Level.STUDY, key=lambda level: level.depth)
        identifier = Identifier(level, (RequestedKey(attribute.tag, attribute.vr, value),))
        query = read_query(identifier, STUDY_ROOT, Negotiated(**negotiated))
        return sorted(answer[keyword] for answer in shared_index.search(query))

    return found, TABLE[request.param]


@pytest.mark.parametrize("kind", ["single", "several", "wild_card", "question_mark", "interval"])
def test_kinds(kinds, kind):
    found, of = kinds
    value, wanted = getattr(of, kind)
    assert found(value) == sorted(wanted)


def test_universal(kinds):
    found, of = kinds
    for value in UNIVERSAL:
        assert found(value) == sorted(of.stored)


def test_an_empty_value(kinds):
    found, of = kinds
    assert found('""', empty_values=True) == [value for value in of.stored if not value]
    assert found('""') == []


@pytest.mark.parametrize("negotiated", ["relational", "date_time", "multiple_values"])
def test_what_does_not_concern_a_key_changes_nothing(kinds, negotiated):
    found, of = kinds
    for value, wanted in of[1:]:
        assert found(value, **{negotiated: True}) == sorted(wanted)
