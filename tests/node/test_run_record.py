"""A lock that ends with its holder, and a record that describes the node."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from backup_scp.errors import InvalidSettings
from backup_scp.machine.process_lock import Lock
from backup_scp.node import run_record
from backup_scp.node.run_record import SIGN_OF_LIFE_EVERY, AuditLogState, Maintenance, Outage, Run, RunRecord, look
from tests.processes import ROOT
from tests.system.mounts import private_mounts

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
RECORD = RunRecord("1.0", 4711, 1000, NOW, "BACKUP_SCP", "192.0.2.7", 11112, None, 1, NOW)

HOLDING = """
import sys
from pathlib import Path
from backup_scp.node.run_record import Run
run = Run(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


LOOKING = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_SH)
print("held", flush=True)
sys.stdin.read(1)
"""


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path)
    yield run
    run.close()


def test_nobody_runs_and_nothing_is_made(tmp_path):
    assert look(tmp_path / "nowhere") == look(tmp_path)
    assert not look(tmp_path).running
    assert list(tmp_path.iterdir()) == []


def test_somebody_runs(tmp_path, run):
    run.write(RECORD)
    found = look(tmp_path)
    assert (found.running, found.record) == (True, RECORD)


def test_one_that_has_ended_leaves_no_record(tmp_path, run):
    run.write(RECORD)
    run.close()
    found = look(tmp_path)
    assert (found.running, found.record) == (False, None)


def test_a_second_one_is_refused_by_name(tmp_path, run):
    run.write(RECORD)
    with pytest.raises(InvalidSettings, match=r"process 4711, port 11112.*BACKUP_SCP_HOME"):
        Run(tmp_path)
    run.close()
    Run(tmp_path).close()


def test_processes_whose_parent_was_killed_may_end_first(tmp_path, monkeypatch):
    """They hold the lock until their Associations have ended; a parent that lives is another node."""
    record = replace(RECORD, workers=2, process=2**22 + 1)  # more than any process ID
    (tmp_path / "node.json").write_bytes(msgspec.json.encode(record))
    monkeypatch.setattr(run_record, "_PATIENCE_S", 0)
    left = [3]

    def lock(path):
        if left[0]:
            left[0] -= 1
            raise BlockingIOError
        return Lock(path)

    monkeypatch.setattr(run_record, "Lock", lock)
    Run(tmp_path).close()
    assert left == [0]

    left[0] = 3
    (tmp_path / "node.json").write_bytes(msgspec.json.encode(replace(record, process=os.getpid())))
    with pytest.raises(InvalidSettings, match="A node runs already"):
        Run(tmp_path)


def test_who_looks_keeps_nobody_from_starting(tmp_path, run, monkeypatch):
    """Where a look holds the lock for its moment."""
    run.close()
    looking = subprocess.Popen(
        [
            sys.executable,
            "-c",
            LOOKING,
            str(tmp_path / "node.lock"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with looking:
        assert looking.stdin
        assert looking.stdout
        stdin = looking.stdin
        assert looking.stdout.readline() == b"held\n"
        assert not look(tmp_path).running, "two may look at once"
        monkeypatch.setattr("backup_scp.node.run_record._PATIENCE_S", 60)
        monkeypatch.setattr("backup_scp.node.run_record._PAUSE_S", 0)
        monkeypatch.setattr("threading.Event.wait", lambda *_: stdin.close())
        Run(tmp_path).close()


def test_the_system_frees_what_a_killed_one_held(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        assert look(tmp_path).running
        holder.kill()
    assert not look(tmp_path).running
    Run(tmp_path).close()


def test_a_process_that_was_forked_from_it_takes_nothing_away(tmp_path, run):
    run.write(RECORD)
    child = os.fork()
    if not child:
        run.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert look(tmp_path).running
    assert look(tmp_path).record == RECORD


def test_what_a_power_cut_left_is_no_record(tmp_path, run):
    run.write(RECORD)
    (tmp_path / "node.json").write_bytes(b"")
    found = look(tmp_path)
    assert (found.running, found.record) == (True, None)


class TestOutages:
    """Times in which no node ran: a console could not send then."""

    def started(self, home, record=None, *, crashes=False) -> tuple[Outage, ...]:
        run = Run(home)
        if record is not None:
            run.write(replace(record, outages=run.outages))
        if crashes:
            (home / "node-ended.json").unlink(missing_ok=True)
            assert run._lock is not None
            run._lock.close()
        else:
            run.close()
        return run.outages

    @pytest.fixture
    def at(self, monkeypatch):
        def at(moment: datetime) -> datetime:
            monkeypatch.setattr("backup_scp.machine.clock.now", lambda: moment)
            return moment

        return at

    def test_the_first_start_ends_none(self, tmp_path):
        assert self.started(tmp_path) == ()

    @pytest.mark.parametrize("crashes", [False, True])
    def test_the_next_start_ends_one(self, tmp_path, at, crashes):
        at(NOW)
        self.started(tmp_path, RECORD, crashes=crashes)
        later = at(NOW + timedelta(hours=2))
        assert self.started(tmp_path, replace(RECORD, alive_at=later)) == (Outage(NOW, later),)
        at(later + timedelta(minutes=5))
        assert self.started(tmp_path) == (Outage(NOW, later),), "a short one is not kept, and the others stay"

    def test_old_ones_are_forgotten(self, tmp_path, at):
        at(NOW)
        self.started(tmp_path, RECORD)
        later = at(NOW + timedelta(hours=2))
        self.started(tmp_path, replace(RECORD, alive_at=later))
        at(later + timedelta(weeks=13))
        assert [one.began_at for one in self.started(tmp_path)] == [later]


class TestSignsOfLife:
    """The disk of a node with nothing to do may sleep."""

    @pytest.fixture
    def written(self, tmp_path, run):
        run.write(RECORD)
        return lambda **changes: (run.write(replace(RECORD, **changes)), look(tmp_path).record)[1]

    def test_the_same_is_not_written_again(self, written):
        later = NOW + SIGN_OF_LIFE_EVERY - timedelta(seconds=1)
        assert written(alive_at=later, maintenance=Maintenance(active_at=None)) == RECORD

    def test_now_and_then_it_is(self, written):
        later = NOW + SIGN_OF_LIFE_EVERY
        assert written(alive_at=later).alive_at == later

    @pytest.mark.parametrize(
        "news",
        [
            {"listening": False},
            {"maintenance": Maintenance(alive=False)},
            {"maintenance": Maintenance(trouble="The index is gone")},
            {"audit_log": AuditLogState(NOW, 3)},
            {"audit_log": AuditLogState(None, 0, 1)},
        ],
    )
    def test_news_is_written_at_once(self, written, news):
        found = written(alive_at=NOW + timedelta(seconds=1), **news)
        assert {name: getattr(found, name) for name in news} == news

    def test_a_clock_that_was_put_back_does_not_end_them(self, written):
        earlier = NOW - timedelta(days=1)
        assert written(alive_at=earlier).alive_at == earlier

    def test_one_that_gives_none_is_silent(self):
        assert not RECORD.is_silent(NOW + SIGN_OF_LIFE_EVERY)
        assert RECORD.is_silent(NOW + 3 * SIGN_OF_LIFE_EVERY)
        assert RECORD.is_silent(NOW - timedelta(days=400))  # the clock was set back, and it has hung since

    def test_a_folder_that_cannot_be_written_is_told_of_once(self, tmp_path, run, monkeypatch, caplog):
        (tmp_path / "node.json").mkdir()
        (tmp_path / "node.json" / "file").touch()  # nothing can take its place, root or not
        run.write(RECORD)
        run.write(replace(RECORD, listening=False))
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert [path.name for path in tmp_path.iterdir() if path.suffix not in {".lock", ".json"}] == []


class TestWhere:
    @pytest.fixture(autouse=True)
    def no_container(self, monkeypatch):
        monkeypatch.setattr("backup_scp.machine.addresses.is_container", lambda: False)

    def test_one_address(self):
        assert RECORD.where == "AE title BACKUP_SCP, 192.0.2.7 port 11112"

    def test_with_tls(self):
        assert replace(RECORD, tls_port=2762).where.endswith(" port 11112 (with TLS: port 2762)")
        assert replace(RECORD, port=None, tls_port=2762).where.endswith(" with TLS: port 2762")

    def test_this_computer_alone(self):
        assert "only programs on this computer" in replace(RECORD, host="127.0.0.1").where

    def test_a_container_is_told_of(self, monkeypatch):
        monkeypatch.setattr("backup_scp.machine.addresses.is_container", lambda: True)
        assert RECORD.where.endswith("enter the address of the computer that it runs on")


def test_a_folder_that_can_only_be_read_is_locked_all_the_same(tmp_path):
    """Where a run before has left the lock file."""
    with private_mounts() as mounts:
        disk, home = tmp_path / "disk", tmp_path / "home"
        mounts.disk(disk, "1m")
        mounts.bind(disk, home)
        Run(home).close()
        mounts.read_only(disk, home)
        run = Run(home)
        run.write(RECORD)
        assert (look(home).running, look(home).record) == (True, None)
        with pytest.raises(InvalidSettings, match="A node runs already with the data folder"):
            Run(home)
        run.close()
        assert not look(home).running
