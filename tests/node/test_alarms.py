"""Each kind of alarm, from the facts to a real mail server and web server: told once, after restarts too, and ended."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backup_scp.node import alarms
from backup_scp.node.alarms import alert_thread, leave_event, seen, start_alarms
from backup_scp.node.health.alarm_rules import INDEX_KINDS, conditions
from backup_scp.node.health.certificates import CertificateState
from backup_scp.node.health.diagnosis import findings
from backup_scp.node.opening import OpenStores
from backup_scp.node.run_record import AuditLogState, Maintenance
from backup_scp.node.settings import CopySettings, RemoteSettings, Settings
from backup_scp.node.settings.alerts_section import AlertsSettings
from backup_scp.ports import (
    ClockDoubt,
    CopyState,
    CopyTrouble,
    DrillResult,
    OwedReports,
    Rejection,
    Requester,
    SeenConditions,
    ServiceKind,
)
from backup_scp.services.verify import verify
from backup_scp.watch import alert_thread as telling
from backup_scp.watch.forecast import Forecast
from tests.alerts.servers import mail_server, web_server
from tests.node.health.conftest import HOLDINGS, KNOWN, NOW, RECORD, WELL
from tests.node.health.test_diagnosis import ACT
from tests.processes import LOOPBACK, wait_until
from tests.services.test_copying import tiny
from tests.stored import stored_in

IT = "it@clinic.example"
AGO = NOW - timedelta(days=9)
CONSOLE = RemoteSettings("dr1", "DR1", "192.0.2.1", port=11113)
SETTINGS = Settings(
    home=Path("/nowhere"), remote=(CONSOLE,), copy=(CopySettings("nas", "s3://nas"), CopySettings("usb", "file:///usb"))
)
REACHED = CopyState("nas", "", seen_at=NOW, complete_at=NOW)
HERE = CopyState("usb", "1", seen_at=NOW, complete_at=NOW)
COPIES = [REACHED, HERE]
BEHIND = replace(REACHED, due=9, oldest_due=AGO)
BROKEN = replace(REACHED, trouble="It refuses the key", trouble_kind=CopyTrouble.FAULT)
GONE = replace(HERE, seen_at=AGO, trouble="No drive is here", trouble_kind=CopyTrouble.AWAY)
OWED = OwedReports(Requester("", "DR1", "192.0.2.1"), 0, 3, 0, AGO, "Its port 11113 is closed", AGO, NOW)
REFUSED = Rejection(
    ServiceKind.STORE, "DR1", "BACKUP_SCP", "192.0.2.1", "Not a SOP Class of storage", "send images", 3, NOW
)
TRIED = [DrillResult(name, NOW, NOW, passed=True) for name in ("nas", "usb")]

KINDS = {
    "disk filling": ({"forecast": Forecast(30, 1e9, NOW.date() + timedelta(days=9))}, "full about 2026-05-13", "month"),
    "disk low": ({"free_bytes": 1_500_000}, "Only 1.5 MB are left", "has room again"),
    "copy behind": ({"copies": [BEHIND, HERE]}, "Copy nas is behind: 9 images due", "nas has caught up"),
    "copy broken": ({"copies": [BROKEN, HERE]}, "It refuses the key", "nas can be used again"),
    "drive not seen": ({"copies": [REACHED, GONE]}, "No drive of it was here since 2026-04-25", "usb is here again"),
    "damage": ({"holdings": replace(HOLDINGS, damaged=2)}, "DAMAGED: 2 images", "no image is damaged"),
    "commitment": ({"commitments": [OWED]}, "3 Storage Commitment reports for DR1", "DR1 at 192.0.2.1: no Storage"),
    "certificate": (
        {"certificates": [CertificateState("[tls]", None, "[tls] certificate x is valid until 2026-06-01 only")]},
        "2026-06-01",
        "30 days",
    ),
    "clock": ({"clock_doubt": ClockDoubt(6, NOW + timedelta(9), timedelta(9))}, "6 images were", "is right again"),
    "refused images": ({"rejections": [REFUSED]}, "DR1 at 192.0.2.1: IMAGES REFUSED", "its images are accepted"),
    "maintenance ended": ({"record": {"maintenance": Maintenance(alive=False)}}, "thread has ended", "thread runs"),
    "audit log": ({"record": {"audit_log": AuditLogState(NOW, 20_000, 7)}}, "7 further", "can be written again"),
    "maintenance stuck": (
        {"record": {"maintenance": Maintenance(True, NOW - timedelta(hours=2))}},
        "makes no progress",
        "makes progress again",
    ),
    "no drill": ({"drills": [replace(TRIED[0], ended_at=NOW - timedelta(days=90)), TRIED[1]]}, "nobody", "proved"),
    "nothing stored": ({"refusing": "Archive full"}, "NOTHING CAN BE STORED NOW. Archive full", "can be stored again"),
    "index": ({"index_trouble": "The server does not answer", "known": None}, "does not answer", "can be read again"),
}


def conditions_of(changed: dict) -> SeenConditions:
    """Derive what is told from facts of which some are changed."""
    known = {name: value for name, value in changed.items() if hasattr(KNOWN, name)}
    facts = {name: value for name, value in changed.items() if name not in {*known, "record"}}
    facts.setdefault("known", replace(KNOWN, **{"copies": COPIES, "drills": TRIED} | known))
    facts["node"] = replace(WELL.node, record=replace(RECORD, **changed.get("record", {})))
    found = replace(WELL, settings=SETTINGS, **facts)
    return conditions(findings(found), INDEX_KINDS if found.known is None else frozenset())


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    for name in ("_FIRST_PAUSE_S", "_BETWEEN_S"):
        monkeypatch.setattr(telling, name, 0)


def test_a_node_that_is_well_tells_nothing():
    assert conditions_of({}).conditions == ()


@pytest.mark.parametrize(("facts", "sentence", "ended"), KINDS.values(), ids=KINDS)
def test_each_kind_begins_once_and_ends_once(tmp_path, clock, monkeypatch, facts, sentence, ended):
    bad, well = conditions_of(facts), conditions_of({})
    now = bad

    def look(*, later: timedelta = timedelta()) -> None:
        """Look as after a restart."""
        clock.jump(seconds=later.total_seconds())
        thread = alert_thread(settings, storage)
        assert thread is not None
        thread.look()

    with web_server() as hook, mail_server() as box, stored_in(tmp_path):
        told = AlertsSettings(email=(IT,), smtp=f"{LOOPBACK}:{box.port}", smtp_security="none", webhook=hook.url)
        box.refused.add(IT)
        settings = Settings(home=tmp_path, alerts=told)
        monkeypatch.setattr(alarms, "seen", lambda *_: now)
        with OpenStores(settings) as storage:
            look()
            look(later=timedelta(hours=2))  # the mail server takes nothing
            look(later=timedelta(minutes=5))
            assert [body["is_alarm"] for body in hook.bodies] == [True]
            assert sentence in hook.bodies[0]["text"]
            box.refused.clear()
            look(later=timedelta(hours=1))
            now = well
            look(later=timedelta(minutes=1))
            look(later=timedelta(minutes=10))
            look(later=timedelta(days=1))
    assert [body["is_alarm"] for body in hook.bodies] == [True, False]
    assert f"Over: {hook.bodies[1]['subject'].partition('over: ')[2]}" in hook.bodies[1]["text"]
    begin, end = box.mail
    assert sentence in begin.get_content().replace("\n", " ")
    assert ended in end.get_content()
    assert end["In-Reply-To"] == begin["Message-ID"]


SAYS_IT_IN_ITS_SENTENCE = {"certificate", "clock", "changes"}


def test_each_says_what_to_do():
    given: list[Any] = [facts for facts, *_ in KINDS.values()]
    others: list[Any] = [facts for facts, *_ in ACT.values()]
    given += [facts.get("known") or facts for facts in others]
    for facts in given:
        for told in conditions_of(facts).conditions:
            assert told.fix or told.key[0] in SAYS_IT_IN_ITS_SENTENCE, told


# -- the real facts ----------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path):
    with stored_in(tmp_path) as stored:
        yield stored


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(home=tmp_path)


def keys(settings: Settings) -> list[tuple[str, str, str]]:
    with OpenStores(settings) as storage:
        return [each.key for each in seen(settings, storage).conditions]


def test_damage_is_seen_without_counting_all(settings, stored, monkeypatch):
    came = stored.put(tiny(1))
    stored.flip(came.location)
    verify(stored.archive, stored.index)
    monkeypatch.setattr(type(stored.index), "holdings", None)
    assert ("damage", "", "") in keys(settings)


def test_an_archive_that_is_gone_is_told(settings, stored, tmp_path):
    stored.put(tiny(1))
    with OpenStores(settings) as storage:
        shutil.rmtree(tmp_path / "archive")
        assert ("storing", "", "") in [each.key for each in seen(settings, storage).conditions]
        assert alarms._why_not(settings, storage, lambda: True, None)


def test_a_data_folder_that_is_gone_is_told_and_ends_nothing(settings, stored, tmp_path):
    with OpenStores(settings) as storage:
        found = seen(Settings(home=tmp_path / "gone"), storage)
    assert [each.key for each in found.conditions] == [("storing", "", "")]
    assert {"copies", "disk", "node"} <= found.is_unknown


def test_the_heartbeat_stops_while_nobody_listens_or_the_archive_is_gone(settings, stored, tmp_path):
    stored.put(tiny(1))
    with OpenStores(settings) as storage:
        assert alarms._why_not(settings, storage, lambda: True, None) == ""
        assert alarms._why_not(settings, storage, lambda: False, None) == "the node accepts no connections"
        thread = alert_thread(Settings(home=tmp_path, alerts=AlertsSettings(webhook="https://chat.example/x")), storage)
        assert "has ended" in alarms._why_not(settings, storage, lambda: True, thread)
        stored.index.record_archive_trouble("The disk did not keep an image")
        assert alarms._why_not(settings, storage, lambda: True, None) == "The disk did not keep an image"


def test_without_a_channel_nothing_runs(settings, stored):
    with OpenStores(settings) as storage, start_alarms(settings, storage, lambda: True):
        assert {each.name for each in threading.enumerate()} & {"alerts", "heartbeat"} == set()


def test_both_run_when_they_are_asked_for_and_end_with_the_node(stored, tmp_path):
    with web_server() as hook:
        told = AlertsSettings(webhook=hook.url, heartbeat=f"{hook.url}/beat")
        settings = Settings(home=tmp_path, alerts=told)
        leave_event(settings, "The node ended unexpectedly")
        with OpenStores(settings) as storage, start_alarms(settings, storage, lambda: True):
            assert {each.name for each in threading.enumerate()} >= {"alerts", "heartbeat"}
            wait_until(lambda: len(hook.paths) >= 2)
        assert {each.name for each in threading.enumerate()} & {"alerts", "heartbeat"} == set()
    assert "/hooks/secret-token/beat" in hook.paths
    assert any("ended unexpectedly" in body["text"] for body in hook.bodies)


def test_no_message_of_a_damaged_image_names_its_patient(settings, stored):
    for number in range(3):
        stored.flip(stored.put(tiny(number), number).location)
    verify(stored.archive, stored.index)
    with OpenStores(settings) as storage:
        said = str(seen(settings, storage))
    names = [str(tiny(number).dataset()[tag].value) for number in range(3) for tag in ("PatientName", "PatientID")]
    assert any(names)
    for name in filter(None, names):
        assert name not in said


def test_a_clock_of_the_year_1970_is_told(settings, stored, clock):
    stored.put(tiny(1))
    clock.time = datetime(1970, 1, 2, tzinfo=UTC)
    assert ("clock", "unset", "") in keys(settings)
