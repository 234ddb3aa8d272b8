"""A copy in a store with every fault has everything in the end, once, and nothing is lost.

300 images; BACKUP_SCP_TEST_FAULTS=all takes 10,000.
"""

from __future__ import annotations

import io
import os
from contextlib import suppress
from datetime import timedelta

import pytest

from backup_scp.copies.cloud.cloud_copy import CloudCopy
from backup_scp.copies.cloud.sealing import RecoveryKeys
from backup_scp.errors import DestinationUnavailable
from backup_scp.services.copying import Copying, CopyTimers
from backup_scp.services.ingest import Ingest
from tests.copies.clouds import PAIR, SnapshotOfFile
from tests.copies.faulty_store import FaultyStore
from tests.services.test_copying import At, tiny
from tests.stored import stored_in

COUNT = 10_000 if os.environ.get("BACKUP_SCP_TEST_FAULTS") == "all" else 300
_ROUNDS = COUNT + 1000


class BadDays:
    """A node's copying, and the clock that its tests move."""

    def __init__(self, stored, folder, at, *, keeps_versions: bool, is_sealed: bool) -> None:
        self.stored, self.at = stored, at
        self.store = FaultyStore(7, keeps_versions=keeps_versions, slow=lambda: at.pass_by(seconds=90))
        encrypt = [PAIR.public_key] if is_sealed else ()
        self.place = CloudCopy("cloud", self.store, folder / "work", encrypt=encrypt)
        ingest = Ingest(stored.archive, stored.index)
        timers = CopyTimers(retry=timedelta(seconds=10))
        self.work = Copying(
            self.place, stored.archive, stored.index, ingest, SnapshotOfFile(), spool=folder, timers=timers
        )
        with self.place:
            self.copy = self.work.register()

    @property
    def due(self) -> int:
        return self.stored.index.copies.count_due(self.copy)

    def turn(self) -> None:
        """Do what the node does in one turn, after its pause."""
        self.at.pass_by(minutes=5)
        with suppress(DestinationUnavailable), self.place:
            self.work.fill(self.work.register())

    def fill(self, left: int = 0) -> None:
        """Take turns until so few are due."""
        for _ in range(_ROUNDS):
            if self.due <= left:
                return
            self.turn()
        raise AssertionError(f"{self.due} are still due")

    def compare(self) -> None:
        """Read everything back once."""
        for _ in range(_ROUNDS):
            with suppress(DestinationUnavailable), self.place:
                if self.work.compare(self.copy, all_of_it=False):
                    return
        raise AssertionError("the comparison does not end")


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("keeps_versions", "is_sealed"), [(True, True), (False, False)])
def test_every_fault(tmp_path, monkeypatch, keeps_versions, is_sealed):
    with stored_in(tmp_path) as stored:
        for number in range(COUNT):
            stored.put(tiny(number), number * 60)
        days = BadDays(stored, tmp_path, At(monkeypatch), keeps_versions=keeps_versions, is_sealed=is_sealed)
        store = days.store

        store.full_in = COUNT // 5
        for _ in range(COUNT):
            if store.seen["full"]:
                break
            days.turn()
        store.full_in = None
        for end in (store.revoke, store.go_away):
            days.fill(left=max(days.due - COUNT // 5, 0))
            end()
            before = days.due
            for _ in range(24):
                days.at.pass_by(hours=1)
                days.turn()
            assert days.due == before
            store.come_back()
        days.fill()
        store.take_away(COUNT // 50)
        days.compare()
        taken = 0 if keeps_versions else 2 * (COUNT // 50)
        assert days.due == taken
        assert len(days.place.alarms) == (2 if keeps_versions else 0)
        days.fill()
        days.compare()

        print(dict(store.seen), days.work.done)
        assert set(store.seen) >= set(store._faults) | {"full"}
        assert days.due == 0
        assert stored.index.copies.count_held(days.copy) == COUNT
        files = sorted(stored.path(location).read_bytes() for location in stored.archive.locations())
        assert sorted(map(opened if is_sealed else bytes, store.intact_images())) == files


def opened(sealed: bytes) -> bytes:
    into = io.BytesIO()
    RecoveryKeys(PAIR.recovery_key).open(io.BytesIO(sealed), into)
    return into.getvalue()
