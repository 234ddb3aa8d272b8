"""How the arrival of a study is confirmed: committed, counted, or answered only."""

from __future__ import annotations

import pytest

from backup_scp.errors import DestinationUnavailable, InstanceRefused
from backup_scp.ports import Selection
from backup_scp.services import restored_study
from backup_scp.services.restore import restore
from backup_scp.services.restore_journal import RestoreJournal
from backup_scp.services.restored_study import Confirmation, RestoredStudy
from tests.samples import ct_series, dx, encode, replace
from tests.shelf import Shelf


class Lists:
    """A destination's list of images: what a shelf has received, less what ``lists`` leaves out of it."""

    def __init__(self, shelf, lists=lambda received, _asked: received):
        self.shelf, self.lists = shelf, lists
        self.asked = 0
        self.is_connected = bool(shelf.received)  # as for a journal that has something

    def connect(self):
        assert not self.shelf.is_open
        self.is_connected = True

    def disconnect(self):
        self.is_connected = False

    def count(self, study_instance_uid):
        assert self.is_connected
        self.asked += 1
        return self.lists(len(self.shelf.received), self.asked)


@pytest.fixture
def slept(monkeypatch):
    """Do not wait for a destination that lists an image late, but note it."""
    seconds: list[float] = []
    monkeypatch.setattr(restored_study.count, "__defaults__", (seconds.append,))
    return seconds


@pytest.fixture
def slices(stored):
    samples = [encode(ds) for ds in ct_series(3)]
    for sample in samples:
        stored.put(sample)
    return samples


@pytest.fixture
def run(stored, slices, slept):
    """Restore everything, and return the result and the one study."""

    def run(shelf=None, lists=None, **more):
        shelf = shelf or Shelf()
        inventory = Lists(shelf, lists) if lists else None
        done = restore(stored.archive, stored.index, Selection(), shelf, inventory=inventory, **more)
        (study,) = done.studies.values()
        return done, study

    return run


def everything(received, _asked):
    return received


def test_a_destination_that_answers_c_store_alone(run):
    done, study = run()
    assert (study.sent, study.instances, study.confirmation) == (3, 3, Confirmation.ANSWERED)
    assert done.is_complete


def test_one_that_does_not_say_how_many_it_has(run):
    done, study = run(lists=lambda _received, _asked: None)
    assert (study.confirmation, done.is_complete) == (Confirmation.ANSWERED, True)


def test_one_that_lists_them(run, slept):
    done, study = run(lists=everything)
    assert (study.counted, study.confirmation, done.is_complete) == (3, Confirmation.COUNTED, True)
    assert slept == [0]


def test_one_that_lists_more_had_some_before(run):
    assert run(lists=lambda received, _: received + 5)[1].confirmation is Confirmation.COUNTED


def test_one_that_lists_them_late(run, slept):
    done, study = run(lists=lambda received, asked: received if asked == 3 else 1)
    assert (study.confirmation, done.is_complete) == (Confirmation.COUNTED, True)
    assert slept == [0, 1, 2]


def test_one_that_confirms_what_it_does_not_list(run, slices, slept):
    done, study = run(lists=lambda received, _: received - 1)
    assert (study.confirmation, done.short) == (Confirmation.SHORT, [slices[0].dataset().StudyInstanceUID])
    assert (done.missing, done.is_complete) == (0, False)
    assert slept == [0, 1, 2, 4, 8]


def test_what_it_refused_it_need_not_list(run, slices):
    shelf = Shelf(answers={slices[0].sop_instance_uid: InstanceRefused("No")})
    done, study = run(shelf, everything)
    assert (study.sent, study.failed, study.arrived) == (2, 1, 2)
    assert (study.confirmation, done.short) == (Confirmation.COUNTED, [])


def test_two_versions_of_an_image_are_listed_as_one(stored, slept):
    stored.put(encode(dx()))
    stored.put(encode(replace(dx(), StudyDescription="Corrected")), 9)
    shelf = Shelf()
    inventory = Lists(shelf)
    done = restore(stored.archive, stored.index, Selection(all_versions=True), shelf, inventory=inventory)
    (study,) = done.studies.values()
    assert (study.sent, study.instances, study.counted) == (2, 1, 1)
    assert (study.confirmation, done.is_complete) == (Confirmation.COUNTED, True)


def test_nothing_arrived(run):
    done, study = run(Shelf(answers={"prepare": DestinationUnavailable("Off")}), everything)
    assert (study.confirmation, study.counted, done.stopped) == (Confirmation.NONE, None, "Off")


def test_a_committed_study_is_not_counted_too(run):
    done, study = run(lists=everything, commit=lambda references, _site: dict.fromkeys(references, 0))
    assert (study.committed, study.counted, study.confirmation) == (3, None, Confirmation.COMMITTED)
    assert done.is_complete


def test_a_study_without_a_commitment_is_counted(run):
    done, study = run(lists=everything, commit=lambda references, _site: {references[0]: 0})
    assert (study.committed, study.counted, study.confirmation) == (1, 3, Confirmation.COUNTED)
    assert len(done.uncommitted) == 2


def test_what_is_not_committed_has_not_arrived(run, slices):
    def commit(references, _site):
        return dict.fromkeys(references, 0) | {references[1]: 0x0112}

    _, study = run(commit=commit)
    assert (study.sent, study.failed, study.arrived) == (2, 1, 2)
    assert study.confirmation is Confirmation.COMMITTED


def test_what_was_refused_and_is_committed_has_arrived(run, slices):
    shelf = Shelf(answers={slices[0].sop_instance_uid: InstanceRefused("Duplicate", 0x0111)})
    done, study = run(shelf, commit=lambda references, _site: dict.fromkeys(references, 0))
    assert (study.sent, study.failed, study.arrived, done.sent) == (3, 0, 3, 3)
    assert study.confirmation is Confirmation.COMMITTED


def test_what_an_earlier_restore_confirmed_is_counted_before(run, stored, tmp_path):
    shelf = Shelf()
    with RestoreJournal(tmp_path / "shelf.sqlite") as journal:
        run(shelf, everything, journal=journal)
        done, study = run(shelf, everything, journal=journal)
    assert (study.before, study.sent, study.counted) == (3, 0, 3)
    assert (study.confirmation, done.is_complete) == (Confirmation.COUNTED, True)


def test_a_commitment_does_not_cover_what_an_earlier_restore_sent():
    study = RestoredStudy(instances=3, before=1, sent=2, committed=2)
    assert study.confirmation is Confirmation.ANSWERED


def test_two_versions_that_arrived_do_not_hide_an_image_that_failed():
    study = RestoredStudy(instances=2, sent=2, failed=1, counted=1)
    assert (study.arrived, study.confirmation) == (1, Confirmation.COUNTED)
