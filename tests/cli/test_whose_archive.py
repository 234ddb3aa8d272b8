"""A command typed in another folder says where it looked, and creates nothing."""

from __future__ import annotations

import pytest

from tests.samples import make_study

ELSEWHERE = [
    ["status"],
    ["status", "--json"],
    ["find"],
    ["restore", "--to", "./out", "--all"],
    ["verify"],
    ["rebuild"],
    ["index", "backup", "copy.sqlite"],
    ["db", "upgrade"],
    ["check"],
]


@pytest.fixture
def elsewhere(tmp_path, home, monkeypatch):
    """Stand in a folder in which there is no archive, with nothing that names one."""
    home.rmdir()
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("BACKUP_SCP_HOME")
    return folder


@pytest.mark.parametrize("arguments", ELSEWHERE)
def test_where_there_is_no_archive_none_is_made(run, elsewhere, arguments):
    ran = run(*arguments)
    assert ran.code == 1
    said = ran.out + ran.err
    assert f"There is no archive in {elsewhere / 'backup-scp-data'}" in said
    assert all(words in said for words in ("BACKUP_SCP_HOME=", "[node]", "/etc/backup-scp/backup-scp.toml"))
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("arguments", ELSEWHERE)
def test_who_named_the_folder_is_said(run, elsewhere, arguments, monkeypatch):
    monkeypatch.setenv("BACKUP_SCP_HOME", str(elsewhere / "typo"))
    ran = run(*arguments)
    assert f"There is no archive in {elsewhere / 'typo'} (BACKUP_SCP_HOME)" in ran.out + ran.err
    assert list(elsewhere.iterdir()) == []


def test_a_log_file_makes_no_folder_either(run, elsewhere, monkeypatch):
    monkeypatch.setenv("BACKUP_SCP_LOG__FILE", "logs/node.log")
    run("status")
    assert list(elsewhere.iterdir()) == []


def test_import_makes_one(run, elsewhere, tmp_path):
    make_study(tmp_path / "drive")
    assert run("import", tmp_path / "drive").code == 0
    assert "Holds          1 patient" in run("status").out
    assert (elsewhere / "backup-scp-data" / "archive").is_dir()


def test_the_index_alone_is_an_archive_whose_drive_is_not_there(run, home, stored):
    assert not (home / "archive").exists()
    assert run("status").code == 0


def test_files_alone_are_an_archive_whose_index_is_lost(run, home, tmp_path):
    make_study(tmp_path / "drive")
    assert run("import", tmp_path / "drive").code == 0
    for file in home.glob("index.sqlite*"):
        file.unlink()
    assert run("rebuild").code == 0
    assert "3" in run("status").out
