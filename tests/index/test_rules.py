"""The rules that need no database: search keys, which version answers, how rows are merged."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VM

from backup_scp.dicom.attributes import ATTRIBUTES, BY_KEYWORD
from backup_scp.dicom.value_representation import date_key, last_time_key, time_key
from backup_scp.index.reading.matching import _after, _shortest
from backup_scp.index.schema.search_keys import (
    IN_DATABASE_INDEXES,
    decimal_key,
    folded_group,
    integer_key,
    stored_value,
)
from backup_scp.index.schema.stored_text import LONGEST_KEY, moment, stored_key, stored_text, timestamp
from backup_scp.index.schema.tables import SERIES_ATTRIBUTES, study
from backup_scp.index.writing.attribute_merge import blank, merge
from backup_scp.index.writing.version_rule import Candidate, Sender, Standing, decide, standings
from tests.index.examples import MORNING


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        (date_key, "20200101", "20200101"),
        (date_key, "2020.01.01", "20200101"),
        (date_key, "2020", ""),
        (date_key, "２０２００１０１", ""),
        (time_key, "7", ""),
        (time_key, "07", "070000"),
        (time_key, "07:08:09.100", "070809.1"),
        (time_key, "070809.", "070809"),
        (last_time_key, "07", "075959.999999"),
        (last_time_key, "070809.1", "070809.199999"),
        (integer_key, "+007 ", 7),
        (integer_key, "1.0", None),
        (decimal_key, "1e400", None),
        (decimal_key, "-.5", -0.5),
        (decimal_key, "nan", None),
        (folded_group, " Ｄoé^^ ", "doe"),
    ],
)
def test_search_keys(key, text, expected):
    assert key(text) == expected


def test_the_table_of_attributes_is_what_the_keys_assume():
    several = {a for a in ATTRIBUTES if dictionary_VM(a.tag) != "1"}
    assert {a for a in ATTRIBUTES if a.has_several_values} == several  # PS3.6
    assert {a for a in ATTRIBUTES if a.may_be_listed} == several | {a for a in ATTRIBUTES if a.vr == "UI"}
    assert {a.column for a in ATTRIBUTES} >= IN_DATABASE_INDEXES
    assert study.c.patient_name_alphabetic.index is None


@given(st.text(st.characters(), max_size=1200))
def test_stored_text_is_storable_and_stays(text):
    for store in (stored_text, stored_key):
        stored = store(text)
        assert store(stored) == stored
        assert "\0" not in stored.encode().decode()
    assert len(stored_key(text).encode()) <= LONGEST_KEY


@given(st.text(max_size=6))
def test_what_comes_after_a_prefix_comes_after_all_that_begin_with_it(prefix):
    after = _after(prefix)
    for rest in ("", "a", "\U0010ffff" * 3):
        assert not after or prefix.encode(errors="replace") <= (prefix + rest).encode(errors="replace") < after.encode()


@pytest.mark.parametrize(
    ("prefix", "after"),
    [
        ("ab", "ac"),
        ("a\ud7fe", "a\ud7ff"),
        ("a\ud7ff", "a\ue000"),  # surrogates are no characters
        ("a\U0010fffe", "a\U0010ffff"),
        ("a\U0010ffff", "b"),
        ("\U0010ffff", ""),
    ],
)
def test_what_comes_after_a_prefix_is_the_next_character(prefix, after):
    assert _after(prefix) == after


@given(st.text("a*?", max_size=12))
def test_a_shortened_pattern_means_the_same(pattern):
    short = _shortest(pattern)
    assert short.count("?") == pattern.count("?")
    assert "**" not in short
    assert "*?" not in short
    assert ("*" in short) == ("*" in pattern)


@pytest.mark.parametrize(
    ("text", "expected"), [("a\0b\0 ", "a\u2400b"), ("\ud800", "\ufffd"), ("\ud83d\ude00", "😀"), (" a ", " a")]
)
def test_odd_text_is_made_storable(text, expected):
    assert stored_text(text) == expected


def test_a_value_is_stored_without_its_padding():
    assert stored_value(BY_KEYWORD["OtherPatientIDs"], " A \\ B ") == "A\\B"
    assert stored_value(BY_KEYWORD["PatientComments"], "  A  ") == "  A"


def test_a_timestamp_comes_back():
    assert moment(timestamp(MORNING)) == MORNING


@given(st.permutations([(f"t{n}", value) for n, value in enumerate(["a", "", "b", "", "c", ""])]))
def test_merging_does_not_depend_on_the_order(arrivals):
    row = blank(SERIES_ATTRIBUTES)
    for at, value in arrivals:
        values = {a.column: value for a in SERIES_ATTRIBUTES} | {"modality": "DX" if at == "t1" else ""}
        merge(row, SERIES_ATTRIBUTES, values, at)
    assert (row["series_description"], row["modality"], row["merged_at"]) == ("c", "DX", "t5")
    assert '"modality":"t1"' in row["merged_earlier"]


def test_arrivals_at_the_same_moment_merge_the_same_in_any_order():
    found = set()
    for order in itertools.permutations(["a", "b", ""]):
        row = blank(SERIES_ATTRIBUTES)
        for value in order:
            merge(row, SERIES_ATTRIBUTES, {a.column: value for a in SERIES_ATTRIBUTES}, "t")
        found.add(row["series_description"])
    assert found == {"b"}


OURS, THEIRS = Sender("", "", "DR1"), Sender("", "", "DR2")
CONSOLE = Sender("console", "", "DR1")
AN_IMPORT = Sender("", "", "", is_import=True)
SENDERS = (OURS, THEIRS, CONSOLE, AN_IMPORT)


@pytest.mark.parametrize(
    ("arrived", "takes_over", "clash", "others_clash"),
    [
        (Candidate("3", "x", OURS), True, False, False),
        (Candidate("1", "x", OURS), False, False, False),
        (Candidate("3", "x", THEIRS), False, True, False),
        (Candidate("1", "x", THEIRS), True, False, True),
        (Candidate("2", "z", OURS), True, False, False),
        (Candidate("2", "a", OURS), False, False, False),
    ],
)
def test_which_version_answers(arrived, takes_over, clash, others_clash):
    decision = decide([Candidate("2", "m", OURS, answering=True)], arrived)
    assert (decision.takes_over, decision.standing.clash, decision.held["m"].clash) == (takes_over, clash, others_clash)
    assert decision.standing.answering == takes_over


@pytest.mark.parametrize(
    ("owner", "sender", "answers"),
    [
        (CONSOLE, CONSOLE, True),
        (CONSOLE, OURS, False),  # a stranger with the console's AE title
        (CONSOLE, THEIRS, False),
        (CONSOLE, Sender("room 1", "", "DR1"), True),  # it has another name in the settings now
        (CONSOLE, Sender("console", "", "DR9"), True),  # it was replaced, and calls itself otherwise
        (CONSOLE, Sender("ct", "", "CT"), False),
        (CONSOLE, Sender("ct", "north", "DR1"), False),
        (OURS, OURS, True),
        (OURS, CONSOLE, True),  # it was configured since
        (OURS, THEIRS, False),
        (OURS, Sender("console", "north", "DR1"), False),
        (OURS, Sender("", "north", "DR1"), False),
        (OURS, AN_IMPORT, False),
        (CONSOLE, AN_IMPORT, False),
        (AN_IMPORT, AN_IMPORT, False),  # two old drives are not one sender
        (AN_IMPORT, CONSOLE, True),
        (AN_IMPORT, OURS, False),
        (AN_IMPORT, Sender("", "", ""), False),  # a caller without an AE title is no import
        (Sender("", "", ""), AN_IMPORT, False),
    ],
)
def test_who_may_replace_what_somebody_sent(owner, sender, answers):
    first, second = Candidate("1", "a", owner, "t1", answering=True), Candidate("2", "b", sender, "t2")
    decision = decide([first], second)
    assert (decision.takes_over, decision.standing.clash) == (answers, not answers)
    assert decision.held["a"] == Standing(answering=not answers, until="t2" if answers else "")


def test_once_its_console_is_configured_no_stranger_replaces_an_image():
    versions = [Candidate(str(n), str(n), sender, f"t{n}") for n, sender in enumerate([OURS, CONSOLE, OURS, CONSOLE])]
    judged = standings(versions)
    assert judged == {
        "0": Standing(until="t1"),
        "1": Standing(until="t3"),
        "2": Standing(clash=True),
        "3": Standing(answering=True),
    }
    assert standings(versions[::-1]) == judged


def cut_off(order, sender, **facts):
    return Candidate(order, order, sender, f"t{order}", is_whole=False, **facts)


@pytest.mark.parametrize("held_by", SENDERS)
@pytest.mark.parametrize("sent_by", SENDERS)
def test_what_is_cut_off_never_takes_the_place_of_what_is_whole(held_by, sent_by):
    whole = Candidate("1", "1", held_by, "t1", answering=True)
    decision = decide([whole], cut_off("2", sent_by))
    assert (decision.takes_over, decision.standing, decision.held["1"]) == (
        False,
        Standing(),
        Standing(answering=True),
    )
    whole = Candidate("2", "2", sent_by, "t2")
    decision = decide([cut_off("1", held_by, answering=True)], whole)
    assert (decision.takes_over, decision.standing, decision.held["1"]) == (
        True,
        Standing(answering=True),
        Standing(until="t2"),
    )


def test_who_sent_it_first_owns_it_though_it_was_cut_off():
    """Another sender's complete copy answers until the owner sends its own."""
    versions = [
        cut_off("0", CONSOLE),
        Candidate("1", "1", AN_IMPORT, "t1"),
        Candidate("2", "2", THEIRS, "t2"),
        Candidate("3", "3", CONSOLE, "t3"),
        cut_off("4", CONSOLE),
    ]
    judged = standings(versions)
    assert [judged[each.location] for each in versions] == [
        Standing(until="t1"),
        Standing(until="t3"),
        Standing(clash=True),
        Standing(answering=True),
        Standing(),
    ]


@given(st.lists(st.tuples(st.sampled_from(SENDERS), st.booleans()), min_size=1, max_size=8))
def test_one_answers_and_it_is_whole_if_any_is(sent):
    versions = [Candidate(str(n), str(n), sender, f"t{n}", is_whole=whole) for n, (sender, whole) in enumerate(sent)]
    judged = standings(versions)
    (answering,) = (each for each in versions if judged[each.location].answering)
    assert answering.is_whole is any(each.is_whole for each in versions)
    for number in range(1, len(versions) + 1):  # one by one, as they come
        held = standings(versions[: number - 1]) if number > 1 else {}
        before = [each._replace(answering=held[each.location].answering) for each in versions[: number - 1]]
        if before:
            decision = decide(before, versions[number - 1])
            assert {**decision.held, str(number - 1): decision.standing} == standings(versions[:number])


def said_again(order: str, sender: Sender, same_as: str) -> Candidate:
    return Candidate(order, order, sender, f"t{order}", sha256=f"digest {order}", same_as=same_as)


@pytest.mark.parametrize("sender", [OURS, THEIRS, CONSOLE])
def test_what_says_the_same_in_another_encoding_changes_nothing(sender):
    versions = [said_again("0", OURS, ""), said_again("1", sender, "digest 0"), said_again("2", sender, "digest 1")]
    judged = standings(versions)
    assert judged == {"0": Standing(answering=True), "1": Standing(reencoded=True), "2": Standing(reencoded=True)}
    assert standings(versions[::-1]) == judged


def test_what_says_the_same_as_before_a_correction_does_not_undo_it():
    versions = [said_again("0", OURS, ""), said_again("1", OURS, ""), said_again("2", OURS, "digest 0")]
    assert standings(versions)["1"] == Standing(answering=True)


def test_what_says_the_same_as_one_that_is_not_there_is_judged_like_any_other():
    versions = [said_again("0", OURS, "lost"), said_again("1", THEIRS, "lost"), said_again("2", OURS, "lost")]
    judged = standings(versions)
    assert judged == {"0": Standing(until="t2"), "1": Standing(clash=True), "2": Standing(answering=True)}
