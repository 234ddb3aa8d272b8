"""Recover from a copy that is damaged in a part, and with a person who changes their mind."""

from __future__ import annotations

import contextlib
import os
import pty
import sqlite3
import subprocess
from pathlib import Path

import pytest

from backup_scp.index.connection.migrate import move_to, upgrade
from backup_scp.index.schema.head import HEAD
from backup_scp.index.sql_index import SQLIndex
from backup_scp.machine import clock
from backup_scp.ports import Task
from tests.processes import wait_until
from tests.system.test_recover import SAMPLES, Clinic, files, recover, rows

FEW = SAMPLES[:12]
PREVIOUS = f"{int(HEAD) - 1:04}"


@pytest.fixture
def clinic(tmp_path, make_node) -> Clinic:
    """Return a clinic with a few images on its drive, and with nothing else."""
    clinic = Clinic(tmp_path, make_node)
    clinic.copy(FEW)
    return clinic


@pytest.fixture
def bare(clinic, make_node, tmp_path):
    """Return `bare(...)`: the argv and the environment of a recovery without a settings file."""
    node, home = make_node(), tmp_path / "new"
    env = node.env | {"BACKUP_SCP_NODE__PORT": str(node.port), "BACKUP_SCP_NODE__HOST": node.host}
    env.pop("BACKUP_SCP_HOME")
    return [node.python, "-m", "backup_scp", "recover", str(clinic.drive), "--home", str(home)], env, home


def on_the_drive(clinic: Clinic, name: str) -> Path:
    path = clinic.drive / "BACKUPSC" / name
    path.chmod(0o600)
    return path


def test_settings_that_cannot_be_read_hold_up_no_image(clinic, bare):
    before = clinic.lose()
    (path,) = (
        path for path in (clinic.drive / "BACKUPSC").iterdir() if path.suffix == ".TOM" or "SETTING" in path.name
    )
    on_the_drive(clinic, path.name).write_bytes(b"\xff[node")
    argv, env, home = bare
    done = subprocess.run(
        [*argv, "--yes", "--stop-when-done"], env=env, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "enter your settings again" in done.stdout
    back = {path.name for path in (home / "archive").rglob("*") if path.is_file()}
    assert {Path(name).name for name in before} <= back


def test_a_damaged_index_is_made_again_from_the_lists(clinic):
    told, before = rows(clinic.node), clinic.lose()
    path = on_the_drive(clinic, "INDEX.SQLITE")
    content = bytearray(path.read_bytes())
    content[4096 : len(content) // 2] = os.urandom(len(content) // 2 - 4096)
    path.write_bytes(content)
    node = clinic.empty()
    recover(node, clinic.drive)
    assert files(node) == before
    assert rows(node) == told


def test_an_index_that_was_being_rebuilt_is_completed_by_all_lists(clinic):
    before = clinic.lose()
    path = on_the_drive(clinic, "INDEX.SQLITE")
    path.unlink()
    upgrade(url := f"sqlite:///{path}")
    with contextlib.closing(SQLIndex(url)) as index:
        index.record_task(Task("rebuild", clock.now(), note="It was lost"))
    for listed in clinic.drive.rglob("*.TXT"):  # written long before the index
        os.utime(listed, (0, 0))
    node = clinic.empty()
    recover(node, clinic.drive)
    assert files(node) == before


def test_an_index_of_a_newer_version_is_told_before_anything_is_made(clinic):
    clinic.lose()
    with contextlib.closing(sqlite3.connect(on_the_drive(clinic, "INDEX.SQLITE"))) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999_later'")
    node = clinic.empty()
    refused = node.cli("recover", clinic.drive, "--yes", exit_code=1)
    assert "was made by a newer version of backup-scp (9999_later)" in refused.stderr
    assert "pip install --upgrade backup-scp" in refused.stderr
    assert not (node.home / "index.sqlite").exists()


def test_an_index_of_an_older_version_is_upgraded(clinic):
    told, before = rows(clinic.node), clinic.lose()
    move_to(f"sqlite:///{on_the_drive(clinic, 'INDEX.SQLITE')}", PREVIOUS)
    node = clinic.empty()
    recover(node, clinic.drive)
    assert files(node) == before
    assert rows(node) == told


def images_on(drive: Path) -> dict[Path, int]:
    """Return the images on a drive, and the file of each."""
    images = (path for path in drive.glob("[0-9]*/**/*") if path.is_file() and "." not in path.name)
    return {path: path.stat().st_ino for path in images if path.name != "DICOMDIR"}


def test_the_node_goes_back_to_postgresql_as_the_page_says(clinic, postgres_url):
    before = clinic.lose()
    node = clinic.empty()
    node.settings["index"] = {"url": postgres_url}
    refused = node.cli("recover", clinic.drive, "--yes", exit_code=1)
    assert "docs/way-back.md says how to go on" in refused.stderr
    node.settings.clear()
    node.write_settings()
    recover(node, clinic.drive)
    assert len(on_it := images_on(clinic.drive)) == len(FEW)

    node.settings["index"] = {"url": postgres_url}
    node.write_settings()
    node.cli("db", "upgrade")
    node.cli("rebuild")
    node.cli("copies", "sync")

    assert files(node) == before
    assert len(rows(node)) == len(FEW)
    assert [(state["held"], state["due"]) for state in node.json("copies")] == [(len(FEW), 0)]
    assert images_on(clinic.drive) == on_it  # nothing was written again


def test_who_recovers_again_after_the_end_is_told_how_to_start_the_node(clinic):
    clinic.lose()
    node = clinic.empty()
    recover(node, clinic.drive)
    again = recover(node, clinic.drive)
    assert f"Start the node: backup-scp serve --config {node.config}" in again
    assert f"The archive is whole again: {len(FEW)} images" in again
    assert node.json("recover", clinic.drive)["missing"] == 0
    refused = node.cli("recover", clinic.media, "--yes", exit_code=1)  # another one
    assert "There is an archive in" in refused.stderr


@pytest.mark.parametrize("answer", [b"n\n", b"\x03"], ids=["no", "Ctrl-C"])
def test_who_says_no_leaves_nothing(clinic, bare, answer):
    clinic.lose()
    argv, env, home = bare
    person, terminal = pty.openpty()
    with subprocess.Popen(
        argv, env=env, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0
    ) as process:
        assert process.stdout is not None
        said = ""
        while "Make the node CLINIC" not in said:
            character = process.stdout.read(1)
            assert character, said
            said += character
        if answer == b"\x03":
            process.send_signal(2)
        else:
            os.write(person, answer)
        said += process.stdout.read()
    os.close(terminal)
    os.close(person)
    assert process.returncode
    assert "Traceback" not in said
    assert not (home / "backup-scp.toml").exists()
    assert not (home / "index.sqlite").exists()


def test_a_recovery_key_that_a_crash_has_left_is_deleted(clinic):
    (key := clinic.node.home / "recovery.key").write_text("secret\n")
    clinic.node.restart()
    wait_until(lambda: not key.exists())
