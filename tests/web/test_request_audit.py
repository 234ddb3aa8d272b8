"""What requests of the web tell the audit trail."""

from __future__ import annotations

import contextlib

import pytest
from starlette.testclient import TestClient

from backup_scp.accounts.sql_accounts import SQLAccounts
from backup_scp.machine import clock
from backup_scp.ports import AuditedQuery, AuditedStudy, AuditEvent, AuditKind, EventOutcome, TrailKind
from backup_scp.services.audit_reporter import AuditReporter
from backup_scp.web.app import application
from backup_scp.web.options import WebOptions
from tests.audit_messages import ListTrail
from tests.samples import ct_series, encode
from tests.web.conftest import stores_of
from tests.web.stow.bodies import CONTENT_TYPE, body

SLICES = [encode(ds) for ds in ct_series(2)]
STUDY = str(ct_series(1)[0].StudyInstanceUID)


@pytest.fixture
def trail():
    return ListTrail()


@pytest.fixture
def client(stored, trail):
    for number, sample in enumerate(SLICES):
        stored.put(sample, number)

    def make(address="127.0.0.1"):
        app = application(stores_of(stored), WebOptions(), reporter=AuditReporter(trail))
        return TestClient(app, base_url="http://127.0.0.1", client=(address, 50000))

    return make


def test_a_search_is_kept_as_it_came(client, trail):
    assert client().get("/dicom-web/studies?PatientName=M%C3%BCller*").status_code in (200, 204)
    (event,) = trail.events

    assert event.kind is TrailKind.QUERIED
    assert event.objects == (AuditedQuery("/dicom-web/studies", b"PatientName=M%C3%BCller*"),)


def test_who_looks_at_a_study_is_told_once(client, trail):
    web = client()
    paths = (f"/dicom-web/studies/{STUDY}", f"/dicom-web/studies/{STUDY}/metadata", f"/dicom-web/studies/{STUDY}")
    assert [web.get(path).status_code for path in paths] == [200] * 3
    (event,) = trail.events

    assert (event.kind, event.objects) == (TrailKind.ACCESSED, (AuditedStudy(STUDY),))
    assert event.participants[0].address == "127.0.0.1"
    assert web.get("/dicom-web/studies/1.2.3").status_code == 404
    assert len(trail.events) == 1


def test_who_may_not_is_told_without_what_was_asked(client, trail):
    web = client("192.0.2.9")
    for _ in range(3):
        assert web.get("/dicom-web/studies?PatientName=Secret").status_code == 401
    (event,) = trail.events

    assert (event.kind, event.outcome) == (TrailKind.REQUEST_REFUSED, EventOutcome.MINOR_FAILURE)
    assert "Secret" not in str(event)


def test_what_is_stored_makes_one_entry_a_study_and_one_of_the_refused(client, trail):
    files = [encode(ds).file_bytes() for ds in ct_series(2, study="new")]
    answer = client().post(
        "/dicom-web/studies", content=body(*files, b"no DICOM"), headers={"content-type": CONTENT_TYPE}
    )
    assert answer.status_code == 202
    received, refused = trail.events

    assert [received.kind, refused.kind] == [TrailKind.RECEIVED] * 2
    (study,) = received.objects
    assert isinstance(study, AuditedStudy)
    assert sum(study.instances.values()) == 2
    assert refused.outcome is EventOutcome.SERIOUS_FAILURE
    assert received.correlation_id == refused.correlation_id


def test_what_the_audit_of_users_has_the_trail_has_too(tmp_path, trail):
    with contextlib.closing(SQLAccounts.in_file(tmp_path / "accounts.sqlite")) as accounts:
        accounts.on_event = AuditReporter(trail).account_event
        for kind in AuditKind:
            accounts.record(AuditEvent(clock.now(), kind, "anna", "about", "192.0.2.9"))
        assert len(accounts.events(100)) == len(trail.events) == len(AuditKind)

    told = {event.reason.partition(":")[0]: event for event in trail.events}
    assert told["login"].kind is TrailKind.LOGGED_IN
    assert told["login failed"].outcome is EventOutcome.MINOR_FAILURE
    assert told["user changed"].kind is TrailKind.ROLES_CHANGED
    assert told["share link made"].kind is told["patients linked"].kind is TrailKind.ACCESS_CHANGED
