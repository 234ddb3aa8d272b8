"""How far long work is, how fast, and when it will be ready."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backup_scp.ports import CopyState, Holdings, Task
from backup_scp.web.pages.backup_state import BackupState, StateNode
from backup_scp.web.pages.prometheus_text import metrics_of
from backup_scp.web.pages.state_feed import StateSnapshot
from backup_scp.web.pages.work_progress import WorkPace, WorkProgress

NOW = datetime(2026, 1, 28, 12, tzinfo=UTC)
HELD = Holdings(1, 1, 1, 1000, 1000, 9, 0, 0, NOW, None, 0)


def state(done: int | None = None, **copy: Any) -> BackupState:
    tasks = {} if done is None else {"recovery": Task("recovery", NOW, done=done, note="5 of 1000")}
    facts: dict[str, Any] = {"label": "red", "seen_at": NOW} | copy
    copies = [CopyState("drive", "ab", **facts)] if copy else []
    return BackupState("A", StateNode(running=True), [], holdings=HELD, tasks=tasks, copies=copies)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.fixture
def pace() -> WorkPace:
    return WorkPace()


def test_nothing_is_unfinished(pace):
    assert pace.progress(state(), NOW) == {}
    assert pace.progress(state(held=10), NOW) == {}
    assert pace.progress(state(held=0, due=9, seen_at=None), NOW) == {}, "a place that was never reached"


def test_a_recovery(pace):
    assert pace.progress(state(0), NOW) == {"recovery": WorkProgress("recovery", 0, 1000)}
    (one,) = pace.progress(state(100), at(60)).values()
    assert (one.done, one.total, one.percent) == (100, 1000, 10)
    assert one.per_minute == pytest.approx(100)
    assert one.ready_at == at(600)
    assert pace.progress(state(), at(70)) == {}


def test_a_drive_that_is_filled(pace):
    pace.progress(state(held=10, due=90), NOW)
    (one,) = pace.progress(state(held=40, due=60), at(60)).values()
    assert (one.name, one.percent, one.ready_at) == ("copy drive red", 40, at(180))


def test_only_the_last_minutes_count(pace):
    pace.progress(state(0), NOW)
    pace.progress(state(900), at(700))
    (one,) = pace.progress(state(910), at(760)).values()
    assert one.per_minute == pytest.approx(10)


@pytest.mark.parametrize(("done", "seconds"), [(5, 60), (20, -60), (10, 60), (20, 1)])
def test_no_rate_where_none_can_be_told(pace, done, seconds):
    """It began again; a clock was set; nothing happened; too little time has passed."""
    pace.progress(state(10), NOW)
    (one,) = pace.progress(state(done), at(seconds)).values()
    assert (one.per_minute, one.ready_at) == (None, None)


def test_not_all_is_never_all():
    assert WorkProgress("x", 999_999, 1_000_000).percent == 99
    assert WorkProgress("x", 0, 0).percent == 0


def test_the_page_and_prometheus_show_it(make_pages):
    whole = state(250, held=40, due=60)
    text = make_pages(found=lambda: whole).get("/").text
    assert '<progress class="work" max="1000" value="250"' in text
    assert '<progress class="work" max="100" value="40" aria-label="drive"' in text
    assert "250 of 1,000 images, 25 %" in text
    work = {"recovery": WorkProgress("recovery", 250, 1000, 5.0, at(60))}
    lines = metrics_of(replace(StateSnapshot(NOW, whole), work=work))[0].decode().splitlines()
    assert 'backup_scp_work_done{work="recovery"} 250.0' in lines
    assert 'backup_scp_work_images{work="recovery"} 1000.0' in lines
    ready = "backup_scp_work_ready_timestamp_seconds{"
    assert [float(line.split()[-1]) for line in lines if line.startswith(ready)] == [at(60).timestamp()]
