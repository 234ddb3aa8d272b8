"""The finding for each fact, and whether a person must act."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup_scp.audit.log_forwarding import ForwardState
from backup_scp.dimse.association.access import ADD_REMOTE
from backup_scp.node.health.certificates import CertificateState
from backup_scp.node.run_record import Maintenance, NodeState
from backup_scp.node.settings import Settings, load
from backup_scp.node.settings.audit_section import AuditSettings
from backup_scp.ports import ClockDoubt, DiskFault, MassChange, OwedReports, Rejection, Requester, ServiceKind, Task
from backup_scp.watch.forecast import Forecast
from tests.node.health.conftest import HOLDINGS, KNOWN, NOW, RECORD

LONG_AGO = NOW - timedelta(days=3)


def test_all_is_well(found):
    assert found() == []


ACT = {
    "not running": ({"node": NodeState(False, None)}, "NOT RUNNING", "backup-scp serve"),
    "ended by a crash": ({"node": NodeState(False, RECORD)}, "ended unexpectedly, after 2026-05-04", "serve"),
    "deaf": ({"record": {"listening": False}}, "accepts no connections", "restart"),
    "silent": ({"record": {"alive_at": NOW - timedelta(hours=1)}}, "no activity since", "restart"),
    "no maintenance": ({"record": {"maintenance": Maintenance(alive=False)}}, "thread has ended", "restart"),
    "stuck": ({"record": {"maintenance": Maintenance(True, NOW - timedelta(hours=2))}}, "makes no progress", "drive"),
    "maintenance waits": ({"record": {"maintenance": Maintenance(True, NOW, "The index is gone")}}, "is gone", "check"),
    "refusing": ({"refusing": "Archive full"}, "NOTHING CAN BE STORED NOW. Archive full", "check"),
    "certificate": (
        {"certificates": [CertificateState("[tls]", None, "[tls] certificate has expired")]},
        "expired",
        "",
    ),
    "index": ({"index_trouble": "The server does not answer", "known": None}, "does not answer", ""),
    "damage": ({"known": {"holdings": replace(HOLDINGS, damaged=2)}}, "DAMAGED: 2 images", "send them again"),
    "storm": ({"known": {"storms": [MassChange("", "DR1", 40, 50, LONG_AGO)]}}, "ALARM", ""),
    "low": (
        {
            "free_bytes": 1_500_000,
        },
        "Only 1.5 MB",
        "room",
    ),
    "full soon": ({"known": {"forecast": Forecast(30, 1e9, NOW.date() + timedelta(days=9))}}, "2026-05-13", "room"),
    "future": (
        {"known": {"clock_doubt": ClockDoubt(6, NOW + timedelta(days=9), timedelta(days=9))}},
        "6 images were received in the future",
        "",
    ),
    "clock of 1970": ({"at": datetime(1970, 1, 2, tzinfo=UTC)}, "clock says 1970-01-02", "set it"),
    "rebuild under way": (
        {"known": {"tasks": {"rebuild": Task("rebuild", NOW, done=400)}}},
        "the node rebuilds it from the files, 400 images so far",
        "wait",
    ),
    "rebuild of nobody": (
        {"known": {"tasks": {"rebuild": Task("rebuild", NOW, note="It was gone")}}, "node": NodeState(False, None)},
        "interrupted",
        "run  backup-scp rebuild",
    ),
}
NOTES = {
    "flagged": ({"known": {"holdings": replace(HOLDINGS, flagged=1)}}, "Flagged: 1 image", ""),
    "other version": ({"record": {"version": "0.0.9"}}, "version 0.0.9, installed is", "restart"),
    "clock that was set right": (
        {"known": {"clock_doubt": ClockDoubt(6, NOW + timedelta(days=9), timedelta(days=9), is_over=True)}},
        "6 images were received in the future",
        "",
    ),
    "trouble that ended": (
        {"known": {"trouble": DiskFault("It did not keep data", LONG_AGO, NOW)}},
        "nothing was stored",
        "check the drive",
    ),
}


@pytest.mark.parametrize(("facts", "sentence", "fix"), ACT.values(), ids=ACT)
def test_a_person_must_act(found, facts, sentence, fix):
    (one,) = [finding for finding in found(**facts) if sentence in finding.sentence]
    assert one.severity == "act"
    assert fix in one.fix


@pytest.mark.parametrize(("facts", "sentence", "fix"), NOTES.values(), ids=NOTES)
def test_worth_a_look(found, facts, sentence, fix):
    (one,) = found(**facts)
    assert sentence in one.sentence
    assert one.severity == "note"
    assert fix in one.fix


@pytest.mark.parametrize("runs", [True, False])
def test_a_recovery_that_runs_can_wait(found, runs):
    """An archive that comes back needs its copy connected; one that does not come back needs somebody now."""
    known = {"tasks": {"recovery": Task("recovery", NOW, done=4)}}
    findings = found(known=known) if runs else found(known=known, node=NodeState(False, None))
    (one,) = [finding for finding in findings if finding.what == "recovery"]
    assert (one.severity, one.can_wait) == ("act", runs)
    assert ("wait" in one.fix) is runs


@pytest.mark.parametrize(("user", "name"), [(4_000_000, "4000000"), (0, "root:")])
def test_folders_that_are_closed_to_the_node(found, user, name):
    (one,) = found(closed_folders=["/nowhere/archive/00", "/nowhere/archive/ff"], record={"user": user})
    assert one.severity == "act"
    assert "2 folders of the archive belong to another user than" in one.sentence
    assert "/nowhere/archive/00" in one.sentence
    assert one.fix == f"sudo chown -R {name} /nowhere/archive"


def test_what_needs_a_person_comes_first(found):
    listed = found(known={"holdings": replace(HOLDINGS, flagged=1, damaged=1)})
    assert [finding.severity for finding in listed] == ["act", "note"]


def test_an_open_trouble_is_told_of_as_refusing_alone(found):
    trouble = DiskFault("It did not keep data", LONG_AGO, None)
    (one,) = found(known={"trouble": trouble}, refusing=trouble.sentence)
    assert one.what == "storing"


# ------------------------------------------------------------------------------------------------------------ refused


def refused(service, *, calling="DR1", address="192.0.2.9", last_at=NOW, fix="Mend it"):
    return Rejection(service, calling, "BACKUP_SCP", address, "The reason", fix, 12, last_at)


STRANGER, CONFIGURED = (), ({"name": "room 1", "ae_title": "DR1", "host": "192.0.2.9"},)


@pytest.mark.parametrize(
    ("service", "days", "remotes", "severity"),
    [
        ("store", 0, STRANGER, "act"),
        ("store", 20, STRANGER, "act"),  # until it succeeds
        ("association", 0, STRANGER, "act"),  # perhaps a console
        ("association", 2, STRANGER, "note"),
        ("context", 0, STRANGER, "note"),
        ("context", 0, CONFIGURED, "note"),  # images came in, or their own refusal says so
        ("release", 0, CONFIGURED, "note"),
        ("proof", 0, STRANGER, "note"),
        ("proof", 0, CONFIGURED, "act"),  # the console believes that we have them
        ("association", 2, CONFIGURED, "note"),
        ("query", 0, STRANGER, "note"),
        ("query", 0, CONFIGURED, "act"),
        ("retrieve", 0, CONFIGURED, "act"),
        ("commitment", 0, CONFIGURED, "act"),
        ("tls", 0, STRANGER, "act"),
        ("destination", 0, CONFIGURED, "note"),
    ],
)
def test_who_was_refused(found, configured, service, days, remotes, severity):
    rejection = refused(ServiceKind(service), last_at=NOW - timedelta(days=days))
    if service == "tls":
        rejection, severity = replace(rejection, calling_ae_title=""), "note"
    (one,) = found(known={"rejections": [rejection]}, settings=configured(remotes))
    assert one.severity == severity
    assert "at 192.0.2.9: " in one.sentence
    assert "12 times" in one.sentence
    assert one.sentence.endswith("The reason")
    assert one.fix == "Mend it"


@pytest.mark.parametrize(
    ("service", "hours", "remotes", "can_wait"),
    [
        ("store", 0, STRANGER, False),  # it may call, so it is no stranger
        ("store", 3, STRANGER, False),
        ("store", 5, CONFIGURED, True),
        ("association", 0, STRANGER, True),  # perhaps a scanner of the network
        ("association", 0, CONFIGURED, False),
        ("association", 5, CONFIGURED, True),
        ("tls", 0, CONFIGURED, False),
        ("tls", 0, STRANGER, True),
        ("query", 0, CONFIGURED, True),  # images come in
        ("retrieve", 0, CONFIGURED, True),
        ("commitment", 0, CONFIGURED, True),
    ],
)
def test_what_keeps_images_out_cannot_wait(found, configured, service, hours, remotes, can_wait):
    rejection = refused(ServiceKind(service), last_at=NOW - timedelta(hours=hours))
    (one,) = found(known={"rejections": [rejection]}, settings=configured(remotes))
    assert one.can_wait is can_wait


def test_a_caller_of_a_configured_address_that_does_not_name_itself(found, configured):
    rejection = refused(ServiceKind.TLS, calling="")
    (one,) = found(known={"rejections": [rejection]}, settings=configured(CONFIGURED))
    assert one.severity == "act"
    assert "a caller without a name at 192.0.2.9" in one.sentence


@pytest.fixture
def configured(tmp_path):
    def configured(remotes) -> Settings:
        file = tmp_path / "settings.toml"
        file.write_text("\n".join("[[remote]]\n" + "\n".join(f"{k} = '{v}'" for k, v in r.items()) for r in remotes))
        return load(file, {"BACKUP_SCP_HOME": str(tmp_path)})

    return configured


@pytest.mark.parametrize("ae_title", ["VIEWER", "Viewer 2", '"quoted"', "_.-", "DR1", "dr1"])
def test_what_is_to_be_pasted_is_a_remote_of_the_settings(found, configured, tmp_path, ae_title):
    rejection = refused(ServiceKind.QUERY, calling=ae_title, address="2001:db8::7", fix=ADD_REMOTE)
    (one,) = found(known={"rejections": [rejection]}, settings=configured(CONFIGURED))
    sentence, block = one.fix.split("\n", 1)
    assert "backup-scp reload" in sentence
    (remote,) = tomllib.loads(block)["remote"]
    assert (remote["ae_title"], remote["host"]) == (ae_title, "2001:db8::7")
    settings = configured((*CONFIGURED, remote))
    assert settings.remotes[1].ae_title == ae_title


# --------------------------------------------------------------------------------------------------------- commitment


@pytest.mark.parametrize(
    ("owed", "since", "remotes", "severity"),
    [
        ({"owed": 1}, NOW, CONFIGURED, "note"),
        ({"owed": 1}, LONG_AGO, CONFIGURED, "act"),
        ({"owed": 1}, LONG_AGO, STRANGER, "note"),
        ({"given_up": 1}, NOW, CONFIGURED, "act"),
    ],
)
def test_reports_that_are_not_delivered(found, configured, owed, since, remotes, severity):
    counts = {"waiting": 0, "owed": 0, "given_up": 0} | owed
    reports = OwedReports(
        requester=Requester("", "DR1", "192.0.2.9"),
        since=since,
        tried_at=NOW,
        next_at=None,
        error="It is off",
        **counts,
    )
    (one,) = found(known={"commitments": [reports]}, settings=configured(remotes))
    assert (one.severity, one.fix) == (severity, "It is off")


def test_a_report_that_waits_is_nothing_to_do(found):
    reports = OwedReports(
        requester=Requester("", "DR1", "192.0.2.9"),
        since=NOW,
        tried_at=None,
        next_at=None,
        error="",
        waiting=1,
        owed=0,
        given_up=0,
    )
    assert found(known={"commitments": [reports]}) == []
    assert KNOWN.commitments == []


WAITING = ForwardState("log.example:6514", 7, LONG_AGO, "it is off", "switch it on", NOW - timedelta(minutes=50))
BY_SYSLOG = Settings(home=Path("/nowhere"), audit=AuditSettings("tls://log.example"))


@pytest.mark.parametrize(("minutes", "severity"), [(0, "note"), (20, "act")])
def test_a_syslog_server_that_takes_nothing_needs_a_person_after_an_hour(found, minutes, severity):
    (told,) = found(settings=BY_SYSLOG, forwarded=WAITING, at=NOW + timedelta(minutes=minutes))
    assert (told.what, told.severity) == ("audit", severity)
    assert told.sentence.endswith("the audit log waits: it is off")
    assert "switch it on" in told.fix


def test_a_syslog_server_that_takes_the_log_or_that_the_settings_name_no_more_is_well(found):
    assert found(settings=BY_SYSLOG, forwarded=ForwardState("log.example:6514", 7, NOW)) == []
    assert found(forwarded=WAITING) == []
