"""Restore: what is sent, what never is, and what a second run sends."""

from __future__ import annotations

import pytest

from backup_scp.digests import digest_like
from backup_scp.errors import DestinationUnavailable, InstanceRefused
from backup_scp.outgoing import Outgoing
from backup_scp.ports import Progress, Selection, nothing
from backup_scp.restore import Delivery, Journal, Throttle, restore, retrieve
from tests.samples import ct_series, dx, encode
from tests.stored import stored_in

EVERYTHING = Selection(all_versions=True)


class Shelf:
    """A destination in memory; ``answers`` says what it makes of a SOP Instance UID."""

    name = "shelf"

    def __init__(self, **answers) -> None:
        self.answers = answers.get("answers", {})
        self.after = answers.get("after")
        self.received: dict[str, bytes] = {}
        self.prepared: list = []
        self.is_open = False

    def __enter__(self):
        self.is_open = True
        return self

    def __exit__(self, *exc):
        self.is_open = False

    def prepare(self, instances):
        if isinstance(self.answers.get("prepare"), Exception):
            raise self.answers["prepare"]
        self.prepared = list(instances)
        return instances

    def send(self, file, held, meanwhile=nothing):
        assert self.is_open
        answer = self.answers.get(held.sop_instance_uid)
        if isinstance(answer, Exception):
            raise answer
        with file.data_set() as stream:
            self.received[held.sop_instance_uid] = stream.read()
        meanwhile()
        return answer


@pytest.fixture
def stored(tmp_path):
    with stored_in(tmp_path) as stored:
        yield stored


@pytest.fixture
def slices(stored):
    """Three stored slices of one series, with their samples in order."""
    samples = [encode(ds) for ds in ct_series(3)]
    for sample in samples:
        stored.put(sample)
    return samples


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "restores" / "shelf.txt")


def delivered(archive, held, destination, record):
    """Retrieve, and yield the outcomes."""
    with Outgoing(archive) as outgoing:
        yield from retrieve(outgoing, held, destination, record)


def location_of(stored, sample):
    return next(h.location for h in stored.index.select(EVERYTHING) if h.sop_instance_uid == sample.sop_instance_uid)


class TestCommit:
    """The destination is asked what became of what it was sent."""

    def test_everything_is_committed(self, stored, slices, journal):
        asked = []

        def commit(references):
            asked.extend(references)
            return dict.fromkeys(references, 0)

        done = restore(stored.archive, stored.index, EVERYTHING, Shelf(), journal=journal, commit=commit)
        assert [one.sop_instance_uid for one in asked] == [sample.sop_instance_uid for sample in slices]
        assert (done.sent, done.committed, done.uncommitted, done.failed, done.no_commitment) == (3, 3, [], [], "")
        again = restore(stored.archive, stored.index, EVERYTHING, Shelf(), journal=journal, commit=commit)
        assert (again.confirmed_before, again.sent) == (3, 0)

    def test_what_is_not_committed_counts_as_failed_and_is_sent_again(self, stored, slices, journal):
        def commit(references):
            return dict(zip(references, (0, 0x0112, 0), strict=True))

        done = restore(stored.archive, stored.index, EVERYTHING, Shelf(), journal=journal, commit=commit)
        assert (done.sent, done.committed) == (2, 2)
        (failed,) = done.failed
        assert failed.held.sop_instance_uid == slices[1].sop_instance_uid
        assert "0x0112" in failed.reason
        shelf = Shelf()
        restore(stored.archive, stored.index, EVERYTHING, shelf, journal=journal)
        assert list(shelf.received) == [slices[1].sop_instance_uid]

    @pytest.mark.parametrize("silent", [True, False])
    def test_silence_is_no_commitment(self, stored, slices, silent):
        def commit(references):
            if not silent:
                raise DestinationUnavailable("It takes no commitment requests")
            return {references[0]: 0}

        done = restore(stored.archive, stored.index, EVERYTHING, Shelf(), commit=commit)
        assert (done.sent, done.committed, len(done.uncommitted)) == (3, silent, 3 - silent)
        assert done.no_commitment == ("it has not reported in time" if silent else "It takes no commitment requests")

    def test_what_was_not_sent_is_not_asked_about(self, stored, slices):
        answers = {sample.sop_instance_uid: InstanceRefused("No room") for sample in slices}

        def commit(references):
            pytest.fail("nothing was sent")

        done = restore(stored.archive, stored.index, EVERYTHING, Shelf(answers=answers), commit=commit)
        assert (len(done.failed), done.uncommitted, done.no_commitment) == (3, [], "")


class TestRetrieve:
    def test_a_restore_is_compared_by_sha256(self, stored, slices, monkeypatch):
        """Which its journal tells of; C-MOVE and C-GET compare by XXH3 (docs/adr/0022)."""
        compared = []

        def noted(expected):
            compared.append(expected)
            return digest_like(expected)

        monkeypatch.setattr("backup_scp.archive.filesystem.digest_like", noted)
        assert restore(stored.archive, stored.index, EVERYTHING, Shelf()).sent == 3
        assert compared == [sample.sha256 for sample in slices]

    def test_each_arrives_byte_for_byte_in_order(self, stored, slices):
        held = stored.index.select(EVERYTHING)
        with Shelf() as shelf:
            outcomes = list(delivered(stored.archive, held, shelf, stored.index.record_verification))
        assert [outcome.held for outcome in outcomes] == held
        assert {outcome.status for outcome in outcomes} == {Delivery.SENT}
        assert shelf.received == {sample.sop_instance_uid: sample.data_set for sample in slices}

    @pytest.mark.parametrize("gone", [True, False])
    def test_a_damaged_one_fails_and_never_leaves(self, stored, slices, gone):
        bad = location_of(stored, slices[1])
        stored.path(bad).unlink() if gone else stored.flip(bad)
        with Shelf() as shelf:
            outcomes = list(
                delivered(stored.archive, stored.index.select(EVERYTHING), shelf, stored.index.record_verification)
            )
        assert [outcome.status for outcome in outcomes] == [Delivery.SENT, Delivery.FAILED, Delivery.SENT]
        assert outcomes[1].reason == str(outcomes[1].cause)
        assert slices[1].sop_instance_uid not in shelf.received

    def test_a_refusal_and_a_warning_do_not_stop_the_rest(self, stored, slices):
        answers = {
            slices[0].sop_instance_uid: InstanceRefused("No room", 0xA700),
            slices[1].sop_instance_uid: "Coerced",
        }
        with Shelf(answers=answers) as shelf:
            outcomes = list(
                delivered(stored.archive, stored.index.select(EVERYTHING), shelf, stored.index.record_verification)
            )
        assert [(o.status, o.reason) for o in outcomes] == [
            (Delivery.FAILED, "No room"),
            (Delivery.WARNING, "Coerced"),
            (Delivery.SENT, ""),
        ]

    def test_a_destination_that_goes_away_fails_the_rest(self, stored, slices):
        answers = {slices[1].sop_instance_uid: DestinationUnavailable("Gone")}
        with Shelf(answers=answers) as shelf:
            outcomes = list(
                delivered(stored.archive, stored.index.select(EVERYTHING), shelf, stored.index.record_verification)
            )
        assert [(o.status, o.reason) for o in outcomes] == [
            (Delivery.SENT, ""),
            (Delivery.FAILED, "Gone"),
            (Delivery.FAILED, "Gone"),
        ]
        assert list(shelf.received) == [slices[0].sop_instance_uid]

    def test_it_stops_when_it_is_closed(self, stored, slices):
        with Shelf() as shelf:
            outcomes = delivered(
                stored.archive, stored.index.select(EVERYTHING), shelf, stored.index.record_verification
            )
            next(outcomes)
            outcomes.close()
        assert list(shelf.received) == [slices[0].sop_instance_uid]


class TestRestore:
    def test_the_newest_study_first_and_the_count(self, stored):
        for number, date in enumerate(["20240101", "20260101", "20250101"]):
            stored.put(encode(dx(study=str(number), StudyDate=date)))
        shelf = Shelf()
        seen: list[Progress] = []
        done = restore(stored.archive, stored.index, EVERYTHING, shelf, seen.append)
        assert [held.study_instance_uid for held in shelf.prepared] == [
            dx(study=str(number)).StudyInstanceUID for number in (1, 2, 0)
        ]
        assert (done.selected, done.sent, done.failed, done.stopped) == (3, 3, [], "")
        assert seen[-1].done == seen[-1].total == 3
        assert seen[-1].done_bytes == seen[-1].total_bytes == done.size_bytes
        assert not shelf.is_open

    def test_damage_is_recorded_for_status(self, stored, slices):
        stored.flip(location_of(stored, slices[0]))
        done = restore(stored.archive, stored.index, EVERYTHING, Shelf())
        assert [o.held.sop_instance_uid for o in done.failed] == [slices[0].sop_instance_uid]
        assert done.sent == 2
        assert stored.index.holdings().damaged == 1

    def test_nothing_selected_reaches_nobody(self, stored):
        shelf = Shelf(answers={"prepare": DestinationUnavailable("Off")})
        assert restore(stored.archive, stored.index, EVERYTHING, shelf).selected == 0

    def test_a_destination_that_cannot_be_reached(self, stored, slices):
        shelf = Shelf(answers={"prepare": DestinationUnavailable("Off")})
        with pytest.raises(DestinationUnavailable, match="Off"):
            restore(stored.archive, stored.index, EVERYTHING, shelf)
        assert not shelf.is_open

    def test_a_second_run_sends_only_what_is_missing(self, stored, slices, journal):
        gone = Shelf(answers={slices[1].sop_instance_uid: DestinationUnavailable("Gone")})
        first = restore(stored.archive, stored.index, EVERYTHING, gone, journal=journal)
        assert (first.sent, len(first.failed), first.stopped) == (1, 2, "Gone")

        shelf = Shelf()
        again = Journal(journal._path)
        second = restore(stored.archive, stored.index, EVERYTHING, shelf, journal=again)
        assert (second.confirmed_before, second.sent, second.failed) == (1, 2, [])
        assert list(shelf.received) == [sample.sop_instance_uid for sample in slices[1:]]

        third = restore(stored.archive, stored.index, EVERYTHING, Shelf(), journal=Journal(journal._path))
        assert (third.confirmed_before, third.sent) == (3, 0)

        again.forget()
        fourth = restore(stored.archive, stored.index, EVERYTHING, Shelf(), journal=Journal(journal._path))
        assert (fourth.confirmed_before, fourth.sent) == (0, 3)

    def test_what_failed_is_not_in_the_journal(self, stored, slices, journal):
        refusing = Shelf(answers={slices[0].sop_instance_uid: InstanceRefused("No")})
        restore(stored.archive, stored.index, EVERYTHING, refusing, journal=journal)
        shelf = Shelf()
        restore(stored.archive, stored.index, EVERYTHING, shelf, journal=journal)
        assert list(shelf.received) == [slices[0].sop_instance_uid]

    def test_the_throttle_is_told_of_every_instance_sent(self, stored, slices):
        clock = Clock()
        restore(stored.archive, stored.index, EVERYTHING, Shelf(), throttle=Throttle(1, clock.read, clock.sleep))
        assert clock.now == pytest.approx(sum(len(sample.data_set) for sample in slices) / 1e6)


class TestJournal:
    def test_a_line_that_a_crash_cut_off_does_not_count(self, stored, slices, journal):
        one, two, _ = stored.index.select(EVERYTHING)
        journal.confirm(one)
        journal.confirm(two)
        journal._path.write_text(journal._path.read_text()[:-5])
        after = Journal(journal._path)
        assert one in after
        assert two not in after
        after.confirm(two)
        assert two in Journal(journal._path)

    def test_another_version_of_an_instance_is_another_line(self, stored, journal):
        for text in ("One", "Two"):
            stored.put(encode(dx(StudyDescription=text)))
        one, two = stored.index.select(EVERYTHING)
        journal.confirm(one)
        assert one in journal
        assert two not in journal

    def test_one_that_cannot_be_written_stops_nothing(self, stored, slices, tmp_path):
        (tmp_path / "restores").touch()
        journal = Journal(tmp_path / "restores" / "shelf.txt")
        done = restore(stored.archive, stored.index, EVERYTHING, Shelf(), journal=journal)
        assert (done.sent, done.failed) == (3, [])


class Clock:
    """Time that passes when someone sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class TestThrottle:
    def test_the_mean_rate(self):
        clock = Clock()
        throttle = Throttle(2, clock.read, clock.sleep)
        for _ in range(4):
            throttle.wait(1_000_000)
        assert clock.now == pytest.approx(2.0)

    def test_time_that_was_not_used_is_not_saved_up(self):
        clock = Clock()
        throttle = Throttle(1, clock.read, clock.sleep)
        clock.now = 100.0
        throttle.wait(1_000_000)
        assert clock.now == 100.0
        throttle.wait(1_000_000)
        assert clock.now == pytest.approx(101.0)

    def test_none(self):
        clock = Clock()
        Throttle(0, clock.read, clock.sleep).wait(10**12)
        assert clock.now == 0
