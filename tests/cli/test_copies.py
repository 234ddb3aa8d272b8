"""`copies`: list, sync, verify, init, forget, cost; and what is said when something is wrong."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from ast import literal_eval
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from backup_scp.index.quiet_index import QuietCopies
from backup_scp.index.records.copies import SQLCopies
from backup_scp.index.records.leases import FREE
from backup_scp.index.schema.tables import copy_due
from tests.processes import Process
from tests.services.test_copying import tiny

DISK = "drive"


@pytest.fixture
def drive(tmp_path) -> Path:
    return tmp_path / "media" / "disk"


@pytest.fixture
def configure(home, tmp_path, monkeypatch):
    """Write `[[copy]]` tables into the settings."""

    def configure(**urls: str) -> Path:
        file = tmp_path / "backup-scp.toml"
        tables = [f'[[copy]]\nname = "{name}"\nurl = "{url}"\n' for name, url in urls.items()]
        file.write_text("\n".join(tables))
        monkeypatch.setenv("BACKUP_SCP_CONFIG", str(file))
        return file

    return configure


@pytest.fixture
def prepared(run, stored, drive, configure) -> Path:
    """Store three images, and prepare a drive."""
    configure(drive=f"file://{drive}")
    for number in range(3):
        stored.put(tiny(number), number)
    drive.parent.mkdir()
    assert run("copies", "init", DISK, "--same-disk").code == 0
    return drive


def images(folder: Path) -> list[Path]:
    """Return the DICOM files on a drive that are images."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "DICOMDIR"]
    return sorted(path for path in files if path.read_bytes()[128:132] == b"DICM")


def test_sync_copies_all_and_then_nothing(run, prepared):
    first = run("copies", "sync")
    assert first.code == 0
    assert "drive: 3 images written, read back and compared" in first.out
    assert len(images(prepared)) == 3
    assert "drive: has everything" in run("copies", "sync", DISK).out
    (state,) = run("copies", "--json").json
    assert (state["name"], state["held"], state["due"]) == (DISK, 3, 0)
    assert "3 images" in run("copies").out


def test_a_sync_with_nothing_to_do_loads_neither_typer_nor_sqlalchemy(run, prepared):
    run("copies", "sync")
    (before,) = run("copies", "--json").json
    ask = "import sys; from backup_scp.cli import main\ntry: main()\nfinally: print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", ask, "copies", "sync", DISK, "--json"], check=True, capture_output=True, text=True
    )
    said, loaded = done.stdout.splitlines()
    assert (
        set(literal_eval(loaded)) & {"sqlalchemy", "typer", "pydantic", "rich", "pydicom", "asyncio", "obstore"}
        == set()
    )
    assert said == json.dumps(run("copies", "sync", DISK, "--json").json, separators=(",", ":"))
    (after,) = run("copies", "--json").json
    assert (after["seen_at"] > before["seen_at"], after["complete_at"] > before["complete_at"]) == (True, True)


def test_a_damaged_image_that_a_quiet_sync_sees_is_recorded(run, stored, prepared, monkeypatch):
    run("copies", "sync")
    damaged = next(stored.archive.locations())
    stored.path(damaged).write_bytes(b"encrypted")
    monkeypatch.setattr(QuietCopies, "sample", lambda *_: [damaged])
    monkeypatch.setattr(SQLCopies, "sample", lambda *_: [])
    assert "drive: 1 image of the archive healed from here" in run("copies", "sync").out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--json", "copies", "sync"],
        ["copies", "sync", "--nothing"],
        ["copies", "sync", "--config"],
        ["copies", "sync", "a", "b"],
    ],
)
def test_a_wrong_command_line_of_sync_is_told(run, prepared, arguments):
    assert run(*arguments).code == 2


def test_json_of_the_list_is_no_json_of_sync(run, prepared):
    assert run("copies", "--json", "sync").out.startswith("drive: 3 images")


def test_the_settings_before_or_after_sync_count(run, prepared, configure, monkeypatch):
    file = configure(drive=f"file://{prepared}")
    monkeypatch.setenv("BACKUP_SCP_CONFIG", "")
    for arguments in (["--config", file, "copies", "sync"], ["copies", "sync", DISK, "--config", file]):
        assert run(*arguments).code == 0
    assert "name no further copy" in run("copies", "sync").err


def test_verify_finds_damage_and_the_next_sync_writes_it_again(run, prepared):
    run("copies", "sync")
    file, gone, _ = images(prepared)
    whole = {path.name: path.read_bytes() for path in images(prepared)}
    file.write_bytes(b"encrypted")
    gone.unlink()
    found = run("copies", "verify")
    assert found.code == 1
    assert "drive: 2 images damaged or missing there: to write again, copies sync drive" in found.out
    again = run("copies", "sync", "--json")
    assert (again.code, again.json["copies"][0]["copied"]) == (0, 2)
    assert set(whole.values()) <= {path.read_bytes() for path in images(prepared)}
    assert run("copies", "verify").code == 0


def test_a_damaged_image_of_the_archive_is_healed(run, prepared, stored):
    run("copies", "sync")
    location = next(iter(stored.archive.locations()))
    before = stored.path(location).read_bytes()
    stored.flip(location)
    run("verify")
    assert "1 image of the archive healed from here" in run("copies", "sync").out
    assert stored.path(location).read_bytes() == before


def test_a_drive_that_is_away_is_no_failure(run, prepared):
    shutil.move(prepared, prepared.with_name("elsewhere"))
    ran = run("copies", "sync")
    assert ran.code == 0
    assert "connect the drive" in ran.out
    assert run("copies", "sync", "--json").json["copies"][0]["is_away"]


def test_an_alarm_stops_sync_until_a_person_has_looked(run, prepared, stored, monkeypatch):
    for number in range(10, 20):
        location = stored.put(tiny(number), number).location
        stored.path(location).unlink()
    run("verify")
    stopped = run("copies", "sync")
    assert stopped.code == 1
    assert "Stopped by an alarm: 10 stored images were changed or are gone" in stopped.out
    assert "--despite-alarm" in stopped.out
    assert images(prepared) == []
    went_on = run("copies", "sync", "--despite-alarm", "--json").json["copies"][0]
    assert (went_on["trouble"], went_on["copied"], went_on["lost"]) == ("", 3, 10)


def test_wrong_settings_of_one_copy_do_not_stop_the_others(run, prepared, configure):
    configure(away="dicomweb+http://pacs.example/dicom", drive=f"file://{prepared}")
    ran = run("copies", "sync")
    assert ran.code == 1
    assert "away: " in ran.out
    assert "drive: 3 images written" in ran.out


@pytest.mark.parametrize("command", ["sync", "verify"])
def test_a_name_that_nobody_gave(run, prepared, command):
    ran = run("copies", command, "nowhere")
    assert ran.code != 0
    assert "There is no copy nowhere: the settings name drive" in ran.err


def test_settings_without_a_copy(run, stored):
    for command in ([], ["sync"], ["verify"]):
        ran = run("copies", *command)
        assert ran.code != 0
        assert "The settings name no further copy: add a [[copy]]" in ran.err


def test_init_refuses_this_computers_disk_and_a_drive_of_another_archive(run, stored, drive, configure):
    configure(drive=f"file://{drive}")
    drive.parent.mkdir()
    assert "is on the archive's own disk" in run("copies", "init", DISK).err
    run("copies", "init", DISK, "--same-disk")
    marker = drive / "BACKUP-SCP.json"
    text = marker.read_text()
    archive = stored.archive.identity()
    marker.write_text(text.replace(archive, "0" * 32))
    assert "holds copies of another archive" in run("copies", "init", DISK, "--same-disk").err
    configure(drive=f"file://{drive.parent}/*")
    assert f"Say which folder: backup-scp copies init {DISK} FOLDER" in run("copies", "init", DISK).err


def test_forget(run, prepared, configure):
    run("copies", "sync")
    assert "take it out first" in run("copies", "forget", DISK).err
    configure(other=f"file://{prepared.parent}/other")
    assert run("copies", "forget", DISK).out.strip() == "drive is forgotten"
    assert "There is no copy drive" in run("copies", "forget", DISK).err
    assert len(images(prepared)) == 3


def test_cost(run, prepared):
    ran = run("copies", "cost", "--cloud-pacs-study", "2")
    assert ran.code == 0
    assert all(kind in ran.out for kind in ("external drives", "bucket (S3)", "cloud PACS"))
    assert run("copies", "cost", "--json").json["drive"] == 45


def test_ctrl_c_tells_what_was_done(run, prepared, monkeypatch):
    from backup_scp.copies.drive.drive_copy import DriveCopy

    def interrupted(self, snapshot, *, is_complete):
        raise KeyboardInterrupt

    monkeypatch.setattr(DriveCopy, "conclude", interrupted)
    ran = run("copies", "sync")
    assert ran.code == 130
    assert "drive: 3 images written" in ran.out
    assert "Interrupted. The same command goes on from here" in ran.out


def test_kills_at_random_moments_lose_and_double_nothing(run, prepared, stored, tmp_path):
    chance = random.Random(20240131)
    for number in range(100, 300):
        stored.put(tiny(number), number)
    for turn in range(3):
        enough = len(files_on(prepared)) + chance.randint(0, 60)
        argv = [sys.executable, "-m", "backup_scp", "copies", "sync"]
        sync = Process(argv, tmp_path / f"sync{turn}.log", dict(os.environ))
        with suppress(AssertionError):  # on a quick machine it may end before
            sync.launch(lambda: len(files_on(prepared)) > enough)  # noqa: B023 - it returns before the next
        sync.kill()
        with stored.index._database.writing("the test") as connection:  # as if the dead one's lease were over
            connection.execute(sa.update(copy_due).values(**FREE))
    assert run("copies", "sync", "--json").json["copies"][0]["is_complete"]
    assert run("copies", "verify", "--json").json["copies"][0]["compared"] == 203
    (state,) = run("copies", "--json").json
    assert (state["held"], state["due"], state["failed"], state["damaged"]) == (203, 0, 0, 0)
    contents = [path.read_bytes() for path in images(prepared)]
    assert sorted(contents) == sorted(stored.path(one).read_bytes() for one in stored.archive.locations())


def files_on(drive: Path) -> list[Path]:
    return [path for path in drive.rglob("*") if path.is_file()]
