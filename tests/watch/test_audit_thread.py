"""The thread that writes the audit trail: a log that fails, one that is full, and an entry that cannot be written."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime

import pytest

from backup_scp.ports import AuditedPatient, AuditedStudy, Participant, TrailEvent, TrailKind
from backup_scp.watch import audit_thread
from backup_scp.watch.audit_thread import AuditThread
from tests.audit_messages import ReadMessage
from tests.processes import wait_until

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def entry(study="1.2", kind=TrailKind.ACCESSED):
    return TrailEvent(kind, NOON, participants=(Participant("anna"),), objects=(AuditedStudy(study),))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(audit_thread, "_EVERY_S", 0.01)
    monkeypatch.setattr(audit_thread, "_AFTER_FAILURE_S", 0.01)


def test_writes_in_order_with_the_patient_of_each_study():
    asked: list[str] = []
    written: list[bytes] = []

    def patient_of(study):
        asked.append(study)
        return f"P-{study}"

    thread = AuditThread(written.append, "node@host", patient_of)
    thread.start()
    for study in ("1.2", "1.3", "1.2"):
        thread.record(entry(study))
    thread.stop()

    messages = [ReadMessage(message) for message in written]
    assert [message.of_type("2") for message in messages] == [["P-1.2"], ["P-1.3"], ["P-1.2"]]
    assert asked == ["1.2", "1.3"]


def test_what_a_failing_log_does_not_take_waits_and_a_gap_is_told(monkeypatch, caplog):
    monkeypatch.setattr(audit_thread, "MOST", 2)
    written: list[bytes] = []
    works = threading.Event()

    def write(message):
        if not works.is_set():
            raise OSError("disk of Müller^Anna is full")
        written.append(message)

    thread = AuditThread(write, "node")
    thread.start()
    for _ in range(5):
        thread.record(entry())
    wait_until(lambda: bool(caplog.records), 10)
    wait_until(lambda: thread.failing_since is not None, 10)
    assert (thread.waiting, thread.lost) == (2, 3)
    works.set()
    wait_until(lambda: len(written) == 3, 10)
    wait_until(lambda: thread.failing_since is None, 10)
    assert (thread.waiting, thread.lost) == (0, 0)
    thread.stop()

    assert [ReadMessage(message).event[1] for message in written] == ["", "", "110133"]
    assert "3 entries are missing here" in ReadMessage(written[-1]).details["Alert Description"]
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "images are stored as usual" in told
    assert "Anna" not in caplog.text


def test_an_entry_that_cannot_be_written_does_not_stop_the_later_ones(caplog):
    written: list[bytes] = []

    def patient_of(study: str) -> str:
        raise ZeroDivisionError

    thread = AuditThread(written.append, "node", patient_of)
    thread.start()
    thread.record(entry())
    thread.record(TrailEvent(TrailKind.RECEIVED, NOON, objects=(AuditedStudy("1.2"), AuditedPatient("P"))))
    thread.stop()

    assert [ReadMessage(message).event[0] for message in written] == ["110103", "110104"]
    assert "ZeroDivisionError" in caplog.text


def test_a_log_that_does_not_answer_holds_up_no_stop():
    forever = threading.Event()

    def write(_message: bytes) -> None:
        forever.wait()

    thread = AuditThread(write, "node")
    thread.start()
    thread.record(entry())
    thread.stop(wait_s=0.05)
    forever.set()
