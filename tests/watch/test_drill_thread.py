"""The node tries copies by itself: when it is due, one after the other, and never in the way of receiving."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from backup_scp.errors import DestinationUnavailable
from backup_scp.machine import clock
from backup_scp.machine.hours import Hours
from backup_scp.ports import CopyResult, DrillKind, DrillProblem, DrillResult, StoredCopy
from backup_scp.watch.copy_thread import CopySchedule
from backup_scp.watch.drill_thread import DrillSchedule, DrillTarget, DrillThread, due_sample
from tests.processes import wait_until
from tests.services.test_copying import At, tiny

SCHEDULE = DrillSchedule(every_days=30, sample=7, full_every_days=365)


@pytest.fixture
def at(monkeypatch):
    return At(monkeypatch)


@pytest.fixture
def filled(stored):
    """Let a copy have one image, and nothing due."""

    def fill(name: str, medium: str = "") -> None:
        copies, now = stored.index.copies, clock.now()
        copy = copies.register(name, medium, now)
        while batch := copies.lease(copy, now, now + timedelta(minutes=1), 10, 10**9):
            there = StoredCopy("name", "ab" * 32, 10)
            results = [CopyResult(item.number, there) for item in batch.items]
            copies.conclude(batch, results, now, now)
        copies.note_complete(copy, now)

    stored.put(tiny(1))
    return fill


def result(name: str, medium: str = "", *, is_full: bool = False) -> DrillResult:
    now = clock.now()
    return DrillResult(name, now, now, True, medium=medium, is_full=is_full, tried=1, came_back=1)


def due(stored, name: str = "drive"):
    return due_sample(stored.index, name, SCHEDULE, clock.now())


def test_the_first_drill_follows_when_everything_is_there(stored, filled):
    assert due(stored) == (False, None)
    stored.index.copies.register("drive", "", clock.now())
    assert due(stored) == (False, None)
    filled("drive")
    assert due(stored) == (True, 7)


def test_the_next_one_follows_after_the_days_of_the_settings(stored, filled, at):
    filled("drive")
    stored.index.drills.record(result("drive"))
    at.pass_by(days=29)
    assert due(stored) == (False, None)
    at.pass_by(days=2)
    assert due(stored) == (True, 7)


def test_all_images_are_tried_once_a_year(stored, filled, at):
    filled("drive")
    stored.index.drills.record(result("drive"))
    for is_full in (False, True, False):
        at.pass_by(days=366 if is_full else 31)
        assert due(stored) == (True, None if is_full else 7)
        stored.index.drills.record(result("drive", is_full=is_full))


def test_a_drive_that_comes_is_tried_when_it_is_due(stored, filled, at):
    filled("drive", "a" * 32)
    stored.index.drills.record(result("drive", "a" * 32))
    at.pass_by(days=31)
    assert due(stored) == (False, None)  # it is at home
    stored.index.copies.register("drive", "a" * 32, clock.now())
    assert due(stored) == (True, 7)


def test_a_copy_in_trouble_is_left_alone(stored, filled):
    filled("drive")
    stored.index.copies.note_trouble("drive", "It is on fire", clock.now())
    assert due(stored) == (False, None)


@contextmanager
def running(stored, *targets: DrillTarget):
    thread = DrillThread(targets, stored.index, SCHEDULE, lambda: 0.0, look_every_s=0.01)
    thread.start()
    try:
        yield
    finally:
        thread.stop()


def test_one_that_fails_is_logged_and_does_not_stop_the_others(stored, filled, caplog):
    problem = DrillProblem(DrillKind.SWAPPED, "1.2.3", "another image is in its place")
    failed = replace(result("two"), passed=False, problems=(problem,), problem_count=3)

    def away(sample, pace):
        raise DestinationUnavailable("The network is down")

    def broken(sample, pace):
        raise ZeroDivisionError

    names = {
        "one": away,
        "odd": broken,
        "two": lambda sample, pace: failed,
        "three": lambda sample, pace: result("three"),
    }
    done = threading.Event()

    def last(sample, pace):
        done.set()
        return result("last")

    for name in (*names, "last"):
        filled(name)
    targets = [DrillTarget(name, CopySchedule(), run) for name, run in (names | {"last": last}).items()]
    with caplog.at_level("INFO"), running(stored, *targets):
        assert done.wait(30)
        wait_until(lambda: "Drill of copy last: passed, 1 of 1 image" in caplog.text)
    assert "Drill of copy one: it could not be done now. The network is down" in caplog.text
    assert "Drill of copy odd: ZeroDivisionError" in caplog.text
    assert "Drill of copy two: FAILED, 3 problems; swapped: another image is in its place" in caplog.text


def test_a_node_that_stops_does_not_wait_for_the_drill(stored, filled):
    filled("drive")
    began = threading.Event()

    def endless(sample, pace):
        while True:
            began.set()
            pace(1)

    with running(stored, DrillTarget("drive", CopySchedule(), endless)):
        assert began.wait(30)


def test_it_keeps_to_the_hours_of_the_copy(stored, filled):
    filled("drive")
    now = clock.now().astimezone()
    closed = Hours((now + timedelta(hours=2)).time(), (now + timedelta(hours=3)).time())
    tried = []

    def run(sample, pace):
        tried.append("closed")
        return result("closed")

    filled("open")
    done = threading.Event()

    def mark(sample, pace):
        done.set()
        return result("open")

    with running(
        stored,
        DrillTarget("drive", CopySchedule(hours=closed), run),
        DrillTarget("open", CopySchedule(), mark),
    ):
        assert done.wait(30)
    assert tried == []
