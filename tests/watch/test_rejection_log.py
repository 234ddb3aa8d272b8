"""Rejections are counted in memory, and written by a thread of its own."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from backup_scp.errors import IndexUnavailable
from backup_scp.ports import ServiceKind
from backup_scp.watch import rejection_log
from backup_scp.watch.rejection_log import RejectionLog
from tests.processes import wait_until
from tests.stored import stored_in

ASSOCIATION, STORE, DESTINATION = ServiceKind.ASSOCIATION, ServiceKind.STORE, ServiceKind.DESTINATION


class Clock:
    """A clock that advances by a second each time it is read."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


class Index:
    """An index that can have outages."""

    def __init__(self, index) -> None:
        self.index = index
        self.is_away = False
        self.writes = 0

    def rejections(self, limit):
        if self.is_away:
            raise IndexUnavailable("away")
        return self.index.rejections(limit)

    def record_rejections(self, found, settled=()):
        self.index.record_rejections(found, settled)
        self.writes += 1

    def listed(self):
        return [(r.calling_ae_title, r.count) for r in self.index.rejections(5000)]


@pytest.fixture
def index(tmp_path):
    with stored_in(tmp_path) as stored:
        yield Index(stored.index)


@pytest.fixture
def log(index):
    """A log whose thread does not run: what it does is done by hand."""
    return RejectionLog(index, Clock())


def reject(log, calling="CT1", service=ASSOCIATION, *, address="192.0.2.9", reason="called AE title 'X' is not ours"):
    return log.rejected(service, calling, "X", address, reason, "set it")


def test_it_is_written_by_a_thread_of_its_own(index):
    log = RejectionLog(index)
    log.start()
    reject(log)
    wait_until(index.listed, what="the first of its kind")
    for _ in range(50):
        reject(log)
    log.stop()
    assert index.listed() == [("CT1", 51)]
    assert not log._thread.is_alive()


def test_repetitions_of_what_is_written_wait_for_the_next_round(index, monkeypatch):
    """A thousand a second are one write now and then, not one each second."""
    monkeypatch.setattr(rejection_log, "_LEAST_PAUSE_S", 0.001)
    monkeypatch.setattr(rejection_log, "_WRITE_EVERY_S", 1000)
    log = RejectionLog(index)
    log.start()
    reject(log)
    wait_until(lambda: index.writes == 1)
    for _ in range(1000):
        reject(log)
    reject(log, "OTHER")
    wait_until(lambda: index.writes == 2)
    log.stop()
    assert sorted(index.listed()) == [("CT1", 1001), ("OTHER", 1)]
    assert index.writes <= 3


def test_the_first_of_its_kind_is_worth_a_line_until_it_is_written(log):
    assert [reject(log), reject(log), reject(log, "OTHER")] == [True, False, True]
    log._try_to_write()
    assert [reject(log), reject(log)] == [True, False]


def test_who_rejects_waits_for_no_index(index):
    """An index that hangs blocks only the writing thread."""
    hanging = threading.Event()
    answered = index.rejections
    index.rejections = lambda limit: (hanging.wait(), answered(limit))[1]
    log = RejectionLog(index)
    log.start()
    reject(log)
    reject(log)
    log.succeeded(STORE, "CT1", "192.0.2.9")
    log.stop(grace_s=0)
    hanging.set()
    log._thread.join()
    assert index.listed() == [("CT1", 2)]


def test_what_cannot_be_written_is_kept_and_said_once(index, log, caplog):
    index.is_away = True
    for _ in range(3):
        reject(log)
        log._try_to_write()
    assert caplog.text.count("cannot be written to the index yet: away") == 1
    index.is_away = False
    log._try_to_write()
    assert index.listed() == [("CT1", 3)]


def test_an_error_of_ours_does_not_end_the_thread(index, caplog):
    answered = index.rejections
    index.rejections = lambda limit: {}[limit]
    log = RejectionLog(index)
    log.start()
    reject(log)
    wait_until(lambda: "KeyError" in caplog.text)
    index.rejections = answered
    reject(log, "OTHER")
    wait_until(lambda: len(index.listed()) == 2)
    log.stop()


@pytest.mark.parametrize("is_away", [False, True])
def test_the_success_of_the_same_caller_settles_it(index, log, is_away):
    reject(log)
    reject(log, "OTHER")
    reject(log, service=STORE)
    index.is_away = is_away
    log._try_to_write()
    log.succeeded(ASSOCIATION, "CT1", "192.0.2.8")  # another machine
    log._try_to_write()
    log.succeeded(ASSOCIATION, "CT1", "192.0.2.9")
    index.is_away = False
    log._try_to_write()
    assert [(r.service, r.calling_ae_title) for r in index.index.rejections(9)] == [
        (STORE, "CT1"),
        (ASSOCIATION, "OTHER"),
    ]


def test_what_comes_after_the_success_counts_anew(index, log):
    for _ in range(3):
        reject(log)
    log.succeeded(ASSOCIATION, "CT1", "192.0.2.9")
    reject(log)
    log._try_to_write()
    assert index.listed() == [("CT1", 1)]
    log.succeeded(ASSOCIATION, "CT1", "192.0.2.9")
    reject(log)
    log._try_to_write()
    assert index.listed() == [("CT1", 1)]


def test_what_another_process_or_an_earlier_start_wrote_is_settled_too(index, log):
    other = RejectionLog(index, log._clock)
    reject(other)
    other._try_to_write()
    log._try_to_write()
    assert index.listed() == [("CT1", 1)]
    log.succeeded(ASSOCIATION, "CT1", "192.0.2.9")
    log._try_to_write()
    assert index.listed() == []


def test_a_clock_that_was_ahead_does_not_keep_it_for_years(index, log):
    log._clock.now += timedelta(days=3650)
    reject(log)
    log._try_to_write()
    log._clock.now -= timedelta(days=3650)
    log.succeeded(ASSOCIATION, "CT1", "192.0.2.9")
    log._try_to_write()
    assert index.listed() == []


def test_a_move_destination_is_settled_whoever_asks(index, log):
    log.rejected(DESTINATION, "VIEWER", "CONSOLE", "192.0.2.1", "cannot be reached", "")
    log.rejected(DESTINATION, "OTHER", "CONSOLE", "192.0.2.2", "cannot be reached", "")
    log.rejected(DESTINATION, "OTHER", "PRINTER", "192.0.2.2", "cannot be reached", "")
    log._try_to_write()
    log.succeeded(DESTINATION, "CONSOLE", "")
    log._try_to_write()
    assert [r.called_ae_title for r in index.index.rejections(9)] == ["PRINTER"]


def test_memory_is_bounded_and_one_address_does_not_push_out_the_others(index, log):
    index.is_away = True
    reject(log, "CONSOLE", address="192.0.2.1")
    for number in range(2 * rejection_log._MOST_OF_ONE_ADDRESS):
        reject(log, f"A{number}")
        if not number % 10:
            log._try_to_write()
    assert len(log._unwritten) == 1 + rejection_log._MOST_OF_ONE_ADDRESS
    for number in range(rejection_log._MOST - 2):
        reject(log, address=f"2001:db8::{number:x}")
    assert len(log._unwritten) == rejection_log._MOST
    index.is_away = False
    log._try_to_write()
    titles = {name for name, _ in index.listed()}
    assert {"A199", "CONSOLE"} <= titles
    assert "A198" not in titles


def test_a_service_is_settled_by_its_own_acceptance_alone(log, index):
    reject(log, service=ServiceKind.CONTEXT)
    log._try_to_write()
    log.succeeded(ASSOCIATION, "CT1", "192.0.2.9")
    log.succeeded(ServiceKind.CONTEXT, "CT1", "192.0.2.9", "another SOP Class")
    log._try_to_write()
    assert index.listed() == [("CT1", 1)]
    log.succeeded(ServiceKind.CONTEXT, "CT1", "192.0.2.9", "X")
    log._try_to_write()
    assert index.listed() == []


def test_successes_are_bounded(log):
    for number in range(2 * rejection_log._MOST_SUCCESSES):
        log.succeeded(ASSOCIATION, f"A{number}", "192.0.2.9")
    assert len(log._succeeded) <= rejection_log._MOST_SUCCESSES
    assert (ASSOCIATION, f"A{number}", "192.0.2.9", "") in log._succeeded
