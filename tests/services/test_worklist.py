"""A list is sent in its own order, each study once, and says which lines match nothing."""

from __future__ import annotations

import pytest

from backup_scp.services.restore import restore
from backup_scp.services.worklist import Wanted, Worklist
from tests.samples import dx, encode
from tests.selections import narrowed
from tests.shelf import Shelf
from tests.stored import arrival

DATES = {"1": "20240101", "2": "20260101", "3": "20250101"}


def uid(study):
    return dx(study=study).StudyInstanceUID


@pytest.fixture
def three(stored):
    """Patient A has studies 1 and 2, patient B study 3."""
    for study, date in DATES.items():
        patient = "B" if study == "3" else "A"
        stored.put(encode(dx(study=study, PatientID=patient, AccessionNumber=f"ACC{study}", StudyDate=date)))
    return stored


def patient(line, **more):
    return Wanted(line, (narrowed(patient_id=line, **more),))


def study(name):
    return Wanted(name, (narrowed(study_instance_uid=uid(name)),))


def sent(stored, worklist):
    shelf = Shelf()
    done = restore(stored.archive, stored.index, worklist, shelf)
    return [held.study_instance_uid for held in shelf.prepared], done


def test_the_order_of_the_list_and_the_newest_first_within_a_line(three):
    studies, done = sent(three, Worklist([patient("B"), patient("A")]))
    assert studies == list(map(uid, "321"))
    assert list(done.studies) == studies
    assert (done.selected, done.sent, done.unmatched, done.is_complete) == (3, 3, [], True)


def test_a_study_is_sent_once_with_its_first_line(three):
    studies, done = sent(three, Worklist([study("1"), patient("A"), study("2"), study("3")]))
    assert studies == list(map(uid, "123"))
    assert (done.selected, done.unmatched, done.is_complete) == (3, [], True)


def test_all_images_of_a_study_that_two_lines_name(stored):
    for number in range(3):
        stored.put(encode(dx(study="1", SOPInstanceUID=f"1.2.{number}", InstanceNumber=number)))
    studies, done = sent(stored, Worklist([study("1"), study("1")]))
    assert (len(studies), done.selected) == (3, 3)


def test_a_line_may_mean_several_things(three):
    both = Wanted("A", (narrowed(study_instance_uid=uid("3")), narrowed(patient_id="A")))
    assert sent(three, Worklist([both]))[0] == list(map(uid, "321"))


def test_lines_that_match_nothing_make_it_incomplete(three):
    studies, done = sent(three, Worklist([patient("X"), patient("B"), patient("Y")]))
    assert studies == [uid("3")]
    assert (done.unmatched, done.missing, done.is_complete) == (["X", "Y"], 0, False)


def test_nothing_matches(three):
    assert sent(three, Worklist([patient("X")]))[1].unmatched == ["X"]


def test_at_an_earlier_time_the_images_of_a_study_may_have_been_of_two_patients(stored):
    """One line must not take the images of the other with it, and none is left out."""
    for number, of in enumerate(["A", "B"]):
        stored.put(encode(dx(study="1", SOPInstanceUID=f"1.2.{number}", PatientID=of)), number)
    then = arrival(5).received_at
    studies, done = sent(stored, Worklist([patient("A", as_of=then), patient("B", as_of=then)]))
    assert (len(studies), done.selected, done.unmatched) == (2, 2, [])
