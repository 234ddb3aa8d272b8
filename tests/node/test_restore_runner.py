"""Restores that were ordered on the page: real processes, which are killed, stopped and not started twice."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from backup_scp.errors import IndexUnavailable
from backup_scp.machine import clock
from backup_scp.node import restore_runner
from backup_scp.node.restore_runner import RestoreRunner, node_name
from backup_scp.node.settings import load
from backup_scp.services import restore_jobs
from tests.processes import LOOPBACK, free_port, wait_until
from tests.samples import dx, encode
from tests.stored import stored_in

WAIT_S = 120


@pytest.fixture
def settings(tmp_path):
    """Return settings with a console that is off: a restore waits for it."""
    file = tmp_path / "settings.toml"
    remote = f'name = "dx"\nae_title = "DX"\nhost = "{LOOPBACK}"\nport = {free_port()}\ndestination = true\n'
    file.write_text(f"[[remote]]\n{remote}")
    return load(file, {"BACKUP_SCP_HOME": str(tmp_path)})


@pytest.fixture
def index(tmp_path):
    with stored_in(tmp_path) as stored:
        stored.put(encode(dx()))
        yield stored.index


@pytest.fixture
def start(settings):
    """Return ``start(index)``: the runner of a node; all are stopped at the end."""
    runners = []

    def start(index) -> RestoreRunner:
        runner = RestoreRunner(settings, index)
        runners.append(runner)
        runner.look()
        return runner

    yield start
    for runner in runners:
        runner.stop()


def order(index, node: str) -> None:
    restore_jobs.order(index, node, "dx", [dx().StudyInstanceUID], clock.now())


def job(index):
    (found,) = restore_jobs.jobs(index)
    return found


def process_of(runner, index) -> int:
    """Return the process ID of a restore that waits for its console."""
    wait_until(lambda: job(index).note, WAIT_S, what="the restore waiting")
    (process,) = runner._processes
    return process.pid


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_process_that_is_killed_is_told_once(start, index, settings, caplog):
    caplog.set_level("INFO")
    order(index, node_name(settings))
    runner = start(index)
    os.kill(process_of(runner, index), signal.SIGKILL)
    wait_until(lambda: not job(index).is_running, WAIT_S, what="the end")
    assert job(index).note == "Its process was ended (exit code -9): send it again"
    assert not job(index).is_complete
    wait_until(lambda: not runner._running, what="the thread ending")
    runner.look()
    assert not runner._running
    assert len([record for record in caplog.records if "has ended" in record.message]) == 1


def test_a_node_that_stops_goes_on_after_its_next_start(start, index, settings):
    order(index, node_name(settings))
    first = start(index)
    before = process_of(first, index)
    first.stop()
    assert job(index).is_running
    assert not first._processes
    second = start(index)
    wait_until(lambda: second._processes, WAIT_S, what="the next process")
    assert process_of(second, index) != before


def test_another_node_of_the_index_leaves_it_alone(start, index):
    order(index, "another node")
    assert not start(index)._running
    assert job(index).is_running


class _IndexThatIsAway:
    """An index that cannot record the end of a restore for a while."""

    def __init__(self, index) -> None:
        self._index = index
        self.is_away = True
        self.refused = 0

    def __getattr__(self, name: str):
        return getattr(self._index, name)

    def record_task(self, task) -> None:
        if task.ended_at and self.is_away:
            self.refused += 1
            raise IndexUnavailable("it is away")
        self._index.record_task(task)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_an_end_that_cannot_be_recorded_begins_nothing_again(start, index, settings, monkeypatch):
    monkeypatch.setattr(restore_runner, "_RECORD_EVERY_S", 0.01)
    away = _IndexThatIsAway(index)
    order(index, node_name(settings))
    runner = start(away)
    os.kill(process_of(runner, index), signal.SIGKILL)
    wait_until(lambda: away.refused > 1, WAIT_S, what="the end being refused")
    runner.look()
    assert not runner._processes
    away.is_away = False
    wait_until(lambda: not job(index).is_running, WAIT_S, what="the end being recorded")
