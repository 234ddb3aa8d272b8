"""A restore sends only in its hours, and waits outside of them with nothing open."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backup_scp.errors import DestinationUnavailable
from backup_scp.machine.hours import Hours
from backup_scp.ports import Selection
from backup_scp.services.restore import restore
from backup_scp.services.throttle import Patience, SendingHours
from tests.samples import ct_series, encode
from tests.shelf import Shelf


@pytest.fixture
def slices(stored):
    samples = [encode(ds) for ds in ct_series(4)]
    for sample in samples:
        stored.put(sample)
    return samples


@pytest.fixture
def said():
    return []


@pytest.fixture
def hours(clock, said):
    """Make hours from now on, by number of hours; a sleep moves the clock."""

    def hours(begin_h, end_h):
        local = clock.time.astimezone()
        begin, end = ((local + timedelta(hours=h)).time().replace(microsecond=0) for h in (begin_h, end_h))
        return SendingHours(Hours(begin, end), said.append, lambda s: clock.jump(seconds=s))

    return hours


class Slow(Shelf):
    """Takes half an hour for each image, and notes when it had it."""

    def __init__(self, clock, **answers):
        super().__init__(answers=answers)
        self._clock = clock
        self.times = []

    def send(self, file, held, meanwhile=lambda: None):
        self.times.append(self._clock.time)
        answer = super().send(file, held, meanwhile)
        self._clock.jump(hours=0.5)
        return answer


def test_it_waits_until_they_begin(stored, slices, clock, hours, said):
    began, shelf = clock.time, Slow(clock)
    done = restore(stored.archive, stored.index, Selection(), shelf, hours=hours(2, 6))
    assert done.is_complete
    assert timedelta(hours=2) <= shelf.times[0] - began < timedelta(hours=2, seconds=11)
    assert said[0].startswith("It sends only at ")
    assert said[1:] == ["It continues"]
    assert shelf.disconnected == 1


def test_it_stops_when_they_end_and_continues_the_next_day(stored, slices, clock, hours):
    began, shelf = clock.time, Slow(clock)
    done = restore(stored.archive, stored.index, Selection(), shelf, hours=hours(-1, 0.75))
    assert done.is_complete
    assert [held.sop_instance_uid for held in shelf.prepared[:4]] == [sample.sop_instance_uid for sample in slices]
    at = [(one - began) / timedelta(hours=1) for one in shelf.times]
    assert at[:2] == pytest.approx([0, 0.5], abs=0.01)
    assert at[2:] == pytest.approx([23, 23.5], abs=0.01)
    assert len(shelf.received) == len(shelf.times) == 4


def test_the_night_between_does_not_count_as_patience(stored, slices, clock, hours):
    """It is away in the morning, and for a moment in the evening."""
    left = [DestinationUnavailable("Off")] * 2

    def answer():
        clock.jump(hours=0.3)
        return left.pop() if left else None

    shelf = Slow(clock, **{slices[1].sop_instance_uid: answer})
    patience = Patience(600, clock=lambda: clock().timestamp(), sleep=lambda s: clock.jump(seconds=s))
    done = restore(stored.archive, stored.index, Selection(), shelf, hours=hours(-1, 0.75), patience=patience)
    assert (done.is_complete, done.stopped) == (True, "")


def test_without_hours_nothing_is_waited_for(stored, slices, clock):
    shelf = Shelf()
    assert restore(stored.archive, stored.index, Selection(), shelf).is_complete
    assert shelf.disconnected == 0
