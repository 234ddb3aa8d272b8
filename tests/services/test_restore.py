"""Restore: what it sends, waits for, tries again, and sends in a second run."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

import pytest

from backup_scp.errors import (
    DestinationBusy,
    DestinationRefuses,
    DestinationSilent,
    DestinationUnavailable,
    IndexUnavailable,
    InstanceRefused,
    InstanceUnconfirmed,
    InvalidSelection,
    NoRoom,
    NothingAccepted,
)
from backup_scp.machine.digests import digest_like
from backup_scp.ports import Progress, Selection, StoredVersion
from backup_scp.services.restore import _require_one_each, restore
from backup_scp.services.restore_journal import RestoreJournal
from backup_scp.services.restore_result import Gap
from backup_scp.services.throttle import Patience, Throttle
from tests.samples import ct_series, dx, encode
from tests.shelf import Clock, Shelf

EVERYTHING = Selection(all_versions=True)


@pytest.fixture
def slices(stored):
    """Three stored slices of one series, with their samples in order."""
    return many(stored, 3)


def many(stored, count):
    samples = [encode(ds) for ds in ct_series(count)]
    for sample in samples:
        stored.put(sample)
    return samples


@pytest.fixture
def journal(tmp_path):
    with RestoreJournal(tmp_path / "restores" / "shelf.sqlite") as journal:
        yield journal


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def patience(clock):
    return Patience(600, clock=clock.read, sleep=clock.sleep)


def uids(samples):
    return [sample.sop_instance_uid for sample in samples]


def failing(*errors):
    """Fail so often, and then answer."""
    left = list(errors)

    def answer():
        return left.pop(0) if left else None

    return answer


def location_of(stored, sample):
    return next(h.location for h in stored.index.select(EVERYTHING) if h.sop_instance_uid == sample.sop_instance_uid)


class TestRestore:
    def test_a_restore_is_compared_by_sha256(self, stored, slices, monkeypatch):
        """Which its journal tells of; C-MOVE and C-GET compare by XXH3 (docs/adr/0022)."""
        compared = []

        def noted(expected):
            compared.append(expected)
            return digest_like(expected)

        monkeypatch.setattr("backup_scp.archive.stored_files.digest_like", noted)
        assert restore(stored.archive, stored.index, EVERYTHING, Shelf()).sent == 3
        assert sorted(compared) == sorted(sample.sha256 for sample in slices)  # several at once

    def test_the_newest_study_first_and_the_count(self, stored):
        for number, date in enumerate(["20240101", "20260101", "20250101"]):
            stored.put(encode(dx(study=str(number), StudyDate=date)))
        shelf = Shelf()
        seen: list[Progress] = []
        done = restore(stored.archive, stored.index, EVERYTHING, shelf, seen.append)
        assert [held.study_instance_uid for held in shelf.prepared] == [
            dx(study=str(number)).StudyInstanceUID for number in (1, 2, 0)
        ]
        assert shelf.expected == shelf.prepared
        assert (done.selected, done.sent, done.failed, done.stopped, done.is_complete) == (3, 3, [], "", True)
        assert seen[-1].done == seen[-1].total == 3
        assert seen[-1].done_bytes == seen[-1].total_bytes == done.size_bytes
        assert not shelf.is_open

    def test_damage_is_recorded_for_status(self, stored, slices):
        stored.flip(location_of(stored, slices[0]))
        done = restore(stored.archive, stored.index, EVERYTHING, Shelf())
        assert [o.held.sop_instance_uid for o in done.failed] == [slices[0].sop_instance_uid]
        assert (done.sent, done.missing, done.untried, done.is_complete) == (2, 1, 0, False)
        assert [gap.status for gap in done.gaps] == [0]
        assert stored.index.holdings().damaged == 1

    def test_nothing_selected_reaches_nobody_and_is_not_complete(self, stored):
        shelf = Shelf(answers={"prepare": DestinationUnavailable("Off")})
        done = restore(stored.archive, stored.index, EVERYTHING, shelf)
        assert (done.selected, done.stopped, done.is_complete) == (0, "", False)

    def test_what_comes_meanwhile_does_not_stand_for_what_is_missing(self, stored, slices):
        """A clinic goes on while it restores: what came after the count is sent, too."""

        class Filling(Shelf):
            def __enter__(self):  # counted is all by now
                stored.put(encode(dx(study="late")), 9)
                return super().__enter__()

        shelf = Filling(answers={slices[1].sop_instance_uid: InstanceRefused("No")})
        done = restore(stored.archive, stored.index, EVERYTHING, shelf)
        assert (done.selected, done.sent, done.missing, done.untried, done.is_complete) == (4, 3, 1, 0, False)

    def test_what_comes_meanwhile_does_not_stand_for_what_was_not_tried(self, stored, slices):
        class Filling(Shelf):
            def __enter__(self):
                stored.put(encode(dx(study="late", StudyDate="20990101")), 9)
                return super().__enter__()

        shelf = Filling(answers={slices[2].sop_instance_uid: DestinationUnavailable("Off")})
        done = restore(stored.archive, stored.index, EVERYTHING, shelf)
        assert (done.stopped, done.selected, done.sent) == ("Off", 4, 3)
        assert (done.missing, done.untried, done.is_complete) == (1, 1, False)

    def test_a_destination_that_cannot_be_reached(self, stored, slices):
        shelf = Shelf(answers={"prepare": DestinationUnavailable("Off")})
        done = restore(stored.archive, stored.index, EVERYTHING, shelf)
        assert (done.stopped, done.sent, done.failed, done.untried) == ("Off", 0, [], 3)
        assert not shelf.is_open

    def test_without_patience_it_is_tried_once(self, stored, slices):
        shelf = Shelf(answers={uids(slices)[0]: failing(DestinationUnavailable("Off"))})
        done = restore(stored.archive, stored.index, EVERYTHING, shelf)
        assert (done.stopped, done.sent) == ("Off", 0)

    def test_a_destination_that_cannot_be_entered(self, stored, slices):
        class Locked(Shelf):
            def __enter__(self):
                raise DestinationUnavailable("The folder cannot be made")

        done = restore(stored.archive, stored.index, EVERYTHING, Locked())
        assert (done.stopped, done.sent, done.untried) == ("The folder cannot be made", 0, 3)

    def test_what_failed_is_put_together_by_series_reason_and_status(self, stored, slices):
        answers = dict.fromkeys(uids(slices)[:2], InstanceRefused("No", 0xC000)) | {
            uids(slices)[2]: InstanceUnconfirmed("It broke off")
        }
        done = restore(stored.archive, stored.index, EVERYTHING, Shelf(answers=answers))
        (held, *_) = stored.index.select(EVERYTHING)
        series = (held.study_instance_uid, held.series_instance_uid, held.sop_class_uid)
        assert done.gaps == {Gap(*series, "No", 0xC000): 2, Gap(*series, "It broke off", 0): 1}

    def test_failures_without_end_are_counted_in_bounded_memory(self, stored, slices, monkeypatch):
        monkeypatch.setattr("backup_scp.services.restore_result._MOST_LISTED", 2)
        shelf = Shelf(answers={uid: InstanceRefused(f"No: {uid}") for uid in uids(slices)})
        done = restore(stored.archive, stored.index, EVERYTHING, shelf)
        assert (len(done.failed), done.gaps.total()) == (2, 3)
        assert [gap.series_instance_uid == "" for gap in done.gaps] == [False, False, True]

    def test_warnings_are_told_and_count_as_sent(self, stored, slices):
        done = restore(stored.archive, stored.index, EVERYTHING, Shelf(answers={uids(slices)[1]: "Coerced"}))
        assert [(one.held.sop_instance_uid, one.reason) for one in done.warnings] == [(uids(slices)[1], "Coerced")]
        assert (done.sent, done.is_complete) == (3, True)

    def test_a_second_run_sends_only_what_is_missing(self, stored, slices, journal):
        gone = Shelf(answers={slices[1].sop_instance_uid: DestinationUnavailable("Gone")})
        first = restore(stored.archive, stored.index, EVERYTHING, gone, journal=journal)
        assert (first.sent, first.untried, first.stopped) == (1, 2, "Gone")

        shelf = Shelf()
        second = restore(stored.archive, stored.index, EVERYTHING, shelf, journal=journal)
        assert (second.confirmed_before, second.sent, second.failed) == (1, 2, [])
        assert [held.sop_instance_uid for held in shelf.expected] == uids(slices)[1:]
        assert list(shelf.received) == uids(slices)[1:]

        third = restore(stored.archive, stored.index, EVERYTHING, Shelf(), journal=journal)
        assert (third.confirmed_before, third.sent, third.is_complete) == (3, 0, True)
        first_at, last_at = third.confirmed_at or (None, None)
        assert first_at
        assert last_at
        assert first_at <= last_at <= datetime.now(UTC)

        journal.start_over()
        fourth = restore(stored.archive, stored.index, EVERYTHING, Shelf(), journal=journal)
        assert (fourth.confirmed_before, fourth.sent) == (0, 3)

    def test_what_failed_is_not_in_the_journal(self, stored, slices, journal):
        refusing = Shelf(answers={slices[0].sop_instance_uid: InstanceRefused("No")})
        restore(stored.archive, stored.index, EVERYTHING, refusing, journal=journal)
        shelf = Shelf()
        restore(stored.archive, stored.index, EVERYTHING, shelf, journal=journal)
        assert list(shelf.received) == [slices[0].sop_instance_uid]

    def test_the_throttle_is_told_of_every_instance_sent(self, stored, slices, clock):
        restore(stored.archive, stored.index, EVERYTHING, Shelf(), throttle=Throttle(1, clock.read, clock.sleep))
        assert clock.now == pytest.approx(sum(len(sample.data_set) for sample in slices) / 1e6)

    def test_ctrl_c_keeps_what_was_done(self, stored, slices, journal):
        shelf = Shelf(answers={uids(slices)[1]: failing(KeyboardInterrupt())})
        done = restore(stored.archive, stored.index, EVERYTHING, shelf, journal=journal)
        assert (done.interrupted, done.sent, done.untried, done.is_complete) == (True, 1, 2, False)
        rest = restore(stored.archive, stored.index, EVERYTHING, shelf, journal=journal)
        assert (rest.confirmed_before, rest.sent, rest.is_complete) == (1, 2, True)

    def test_what_went_out_of_the_index_meanwhile_is_missed(self, stored, slices, monkeypatch):
        """A rebuild runs meanwhile: an instance that was counted and is not found again counts as not sent."""
        do_nothing: list[list[StoredVersion]] = [[]]
        passes = iter([stored.index.select_in_batches(EVERYTHING), (batch for batch in do_nothing)])
        monkeypatch.setattr(stored.index, "select_in_batches", lambda _: next(passes))
        done = restore(stored.archive, stored.index, EVERYTHING, Shelf())
        assert (done.selected, done.sent, done.untried, done.is_complete) == (3, 0, 3, False)

    def test_an_index_that_goes_away_stops_it_with_words(self, stored, slices, monkeypatch):
        def broken():
            yield stored.index.select(EVERYTHING)[:1]
            raise IndexUnavailable("The index is away")

        passes = iter([stored.index.select_in_batches(EVERYTHING), broken()])
        monkeypatch.setattr(stored.index, "select_in_batches", lambda _: next(passes))
        done = restore(stored.archive, stored.index, EVERYTHING, Shelf())
        assert (done.sent, done.stopped, done.untried) == (1, "The index is away", 2)


class TestDigests:
    """A selection may name versions by the first digits of their SHA-256."""

    def test_the_one_that_it_names_is_sent(self, stored, slices):
        shelf = Shelf()
        done = restore(stored.archive, stored.index, selected_by(slices[1].sha256[:12]), shelf)
        assert (done.selected, list(shelf.received)) == (1, [uids(slices)[1]])

    def test_the_same_bytes_in_two_places_are_one(self, stored):
        """As after a SOP Instance UID came in two series: neither is in doubt."""
        sample = encode(dx())
        stored.put(sample)
        (held,) = stored.index.select(EVERYTHING)
        twice = [held, held._replace(location="elsewhere.dcm")]
        _require_one_each([held.sha256[:8]], twice)

    def test_what_no_version_has_is_refused_before_anything_is_sent(self, stored, slices):
        shelf = Shelf()
        unknown = "0" * 64
        with pytest.raises(InvalidSelection, match=f"No version selected has the digest {unknown}"):
            restore(stored.archive, stored.index, selected_by(slices[0].sha256, unknown), shelf)
        assert shelf.received == {}

    def test_what_several_versions_have_is_refused_with_two_of_them(self, stored):
        samples = many(stored, 20)
        digests = sorted(sample.sha256 for sample in samples)
        first = next(one[0] for one in digests if sum(other[0] == one[0] for other in digests) > 1)
        named = [digest for digest in digests if digest[0] == first]
        words = f"{len(named)} versions have the digest {first}: write more digits, {named[0]} or {named[1]}$"
        with pytest.raises(InvalidSelection, match=words):
            restore(stored.archive, stored.index, selected_by(first), Shelf())


def selected_by(*digests):
    return Selection(digests=digests, all_versions=True)


class TestItGoesOn:
    """Past whatever one instance does, and when the destination comes back."""

    @pytest.fixture
    def run(self, stored, patience, journal):
        def run(**answers):
            self.shelf = Shelf(answers=answers)
            return restore(stored.archive, stored.index, EVERYTHING, self.shelf, patience=patience, journal=journal)

        return run

    def test_any_number_at_which_it_breaks_off(self, stored, run, clock):
        samples = many(stored, 12)
        done = run(**{uid: InstanceUnconfirmed("It broke off") for uid in uids(samples)[:10]})
        assert list(self.shelf.received) == uids(samples)[10:]
        assert (done.sent, len(done.failed), done.stopped, clock.now) == (2, 10, "", 0)

    def test_what_was_not_confirmed_is_tried_once_more_at_the_end(self, slices, run):
        done = run(**{uids(slices)[0]: failing(InstanceUnconfirmed("It restarted"))})
        assert list(self.shelf.received) == [uids(slices)[n] for n in (1, 2, 0)]
        assert (done.is_complete, done.failed, done.gaps.total()) == (True, [], 0)

    def test_what_was_not_confirmed_has_failed_where_no_second_try_is_come_to(self, slices, run):
        done = run(
            **{
                uids(slices)[0]: InstanceUnconfirmed("It broke off"),
                uids(slices)[1]: DestinationRefuses("Called AE title not recognised"),
            }
        )
        assert ([one.reason for one in done.failed], done.untried) == (["It broke off"], 2)

    def test_one_that_is_away_is_waited_for_and_sent_the_same(self, slices, run, clock):
        away = [DestinationUnavailable("Off"), DestinationBusy("Busy"), DestinationUnavailable("Off")]
        done = run(**{uids(slices)[1]: failing(*away)})
        assert list(self.shelf.received) == uids(slices)
        assert (done.is_complete, clock.now) == (True, 1 + 2 + 4)

    def test_one_that_stays_away_is_given_up(self, slices, run, clock):
        done = run(**{uids(slices)[1]: DestinationUnavailable("Off")})
        assert (done.sent, done.stopped, done.untried, clock.now) == (1, "Off", 2, 600)

    def test_the_wait_begins_anew_with_each_image_that_is_confirmed(self, stored, run, clock):
        samples = many(stored, 8)
        done = run(**{uid: failing(*[DestinationUnavailable("Off")] * 8) for uid in uids(samples)})
        assert done.is_complete
        assert clock.now > 600

    def test_one_that_turns_us_away_at_the_start_is_not_waited_for(self, slices, run, clock):
        done = run(**{uids(slices)[0]: DestinationRefuses("Called AE title not recognised")})
        assert (done.sent, done.stopped, clock.now) == (0, "Called AE title not recognised", 0)

    def test_one_that_turns_us_away_in_the_middle_may_be_starting(self, slices, run):
        assert run(**{uids(slices)[1]: failing(DestinationRefuses("Called AE title not recognised"))}).is_complete

    def test_one_that_does_not_answer_is_sent_the_next_one(self, stored, run, clock):
        samples = many(stored, 6)
        done = run(**{uid: DestinationSilent("Nothing") for uid in uids(samples)[:4]})
        assert list(self.shelf.received) == uids(samples)[4:]
        assert (done.sent, len(done.failed)) == (2, 4)

    def test_one_that_takes_nothing_of_a_kind_stops_nothing(self, slices, run, clock):
        done = run(**{uids(slices)[0]: NothingAccepted("It accepts none of it")})
        assert (done.sent, len(done.failed), done.stopped, clock.now) == (0, 3, "", 0)

    class TestFull:
        @pytest.fixture
        def samples(self, stored):
            return many(stored, 40)

        @pytest.fixture
        def run(self, stored, patience):
            def run(shelf):
                return restore(stored.archive, stored.index, EVERYTHING, shelf, patience=patience)

            return run

        def test_it_is_not_sent_all_the_rest_and_given_up(self, samples, run, clock):
            shelf = FullAfter(10)
            done = run(shelf)
            assert (done.sent, done.stopped, clock.now) == (10, "No room (it has no room)", 600)
            assert len(shelf.asked) - 10 < 25  # in ten minutes; it has no room for the other 30
            assert done.missing == 30
            assert done.gaps.total() + done.untried == 30

        def test_when_there_is_room_again_it_gets_everything(self, samples, run, clock):
            shelf = FullAfter(10)
            shelf.makes_room_after = 3
            done = run(shelf)
            assert done.is_complete
            assert sorted(shelf.received) == sorted(uids(samples))
            assert clock.now == 1 + 2

        def test_one_alone_for_which_there_is_no_room_keeps_nobody_waiting(self, samples, run, clock):
            done = run(Shelf(answers={uids(samples)[3]: NoRoom("No room", 0xA700)}))
            assert (done.sent, [one.reason for one in done.failed], clock.now) == (39, ["No room"], 0)

        def test_the_last_one_that_is_refused_keeps_nobody_waiting(self, samples, run, clock):
            done = run(Shelf(answers={uids(samples)[-1]: NoRoom("No room", 0xA700)}))
            assert (done.sent, len(done.failed), clock.now) == (39, 1, 0)

        def test_two_in_a_row_at_the_end_are_waited_for_in_turn(self, samples, run, clock):
            shelf = FullAfter(38)
            shelf.makes_room_after = 4
            done = run(shelf)
            last_two = uids(samples)[38:]
            assert done.is_complete
            assert shelf.asked[38:] == [*last_two, last_two[0], last_two[0], last_two[0], last_two[1]]
            assert clock.now == 1 + 2 + 4

        def test_one_that_is_full_at_the_start_is_waited_for(self, samples, run, clock):
            shelf = FullAfter(0)
            shelf.makes_room_after = 3
            assert run(shelf).is_complete
            assert clock.now == 1 + 2

        def test_the_first_one_that_is_refused_keeps_nobody_waiting(self, samples, run, clock):
            done = run(Shelf(answers={uids(samples)[0]: NoRoom("No room", 0xA700)}))
            assert (done.sent, len(done.failed), clock.now) == (39, 1, 0)

        def test_one_that_is_refused_while_there_is_room_for_others_fails(self, samples, run, clock):
            """It was full before, and this one may have been refused for that; it is no more."""
            shelf = FullAfter(10)
            shelf.makes_room_after = 2
            shelf.answers[uids(samples)[11]] = NoRoom("No room", 0xA700)
            done = run(shelf)
            assert (done.sent, [one.held.sop_instance_uid for one in done.failed]) == (39, uids(samples)[11:12])
            assert clock.now == 1

        def test_one_that_is_refused_after_all_others_were_confirmed_before(self, samples, stored, clock, journal):
            patience = Patience(600, clock=clock.read, sleep=clock.sleep)
            shelf = Shelf(answers={uids(samples)[3]: NoRoom("No room", 0xA700)})
            for sent in (39, 0):
                done = restore(stored.archive, stored.index, EVERYTHING, shelf, patience=patience, journal=journal)
                assert (done.sent, len(done.failed), clock.now) == (sent, 1, 0)

        def test_the_only_one_is_asked_for_again(self, stored, patience, clock):
            (sample,) = many(stored, 1)
            shelf = Shelf(answers={sample.sop_instance_uid: failing(*[NoRoom("No room", 0xA700)] * 4)})
            assert restore(stored.archive, stored.index, EVERYTHING, shelf, patience=patience).is_complete
            assert clock.now == 1 + 2 + 4


class FullAfter(Shelf):
    """A destination with room for so many, that asks for more after a while."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.makes_room_after: int | None = None
        self.asked: list[str] = []

    def send(self, file, held, meanwhile=lambda: None):
        self.asked.append(held.sop_instance_uid)
        if len(self.received) >= self.room:
            if self.makes_room_after is not None:
                self.makes_room_after -= 1
                if not self.makes_room_after:
                    self.room = 1000
            raise NoRoom("No room", 0xA700)
        return super().send(file, held, meanwhile)


@dataclass
class Counts:
    """The inventory of a destination: what it has before, and then what a shelf has received."""

    has: dict[str, int | None]
    shelf: Shelf

    def connect(self) -> None:
        pass

    def disconnect(self) -> None:
        pass

    def count(self, study_instance_uid: str) -> int | None:
        before = self.has[study_instance_uid]
        return None if before is None else max(before, len(self.shelf.received))


class TestReplacedOnceMore:
    """The journal speaks of a console that is no more, with the same name and address."""

    @pytest.mark.parametrize(("count", "lacking"), [(0, 3), (2, 3), (3, 0), (4, 0), (None, 0)])
    def test_a_study_that_is_not_there_whole_is_sent_again(self, stored, slices, journal, count, lacking):
        (study,) = {held.study_instance_uid for held in stored.index.select(EVERYTHING)}
        restore(stored.archive, stored.index, EVERYTHING, Shelf(), journal=journal)
        shelf = Shelf()
        inventory = Counts({study: count}, shelf)
        done = restore(stored.archive, stored.index, EVERYTHING, shelf, journal=journal, inventory=inventory)
        assert (done.lacking, done.sent, len(shelf.received)) == (lacking, lacking, lacking)
        assert done.is_complete

    def test_nobody_is_asked_of_what_was_never_sent(self, stored, slices, journal):
        asked_before: list[str] = []

        class Asked(Shelf):
            def __enter__(self):
                asked_before.extend(counts.asked)
                return super().__enter__()

        class Noting(Counts):
            def count(self, study_instance_uid):
                self.asked.append(study_instance_uid)
                return super().count(study_instance_uid)

            asked: ClassVar[list[str]] = []

        shelf = Asked()
        counts = Noting(dict.fromkeys({sample.dataset().StudyInstanceUID for sample in slices}, 0), shelf)
        done = restore(stored.archive, stored.index, EVERYTHING, shelf, journal=journal, inventory=counts)
        assert done.is_complete
        assert (asked_before, len(counts.asked)) == ([], 1)

    def test_the_journal_knows_the_implementation(self, stored, slices, journal):
        restore(stored.archive, stored.index, EVERYTHING, Shelf(), journal=journal)
        journal.drop("shelf 1")
        assert not journal.is_empty()
        journal.drop("shelf 2")
        assert journal.is_empty()


class TestMemory:
    def test_it_does_not_grow_with_the_archive(self, stored):
        """Measured between the first and the last of the batches; 0.93 GB a million were held before."""

        class Counting(Shelf):
            def prepare(self, instances):
                self.received.clear()
                return instances

            def expect(self, held):
                pass

        many(stored, 1)
        (held,) = stored.index.select(EVERYTHING)
        peaks = {}
        for count in (200, 2000):
            tracemalloc.start()
            try:
                done = restore(stored.archive, Many(count, held), EVERYTHING, Counting())  # type: ignore[arg-type]
                _, peaks[count] = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert (done.selected, done.sent) == (count, count)
        assert peaks[2000] < 1.5 * peaks[200]


class Many:
    """An index of many instances with the same bytes."""

    def __init__(self, count: int, held: StoredVersion) -> None:
        self._count = count
        self._held = held

    def select_in_batches(self, _selection):
        for start in range(0, self._count, 100):
            yield [self._held._replace(sop_instance_uid=f"1.2.{number}") for number in range(start, start + 100)]

    def record_verification(self, _results) -> None:
        pass


class TestCommit:
    """The destination is asked what became of what it was sent."""

    def test_everything_is_committed(self, stored, slices, journal):
        asked = []

        def commit(references, _site):
            asked.extend(references)
            return dict.fromkeys(references, 0)

        done = restore(stored.archive, stored.index, EVERYTHING, Shelf(), journal=journal, commit=commit)
        assert [one.sop_instance_uid for one in asked] == [sample.sop_instance_uid for sample in slices]
        assert (done.sent, done.committed, done.uncommitted, done.failed, done.no_commitment) == (3, 3, [], [], "")
        again = restore(stored.archive, stored.index, EVERYTHING, Shelf(), journal=journal, commit=commit)
        assert (again.confirmed_before, again.sent) == (3, 0)

    def test_what_is_not_committed_counts_as_failed_and_is_sent_again(self, stored, slices, journal):
        def commit(references, _site):
            return dict(zip(references, (0, 0x0112, 0), strict=True))

        done = restore(stored.archive, stored.index, EVERYTHING, Shelf(), journal=journal, commit=commit)
        assert (done.sent, done.committed) == (2, 2)
        assert done.size_bytes == sum(len(slices[number].data_set) for number in (0, 2))
        (failed,) = done.failed
        assert failed.held.sop_instance_uid == slices[1].sop_instance_uid
        assert "0x0112" in failed.reason
        shelf = Shelf()
        restore(stored.archive, stored.index, EVERYTHING, shelf, journal=journal)
        assert list(shelf.received) == [slices[1].sop_instance_uid]

    def test_ctrl_c_while_it_is_asked_is_no_commitment(self, stored, slices):
        def commit(references, _site):
            raise KeyboardInterrupt

        done = restore(stored.archive, stored.index, EVERYTHING, Shelf(), commit=commit)
        assert (done.sent, done.missing, done.interrupted, done.is_complete) == (3, 0, True, False)

    @pytest.mark.parametrize("silent", [True, False])
    def test_silence_is_no_commitment(self, stored, slices, silent):
        def commit(references, _site):
            if not silent:
                raise DestinationUnavailable("It takes no commitment requests")
            return {references[0]: 0}

        done = restore(stored.archive, stored.index, EVERYTHING, Shelf(), commit=commit)
        assert (done.sent, done.committed, len(done.uncommitted)) == (3, silent, 3 - silent)
        assert done.no_commitment == ("it has not reported in time" if silent else "It takes no commitment requests")

    def test_what_was_not_sent_is_not_asked_about(self, stored, slices):
        answers = {sample.sop_instance_uid: InstanceRefused("No room") for sample in slices}

        def commit(references, _site):
            pytest.fail("nothing was sent")

        done = restore(stored.archive, stored.index, EVERYTHING, Shelf(answers=answers), commit=commit)
        assert (len(done.failed), done.uncommitted, done.no_commitment) == (3, [], "")

    def test_what_was_refused_is_asked_about_too_and_may_be_there(self, stored, slices, journal):
        """A duplicate is refused by many (Status 0111): it is there, and the commitment proves it."""
        answers = {
            uids(slices)[0]: InstanceRefused("Duplicate", 0x0111),
            uids(slices)[1]: InstanceRefused("Bad", 0xC000),
        }
        asked = []

        def commit(references, _site):
            asked.extend(references)
            return {one: 0x0112 if one.sop_instance_uid == uids(slices)[1] else 0 for one in references}

        done = restore(stored.archive, stored.index, EVERYTHING, Shelf(answers=answers), journal=journal, commit=commit)
        assert [one.sop_instance_uid for one in asked] == uids(slices)
        assert (done.sent, done.committed, [one.reason for one in done.failed]) == (2, 2, ["Bad"])
        assert (done.missing, done.gaps.total()) == (1, 1)
        assert done.size_bytes == sum(len(slices[number].data_set) for number in (0, 2))
        again = restore(stored.archive, stored.index, EVERYTHING, Shelf(), journal=journal)
        assert (again.confirmed_before, again.sent) == (2, 1)
