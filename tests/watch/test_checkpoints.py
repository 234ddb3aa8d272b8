"""The thread that makes checkpoints: soon after the first image, again after a failure, once more at the end."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from backup_scp.errors import ArchiveUnavailable, IndexUnavailable
from backup_scp.services.ingest import Ingest
from backup_scp.watch import checkpoints
from backup_scp.watch.checkpoints import CheckpointThread
from tests.archive.intake import WAYS, staged_files, take
from tests.processes import wait_until
from tests.samples import ct_series, encode
from tests.stored import Stored, arrival, heading_of, stored_in

FOR_EVER = 1000.0
"""A test that has to wait for this fails."""


@pytest.fixture(params=WAYS)
def stored(request, tmp_path, monkeypatch) -> Iterator[Stored]:
    take(request.param, monkeypatch.setattr)
    with stored_in(tmp_path) as stored:
        yield stored


class Watched(Ingest):
    """Counts checkpoints; raises the errors that are left first."""

    def __init__(self, stored: Stored) -> None:
        super().__init__(stored.archive, stored.index)
        self.tried = self.made = 0
        self.errors: list[Exception] = []

    def checkpoint(self) -> None:
        self.tried += 1
        if self.errors:
            raise self.errors.pop(0)
        super().checkpoint()
        self.made += 1

    def bring(self, number: int) -> None:
        sample = encode(ct_series(number + 1)[number])
        staged = self.begin(heading_of(sample))
        staged.write(sample.data_set)
        self.accept(staged, arrival(number))


@pytest.fixture
def ingest(stored) -> Watched:
    return Watched(stored)


@pytest.fixture
def started(ingest, monkeypatch):
    """Start the thread; it waits no time for more, and none after a failure, unless the test says so."""
    monkeypatch.setattr(checkpoints, "_AFTER_S", 0.0)
    monkeypatch.setattr(checkpoints, "_AFTER_FAILURE_S", 0.0)
    with ExitStack() as stack:

        def start() -> CheckpointThread:
            thread = CheckpointThread(ingest)
            thread.start()
            wait_until(lambda: ingest.made)  # the first one makes the journal
            ingest.tried = ingest.made = 0
            stack.callback(thread._is_stopping.set)
            stack.callback(ingest.due.any.set)
            stack.callback(ingest.due.many.set)
            return thread

        yield start


def notes(folder: Path) -> list[Path]:
    return staged_files(folder / "archive")


def test_a_first_one_that_fails_is_told_by_others(ingest, monkeypatch, caplog, tmp_path):
    """The node looks at archive and index when it starts."""
    monkeypatch.setattr(checkpoints, "_AFTER_S", 0.0)
    ingest.errors = [ArchiveUnavailable("The drive is away")]
    thread = CheckpointThread(ingest)
    thread.start()
    wait_until(lambda: ingest.tried == 1)
    ingest.bring(0)
    wait_until(lambda: ingest.made == 1)
    thread.stop()
    assert caplog.records == []
    assert notes(tmp_path) == []


def test_it_sleeps_until_there_is_something(ingest, started, tmp_path):
    thread = started()
    ingest.bring(0)
    wait_until(lambda: ingest.made == 1)
    wait_until(lambda: not notes(tmp_path))
    ingest.bring(1)
    wait_until(lambda: ingest.made == 2)
    assert ingest.tried == 2
    thread.stop()


def test_it_waits_for_more_and_many_begin_it_at_once(ingest, started, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoints, "_AFTER_S", FOR_EVER)
    monkeypatch.setattr("backup_scp.services.due_for_checkpoint.MANY", 3)
    thread = started()
    for number in range(2):
        ingest.bring(number)
    assert len(notes(tmp_path)) == 2
    assert ingest.tried == 0
    ingest.bring(2)
    wait_until(lambda: ingest.made == 1)
    assert notes(tmp_path) == []
    thread.stop()


@pytest.mark.parametrize("images", [0, 1])
def test_the_last_one_is_at_the_end(ingest, started, monkeypatch, tmp_path, images):
    """Though it waits for more: from then on the files alone suffice."""
    monkeypatch.setattr(checkpoints, "_AFTER_S", FOR_EVER)
    thread = started()
    for number in range(images):
        ingest.bring(number)
    assert len(notes(tmp_path)) == images
    thread.stop()
    assert notes(tmp_path) == []
    assert not thread._thread.is_alive()


def test_what_came_while_it_stopped_is_in_the_last_one(ingest, started, tmp_path, monkeypatch):
    thread, settle = started(), ingest._archive.settle

    def settle_and_one_more(staged):
        monkeypatch.setattr(ingest._archive, "settle", settle)
        thread._is_stopping.set()
        settle(staged)
        ingest.bring(1)

    monkeypatch.setattr(ingest._archive, "settle", settle_and_one_more)
    ingest.bring(0)
    thread.stop()
    assert notes(tmp_path) == []
    assert len(list(ingest._archive.locations())) == 2


def test_it_is_tried_again_until_it_succeeds(ingest, started, tmp_path):
    thread = started()
    ingest.errors = [ArchiveUnavailable("Gone"), IndexUnavailable("Gone too"), ArchiveUnavailable("Gone")]
    ingest.bring(0)
    wait_until(lambda: ingest.made == 1)
    assert ingest.tried == 4
    assert notes(tmp_path) == []
    thread.stop()


def test_a_disk_that_fails_is_tried_again(ingest, started, tmp_path, monkeypatch):
    thread, settle = started(), ingest._archive.settle

    def fails(_: object) -> None:
        monkeypatch.setattr(ingest._archive, "settle", settle)
        raise ArchiveUnavailable(f"Archive's disk did not keep data: {os.strerror(errno.EIO)}")

    monkeypatch.setattr(ingest._archive, "settle", fails)
    ingest.bring(0)
    wait_until(lambda: ingest.made == 1)
    assert notes(tmp_path) == []
    thread.stop()


def test_a_failure_is_told_once_until_it_is_over(ingest, started, caplog):
    thread = started()
    with caplog.at_level(logging.ERROR):
        ingest.errors = [*[ArchiveUnavailable("The drive is away")] * 3, *[IndexUnavailable("The index is full")] * 2]
        ingest.bring(0)
        wait_until(lambda: ingest.made == 1)
        ingest.errors = [IndexUnavailable("The index is full")]
        ingest.bring(1)
        wait_until(lambda: ingest.made == 2)
        thread.stop()
    said = [record.message for record in caplog.records if record.name == checkpoints.__name__]
    assert ["away" in each for each in said] == [True, False, False]
    assert ["full" in each for each in said] == [False, True, True]
    assert all("tried again" in each for each in said)


def test_after_a_failure_it_stops_at_once(ingest, started, monkeypatch, caplog, tmp_path):
    """Without waiting out its pause; the notes stay for the next start."""
    monkeypatch.setattr(checkpoints, "_AFTER_FAILURE_S", FOR_EVER)
    thread = started()
    ingest.errors = [ArchiveUnavailable("The drive is away")] * 2
    ingest.bring(0)
    wait_until(lambda: ingest.tried == 1)
    thread.stop()
    assert ingest.tried == 2
    assert len(notes(tmp_path)) == 1
    assert [record.message for record in caplog.records if "The drive is away" in record.message] == [
        "What was stored is not durable in each place yet: The drive is away. It is tried again"
    ]
