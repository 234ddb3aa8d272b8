"""The contract suite of indexes: subclass ``IndexContract`` and give it ``reopen``."""

from __future__ import annotations

import itertools
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any

import pytest

from backup_scp.dicom.attributes import ATTRIBUTES, BY_KEYWORD, Level
from backup_scp.dicom.query.information_model import (
    AnyOf,
    Condition,
    Empty,
    Query,
    Range,
    SingleValue,
    UIDList,
    WildCard,
)
from backup_scp.dicom.value_representation import items_of
from backup_scp.errors import InvalidSelection
from backup_scp.ports import (
    AddResult,
    Arrival,
    ClockDoubt,
    FirstArrival,
    Index,
    InstanceKey,
    Rejection,
    Selection,
    ServiceKind,
    Task,
    VerificationResult,
    Version,
)
from tests.index.examples import (
    CR,
    DX,
    EXPLICIT,
    MORNING,
    SR,
    answers,
    at,
    filling,
    one_item,
    query,
    rejection,
    requests,
    rows,
    version,
)
from tests.selections import narrowed

P, S, E, I = Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE  # noqa: E741
COUNTS = ("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "ModalitiesInStudy", "SOPClassesInStudy")
ODD_REQUEST = "Röntgen *[a%_]*\"'"
RP1 = {"RequestedProcedureID": "RP1", "AccessionNumber": "A1", "StudyInstanceUID": "1.2.3"}
RP2 = {"RequestedProcedureID": "RP2", "AccessionNumber": "A2"}
RP3 = {"RequestedProcedureID": "RP3", "ScheduledProcedureStepDescription": ODD_REQUEST}
PATIENT_COUNTS = tuple(a.keyword for a in ATTRIBUTES if a.level is P and a.computed)


def _event(chance: random.Random, number: int) -> Version:
    """Give one arrival of a life: few instances, many versions, of several people and senders."""
    study, series, sop = chance.randrange(4), chance.randrange(2), chance.randrange(3)
    facts: dict[str, Any] = {
        "PatientID": f"P{chance.randrange(3)}",
        "StudyDate": f"2024010{chance.randrange(4)}",
        "Modality": "DX",
    }
    facts |= {"StudyDescription": f"d{number}"} if chance.random() < 0.5 else {}
    facts |= {"Modality": "CR"} if chance.random() < 0.3 else {}
    if chance.random() < 0.1:
        return version(f"9.{sop}", "", "", content=str(number), minute=chance.randrange(12), parsed=False)
    return version(f"1.{study}.{series}.{sop}", f"2.{study}.{series}", f"3.{study}", content=str(number),
                   minute=chance.randrange(12), sender=chance.choice("AAAB"), is_whole=chance.random() < 0.8,
                   service=chance.choice(["C-STORE"] * 4 + ["IMPORT"]), **facts)  # fmt: skip


def _nothing(_location: str) -> None:
    """Read no file."""


def _never(location: str) -> None:
    raise AssertionError(location)


def str_url(index: Any) -> str:
    return str(index._database.url.render_as_string(hide_password=False))


def _asked(level: Level, **wanted: Any) -> Query:
    """Ask for everything there is at a level."""
    return query(level, *(a.keyword for a in ATTRIBUTES if not (a.level is P and a.computed)), **wanted)


class IndexContract:
    @pytest.fixture
    def index(self) -> Index:
        raise NotImplementedError

    @pytest.fixture
    def further_index(self) -> Index:
        """Give the same database, as another process opens it."""
        raise NotImplementedError

    # What comes in

    def test_a_new_instance_is_found_at_every_level(self, index):
        assert index.add(version(StudyDate="20240501", SeriesNumber="2", InstanceNumber="7")) is AddResult.NEW
        assert answers(index, P, "PatientName") == [{"PatientID": "P1", "PatientName": "DOE^JANE"}]
        assert answers(index, S, "StudyDate") == [
            {"PatientID": "P1", "StudyInstanceUID": "1.2.3", "StudyDate": "20240501"}
        ]
        assert answers(index, E, "SeriesNumber", "PatientName", "NumberOfSeriesRelatedInstances") == [
            {
                "PatientID": "P1",
                "StudyInstanceUID": "1.2.3",
                "SeriesInstanceUID": "1.2.3.4",
                "SeriesNumber": "2",
                "PatientName": "DOE^JANE",
                "NumberOfSeriesRelatedInstances": "1",
            }
        ]
        assert answers(index, I, "InstanceNumber", "StudyDate", "SOPClassUID", "ContentDate") == [
            {
                "PatientID": "P1",
                "StudyInstanceUID": "1.2.3",
                "SeriesInstanceUID": "1.2.3.4",
                "SOPInstanceUID": "1.2.3.4.5",
                "InstanceNumber": "7",
                "StudyDate": "20240501",
                "SOPClassUID": DX,
                "ContentDate": "",
            }
        ]

    def test_return_keys_below_the_level_are_not_answered(self, index):
        index.add(version())
        assert answers(index, S, "Modality", "PatientName") == [
            {"PatientID": "P1", "StudyInstanceUID": "1.2.3", "PatientName": "DOE^JANE"}
        ]

    @pytest.mark.parametrize("level", Level)
    def test_every_attribute_is_answered_and_matched(self, index, level):
        values: dict[str, Any] = {a.keyword: "1" for a in ATTRIBUTES if not a.computed and a.vr not in {"UI", "SQ"}}
        index.add(version(**values))
        for attribute in ATTRIBUTES:
            if attribute.level.depth <= level.depth and not attribute.items:
                (answer,) = answers(index, level, attribute.keyword)
                assert answer[attribute.keyword]
                assert len(answers(index, level, **{attribute.keyword: answer[attribute.keyword]})) == 1
                assert answers(index, level, **{attribute.keyword: "9"}) == []

    # Sequence Matching, PS3.4 C.2.2.2.6

    @pytest.mark.parametrize(
        ("wanted", "answered"),
        [
            ({}, {"one": [RP1, RP2], "two": [RP3]}),
            ({"RequestedProcedureID": "RP1"}, {"one": [RP1]}),
            ({"RequestedProcedureID": "rp1"}, {}),
            ({"RequestedProcedureID": WildCard("RP*")}, {"one": [RP1, RP2], "two": [RP3]}),
            ({"RequestedProcedureID": WildCard("RP?"), "AccessionNumber": "A2"}, {"one": [RP2]}),
            ({"RequestedProcedureID": "RP1", "AccessionNumber": "A2"}, {}),  # not in one item
            ({"RequestedProcedureID": UIDList(("RP1", "RP3", "RP4"))}, {"one": [RP1], "two": [RP3]}),
            ({"StudyInstanceUID": "1.2.3"}, {"one": [RP1]}),
            ({"StudyInstanceUID": "1.2"}, {}),
            ({"ScheduledProcedureStepDescription": WildCard("R?ntgen *[a%_]*")}, {"two": [RP3]}),
            ({"ScheduledProcedureStepDescription": Empty()}, {"one": [RP1, RP2]}),
            ({"ScheduledProcedureStepDescription": WildCard("Z*")}, {}),
            ({"ScheduledProcedureStepDescription": ODD_REQUEST}, {"two": [RP3]}),
            ({"RequestedProcedureID": WildCard("*" * 10_000 + "3")}, {"two": [RP3]}),
            ({"RequestedProcedureID": WildCard("*a" * 5_000)}, {}),
            ({"AccessionNumber": Range("A1", "A2")}, {}),
        ],
    )
    def test_one_item_of_a_sequence_matches(self, index, wanted, answered):
        index.add(version("1.1", "2.1", SeriesDescription="one", **requests(RP1, RP2)))
        index.add(version("1.2", "2.2", SeriesDescription="two", **requests(RP3)))
        index.add(version("1.3", "2.3", SeriesDescription="none"))
        keys: dict[str, Any] = {"RequestAttributesSequence": one_item(**wanted)} if wanted else {}
        for level in (E, I):
            found = answers(index, level, "SeriesDescription", "RequestAttributesSequence", **keys)
            told = {a["SeriesDescription"]: items_of(a["RequestAttributesSequence"]) for a in found}
            assert told == (answered if wanted else answered | {"none": []})
        assert len(index.retrieve(query(E, **keys))) == len(answered) + (not wanted)

    def test_requests_are_those_of_the_latest_that_has_some(self, index):
        index.add(version("1.1", **requests(RP1)))
        index.add(version("1.2", minute=1))
        index.add(version("1.3", minute=-1, **requests(RP2)))
        (found,) = answers(index, E, "RequestAttributesSequence")
        assert items_of(found["RequestAttributesSequence"]) == [RP1]

    @pytest.mark.parametrize(
        "odd", ["a\0b", "\ud800", "🩻", "\r\n\x1b[31m", "{}[]\",'", "O'Neil\"; DROP TABLE series", "x" * 1024]
    )
    def test_odd_text_in_an_item_is_kept_and_found(self, index, odd):
        index.add(version(**requests(*[{"RequestedProcedureDescription": odd}] * 32)))
        wanted: dict[str, Any] = {"RequestAttributesSequence": one_item(RequestedProcedureDescription=odd)}
        (found,) = answers(index, E, "RequestAttributesSequence", **wanted)
        assert len(items_of(found["RequestAttributesSequence"])) == 32

    def test_the_same_bytes_again_add_nothing(self, index):
        first = version(minute=0)
        assert index.add(first) is AddResult.NEW
        assert index.add(version(minute=5)) is AddResult.HELD
        assert index.holdings().versions == 1
        assert index.held(first.key, first.sha256, "") == (first.location, first.arrival)

    def test_what_is_not_held_is_none(self, index):
        entered = version()
        index.add(entered)
        assert index.held(entered.key, "0" * 64, "") is None
        assert index.held(InstanceKey("1.2.3", "1.2.3.9", "1.2.3.4.5"), entered.sha256, "") is None

    def test_arrival_facts_come_back(self, index):
        entered = version()
        index.add(entered)
        arrival = Arrival(MORNING, "C-STORE", "DR1", "BACKUP_SCP", "192.0.2.7", "")
        assert index.held(entered.key, entered.sha256, "") == (entered.location, arrival)
        (held,) = index.versions()
        assert (*held,) == ("1.2.3", "1.2.3.4", "1.2.3.4.5", DX, "1.2.840.10008.1.2.1", entered.location,
                            entered.sha256, entered.size_bytes, MORNING, "")  # fmt: skip

    # Which version answers

    def test_the_latest_of_the_same_sender_answers(self, index):
        index.add(version(content="old", StudyDescription="old"))
        assert index.add(version(content="new", minute=1, StudyDescription="new")) is AddResult.VERSION
        assert [a["StudyDescription"] for a in answers(index, S, "StudyDescription")] == ["new"]
        (held,) = index.retrieve(query(S, StudyInstanceUID="1.2.3"))
        assert held.sha256 == version(content="new").sha256
        assert index.holdings().versions == 2
        assert index.remarks(9) == []

    def test_an_earlier_version_that_is_entered_late_does_not_answer(self, index):
        index.add(version(content="new", minute=1, ImageType="NEW"))
        assert index.add(version(content="old", minute=0, ImageType="OLD")) is AddResult.VERSION
        assert [a["ImageType"] for a in answers(index, I, "ImageType")] == ["NEW"]

    def test_another_sender_does_not_take_over(self, index):
        index.add(version(content="ours", ImageType="OURS"))
        theirs = version(content="theirs", minute=1, sender="WORKSTATION", ImageType="THEIRS")
        assert index.add(theirs) is AddResult.CLASH
        assert [a["ImageType"] for a in answers(index, I, "ImageType")] == ["OURS"]
        (held,) = index.retrieve(query(I, SOPInstanceUID="1.2.3.4.5"))
        assert held.sha256 == version(content="ours").sha256
        (remark,) = index.remarks(9)
        assert (remark.location, remark.flags) == (version(content="theirs").location, ("clash",))
        assert index.holdings().flagged == 1
        assert len(index.select(Selection(all_versions=True))) == 2

    def test_a_stranger_with_the_consoles_ae_title_does_not_take_over(self, index):
        index.add(version(content="ours", remote="console", ImageType="OURS"))
        stranger = version(content="theirs", minute=1, ImageType="THEIRS")
        assert index.add(stranger) is AddResult.CLASH
        assert index.add(version(content="corrected", remote="console", minute=2)) is AddResult.VERSION
        (held,) = index.retrieve(query(I))
        assert held.sha256 == version(content="corrected").sha256
        (remark,) = index.remarks(9)
        assert (remark.location, remark.flags, remark.remote) == (stranger.location, ("clash",), "")

    def test_what_a_console_sent_before_it_was_configured_can_be_corrected(self, index):
        index.add(version(content="before"))
        assert index.add(version(content="since", minute=1, remote="console")) is AddResult.VERSION
        assert index.add(version(content="a stranger's", minute=2)) is AddResult.CLASH
        for minute, content in ((0, "before"), (1, "since"), (2, "since")):
            (held,) = index.select(Selection(as_of=at(minute)))
            assert held.sha256 == version(content=content).sha256

    def test_a_version_that_came_while_the_clock_was_behind_is_the_latest(self, index):
        """It is not older than the stored versions, so nothing is re-indexed for it."""
        index.add(version(content="old"))
        early = version(content="corrected", minute=-600)
        later = replace(early, arrival=early.arrival.after(index.look_up(early.key, early.sha256, "").latest))
        assert index.add(later, _never) is AddResult.VERSION
        (held,) = index.retrieve(query(I))
        assert (held.sha256, held.received_at) == (early.sha256, at(-600))
        assert [v.arrival for v in index.search_versions(query(I))] == [version().arrival, later.arrival]
        assert index.look_up(early.key, early.sha256, "") == ((early.location, later.arrival), later.arrival.ordered_at)

    def test_another_encoding_is_kept_and_changes_nothing(self, index):
        first, corrected = version(content="first"), version(content="corrected", minute=1)
        assert [index.add(first), index.add(corrected)] == [AddResult.NEW, AddResult.VERSION]
        for minute, (sender, of) in enumerate([("DR1", first), ("PACS", corrected), ("PACS", first)], 2):
            again = version(content=f"again {minute}", minute=minute, sender=sender, same_as=of.sha256)
            assert index.add(again) is AddResult.REENCODED
        held = index.versions_of(first.key)
        assert held[0].sha256 == corrected.sha256
        assert [each.received_at for each in held] == [at(minute) for minute in (1, 4, 3, 2, 0)]
        assert [each.sha256 for each in index.retrieve(query(I))] == [corrected.sha256]
        assert (index.holdings().versions, index.holdings().flagged, index.remarks(9)) == (5, 0, [])
        assert [each.calling_ae_title for each in index.storms(at(-1), 1)] == ["DR1"]  # of the correction
        assert index.storms(at(1.5), 1) == []
        assert index.versions_of(version("1.9").key) == []

    def test_another_encoding_that_is_entered_first_changes_nothing_either(self, index):
        first = version(content="first")
        again = version(content="again", minute=1, sender="PACS", same_as=first.sha256)
        assert index.add(again) is AddResult.NEW
        index.add(first, lambda _location: again)
        assert [each.sha256 for each in index.retrieve(query(I))] == [first.sha256]
        assert index.remarks(9) == []

    def test_what_is_known_of_a_uid_tells_what_came_before(self, index):
        assert index.look_up(version().key, version().sha256, "") == (None, None)
        index.add(version(minute=1))
        index.add(version(content="other", minute=3))
        index.add(version("1.9", minute=5))  # the study says what this one says
        assert index.look_up(version().key, "0" * 64, "") == (None, at(5))
        assert index.look_up(version().key, version().sha256, "").held == (
            version().location,
            version(minute=1).arrival,
        )
        assert index.look_up(version(study="8").key, version().sha256, "") == (None, at(5))  # of another study

    @pytest.mark.parametrize("other", [{}, {"sender": "OTHER"}, {"sender": "", "service": "IMPORT"}])
    def test_what_is_cut_off_answers_only_while_nothing_whole_is_held(self, index, other):
        cut, whole = (
            version(content="cut", is_whole=False, ImageType="CUT"),
            version(content="whole", minute=1, **other),
        )
        index.add(cut)
        assert answers(index, I, "ImageType")[0]["ImageType"] == "CUT"
        assert index.add(whole) is AddResult.VERSION
        again = version(content="cut again", minute=2, is_whole=False, ImageType="CUT")
        assert index.add(again) is AddResult.VERSION
        (held,) = index.retrieve(query(I))
        assert held.sha256 == whole.sha256
        assert {(r.location, r.flags) for r in index.remarks(9)} == {
            (each.location, ("truncated",)) for each in (cut, again)
        }
        for minute, answering in ((0, cut), (1, whole), (2, whole)):
            (held,) = index.select(Selection(as_of=at(minute)))
            assert held.sha256 == answering.sha256

    def test_an_import_never_takes_over(self, index):
        imports = [version(content=str(n), minute=n, sender="", service="IMPORT") for n in range(3)]
        assert [index.add(each) for each in imports] == [AddResult.NEW, AddResult.CLASH, AddResult.CLASH]
        (held,) = index.retrieve(query(I))
        assert held.sha256 == imports[0].sha256
        assert index.add(version(content="a stranger's", minute=4)) is AddResult.CLASH
        assert index.add(version(content="the console's", minute=5, remote="console")) is AddResult.VERSION
        assert index.add(version(content="3", minute=6, sender="", service="IMPORT")) is AddResult.CLASH
        (held,) = index.retrieve(query(I))
        assert held.sha256 == version(content="the console's").sha256

    @pytest.mark.parametrize("odd", [{"study": ""}, {"series": "1.2.x"}, {"PatientID": ""}, {"PatientID": "A\\B"}])
    def test_an_identity_that_is_missing_or_malformed_is_flagged(self, index, odd):
        index.add(version(**odd))
        (remark,) = index.remarks(9)
        assert remark.flags == ("identity",)

    def test_the_owner_still_answers_after_a_clash(self, index):
        index.add(version(content="a"))
        index.add(version(content="b", minute=1, sender="OTHER"))
        assert index.add(version(content="c", minute=2)) is AddResult.VERSION
        assert index.add(version(content="d", minute=3, sender="OTHER")) is AddResult.CLASH
        (held,) = index.retrieve(query(I))
        assert held.sha256 == version(content="c").sha256

    def test_who_was_first_owns_the_instance_even_when_entered_late(self, index):
        index.add(version(content="second", minute=1, sender="OTHER", ImageType="SECOND"))
        assert index.add(version(content="first", minute=0, ImageType="FIRST")) is AddResult.VERSION
        assert [a["ImageType"] for a in answers(index, I, "ImageType")] == ["FIRST"]
        assert [r.location for r in index.remarks(9)] == [version(content="second").location]

    def test_one_sop_instance_uid_in_two_studies_is_two_instances(self, index):
        index.add(version())
        assert index.add(version(study="1.9", minute=1)) is AddResult.NEW
        assert len(answers(index, I, SOPInstanceUID="1.2.3.4.5")) == 2
        (remark,) = index.remarks(9)
        assert (remark.location, remark.flags) == (version(study="1.9").location, ("clash",))

    @pytest.mark.parametrize("other", [{"study": "1.9"}, {"series": "1.2.3.9"}])
    def test_who_had_a_sop_instance_uid_first_is_not_flagged_whichever_is_entered_first(self, index, other):
        later = version(minute=1, **other)
        index.add(later)
        assert index.add(version()) is AddResult.NEW
        assert [(r.location, r.flags) for r in index.remarks(9)] == [(later.location, ("clash",))]

    def test_an_instance_has_its_uid_since_its_first_version(self, index):
        index.add(version())
        index.add(version(minute=10, content="corrected"))
        between = version(study="1.9", minute=5)
        assert index.add(between) is AddResult.NEW
        assert [(r.location, r.flags) for r in index.remarks(9)] == [(between.location, ("clash",))]

    def test_a_clash_that_is_found_later_leaves_the_other_flags(self, index):
        unparsed = version(content="unparsed", minute=1, sender="OTHER", parsed=False)
        index.add(unparsed)
        index.add(version())
        assert [(r.location, r.flags) for r in index.remarks(9)] == [(unparsed.location, ("clash", "unparsed"))]

    def test_whom_a_version_names_that_never_answered_is_known(self, index):
        index.add(version(content="ours", PatientID="OURS"))
        index.add(version(content="theirs", PatientID="THEIRS", minute=1, sender="OTHER"))
        index.add(version(content="late", PatientID="LATE", minute=-1), _nothing)
        found = {p: [h.sha256 for h in index.select(narrowed(patient_id=p, as_of=at(2)))] for p in ("OURS", "THEIRS")}
        assert found == {"OURS": [version(content="ours").sha256], "THEIRS": []}
        (held,) = index.select(narrowed(patient_id="LATE", as_of=at(-1)))
        assert held.sha256 == version(content="late").sha256

    def test_two_people_with_one_study_uid_are_both_found(self, index):
        index.add(version(sop="1.1", PatientID="P1"))
        index.add(version(sop="1.2", PatientID="P2"))
        assert sorted(a["PatientID"] for a in answers(index, S, StudyInstanceUID="1.2.3")) == ["P1", "P2"]
        assert len(answers(index, P)) == 2
        assert len(index.retrieve(query(S, StudyInstanceUID="1.2.3"))) == 2

    def test_one_patient_id_at_two_sites_is_two_people(self, index):
        index.add(version(sop="1.1", study="1", site="north"))
        index.add(version(sop="1.2", study="2", site="south"))
        assert len(answers(index, P, PatientID="P1")) == 2
        assert index.holdings().patients == 2

    # Corrections

    def test_a_correction_moves_an_instance_to_another_patient(self, index):
        index.add(version(sop="1.1", PatientID="WRONG", Modality="DX"))
        index.add(version(sop="1.2", PatientID="WRONG", Modality="DX"))
        assert index.add(version(sop="1.2", content="corrected", minute=1, PatientID="RIGHT")) is AddResult.VERSION
        found = {a["PatientID"]: a for a in answers(index, S, *COUNTS)}
        assert {i: a["NumberOfStudyRelatedInstances"] for i, a in found.items()} == {"WRONG": "1", "RIGHT": "1"}
        holdings = index.holdings()
        assert (holdings.studies, holdings.series, holdings.instances, holdings.versions) == (2, 2, 2, 3)
        assert index.add(version(sop="1.1", content="corrected", minute=2, PatientID="RIGHT")) is AddResult.VERSION
        (answer,) = answers(index, S, *COUNTS)
        assert (answer["PatientID"], answer["NumberOfStudyRelatedInstances"]) == ("RIGHT", "2")
        holdings = index.holdings()
        assert (holdings.studies, holdings.series, holdings.instances, holdings.versions) == (1, 1, 2, 4)
        assert holdings.size_bytes == sum(held.size_bytes for held in index.versions())

    def test_modalities_and_sop_classes_follow_a_correction(self, index):
        index.add(version(sop="1.1", Modality="CR", sop_class=CR))
        index.add(version(sop="1.2", series="9", Modality="SR", sop_class=SR))
        index.add(version(sop="1.1", content="corrected", minute=1, Modality="DX", sop_class=DX))
        (answer,) = answers(index, S, *COUNTS)
        assert answer["ModalitiesInStudy"] == "DX\\SR"
        assert answer["SOPClassesInStudy"] == f"{DX}\\{SR}"
        index.add(version(sop="1.3", series="9", minute=2, Modality="SR", sop_class=SR))
        (answer,) = answers(index, S, *COUNTS)
        assert (answer["ModalitiesInStudy"], answer["NumberOfStudyRelatedInstances"]) == ("DX\\SR", "3")

    def test_a_series_that_gets_its_modality_late_brings_its_sop_class(self, index):
        index.add(version(sop="1.1", Modality="", sop_class=CR))
        index.add(version(sop="1.2", minute=1, Modality="DX", sop_class=DX))
        (answer,) = answers(index, S, *COUNTS)
        assert (answer["ModalitiesInStudy"], answer["SOPClassesInStudy"]) == ("DX", f"{CR}\\{DX}")

    def test_what_left_a_study_is_no_longer_among_its_modalities(self, index):
        index.add(version(sop="1.1", Modality="DX"))
        index.add(version(sop="1.2", series="9", Modality="SR", sop_class=SR))
        index.add(version(sop="1.2", series="9", content="c", minute=1, Modality="SR", sop_class=SR, PatientID="P2"))
        found = {a["PatientID"]: (a["ModalitiesInStudy"], a["SOPClassesInStudy"]) for a in answers(index, S, *COUNTS)}
        assert found == {"P1": ("DX", DX), "P2": ("SR", SR)}

    def test_an_empty_value_does_not_erase_a_known_one(self, index):
        index.add(version(sop="1.1", StudyDescription="Chest", AccessionNumber="A1"))
        index.add(version(sop="1.2", minute=1, AccessionNumber="A2"))
        (answer,) = answers(index, S, "StudyDescription", "AccessionNumber")
        assert (answer["StudyDescription"], answer["AccessionNumber"]) == ("Chest", "A2")

    # Odd identities

    def test_an_unparsed_instance_is_kept_found_counted_and_flagged(self, index):
        assert index.add(version(sop="1.1", study="", series="", parsed=False)) is AddResult.NEW
        index.add(version(sop="1.2", study="", series="", parsed=False, minute=1))
        (answer,) = answers(index, I, SOPInstanceUID="1.1")
        assert answer == dict.fromkeys(answer, "") | {"SOPInstanceUID": "1.1"}
        assert answers(index, P) == answers(index, S) == answers(index, E) == []  # no Unique Key, no entity
        assert [r.flags for r in index.remarks(9)] == [("unparsed",), ("unparsed",)]
        assert (index.holdings().instances, index.holdings().flagged) == (2, 2)
        assert len(index.retrieve(query(I, SOPInstanceUID=UIDList(("1.1", "1.2"))))) == 2

    def test_people_without_id_are_not_merged(self, index):
        for number, name in enumerate(["DOE^JOHN", "ROE^JANE", "", ""]):
            index.add(version(sop=f"1.{number}", study=f"2.{number}", PatientID="", PatientName=name))
        assert len(answers(index, P)) == 4
        assert index.holdings().patients == 4

    def test_a_later_study_that_nobody_can_ask_for_hides_no_patient(self, index):
        index.add(version(sop="1.1", study="2.1", PatientID="", StudyDate="20240101"))
        index.add(version(sop="1.2", study="", PatientID="", StudyDate="20240102"))
        assert answers(index, P, "PatientName") == [{"PatientID": "", "PatientName": "DOE^JANE"}]

    @pytest.mark.parametrize(
        "odd",
        ["1.2.x.007 b", "9" * 65, "9" * 1000, "ü" * 300, "O'Neil\"; DROP TABLE study; --", "%_[*?]!\\", "a\0b",
         "\ud800", "🩻", "\r\n\x1b[31m", "{}[]\",'"],
    )  # fmt: skip
    def test_odd_text_is_kept_and_found(self, index, odd):
        entered = version(sop=odd, PatientID=odd, PatientName=odd, PatientComments=odd, AccessionNumber=odd)
        assert index.add(entered) is AddResult.NEW
        assert index.add(entered) is AddResult.HELD
        assert index.held(entered.key, entered.sha256, "")
        for keyword in ("SOPInstanceUID", "PatientID", "PatientComments", "AccessionNumber"):
            assert len(answers(index, I, **{keyword: odd})) == 1
        if "\\" not in odd:
            assert len(answers(index, I, PatientName=odd.replace("=", "").replace("^", ""))) == 1

    def test_long_values_that_differ_at_their_end_are_different(self, index):
        for end in "ab":
            index.add(version(sop="9" * 800 + end, PatientComments="c" * 20_000 + end))
        assert index.holdings().instances == 2
        assert len(answers(index, I, SOPInstanceUID="9" * 800 + "a")) == 1

    @pytest.mark.parametrize(
        ("pattern", "found"),
        [
            (
                "*" * 10_000,
                {"PatientComments", "PatientID", "PatientName", "OtherPatientIDs", "ReferringPhysicianName"},
            ),
            ("*?" * 500, {"PatientComments"}),
            ("*a" * 500, {"PatientComments"}),
            ("*?" * 5_000, set()),  # longer than what is kept of a value
            ("*a" * 5_000, set()),
            ("[" * 20_000 + "*", set()),
            ("?" * 10_000, set()),
        ],
    )
    def test_hostile_patterns_are_answered(self, index, pattern, found):
        index.add(version(PatientComments="a" * 9_000, PatientID="a" * 200))
        keywords = ("PatientComments", "PatientID", "PatientName", "OtherPatientIDs", "ReferringPhysicianName")
        assert {keyword for keyword in keywords if answers(index, S, **{keyword: WildCard(pattern)})} == found

    def test_a_list_of_any_length_is_one_question(self, index):
        index.add(version())
        uids = UIDList((*(f"1.2.{n}.9" for n in range(70_000)), "1.2.3.4.5"))
        assert len(answers(index, I, SOPInstanceUID=uids)) == 1

    # Counts, order, levels

    def test_counts_are_kept(self, index):
        for study, series, sop in itertools.product("12", "34", "567"):
            modality = "DX" if series == "3" else "CR"
            index.add(version(f"{study}.{series}.{sop}", f"{study}.{series}", study, Modality=modality))
        for answer in answers(index, S, *COUNTS, *PATIENT_COUNTS):
            assert [answer[k] for k in COUNTS] == ["2", "6", "CR\\DX", DX]
            assert [answer[k] for k in PATIENT_COUNTS] == ["2", "4", "12"]
        (patient,) = answers(index, P, *PATIENT_COUNTS)
        assert [patient[k] for k in PATIENT_COUNTS] == ["2", "4", "12"]
        assert {a["NumberOfSeriesRelatedInstances"] for a in answers(index, E, "NumberOfSeriesRelatedInstances")} == {
            "3"
        }
        assert len(answers(index, S, ModalitiesInStudy="CR", NumberOfStudyRelatedInstances="6")) == 2
        assert answers(index, S, ModalitiesInStudy="D") == []
        assert len(answers(index, P, NumberOfPatientRelatedStudies="2")) == 1

    def test_a_patient_is_answered_as_of_the_latest_study_that_matches(self, index):
        for number, name in enumerate(["MAIDEN^ANN", "MARRIED^ANN"]):
            index.add(version(sop=f"1.{number}", study=f"2.{number}", PatientName=name, StudyDate=f"202{number}0101"))
        assert [a["PatientName"] for a in answers(index, P, "PatientName")] == ["MARRIED^ANN"]
        assert [a["PatientName"] for a in answers(index, P, "PatientName", PatientName="maiden^ann")] == ["MAIDEN^ANN"]

    def test_studies_come_newest_first(self, index):
        for number, date in enumerate(["20240101", "20240301", "", "20240201"]):
            index.add(version(sop=f"1.{number}", study=f"2.{number}", StudyDate=date))
        found = [a["StudyDate"] for a in answers(index, S, "StudyDate")]
        assert found == ["20240301", "20240201", "20240101", ""]

    def test_retrieve_goes_by_series_and_instance_number(self, index):
        wanted = []
        for series, sop in itertools.product(["2", "10", ""], ["3", "20", ""]):
            uid = f"1.{series or 99}.{sop or 99}"
            wanted.append(uid)
            index.add(version(uid, f"7.{series or 99}", SeriesNumber=series, InstanceNumber=sop))
        assert [h.sop_instance_uid for h in index.retrieve(query(S, StudyInstanceUID="1.2.3"))] == wanted
        found = answers(index, I, StudyInstanceUID="1.2.3")
        assert [a["SOPInstanceUID"] for a in found] == wanted

    def test_retrieve_goes_study_by_study(self, index):
        """For any versions in between, and any order."""
        order = [f"{study}.{sop}" for study in "AB" for sop in "12"]
        for sop, study in ("1A", "2B", "2A", "1B"):
            index.add(version(f"{study}.{sop}", f"{study}.9", study, SeriesNumber="1", InstanceNumber=sop))
        held = index.retrieve(query(P, PatientID="P1"))
        assert [h.sop_instance_uid for h in held] == order
        held = index.retrieve(query(I, SOPInstanceUID=UIDList(tuple(reversed(order)))))
        assert [h.sop_instance_uid for h in held] == order

    @pytest.mark.parametrize(
        ("level", "wanted", "count"),
        [
            (P, {"PatientID": "P1"}, 6),
            (P, {"PatientID": UIDList(("P1", "P2", "P3"))}, 8),
            (S, {"PatientID": UIDList(("P1", "P2")), "StudyInstanceUID": "2"}, 4),
            (E, {"SeriesInstanceUID": UIDList(("1.1", "2.2", "2.1"))}, 6),
            (S, {"StudyInstanceUID": "1"}, 4),
            (S, {"StudyInstanceUID": UIDList(("1", "2"))}, 8),
            (E, {"SeriesInstanceUID": "1.1"}, 2),
            (E, {"StudyInstanceUID": "1", "SeriesInstanceUID": "2.1"}, 0),
            (I, {"SOPInstanceUID": UIDList(("1.1.1", "2.2.2", "9"))}, 2),
        ],
    )
    def test_retrieve_takes_what_is_below_what_matches(self, index, level, wanted, count):
        for study, series, sop in itertools.product("12", "12", "12"):
            patient = "P2" if (study, series) == ("2", "2") else "P1"
            index.add(version(f"{study}.{series}.{sop}", f"{study}.{series}", study, PatientID=patient))
        assert len(index.retrieve(query(level, **wanted))) == count

    def test_a_selection_narrows(self, index):
        for number, date in enumerate(["20240101", "20240201", "2024.03.01", ""]):
            index.add(version(sop=f"1.{number}", study=f"2.{number}", StudyDate=date, PatientID=f"P{number}"))
        index.add(version(sop="1.1", study="2.1", content="b", minute=9, StudyDate="20240201", PatientID="P1"))

        def selected(**wanted):
            return [held.study_instance_uid for held in index.select(narrowed(**wanted))]

        assert selected() == ["2.2", "2.1", "2.0", "2.3"]
        assert selected(all_versions=True) == ["2.2", "2.1", "2.1", "2.0", "2.3"]
        assert selected(since="20240201") == ["2.2", "2.1"]
        assert selected(until="20240201") == ["2.1", "2.0"]
        assert selected(since="20240201", until="20240229") == ["2.1"]
        assert selected(patient_id="P2") == ["2.2"]
        assert selected(study_instance_uid="2.3") == ["2.3"]
        both = index.select(narrowed(study_instance_uid="2.1", all_versions=True))
        assert [held.received_at for held in both] == sorted(held.received_at for held in both)

    def test_a_selection_takes_what_a_query_takes_and_several_of_it(self, index):
        for number, name in enumerate(["DOE^A", "DOE^B", "ROE^C", "POE^D"]):
            index.add(version(sop=f"1.{number}", study=f"2.{number}", PatientID=f"P{number}", PatientName=name,
                              StudyDate=f"2024010{number + 1}"))  # fmt: skip

        def selected(keyword, *matchings):
            condition = Condition(BY_KEYWORD[keyword], AnyOf(matchings))
            return [held.study_instance_uid for held in index.select(Selection((condition,)))]

        assert selected("PatientID", SingleValue("P0"), SingleValue("P2")) == ["2.2", "2.0"]
        assert selected("PatientID", WildCard("P*"), SingleValue("P2")) == ["2.3", "2.2", "2.1", "2.0"]
        assert selected("PatientName", WildCard("doe*"), SingleValue("POE^D")) == ["2.3", "2.1", "2.0"]
        assert selected("StudyDate", Range("20240104", None), SingleValue("20240101")) == ["2.3", "2.0"]
        assert selected("SOPInstanceUID", UIDList(("1.1",))) == ["2.1"]

    def test_several_patients_as_of_a_moment(self, index):
        index.add(version("1.1", study="2.1", PatientID="WRONG"))
        index.add(version("1.2", study="2.2", PatientID="OTHER"))
        index.add(version("1.3", study="2.3", PatientID="THIRD"))
        index.add(version("1.1", study="2.1", content="corrected", minute=3, PatientID="RIGHT"))
        several = (Condition(BY_KEYWORD["PatientID"], AnyOf((WildCard("WRO*"), SingleValue("THIRD")))),)
        assert {one.sop_instance_uid for one in index.select(Selection(several, as_of=at(1)))} == {"1.1", "1.3"}
        assert {one.sop_instance_uid for one in index.select(Selection(several, as_of=at(3)))} == {"1.3"}

    @pytest.mark.parametrize(("versions", "studies"), [(1, 100), (5, 100), (1000, 2), (1000, 1000)])
    def test_batches_are_whole_studies_in_the_order_of_a_restore(self, index, monkeypatch, versions, studies):
        monkeypatch.setattr("backup_scp.index.study_reader._BATCH_VERSIONS", versions)
        monkeypatch.setattr("backup_scp.index.study_reader._BATCH_STUDIES", studies)
        for study, sop in itertools.product(range(5), range(3)):
            index.add(version(f"1.{study}.{sop}", f"2.{study}", f"3.{study}", StudyDate=f"2024010{study + 1}"))
        batches = list(index.select_in_batches(Selection()))
        assert [held for batch in batches for held in batch] == index.select(Selection())
        assert [len(batch) for batch in batches] == {
            (1, 100): [3, 3, 3, 3, 3], (5, 100): [6, 6, 3], (1000, 2): [6, 6, 3], (1000, 1000): [15],
        }[versions, studies]  # fmt: skip

    def test_no_transaction_is_open_between_two_batches(self, index, monkeypatch):
        """A restore lasts for hours, and a transaction as long keeps everything that is written meanwhile."""
        monkeypatch.setattr("backup_scp.index.study_reader._BATCH_STUDIES", 1)
        for study in "123":
            index.add(version(f"1.{study}", f"2.{study}", f"3.{study}"))
        batches = index.select_in_batches(Selection())
        next(batches)
        index.add(version("1.1", "2.1", "3.1", content="corrected", minute=1))
        index.add(version("1.4", "2.4", "3.4"))
        rest = [held.sop_instance_uid for batch in batches for held in batch]
        assert len(rest) == 2
        assert "1.4" not in rest

    # What was there, and one version by its digest

    def test_history_a_moment_what_came_later_does_not_exist(self, index):
        entered = [
            version("1.1", content="first"),
            version("1.1", content="clash", minute=1, sender="OTHER"),
            version("1.2", content="new", minute=2, sender="OTHER"),
            version("1.1", content="corrected", minute=3),
            version("1.1", content="clash again", minute=4, sender="OTHER"),
        ]
        for each in entered:
            index.add(each)
        first, clash, new, corrected, clash_again = (each.sha256 for each in entered)

        def was(minute, **selection):
            return {held.sha256 for held in index.select(narrowed(as_of=at(minute), **selection))}

        assert was(-1) == was(-1, all_versions=True) == set()
        assert was(0) == was(1) == {first}
        assert was(2) == {first, new}
        assert was(3) == was(4) == was(99) == {corrected, new}
        assert was(1, all_versions=True) == {first, clash}
        assert was(3, all_versions=True) == {first, clash, new, corrected}
        assert was(4, all_versions=True) == {first, clash, new, corrected, clash_again}

    def test_history_is_exact_to_the_microsecond_in_every_time_zone(self, index):
        index.add(version(content="first"))
        index.add(version(content="corrected", minute=1))
        moment = MORNING + timedelta(minutes=1)

        def was(as_of):
            return [held.sha256 for held in index.select(Selection(as_of=as_of))]

        assert was(moment - timedelta(microseconds=1)) == [version(content="first").sha256]
        assert was(moment) == [version(content="corrected").sha256]
        assert was(moment.astimezone(timezone(timedelta(hours=-7)))) == [version(content="corrected").sha256]
        assert was(MORNING - timedelta(microseconds=1)) == []

    def test_history_goes_by_location_within_one_microsecond(self, index):
        entered = sorted((version(content=str(n)) for n in range(5)), key=lambda each: each.location)
        for each in [*entered[2:], *entered[:2]]:
            index.add(each)
        (held,) = index.select(Selection(as_of=MORNING))
        assert held.sha256 == entered[-1].sha256
        assert index.select(Selection(as_of=MORNING)) == index.select(Selection())

    def test_history_two_sites_with_one_ae_title_have_an_image_each(self, index):
        index.add(version(content="ours", site="north"))
        index.add(version(content="theirs", site="south", minute=1))
        index.add(version(content="ours again", site="north", minute=2))
        held = index.select(Selection(as_of=at(1)))
        assert {one.sha256 for one in held} == {version(content=content).sha256 for content in ("ours", "theirs")}

    def test_history_is_what_an_index_of_that_time_answered(self, index):
        """A random life; at each moment, the answers of an index with only the versions that had come by then."""
        chance = random.Random(5)
        life = [
            version(f"1.{chance.randrange(4)}", f"2.{chance.randrange(2)}", content=str(n), minute=chance.randrange(12),
                    sender=chance.choice("ABC"), site=chance.choice(["", "north"]))
            for n in range(60)
        ]  # fmt: skip
        life.sort(key=lambda each: (each.arrival.received_at, each.location))
        for each in life:
            index.add(each)
        now = {minute: sorted(index.select(Selection(as_of=at(minute)))) for minute in range(-1, 13)}
        for minute, found in now.items():
            with filling(index) as enter:
                for each in life:
                    if each.arrival.received_at <= at(minute):
                        enter(each)
            assert sorted(index.select(Selection())) == found
        assert now[12] != now[6] != now[-1] == []

    def test_a_search_as_of_a_moment_answers_as_it_did_then(self, index):
        """A random life; at each moment and level, the answers of an index with only the versions up to then."""
        chance = random.Random(9)
        life = [_event(chance, number) for number in range(70)]
        life.sort(key=lambda each: (each.arrival.received_at, each.location))
        for each in life:
            index.add(each)
        files = {each.location: each for each in life}
        asked = [_asked(level, **wanted) for level in (S, E, I) for wanted in
                 ({}, {"PatientID": "P1"}, {"StudyInstanceUID": "3.0"}, {"StudyDate": Range("20240102", "20240103")},
                  {"StudyInstanceUID": "3.1", "ModalitiesInStudy" if level is S else "Modality": "CR"})]  # fmt: skip
        moments = (-1, 2, 6, 10)
        found = {(minute, n): list(index.search_as_of(ask, at(minute), files.get))
                 for minute in moments for n, ask in enumerate(asked)}  # fmt: skip
        for minute in moments:
            with filling(index) as enter:
                for each in life:
                    if each.arrival.received_at <= at(minute):
                        enter(each)
            for n, ask in enumerate(asked):
                then = list(index.search(ask))
                assert sorted(map(repr, found[minute, n])) == sorted(map(repr, then)), (minute, ask)
                if ask.level is S:
                    assert [a["StudyDate"] for a in found[minute, n]] == [a["StudyDate"] for a in then]
        assert len({len(answers) for answers in found.values()}) > 4

    def test_a_search_as_of_a_moment_reads_only_what_may_have_been_otherwise(self, index):
        entered = [version("1.1", study="1"), version("2.1", study="2"), version("2.2", study="2", minute=2),
                   version("3.1", study="3"), version("3.1", study="3", content="clash", minute=3, sender="OTHER"),
                   version("4.1", study="4", minute=4)]  # fmt: skip
        for each in entered:
            index.add(each)
        files, asked = {each.location: each for each in entered}, []

        def read(location):
            asked.append(location)
            return files[location]

        assert [a["StudyInstanceUID"] for a in index.search_as_of(query(S, StudyInstanceUID="2"), at(1), read)] == ["2"]
        assert asked == [entered[1].location]
        assert len(list(index.search_as_of(query(S), at(1), read))) == 3
        assert asked[1:] == sorted([entered[1].location, entered[3].location])
        assert len(list(index.search_as_of(query(S), at(1), lambda _: None))) == 1
        assert len(list(index.search_as_of(query(S), at(4), lambda _: pytest.fail("nothing came since")))) == 4

    def test_a_search_as_of_a_moment_sees_one_state(self, index, further_index):
        """Images that arrive while it reads: the study is neither lost nor returned in its present state."""
        entered = [version("1.1", study="1"), version("2.1", study="2"), version("2.2", study="2", minute=1)]
        for each in entered:
            index.add(each)
        files = {each.location: each for each in entered}

        def read(location):
            further_index.add(version("1.2", study="1", minute=2))
            return files[location]

        found = list(index.search_as_of(query(S, "NumberOfStudyRelatedInstances"), at(0), read))
        assert sorted((a["StudyInstanceUID"], a["NumberOfStudyRelatedInstances"]) for a in found) == [
            ("1", "1"),
            ("2", "1"),
        ]

    @pytest.mark.parametrize("ask", [query(P), query(S, "NumberOfPatientRelatedStudies"),
                                     query(S, NumberOfPatientRelatedStudies="1")])  # fmt: skip
    def test_a_patient_as_of_a_moment_is_refused(self, index, ask):
        with pytest.raises(InvalidSelection):
            list(index.search_as_of(ask, MORNING, lambda _: None))

    def test_history_narrows_like_everything_else(self, index):
        for number, date in enumerate(["20240101", "20240201"]):
            index.add(version(sop=f"1.{number}", study=f"2.{number}", StudyDate=date, PatientID=f"P{number}"))
        index.add(version(sop="1.2", study="2.0", minute=1, PatientID="P0", StudyDate="20240101"))

        def was(**selection):
            return [held.sop_instance_uid for held in index.select(narrowed(as_of=at(0), **selection))]

        assert was() == ["1.1", "1.0"]
        assert was(study_instance_uid="2.0") == was(patient_id="P0") == was(until="20240101") == ["1.0"]
        assert was(since="20240102") == ["1.1"]

    def test_history_a_patient_has_what_was_theirs_then(self, index):
        index.add(version("1.1", PatientID="WRONG"))
        index.add(version("1.2", PatientID="WRONG"))
        index.add(version("1.1", content="clash", minute=1, sender="OTHER", PatientID="OTHER"))
        index.add(version("1.1", content="corrected", minute=3, PatientID="RIGHT"))
        index.add(version("1.1", content="late", minute=2, PatientID="INTERIM"))
        index.add(version("1.1", content="corrected again", minute=4, PatientID="FINAL"))

        def of(patient_id, minute, **selection):
            found = index.select(narrowed(patient_id=patient_id, as_of=at(minute), **selection))
            return sorted(held.sha256[:12] for held in found)

        def versions(*contents):
            return sorted(version(sop, content=content).sha256[:12] for sop, content in contents)

        first, clash, late = ("1.1", "pixels"), ("1.1", "clash"), ("1.1", "late")
        corrected, again, other = ("1.1", "corrected"), ("1.1", "corrected again"), ("1.2", "pixels")
        assert of("WRONG", -1) == []
        assert of("WRONG", 0) == of("WRONG", 1) == versions(first, other)
        assert of("WRONG", 2) == of("WRONG", 3) == of("WRONG", 4) == versions(other)
        assert of("INTERIM", 2) == versions(late)
        assert of("RIGHT", 3) == versions(corrected)
        assert of("FINAL", 4) == versions(again)
        assert of("OTHER", 4) == of("INTERIM", 3) == of("RIGHT", 2) == of("RIGHT", 4) == of("FINAL", 3) == []
        assert of("WRONG", 1, all_versions=True) == versions(first, clash, other)
        assert of("RIGHT", 3, all_versions=True) == versions(first, clash, late, corrected)

    def test_versions_by_the_first_digits_of_their_digest(self, index):
        entered = [version(content="first"), version(content="clash", minute=1, sender="OTHER"), version("1.9")]
        for each in entered:
            index.add(each)
        for digits in (12, 13, 63, 64):
            for each in entered:
                (held,) = index.select(Selection(digests=(each.sha256[:digits],)))
                assert (held.sha256, held.location) == (each.sha256, each.location)
        both = index.select(Selection(digests=(entered[0].sha256[:12], entered[1].sha256)))
        assert [held.sha256 for held in both] == [entered[0].sha256, entered[1].sha256]
        assert index.select(Selection(digests=("0" * 12,))) == []
        assert index.select(Selection(digests=("f" * 64,))) == []

    def test_every_version_of_what_matches_is_listed_oldest_first(self, index, small_batches):
        for number in range(4):
            index.add(version(f"1.{number}", content="first", minute=1, InstanceNumber=str(9 - number)))
            index.add(version(f"1.{number}", content="third", minute=3, InstanceNumber=str(9 - number)))
            index.add(version(f"1.{number}", content="second", minute=2, sender="OTHER"))
        index.add(version("2.1", study="2"))
        found = list(index.search_versions(query(I, "InstanceNumber", StudyInstanceUID="1.2.3")))
        assert [(v.match["SOPInstanceUID"], v.arrival.received_at) for v in found] == [
            (f"1.{number}", at(minute)) for number in (3, 2, 1, 0) for minute in (1, 2, 3)
        ]
        assert [v.answering for v in found] == [False, False, True] * 4
        assert len(list(index.search_versions(query(I)))) == 13
        index.search_versions(query(I)).close()

    def test_a_version_tells_all_that_is_known_of_it(self, index):
        entered = version(site="north")
        index.add(entered)
        index.add(version(content="theirs", minute=1, sender="OTHER", site="north"))
        index.record_verification([VerificationResult(version(content="theirs").location, "its digest is another")])
        ours, theirs = index.search_versions(query(I))
        uids = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "SOPInstanceUID": "1.2.3.4.5"}
        assert ours == ({"PatientID": "P1"} | uids, entered.arrival, entered.sha256, entered.size_bytes, DX, EXPLICIT,
                        entered.location, True, ())  # fmt: skip
        assert (theirs.arrival.calling_ae_title, theirs.answering, theirs.flags) == (
            "OTHER",
            False,
            ("clash", "damaged"),
        )

    # Many at once

    def test_threads_adding_one_new_study_meet_no_error(self, index):
        entered = [
            version(f"1.{n}", f"2.{n % 3}", minute=n / 60, Modality=f"M{n % 3}", StudyDescription=f"description {n}")
            for n in range(96)
        ]
        random.Random(7).shuffle(entered)
        barrier = threading.Barrier(8)

        def send(number: int) -> list[AddResult]:
            barrier.wait()
            return [index.add(each) for each in entered[number::8]]

        with ThreadPoolExecutor(8) as pool:
            found = [admission for admissions in pool.map(send, range(8)) for admission in admissions]
        assert found == [AddResult.NEW] * 96
        (answer,) = answers(index, S, *COUNTS, "StudyDescription")
        assert [answer[k] for k in COUNTS] == ["3", "96", "M0\\M1\\M2", DX]
        assert answer["StudyDescription"] == "description 95"
        assert sum(int(a["NumberOfSeriesRelatedInstances"]) for a in
                   answers(index, E, "NumberOfSeriesRelatedInstances")) == 96  # fmt: skip

    def test_the_same_bytes_at_the_same_time_are_one_version(self, index):
        for number in range(10):
            barrier, entered = threading.Barrier(4), version(f"1.{number}")

            def send(_, barrier=barrier, entered=entered):
                barrier.wait()
                return index.add(entered)

            with ThreadPoolExecutor(4) as pool:
                found = sorted(pool.map(send, range(4)))
            assert found == [AddResult.HELD] * 3 + [AddResult.NEW]
        assert index.holdings().versions == 10

    def test_corrections_in_both_directions_at_the_same_time(self, index):
        """Every instance moves between two patients, again and again: locks are taken in both orders."""
        barrier = threading.Barrier(4)

        def send(number: int) -> None:
            barrier.wait()
            for turn in range(12):
                patient = f"P{(turn + number) % 2}"
                index.add(version(f"1.{number}", content=str(turn), minute=turn, PatientID=patient))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(send, range(4)))
        found = {a["PatientID"]: a["NumberOfStudyRelatedInstances"] for a in answers(index, S, *COUNTS)}
        assert found == {"P0": "2", "P1": "2"}
        assert index.holdings().versions == 48

    def test_two_processes_count_together(self, index, further_index):
        barrier = threading.Barrier(2)

        def send(number: int) -> None:
            barrier.wait()
            for n in range(40):
                (index, further_index)[number].add(version(f"{number}.{n}", minute=n))

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(send, range(2)))
        (answer,) = answers(index, S, *COUNTS)
        assert answer["NumberOfStudyRelatedInstances"] == "80"

    def test_two_processes_that_take_turns_count_each_other_s_images(self, index, further_index):
        for n in range(6):
            (index, further_index)[n % 2].add(version(f"1.{n}", minute=n))
        (answer,) = answers(index, S, *COUNTS)
        assert answer["NumberOfStudyRelatedInstances"] == "6"

    def test_another_process_moved_what_this_one_remembers(self, index, further_index):
        index.add(version("1.1", PatientID="WRONG"))
        further_index.add(version("1.1", content="c", minute=1, PatientID="RIGHT"))
        index.add(version("1.2", minute=2, PatientID="WRONG"))
        found = {a["PatientID"]: a["NumberOfStudyRelatedInstances"] for a in answers(index, S, *COUNTS)}
        assert found == {"WRONG": "1", "RIGHT": "1"}

    def test_another_process_rebuilt_what_this_one_remembers(self, index, further_index):
        index.add(version("1.1", study="A"))
        index.add(version("2.1", study="B"))
        with filling(further_index) as enter:
            enter(version("2.1", study="B"))
            enter(version("1.1", study="A"))
        index.add(version("1.2", study="A", minute=1))
        found = {a["StudyInstanceUID"]: a["NumberOfStudyRelatedInstances"] for a in answers(index, S, *COUNTS)}
        assert found == {"A": "2", "B": "1"}

    # Reading while writing

    def test_a_search_goes_on_while_instances_are_added(self, index, small_batches):
        for number in range(12):
            index.add(version(f"1.{number}", study=f"2.{number}"))
        search = index.search(query(S))
        first = next(search)
        index.add(version("9.9", study="9"))
        assert 12 <= len([first, *search]) <= 13

    def test_a_search_that_is_closed_lets_go(self, index, small_batches):
        for number in range(12):
            index.add(version(f"1.{number}", study=f"2.{number}"))
        for _ in range(100):  # more than there are connections
            search = index.search(query(S))
            next(search)
            search.close()
        with filling(index) as enter:  # waits for nobody
            enter(version())
        assert len(answers(index, S)) == 1

    # Verification

    def test_the_longest_unverified_come_first(self, index):
        entered = [version(f"1.{n}", minute=n) for n in range(4)]
        for each in entered:
            index.add(each)
        index.record_verification([VerificationResult(entered[1].location)])
        index.record_verification([VerificationResult(entered[0].location, "its digest is another")])
        assert [h.location for h in index.versions()] == [entered[n].location for n in (2, 3, 1, 0)]
        holdings = index.holdings()
        assert (holdings.never_verified, holdings.damaged) == (2, 1)
        assert holdings.last_verified_at is not None
        (remark,) = index.remarks(9)
        assert (remark.location, remark.flags) == (entered[0].location, ("damaged",))
        index.record_verification([VerificationResult(entered[0].location)])
        assert (index.remarks(9), index.holdings().damaged) == ([], 0)

    def test_a_walk_meets_each_version_once_though_it_verifies_them(self, index, small_batches):
        with filling(index) as enter:
            for number in range(45):
                enter(version(f"1.{number}", minute=number / 60))
        met = []
        for held in index.versions():
            met.append(held.location)
            if len(met) % 4 == 0:
                index.record_verification([VerificationResult(location) for location in met[-4:]])
        assert len(met) == len(set(met)) == 45
        assert index.holdings().never_verified == 1

    # Status

    def test_it_is_empty_until_a_file_is_known(self, index):
        assert index.is_empty()
        index.add(version())
        assert not index.is_empty()

    def test_what_was_received_in_the_future_is_told(self, index, clock):
        clock.time = at(0)
        index.add(version("1.1"))
        assert index.clock_doubt() == ClockDoubt()
        assert not index.clock_doubt().sentence
        index.add(version("1.2", minute=59))  # computers are never set quite alike
        index.add(version("1.3", minute=600))
        index.add(version("1.4", study="1.9", minute=900))
        doubt = index.clock_doubt()
        assert (doubt.images, doubt.newest_at) == (2, at(900))
        assert timedelta(minutes=899) < doubt.behind_by <= timedelta(minutes=900)
        assert doubt.sentence.startswith("2 images were received in the future")
        assert not doubt.is_over
        index.add(version("1.5", minute=1))
        assert index.clock_doubt().is_over

    def test_what_was_received_in_the_future_is_no_storm_and_fills_no_disk(self, index, clock):
        clock.time = at(0)
        index.add(version("1.1", study="a", minute=900))
        index.add(version("1.1", study="a", minute=901, content="other"))
        index.add(version("1.2", study="b", minute=-1))
        assert index.storms(at(-60), 1) == []
        received = index.received_since(at(-60))
        assert (received.size_bytes, received.first_at) == (version("1.2").size_bytes, at(-1))

    def test_when_versions_were_verified(self, index, clock):
        clock.time = at(60)
        never, then = version("1.1"), version("1.2")
        for each in (never, then):
            index.add(each)
        index.record_verification([VerificationResult(then.location, None, at(30))])
        assert index.verified_at([never.location, then.location, "nowhere"]) == {then.location: at(30)}
        assert index.verified_at([]) == {}

    def test_the_first_arrival_of_each_study_from_each_console(self, index, clock):
        clock.time = at(0)
        index.add(version("1.1", study="a", minute=-90))
        index.add(version("1.2", study="a", minute=-80))
        index.add(version("1.3", study="b", minute=-70, remote="dx-room-1"))
        index.add(version("1.4", study="a", minute=-60, sender="OTHER"))
        index.add(version("1.5", study="c", minute=-5000))
        index.add(version("1.6", study="d", minute=-50, sender=""))
        index.add(version("1.7", study="e", minute=900))
        assert sorted(index.first_arrivals(at(-1000)), key=lambda one: one.at) == [
            FirstArrival("DR1", at(-90), at(-80)),
            FirstArrival("dx-room-1", at(-70), at(-70)),
            FirstArrival("OTHER", at(-60), at(-60)),
        ]

    def test_the_newest_studies_with_the_time_of_their_last_image(self, index):
        for number, study in enumerate(("b", "a", "c", "b")):
            index.add(version(f"1.{number}", study=study, minute=number))
        newest = index.newest_studies(2)
        assert [(one.study_instance_uid, one.last_received_at) for one in newest] == [("c", at(2)), ("a", at(1))]
        assert index.newest_studies(9)[2][1:] == ("b", at(3))

    def test_what_was_verified_in_the_future_was_never(self, index, clock, small_batches):
        clock.time = at(0)
        entered = [version(f"1.{n}", minute=n / 60) for n in range(25)]
        for each in entered:
            index.add(each)
        index.record_verification([VerificationResult(each.location, None, at(900)) for each in entered])
        index.record_verification([VerificationResult(entered[0].location, "its digest is another")])
        assert index.holdings().damaged == 1
        index.forget_future_verifications()
        holdings = index.holdings()
        assert (holdings.never_verified, holdings.damaged) == (24, 1)

    def test_holdings_of_nothing(self, index):
        holdings = index.holdings()
        assert (holdings.patients, holdings.versions, holdings.size_bytes) == (0, 0, 0)
        assert holdings.last_received_at is holdings.last_verified_at is None

    def test_holdings_count(self, index):
        entered = [version(f"1.{n}", f"2.{n % 2}", f"3.{n % 2}", minute=n, PatientID=f"P{n % 2}") for n in range(5)]
        for each in entered:
            index.add(each)
        holdings = index.holdings()
        assert (holdings.patients, holdings.studies, holdings.series, holdings.instances) == (2, 2, 2, 5)
        assert (holdings.versions, holdings.size_bytes) == (5, sum(v.size_bytes for v in entered))
        assert holdings.last_received_at == MORNING + timedelta(minutes=4)
        assert (holdings.flagged, holdings.never_verified) == (0, 5)

    def test_rejections_are_counted_newest_first(self, index):
        index.record_rejections([rejection("A", 1, fix="old advice"), rejection("B", 2)])
        index.record_rejections([rejection("A", 3, count=4)])
        assert [(r.calling_ae_title, r.count, r.fix) for r in index.rejections(9)] == [
            ("A", 5, "advice"),
            ("B", 1, "advice"),
        ]
        assert len(index.rejections(1)) == 1

    def test_a_count_that_comes_late_does_not_turn_back_the_clock(self, index):
        index.record_rejections([rejection("A", 3)])
        index.record_rejections([rejection("A", 1, fix="old advice")])
        (found,) = index.rejections(9)
        assert (found.count, found.fix, found.last_at) == (2, "advice", rejection("A", 3).last_at)

    def test_a_thousand_refused_images_are_one_rejection(self, index):
        index.record_rejections(
            [rejection("A", n, reason=f"Command Set 1.2.{n}, Data Set 1.3.{n}") for n in range(1000)]
        )
        index.record_rejections([rejection("A", 1000, reason="Archive full")])
        full, found = index.rejections(9)
        assert (found.count, found.reason) == (1000, "Command Set 1.2.999, Data Set 1.3.999")
        assert full.reason == "Archive full"

    def test_what_was_asked_for_tells_rejections_apart(self, index):
        found = [rejection("A", n, kind) for n, kind in enumerate(ServiceKind)]
        index.record_rejections(found)
        assert index.rejections(len(found)) == found[::-1]

    def test_a_settled_rejection_is_forgotten_unless_it_happened_again(self, index):
        index.record_rejections([rejection("A", 1), rejection("B", 1), rejection("C", 1)])
        *_, a = index.rejections(9)
        b = index.rejections(9)[1]
        index.record_rejections([rejection("A", 2)])
        index.record_rejections([], [a, b])
        assert [(r.calling_ae_title, r.count) for r in index.rejections(9)] == [("A", 2), ("C", 1)]
        index.record_rejections([rejection("C", 5)], index.rejections(9))
        assert [(r.calling_ae_title, r.count) for r in index.rejections(9)] == [("C", 1)]

    def test_rejections_are_forgotten_after_30_days(self, index):
        index.record_rejections([rejection("A", -31 * 86400), rejection("B", -29 * 86400)])
        assert [r.calling_ae_title for r in index.rejections(9)] == ["B"]

    def test_rejections_of_a_clock_that_was_ahead_are_forgotten(self, index):
        """Otherwise nothing would settle them until that time, because every success would be earlier."""
        index.record_rejections([rejection("A", 400 * 86400), rejection("B")])
        assert [found.calling_ae_title for found in index.rejections(9)] == ["B"]
        index.record_rejections([rejection("A")])
        assert {found.calling_ae_title: found.count for found in index.rejections(9)} == {"A": 1, "B": 1}

    def test_rejections_are_bounded_and_one_address_does_not_push_out_the_others(self, index, small_batches):
        index.record_rejections([rejection("CONSOLE", 0, address="192.0.2.9")])
        for number in range(30):
            index.record_rejections([rejection(f"A{number}", number + 1)])
        found = index.rejections(5000)
        assert [r.calling_ae_title for r in found] == [*(f"A{n}" for n in range(29, 21, -1)), "CONSOLE"]
        index.record_rejections([rejection("X", n, address=f"192.0.2.{n}") for n in range(100, 130)])
        assert [r.address for r in index.rejections(5000)] == [f"192.0.2.{n}" for n in range(129, 109, -1)]

    @pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "x" * 5000, "\N{SNOWMAN}" * 700])
    def test_a_rejection_may_say_anything(self, index, text):
        index.record_rejections([Rejection(ServiceKind.STORE, text, text, text, text, text, 1, rejection("A").last_at)])
        assert len(index.rejections(9)) == 1

    # Entering anew

    @pytest.fixture
    def life(self) -> list[Version]:
        chance = random.Random(3)
        return [_event(chance, number) for number in range(60)]

    def test_studies_entered_anew_say_what_versions_entered_in_time_say(self, index, life):
        """Whatever order they came in, and whatever was known."""
        for each in life:
            index.add(each)
        index.reindex_studies(life, _nothing, Task("rebuild", MORNING))
        entered_anew = rows(str_url(index))
        with filling(index) as enter:
            for each in sorted(life, key=lambda each: (each.arrival.received_at, each.location)):
                enter(each)
        assert rows(str_url(index)) == entered_anew

    def test_versions_of_a_study_that_the_caller_has_not_read_are_asked_for(self, index, life):
        files = {each.location: each for each in life}
        for each in life:
            index.add(each, files.get)
        before = rows(str_url(index))
        for each in life:
            assert index.reindex_studies([each], files.get, Task("rebuild", MORNING)) == 0
            assert rows(str_url(index)) == before

    def test_the_order_of_entering_does_not_matter_where_files_can_be_read(self, index, life):
        """Ownership too: the owner's latest version answers, although its first version came last."""

        def judged() -> set[tuple[object, ...]]:
            return {(v.location, v.answering, v.flags, v.match["PatientID"]) for v in index.search_versions(query(I))}

        files = {each.location: each for each in life}
        with filling(index) as enter:
            for each in sorted(life, key=lambda each: (each.arrival.received_at, each.location)):
                enter(each)
        expected = judged()
        assert len(expected) == len(life)
        for seed in range(4):
            random.Random(seed).shuffle(life)
            with filling(index):
                pass
            for each in life:
                index.add(each, files.get)
            assert judged() == expected

    def test_the_owners_latest_version_answers_though_its_first_one_came_last(self, index):
        first, theirs = version(content="first"), version(content="theirs", minute=1, sender="OTHER")
        latest = version(content="latest", minute=2)
        files = {each.location: each for each in (first, theirs, latest)}
        for each in (theirs, latest, first):
            index.add(each, files.get)
        found = index.search_versions(query(I))
        assert [(v.location, v.answering, v.flags) for v in found] == [
            (first.location, False, ()),
            (theirs.location, False, ("clash",)),
            (latest.location, True, ()),
        ]

    def test_what_cannot_be_read_is_not_forgotten(self, index):
        gone, there = version("1.1"), version("1.2", minute=1)
        index.add(gone)
        assert index.reindex_studies([there], _nothing, Task("rebuild", MORNING)) == 1
        assert {a["SOPInstanceUID"] for a in answers(index, I)} == {"1.1", "1.2"}

    def test_when_a_version_was_verified_stays_known(self, index):
        intact, damaged, unread = (version(f"1.{n}", minute=n) for n in range(3))
        for each in (intact, damaged, unread):
            index.add(each)
        index.record_verification(
            [VerificationResult(intact.location), VerificationResult(damaged.location, "its digest is another")]
        )
        before = index.holdings()
        index.reindex_studies([intact, damaged, unread], _nothing, Task("rebuild", MORNING))
        assert index.holdings() == before
        assert (before.damaged, before.never_verified) == (1, 1)
        index.record_verification([VerificationResult(damaged.location)])
        before = index.holdings()
        index.reindex_studies([intact, damaged, unread], _nothing, Task("rebuild", MORNING))
        assert index.holdings() == before
        assert (before.damaged, before.never_verified) == (0, 1)

    def test_what_is_known_to_be_damaged_is_not_read_again(self, index):
        known = version(PatientName="AS IT CAME")
        index.add(known)
        index.record_verification([VerificationResult(known.location, "its digest is another")])
        index.reindex_studies([version(PatientName="BYTES THAT CHANGED")], _nothing, Task("rebuild", MORNING))
        assert [a["PatientName"] for a in answers(index, S, "PatientName")] == ["AS IT CAME"]

    def test_instances_are_added_while_studies_are_entered_anew(self, index, further_index):
        """Two processes: nothing that comes in meanwhile is lost, and nothing is counted twice."""
        entered = [version(f"1.{n}", f"2.{n % 3}", f"3.{n % 2}", minute=n / 60) for n in range(80)]
        late = [version(f"9.{n}", f"2.{n % 3}", f"3.{n % 2}", minute=10 + n / 60) for n in range(40)]
        files = {each.location: each for each in entered + late}
        for each in entered:
            index.add(each)
        with ThreadPoolExecutor(2) as pool:
            anew = [
                pool.submit(further_index.reindex_studies, entered, files.get, Task("rebuild", MORNING)) for _ in "123"
            ]
            for each in late:
                index.add(each)
            assert [future.result() for future in anew] == [0, 0, 0]
        found = answers(index, S, *COUNTS)
        assert [a["NumberOfStudyRelatedInstances"] for a in found] == ["60", "60"]
        assert index.holdings().versions == 120

    # Long work

    def test_a_task_is_known_until_it_ends_and_then_as_what_it_was(self, index, further_index):
        assert index.tasks() == {}
        under_way = Task("verify", MORNING, position="x", done=5, note="n")
        index.record_task(Task("verify", MORNING))
        index.record_task(under_way)
        assert further_index.tasks() == {"verify": under_way}
        index.record_task(Task("verify", MORNING, at(1), done=7))
        index.record_task(Task("verify", at(2)))
        assert index.tasks() == {
            "verified": Task("verified", MORNING, at(1), done=7),
            "verify": Task("verify", at(2)),
        }

    def test_a_task_that_has_not_ended_keeps_its_name(self, index, further_index):
        assert index.begin_task(Task("restore-0", MORNING, note="first"))
        assert not further_index.begin_task(Task("restore-0", at(1), note="second"))
        assert index.tasks()["restore-0"].note == "first"
        index.record_task(Task("restore-0", MORNING, at(2), note="first"))
        assert further_index.begin_task(Task("restore-0", at(3), note="third"))
        assert index.tasks()["restore-0"] == Task("restore-0", at(3), note="third")

    def test_locations_that_no_version_has(self, index, small_batches):
        entered = [version(f"1.{n}") for n in range(25)]
        for each in entered[::2]:
            index.add(each)
        assert list(index.unindexed(each.location for each in entered)) == [e.location for e in entered[1::2]]

    def test_a_result_is_never_replaced_by_an_earlier_one(self, index):
        one = version()
        index.add(one)
        index.record_verification([VerificationResult(one.location, None, at(5))])
        index.record_verification([VerificationResult(one.location, "seen before it was repaired", at(4))])
        assert (index.holdings().damaged, index.is_damaged(one.location)) == (0, False)
        index.record_verification([VerificationResult(one.location, "seen after", at(6))])
        assert (index.holdings().damaged, index.is_damaged(one.location)) == (1, True)

    def test_ranges_do_not_find_what_has_no_date(self, index):
        index.add(version(StudyDate=""))
        assert answers(index, S, StudyDate=Range(None, "20991231")) == []

    # Its archive

    def test_remembers_which_archive_it_was_made_of(self, index):
        assert index.archive_identity() is None
        for identity in ("a" * 32, "b" * 32):
            index.record_archive_identity(identity)
            assert index.archive_identity() == identity
        with filling(index):
            pass
        assert index.archive_identity() == "b" * 32

    def test_remembers_the_trouble_of_the_archives_disk(self, index):
        index.record_archive_trouble("")
        assert index.archive_trouble() is None
        index.record_archive_trouble("It did not keep data")
        lasting = index.archive_trouble()
        assert (lasting.sentence, lasting.ended_at) == ("It did not keep data", None)
        index.record_archive_trouble("")
        ended = index.archive_trouble()
        assert ended.began_at == lasting.began_at <= ended.ended_at
        assert index.archive_identity() is None
