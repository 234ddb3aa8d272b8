"""Time zone query adjustment (PS3.4 C.5.1.1): viewer and node are in different zones."""

from __future__ import annotations

import pytest

from tests.samples import dx, encode, uid
from tests.system.node import Node
from tests.system.pynetdicom_peers import PATIENT_ROOT, find

TIME_ZONE, WITH_DATE_TIME = b"\0\0\0\1", b"\1\1\0\1"
STUDIES = {
    "winter": {"StudyDate": "20240131", "StudyTime": "2330"},  # no zone: that of the node, +0100
    "summer": {"StudyDate": "20240701", "StudyTime": "233000.5"},  # +0200
    "tokyo": {"StudyDate": "20240201", "StudyTime": "073000", "TimezoneOffsetFromUTC": "+0900"},
    "no time": {"StudyDate": "20240131", "StudyTime": ""},
    "no date": {"StudyDate": "", "StudyTime": "120000"},
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    node = Node(tmp_path_factory.mktemp("zones") / "node", env={"TZ": "Europe/Berlin"})
    node.start()
    birth = {"PatientBirthDate": "19700501", "PatientBirthTime": "2330"}
    samples = [encode(dx(study=name, PatientID=name.upper(), **birth, **values)) for name, values in STUDIES.items()]
    assert {answer.status for answer in node.send(samples)} == {0}
    yield node
    node.close()


def ask(archive, offset, *, negotiated=TIME_ZONE, **keys):
    wanted = {"StudyDate": "", "StudyTime": "", "PatientID": "", "TimezoneOffsetFromUTC": offset, **keys}
    found = find(archive, "STUDY", wanted, negotiated=negotiated)
    assert found.status == 0
    return {
        str(match.PatientID).lower(): (str(match.StudyDate), str(match.StudyTime), str(match.TimezoneOffsetFromUTC))
        for match in found.matches
    }


def test_answers_are_in_the_requesters_zone(archive):
    assert ask(archive, "+0900") == {
        "winter": ("20240201", "0730", "+0900"),
        "summer": ("20240702", "063000.5", "+0900"),
        "tokyo": ("20240201", "073000", "+0900"),
        "no time": ("20240131", "", "+0900"),
        "no date": ("", "120000", "+0900"),
    }


def test_without_negotiation_or_an_offset_they_are_as_stored(archive):
    stored = {
        name: (values["StudyDate"], values["StudyTime"], values.get("TimezoneOffsetFromUTC", ""))
        for name, values in STUDIES.items()
    }
    assert ask(archive, "+0900", negotiated=b"") == stored
    assert ask(archive, "") == stored


@pytest.mark.parametrize(
    ("offset", "keys", "studies"),
    [
        ("+0900", {"StudyDate": "20240201"}, {"winter", "tokyo", "no time"}),
        ("+0900", {"StudyDate": "20240131"}, {"no time"}),
        ("+0100", {"StudyDate": "20240131"}, {"winter", "tokyo", "no time"}),
        ("+0100", {"StudyDate": "20240201"}, set()),
        ("+0100", {"StudyTime": "2330"}, {"winter", "tokyo"}),
        ("+0200", {"StudyTime": "2330-2331"}, {"summer"}),
        ("+0100", {"StudyDate": "20240201-", "StudyTime": "2200-2300"}, {"summer"}),
        ("-0500", {"StudyDate": "-20240131", "StudyTime": "1700-1759"}, {"winter", "tokyo"}),
    ],
)
def test_keys_are_in_the_requesters_zone(archive, offset, keys, studies):
    assert set(ask(archive, offset, **keys)) == studies


def test_a_moment_to_another(archive):
    keys = {"StudyDate": "20240131-20240201", "StudyTime": "2300-0100"}
    assert set(ask(archive, "+0100", negotiated=WITH_DATE_TIME, **keys)) == {"winter", "tokyo", "no time"}
    assert set(ask(archive, "+0900", negotiated=WITH_DATE_TIME, **keys)) == {"no time"}


def test_an_answer_has_what_was_asked_for_and_no_more(archive):
    """Times that only the conversion needs do not come along; a birth is not converted."""
    wanted = {"PatientID": "SUMMER", "StudyDate": "", "PatientBirthDate": "", "TimezoneOffsetFromUTC": "+0900"}

    (match,) = find(archive, "STUDY", wanted, negotiated=TIME_ZONE).matches

    assert (match.StudyDate, match.PatientBirthDate) == ("20240702", "19700501")
    assert {e.keyword for e in match} == {*wanted, "StudyInstanceUID", "QueryRetrieveLevel", "RetrieveAETitle"}


def test_below_the_study(archive):
    wanted = {"StudyInstanceUID": uid("winter"), "ContentDate": "", "ContentTime": "", "TimezoneOffsetFromUTC": "-1200"}

    (match,) = find(archive, "IMAGE", wanted, negotiated=TIME_ZONE).matches

    assert (match.ContentDate, match.ContentTime) == ("20240130", "211500")


def test_a_patient_has_no_time_to_adjust(archive):
    wanted = {"PatientID": "WINTER", "PatientBirthDate": "", "TimezoneOffsetFromUTC": "+0900"}

    found = find(archive, "PATIENT", wanted, model=PATIENT_ROOT, negotiated=TIME_ZONE)

    assert (found.pending, found.matches[0].PatientBirthDate) == ((0xFF01,), "19700501")


def test_an_offset_that_is_none(archive):
    found = find(archive, "STUDY", {"PatientID": "", "TimezoneOffsetFromUTC": "CET"}, negotiated=TIME_ZONE)

    assert (found.status, found.matches) == (0xA900, ())
    assert "(0008,0201)" in found.error_comment
