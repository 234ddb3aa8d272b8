"""What counts as fetched, held and missing, whatever the other PACS says or breaks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest

from backup_scp.errors import (
    ArchiveFull,
    DestinationRefuses,
    DestinationUnavailable,
    InstanceUnconfirmed,
    InvalidDataSet,
)
from backup_scp.ports import SEES_ALL, Answers, RemoteImage, RemoteSeries, RemoteStudy, VerificationResult
from backup_scp.services import pulling
from backup_scp.services.ingest import Ingest
from backup_scp.services.pull_result import Pulled
from backup_scp.services.throttle import Patience
from tests.samples import Sample, ct_series, dx, encode
from tests.stored import heading_of, key_of, stored_in

CT = [encode(ds) for ds in ct_series(4)]
DX = encode(dx(study="new", StudyDate="20260110"))
OLD = encode(dx(study="old", StudyDate="19990110"))
ALL = [*CT, DX, OLD]


def never(*_: object) -> None:
    """Do nothing."""


@dataclass
class Other:
    """Another PACS with samples.

    Attributes
    ----------
    counts, lists
        Change the number that it says of a series, and the images that it lists of one.
    enters
        Called when it is entered.
    gives
        Called before an image is given.
    """

    here = SEES_ALL

    samples: list[Sample]
    counts: Callable[[int], int | None] = lambda number: number
    lists: Callable[[list[RemoteImage]], list[RemoteImage]] = lambda images: images
    enters: Callable[[], None] = never
    gives: Callable[[str], None] = never
    cut: str = ""
    asked: list[str] = field(default_factory=list)
    name: str = "OTHER"
    ae_title: str = "OTHER"
    address: str = "192.0.2.1"
    site: str = ""
    if_lost: str = ", and it is not here"
    is_open: bool = False

    def __enter__(self):
        self.enters()
        self.is_open = True
        return self

    def __exit__(self, *_):
        assert self.is_open
        self.is_open = False

    def studies(self, span, keep):
        keys = [(key_of(sample), sample.dataset().StudyDate) for sample in self.samples]
        uids = {key.study_instance_uid: date for key, date in keys}
        listed = [RemoteStudy(uid, date, "", self.counts(self._number(0, uid))) for uid, date in uids.items()]
        return Answers([study for study in listed if keep(study)], len(listed))

    def series(self, study_instance_uid):
        assert self.is_open
        keys = [key_of(sample) for sample in self.samples]
        uids = dict.fromkeys(key.series_instance_uid for key in keys if key.study_instance_uid == study_instance_uid)
        found = [RemoteSeries(study_instance_uid, uid, self.counts(self._number(1, uid))) for uid in uids]
        return Answers(found, len(found))

    def images(self, series):
        keys = [(key_of(sample), sample.sop_class_uid) for sample in self._of(series)]
        found = self.lists([RemoteImage(key, sop_class) for key, sop_class in keys])
        return Answers(found, len(found), self.cut)

    def fetch_series(self, series, images, begin):
        self.asked.append("series")
        return next(filter(None, [self._give(sample, begin) for sample in self._of(series)]), "")

    def fetch_image(self, image, begin):
        self.asked.append("image")
        (sample,) = (sample for sample in self.samples if key_of(sample) == image.key)
        return self._give(sample, begin)

    def _give(self, sample, begin) -> str:
        self.gives(sample.sop_instance_uid)
        incoming = begin(heading_of(sample))
        try:
            incoming.write(sample.data_set)
            incoming.accept()
        except InvalidDataSet as error:
            return str(error)
        finally:
            incoming.discard()
        return ""

    def _of(self, series):
        return [sample for sample in self.samples if key_of(sample).series_instance_uid == series.series_instance_uid]

    def _number(self, level, uid):
        return sum(key_of(sample)[level] == uid for sample in self.samples)


@pytest.fixture
def here(tmp_path):
    with stored_in(tmp_path) as stored:
        yield stored


def pull(here, other, **more) -> Pulled:
    with Ingest(here.archive, here.index) as ingest:
        done = pulling.pull(other, here.index, ingest, **more)
    assert not other.is_open
    return done


def stored(here) -> set[str]:
    return {version.sha256 for version in here.index.versions()}


def patience() -> Patience:
    return Patience(3600, sleep=never)


def test_everything_comes_once_the_newest_study_first(here):
    other = Other(ALL)
    order: list[str] = []
    other.gives = order.append
    done = pull(here, other)
    assert (done.studies, done.complete, done.fetched, done.held, done.missing) == (3, 3, 6, 0, 0)
    assert done.is_complete
    assert done.size_bytes == sum(len(sample.data_set) for sample in ALL)
    assert stored(here) == {sample.sha256 for sample in ALL}
    by_date = sorted(ALL, key=lambda sample: sample.dataset().StudyDate, reverse=True)
    assert order == [sample.sop_instance_uid for sample in by_date]
    other.asked.clear()
    done = pull(here, other)
    assert (done.complete, done.fetched, done.held, other.asked) == (3, 0, 6, [])


def test_of_a_series_that_is_here_in_part_only_the_rest_is_fetched(here):
    here.put(CT[1])
    done = pull(here, other := Other(CT))
    assert (done.complete, done.fetched, done.held, other.asked) == (1, 3, 1, ["image"] * 3)


def test_a_damaged_image_is_fetched_again_and_repaired(here):
    here.put(DX)
    (version,) = here.index.versions()
    here.flip(version.location)
    here.index.record_verification([VerificationResult(version.location, "changed")])
    done = pull(here, Other([DX]))
    assert (done.fetched, done.held, done.is_complete) == (1, 0, True)
    assert not here.index.is_damaged(version.location)
    here.archive.verify(version.location, DX.sha256)


def test_images_that_are_counted_and_not_listed_come_with_the_series(here):
    other = Other(CT, lists=lambda images: images[:2])
    done = pull(here, other)
    assert (done.complete, done.fetched, done.missing, other.asked) == (1, 4, 0, ["series"])
    done = pull(here, other)
    assert (done.complete, done.fetched, done.held, other.asked) == (1, 0, 4, ["series"])


def test_a_list_that_says_that_it_is_cut_is_not_believed(here):
    other = Other(CT, counts=lambda _: None, lists=lambda images: images[:2], cut="status 0xFE00")
    assert pull(here, other).fetched == 4
    assert stored(here) == {sample.sha256 for sample in CT}


def test_a_pacs_that_does_not_count_is_compared_by_its_lists(here):
    other = Other(ALL, counts=lambda _: None)
    assert pull(here, other).fetched == 6
    other.asked.clear()
    assert (pull(here, other).is_complete, other.asked) == (True, [])


def test_a_pacs_that_counts_more_than_it_gives_is_incomplete(here):
    done = pull(here, Other(CT, counts=lambda number: number + 1))
    assert (done.complete, done.fetched, done.missing, done.is_complete) == (0, 4, 1, False)
    (study,) = done.incomplete
    assert (study.images, study.study_date) == (1, CT[0].dataset().StudyDate)


def test_a_series_that_counts_more_than_it_gives_is_incomplete_too(here):
    class CountsSeriesAlone(Other):
        def studies(self, span, keep):
            found, total, _ = super().studies(span, keep)
            return Answers([study._replace(images=None) for study in found], total)

    done = pull(here, CountsSeriesAlone(CT, counts=lambda number: number + 1))
    assert (done.complete, done.fetched, done.missing) == (0, 4, 1)


def test_images_that_are_not_listed_are_fetched_though_all_listed_ones_are_here(here):
    for sample in CT[:2]:
        here.put(sample)
    done = pull(here, Other(CT, lists=lambda images: images[:2]))
    assert (done.complete, done.fetched, done.held, done.missing) == (1, 2, 2, 0)
    assert stored(here) == {sample.sha256 for sample in CT}


def test_a_study_that_it_never_answers_about_does_not_stop_the_others(here):
    class Silent(Other):
        def series(self, study_instance_uid):
            if study_instance_uid == key_of(DX).study_instance_uid:
                raise DestinationUnavailable("OTHER did not answer C-FIND: it broke off")
            return super().series(study_instance_uid)

    done = pull(here, Silent(ALL), patience=patience())
    assert (done.studies, done.complete, done.fetched, done.missing, done.stopped) == (3, 2, 5, 1, "")
    assert done.incomplete[0].reason == "OTHER did not answer C-FIND: it broke off"


@pytest.mark.parametrize("number", range(4))
def test_an_image_at_which_it_breaks_off_does_not_stop_the_others(here, number):
    def gives(uid):
        if uid == CT[number].sop_instance_uid:
            raise InstanceUnconfirmed("OTHER broke off")

    done = pull(here, Other(ALL, gives=gives), patience=patience())
    assert (done.complete, done.fetched, done.missing, done.stopped) == (2, 5, 1, "")
    (study,) = done.incomplete
    assert study.reason == "OTHER broke off"


def test_an_image_that_is_not_what_was_asked_for_is_missing(here):
    done = pull(here, Other([dataclasses.replace(CT[0], data_set=CT[1].data_set)]))
    assert (done.fetched, done.missing) == (0, 1)
    assert done.incomplete[0].reason.startswith("SOP Instance UID: Command Set")


def test_it_waits_for_a_pacs_that_is_away(here):
    away = iter([True, True, False, False, True, False])

    def enters():
        if next(away, False):
            raise DestinationUnavailable("OTHER cannot be reached")

    broken = iter([True])

    def gives(_):
        if next(broken, False):
            raise DestinationUnavailable("OTHER broke off")

    said: list[str] = []
    done = pull(here, Other(ALL, enters=enters, gives=gives), patience=Patience(3600, said.append, sleep=never))
    assert (done.is_complete, done.fetched, done.held) == (True, 6, 0)
    assert any(sentence.startswith("OTHER cannot be reached. Trying again") for sentence in said)


@pytest.mark.parametrize("error", [DestinationUnavailable, DestinationRefuses])
def test_it_stops_when_there_is_no_answer(here, error):
    other = Other(ALL)
    other.enters = partial(fail, error("OTHER cannot be reached"))
    done = pull(here, other, patience=patience() if error is DestinationRefuses else None)
    assert (done.stopped, done.studies, done.is_complete) == ("OTHER cannot be reached", 0, False)


def fail(error, *_):
    raise error


def test_a_full_archive_stops_it(here):
    done = pull(here, Other(ALL, gives=partial(fail, ArchiveFull("no room"))), patience=patience())
    assert (done.stopped, done.fetched, done.complete, done.studies) == ("no room", 0, 0, 3)


def test_what_has_come_before_an_interruption_is_counted(here):
    def gives(uid):
        if uid == CT[2].sop_instance_uid:
            raise KeyboardInterrupt

    done = pull(here, Other(CT, gives=gives))
    assert (done.interrupted, done.is_complete, done.complete, done.studies) == (True, False, 0, 1)
    assert (done.fetched, done.held, done.missing) == (2, 0, 0)
    assert stored(here) == {sample.sha256 for sample in CT[:2]}
    done = pull(here, Other(CT))
    assert (done.is_complete, done.fetched, done.held) == (True, 2, 2)


def test_what_is_no_uid_is_not_asked_for(here):
    class Odd(Other):
        def studies(self, span, keep):
            return Answers([study for study in [RemoteStudy("*", "", "", 3)] if keep(study)], 1)

    done = pull(here, Odd(ALL))
    assert (done.missing, done.incomplete[0].reason) == (3, "OTHER lists it under '*', which is no UID")
