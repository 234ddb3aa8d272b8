"""`audit show`: the last entries in words; Patient IDs only when asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backup_scp.audit import audit_log
from backup_scp.audit.audit_log import AuditLog
from backup_scp.audit.log_record import FIRST_BEFORE, LogRecord, RecordKind
from backup_scp.audit.shown_entries import shown
from backup_scp.machine import clock
from backup_scp.ports import (
    AuditedPatient,
    AuditedResource,
    AuditedStudy,
    EventOutcome,
    Participant,
    TrailEvent,
    TrailKind,
)
from backup_scp.services.audit_message import audit_message

AT = datetime(2026, 5, 4, 12, tzinfo=UTC)
CONSOLE = Participant("DR-1", is_requestor=True, address="192.0.2.7", alternative_id="AETITLES=DR-1")


def entry(kind=TrailKind.RECEIVED, *, study="1.2.3", **more) -> bytes:
    objects = (AuditedStudy(study), AuditedPatient("CANARY-7"))
    return audit_message(TrailEvent(kind, AT, participants=(CONSOLE,), objects=objects, **more), "node@host")


@pytest.fixture
def log(home):
    return AuditLog(home / "audit")


def test_an_entry_is_a_line_without_the_patient(run, log):
    log.append(entry(correlation_id="abc"))
    log.append(entry(outcome=EventOutcome.SERIOUS_FAILURE, reason="No room"))
    told = run("audit", "show")
    assert told.code == 0
    first, second = told.out.splitlines()
    assert "images received  DR-1 at 192.0.2.7  1.2.3" in first
    assert second.endswith("FAILED: No room")
    assert "CANARY-7" not in told.out + run("audit", "show", "--json").out
    assert "CANARY-7" in run("audit", "show", "--patients").out


def test_that_it_was_read_is_an_entry(run, log):
    log.append(entry())
    run("audit", "show")
    assert "audit log used" in run("audit", "show").out.splitlines()[-1]


def test_the_last_ones_over_several_files(run, log, monkeypatch):
    monkeypatch.setattr(audit_log, "_LONGEST_FILE", 1500)
    for number in range(12):
        log.append(entry(study=f"1.2.{number}"))
    told = run("audit", "show", "--last", "7", "--json")
    assert [each["about"] for each in told.json] == [[f"1.2.{number}"] for number in range(5, 12)]


def test_since_a_time(run, log, monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: AT)
    log.append(entry(study="1.2.1"))
    monkeypatch.setattr(clock, "now", lambda: AT + timedelta(days=2))
    log.append(entry(study="1.2.2"))
    told = run("audit", "show", "--since", "2026-05-05", "--json")
    assert [each["about"] for each in told.json] == [["1.2.2"]]
    assert "No entry since then" in run("audit", "show", "--since", "2027-01-01").out


def test_what_cannot_be_shown_is_told(run, home, log):
    assert "There is no audit log" in run("audit", "show").err
    log.append(entry())
    assert "--since yesterday: write a day" in run("audit", "show", "--since", "yesterday").err


@pytest.mark.parametrize("kind", TrailKind)
@pytest.mark.parametrize("correlation_id", ["", "abc"])
def test_each_kind_has_words(kind, correlation_id):
    objects = (AuditedResource("settings"),)
    event = TrailEvent(kind, AT, participants=(CONSOLE,), objects=objects, correlation_id=correlation_id)
    record = LogRecord(1, AT.isoformat(), FIRST_BEFORE, RecordKind.ENTRY, audit_message(event, "node@host"))
    what = shown(record).what
    assert what in set(TrailKind)
    assert not correlation_id or what == kind


def test_an_entry_that_is_no_xml_is_shown_as_such():
    record = LogRecord(1, AT.isoformat(), FIRST_BEFORE, RecordKind.ENTRY, b"<A")
    assert shown(record).what == "an entry that cannot be read"
