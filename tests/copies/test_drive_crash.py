"""A drive after a crash between any two calls: what is listed is intact, and the next run catches up."""

from __future__ import annotations

import itertools

import pytest

from backup_scp.copies.drive import drive_batch, drive_lists, drive_writer
from backup_scp.machine import root_folder
from backup_scp.machine.root_folder import RootFolder
from tests.copies.contract import Snapshots, small_archive
from tests.copies.test_drive import checked, listed, named_by_dicomdirs, open_drive, prepare
from tests.samples import ct_series, dx, encode

CALLS = ("open", "rename_new", "replace", "flush", "remove", "make_folders")


class Crash(BaseException):
    """The process ends here."""


@pytest.fixture
def crash_at(monkeypatch):
    """Return a function that lets the n-th call on a drive end the process; 0 lets none."""
    left, is_dead = [0], [False]

    def at(number):
        left[0], is_dead[0] = number, False

    def ending(call):
        def ends(*arguments, **keywords):
            left[0] -= 1
            is_dead[0] = is_dead[0] or left[0] == 0
            if is_dead[0]:
                raise Crash
            return call(*arguments, **keywords)

        return ends

    for name in CALLS:
        monkeypatch.setattr(RootFolder, name, ending(getattr(RootFolder, name)))
    # A process that ends cleans nothing up.
    cleaning = drive_writer.TemporaryFolder.close
    monkeypatch.setattr(
        drive_writer.TemporaryFolder, "close", lambda self: self._lock.close() if is_dead[0] else cleaning(self)
    )
    monkeypatch.setattr(drive_writer, "_MOST_FILES", 3)
    for module, flush in ((drive_batch, "fsync"), (root_folder, "flush_all"), (drive_lists, "fsync")):
        monkeypatch.setattr(module, flush, lambda *_: None)  # no power cut here, and many flushes
    monkeypatch.setattr(drive_lists, "MOST_ENTRIES", 4)
    return at


def run(folder, made, confirmed: dict) -> None:
    """Bring what is not confirmed yet, as the node does."""
    with open_drive(folder) as drive:
        due = [item for item in made.items if item.number not in confirmed]
        for result in drive.put(due, made.read):
            assert result.stored
            confirmed[result.number] = result.stored.name
        drive.conclude(Snapshots(), is_complete=True)


def test_any_moment(tmp_path, crash_at):
    samples = [encode(ds) for ds in (dx(study="1"), *ct_series(3, study="2"), *ct_series(2, study="3"))]
    made = small_archive(tmp_path, samples)
    for moment in itertools.count(1):
        folder = tmp_path / f"drive{moment}"
        confirmed: dict = {}
        prepare(folder)
        crash_at(moment)
        try:
            run(folder, made, confirmed)
        except Crash:
            assert set(confirmed.values()) <= set(listed(folder))
            assert not listed(folder) or checked(folder).returncode == 0
        else:
            break
        crash_at(0)
        run(folder, made, confirmed)
        there = sorted(confirmed.values())
        assert len(there) == len(made.items)
        assert sorted(set(listed(folder))) == there
        assert checked(folder).returncode == 0
        assert sorted(map(str, named_by_dicomdirs(folder))) == there
        assert not list((folder / "BACKUPSC/TEMP").iterdir())
    assert moment > 60
