from __future__ import annotations

import contextlib

import pytest

from backup_scp.services.copying import Copying
from backup_scp.services.ingest import Ingest
from backup_scp.watch.copy_thread import CopySchedule, CopyThread
from tests.services.faulty_place import FaultyPlace
from tests.services.test_copying import NoSnapshot
from tests.stored import stored_in
from tests.watch.copy_threads import LONG_AGO, alarm_of


@pytest.fixture
def stored(tmp_path):
    with stored_in(tmp_path) as stored:
        yield stored


@pytest.fixture
def place():
    return FaultyPlace()


@pytest.fixture
def without_pauses(monkeypatch) -> None:
    for name in ("LOOK_EVERY_S", "_FIRST_PAUSE_S", "_LONGEST_PAUSE_S"):
        monkeypatch.setattr(f"backup_scp.watch.copy_thread.{name}", 0.02)
    monkeypatch.setattr("backup_scp.watch.alarm._EVERY_S", 0.05)
    monkeypatch.setattr("backup_scp.machine.priority._NICENESS", 0)  # the test waits for it


@pytest.fixture
def under_way(stored, place, without_pauses, tmp_path):
    """Let threads run beside a test."""
    with contextlib.ExitStack() as stack:

        def start(schedule=None, *, store=stored, at=place, received_at=lambda: LONG_AGO) -> CopyThread:
            def make(pace):
                ingest = Ingest(store.archive, store.index)
                return Copying(at, store.archive, store.index, ingest, NoSnapshot(), spool=tmp_path, pace=pace)

            thread = CopyThread(at, make, store.index, schedule or CopySchedule(), alarm_of(store), received_at)
            thread.start()
            stack.callback(thread.stop)
            return thread

        yield start
