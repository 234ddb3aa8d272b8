"""A recovery, as the processes of a node share it."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from backup_scp.copies.drive.drive_marker import prepare_drive
from backup_scp.machine import clock
from backup_scp.node.opening import OpenStores
from backup_scp.node.recovering import ReadingCopies, RecoverySource
from backup_scp.node.settings import load
from backup_scp.ports import RECOVERY, Task
from backup_scp.services.ingest import Ingest
from tests.copies.contract import IDENTITY


def test_when_another_process_has_ended_the_recovery_its_source_is_not_asked_any_more(tmp_path):
    settings = load(None, {"BACKUP_SCP_HOME": str(tmp_path / "home")})
    with OpenStores(settings, create=True) as storage, Ingest(storage.archive, storage.index) as ingest:
        drive = tmp_path / "drive"
        prepare_drive(drive, "blue", IDENTITY, settings.archive_path, may_share_disk=True)
        source = RecoverySource(str(drive), copy="drive")
        task = Task(RECOVERY, clock.now(), position=msgspec.json.encode(source).decode())
        storage.index.record_task(task)
        reading = ReadingCopies(storage, ingest)
        assert reading._place("drive", "") is not None

        storage.index.record_task(replace(task, ended_at=clock.now(), position="0"))

        assert reading._place("drive", "") is None
        assert reading.task is None
