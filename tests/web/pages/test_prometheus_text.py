"""The state for Prometheus: one truth with ``status``, and no label that a stranger chooses."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as text_format

from backup_scp.ports import (
    CopyState,
    DrillResult,
    FirstArrival,
    Holdings,
    OwedReports,
    Rejection,
    RemoteAE,
    Requester,
    ServiceKind,
)
from backup_scp.watch.forecast import Forecast
from backup_scp.web.pages.backup_state import (
    BackupState,
    StateCertificate,
    StateFinding,
    StateMaintenance,
    StateNode,
    StateRecord,
)
from backup_scp.web.pages.intake_calendar import console_days
from backup_scp.web.pages.prometheus_text import metrics_of
from backup_scp.web.pages.state_feed import StateSnapshot
from tests.samples import dx, encode

NOW = datetime(2026, 1, 28, 12, tzinfo=UTC)
DAY = timedelta(days=1)
REMOTES = (RemoteAE("dx-room-1", "DX", "192.0.2.7"), RemoteAE("ct", "CT", "192.0.2.8"))
OPEN_METRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def state(**facts: Any) -> BackupState:
    known: dict[str, Any] = {"ae_title": "A", "node": StateNode(running=True), "findings": []}
    return BackupState(**(known | facts))


def seen(found: BackupState, **more: Any) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the values by name, without the prefix, and by the values of their labels."""
    text, _ = metrics_of(StateSnapshot(NOW, found, **more), REMOTES)
    return {
        family.name.removeprefix("backup_scp_"): {
            tuple(sample.labels.values()): sample.value for sample in family.samples
        }
        for family in text_format(text.decode())
    }


def rejection(ae_title: str, address: str, count: int = 1, service: ServiceKind = ServiceKind.STORE) -> Rejection:
    return Rejection(service, ae_title, "BACKUP_SCP", address, f"reason {count}", "", count, NOW)


@pytest.mark.parametrize(
    ("accept", "media_type", "parse"),
    [
        ("*/*", "text/plain; version=0.0.4", text_format),
        (OPEN_METRICS, "application/openmetrics-text; version=1.0.0", open_metrics),
    ],
)
def test_it_is_given_in_the_format_that_is_asked_for(pages, stored, accept, media_type, parse):
    stored.put(encode(dx()), remote='a"b\\c\nd')
    answer = pages.get("/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith(media_type)
    values = {sample.name: sample.value for family in parse(answer.text) for sample in family.samples}
    assert values["backup_scp_sign"] == 2
    assert values["backup_scp_instances"] == 1
    assert values["backup_scp_running"] == 0  # no node runs on this folder


class TestLabels:
    def test_a_stranger_adds_no_series(self):
        known = [rejection("DX", "192.0.2.7", 2), rejection("DX", "192.0.2.7", 3), rejection("NEW", "192.0.2.8")]
        moved = Rejection(ServiceKind.DESTINATION, "WS", "CT", "192.0.2.1", "away", "", 4, NOW)
        strangers = [rejection(f"SCAN{n}", f"198.51.100.{n}") for n in range(200)]
        assert seen(state(rejections=[*known, moved, *strangers]))["refused"] == {
            ("dx-room-1", "store"): 5,
            ("ct", "store"): 1,
            ("ct", "destination"): 4,
            ("other", "store"): 200,
        }

    def test_consoles_are_those_of_the_settings(self):
        arrivals = [FirstArrival(name, NOW - n * DAY, NOW - n * DAY) for n, name in enumerate(["ct", "DX", "A", "B"])]
        found = seen(state(), days=console_days(arrivals, NOW.astimezone().date()))
        assert set(found["studies_today"]) == {("ct",), ("dx-room-1",), ("other",)}
        assert found["console_last_image_timestamp_seconds"] == {
            ("ct",): NOW.timestamp(),
            ("dx-room-1",): (NOW - DAY).timestamp(),
            ("other",): (NOW - 2 * DAY).timestamp(),
        }

    @pytest.mark.parametrize(
        ("what", "subject", "label"),
        [
            ("copies", "drive", "drive"),
            ("copies", "off-site ", "off-site"),
            ("certificate", "[tls]", "[tls]"),
            ("refused", "DX at 192.0.2.7", "dx-room-1"),
            ("refused", "a caller without a name at 192.0.2.8", "ct"),
            ("refused", 'x"\n at 198.51.100.1', "other"),
            ("silent", "DX", "dx-room-1"),
            ("changes", "Clinic NEW", "other"),
            ("something new", "of a stranger", "other"),
            ("disk", "", ""),
        ],
    )
    def test_findings_name_no_stranger(self, what, subject, label):
        finding = StateFinding(what, "act", "sentence", aspect="a", subject=subject)
        assert seen(state(findings=[finding, finding]))["findings"] == {("a", "act", label, what): 2}

    def test_reports_are_owed_to_devices(self):
        def owed(ae_title: str, number: int) -> OwedReports:
            return OwedReports(Requester("", ae_title, "192.0.2.7"), 1, number, 0, NOW, "closed", None, None)

        found = seen(state(commitments=[owed("DX", 2), owed("", 3), owed("CT", 4)]))
        assert found["commitments_owed"] == {("dx-room-1",): 5, ("ct",): 4}
        assert found["commitments_waiting"] == {("dx-room-1",): 2, ("ct",): 1}


class TestValues:
    def test_the_node(self):
        maintenance = StateMaintenance(alive=False, active_at=NOW - DAY)
        record = StateRecord("9.8.7", NOW - 2 * DAY, "A", process=1, listening=False, maintenance=maintenance)
        found = seen(state(node=StateNode(running=True, record=record)))
        assert found["build_info"] == {("9.8.7",): 1}
        assert found["listening"] == found["maintenance_alive"] == {(): 0}
        assert found["maintenance_active_timestamp_seconds"] == {(): (NOW - DAY).timestamp()}
        assert found["start_timestamp_seconds"] == {(): (NOW - 2 * DAY).timestamp()}

    def test_one_that_ended_says_so_and_nothing_of_its_last_run(self):
        record = StateRecord("9.8.7", NOW, "A", process=1)
        found = seen(state(node=StateNode(running=False, record=record)))
        assert found["running"] == {(): 0}
        assert not {"listening", "build_info", "start_timestamp_seconds"} & set(found)

    def test_without_an_index(self):
        found = seen(state(index_trouble="locked", refusing="locked"))
        assert found["index_up"] == found["storing"] == {(): 0}
        assert "damaged" not in found

    def test_what_is_kept_and_when_the_disk_is_full(self):
        held = Holdings(1, 2, 3, 4, 5, 6, 7, 8, NOW, None, 9)
        found = seen(state(holdings=held, free_bytes=10, forecast=Forecast(30, 1.0, date(2026, 2, 1))))
        names = ("patients", "versions", "stored_bytes", "flagged", "damaged", "never_verified", "free_bytes")
        assert [found[name][()] for name in names] == [1, 5, 6, 7, 8, 9, 10]
        assert found["disk_full_timestamp_seconds"] == {(): datetime(2026, 2, 1).astimezone().timestamp()}
        assert "last_verified_timestamp_seconds" not in found

    def test_copies_drills_and_certificates(self):
        due = CopyState("usb", "1", "red", held=4, due=2, oldest_due=NOW - DAY, trouble="away")
        drill = DrillResult("usb", NOW - DAY, NOW, passed=False, label="red")
        ends = [StateCertificate("[tls]", NOW + DAY), StateCertificate("[web]", None)]
        found = seen(state(copies=[due, CopyState("cloud", "")], drills=[drill], certificates=ends))
        assert found["copy_usable"] == {("usb", "red"): 0, ("cloud", ""): 1}
        assert found["copy_oldest_due_timestamp_seconds"] == {("usb", "red"): (NOW - DAY).timestamp()}
        assert found["drill_passed"] == {("usb", "red"): 0}
        assert found["certificate_end_timestamp_seconds"] == {("[tls]",): (NOW + DAY).timestamp()}
