"""The threads that work on Storage Commitment requests and reports."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from backup_scp.errors import IndexUnavailable
from backup_scp.ports import CommitmentRequest, Reference, Requester
from backup_scp.services import commitment_worker
from backup_scp.services.commitment import StorageCommitment, WorkSignal
from backup_scp.services.commitment_worker import CommitmentWorker
from tests.processes import wait_until
from tests.samples import ct_series, encode


class Ear:
    """Receives reports; the first answer is an error, all others are success."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.taken: list = []

    def __call__(self, commitment, confirm) -> None:
        confirm()
        if self.error:
            error, self.error = self.error, None
            raise error
        self.taken.append(commitment)


@pytest.fixture
def commitment(stored):
    return StorageCommitment(stored.archive, stored.index)


@pytest.fixture
def ask(stored, commitment):
    """Store an image and ask for it, as another console each time."""

    def ask(number, sample):
        stored.put(sample)
        reference = Reference(sample.sop_class_uid, sample.sop_instance_uid)
        requester = Requester("", f"DR{number}", "192.0.2.7")
        commitment.request(CommitmentRequest(str(number), (reference,), requester, datetime.now(UTC)))

    return ask


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "commitment"]


def test_a_worker_does_all_that_is_due_and_stops(commitment, ask):
    ear = Ear(ValueError("of a console that makes us stumble"))
    worker = CommitmentWorker(commitment, ear)
    worker.start()
    for number, ds in enumerate(ct_series(5)):
        ask(number, encode(ds))
    wait_until(lambda: len(ear.taken) >= 4)
    worker.stop(30)
    assert not threads()
    assert {commitment.results for commitment in ear.taken} == {(None,)}


def test_a_worker_delivers_three_reports_at_once(commitment, ask):
    """A console that does not answer keeps one thread, not those of the others; a node may end in the middle."""
    meeting, met = threading.Barrier(3), []

    def report(_, confirm):
        confirm()
        meeting.wait(30)
        met.append(True)

    worker = CommitmentWorker(commitment, report)
    for number, ds in enumerate(ct_series(3)):
        ask(number, encode(ds))
    worker.start()
    wait_until(lambda: len(met) == 3)
    assert [thread.daemon for thread in threads()] == [True] * 4
    worker.stop(30)


def test_a_worker_without_work_waits(commitment):
    """Else its threads would ask the index all the time."""
    waits: list[float] = []

    class Bell(WorkSignal):
        def wait(self, heard, timeout_s):
            waits.append(timeout_s)
            super().wait(heard, timeout_s)

    commitment.bell = Bell()
    worker = CommitmentWorker(commitment, Ear())
    worker.start()
    wait_until(lambda: waits)
    worker.stop(30)
    assert min(waits) > 0


def test_a_worker_that_stops_wakes_its_threads_and_waits_for_all_of_them_together(commitment, monkeypatch):
    """So a node ends within its time of grace, though each thread takes long."""
    joins = []

    class Joined(threading.Thread):
        def join(self, timeout=None):
            joins.append(timeout)
            super().join(30)

    monkeypatch.setattr(threading, "Thread", Joined)
    seconds = iter((100, 103, 106, 109, 112))
    monkeypatch.setattr(commitment_worker, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    monkeypatch.setattr(commitment_worker, "_IDLE_S", 3600)
    worker = CommitmentWorker(commitment, Ear())
    worker.start()
    worker.stop(5)
    assert joins == [2, 0, 0, 0]
    assert not threads()


@pytest.mark.parametrize("error", [IndexUnavailable("The index does not answer"), ValueError("an error of ours")])
def test_after_an_error_it_waits_longer_than_without_work(commitment, monkeypatch, error):
    waits = []

    class Stopping(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)
            self.set()
            return True

    def fails(*_):
        raise error

    commitment.stopping = Stopping()
    monkeypatch.setattr(commitment, "judge_next", fails)
    worker = CommitmentWorker(commitment, Ear(), reporters=0)
    worker.start()
    wait_until(lambda: waits)
    worker.stop(30)
    assert waits[0] > commitment_worker._IDLE_S


def test_what_it_waits_for_is_told_once(stored, commitment, monkeypatch, caplog):
    """A database that is away for a night must not fill the log."""
    monkeypatch.setattr("backup_scp.services.commitment_worker._TROUBLED_S", 0.001)
    monkeypatch.setattr("backup_scp.services.commitment_worker._IDLE_S", 0.001)
    tries = iter(range(1_000_000))

    def fails(*_):
        next(tries)
        raise IndexUnavailable("The index does not answer")

    monkeypatch.setattr(stored.index.commitments, "lease_request", fails)
    worker = CommitmentWorker(commitment, Ear(), reporters=0)
    worker.start()
    wait_until(lambda: next(tries) > 20)
    worker.stop(30)
    assert [record.getMessage() for record in caplog.records] == ["Storage Commitment waits: The index does not answer"]
