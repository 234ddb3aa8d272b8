"""Owners of files, as the system reports them."""

from __future__ import annotations

import os
import sys

import pytest

from backup_scp.machine.ownership import Owner, become, belongs_to_another, our_uid, owner_of, user_name, words_to_type

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="files have no such owner there")

NOBODY_KNOWS = 54321


def test_what_is_there_and_what_is_not(tmp_path):
    (tmp_path / "file").touch()
    owner = owner_of(tmp_path / "file")
    assert owner is not None
    assert (owner.uid, owner.path) == (os.geteuid(), tmp_path / "file")
    assert owner_of(tmp_path / "nothing") is None
    assert owner_of(tmp_path / "file" / "below") is None


def test_a_user_without_a_name_is_written_as_sudo_takes_it():
    assert user_name(NOBODY_KNOWS) == f"#{NOBODY_KNOWS}"
    assert user_name(0) == "root"


def test_what_we_make_beside_our_own_is_ours_and_nothing_is_left(tmp_path):
    assert not belongs_to_another(Owner(os.geteuid(), 0, tmp_path), "probe")
    assert belongs_to_another(Owner(NOBODY_KNOWS, 0, tmp_path), "probe")
    assert belongs_to_another(Owner(NOBODY_KNOWS, 0, tmp_path / "no" / "such"), "probe")
    assert list(tmp_path.iterdir()) == []


def test_nobody_becomes_who_it_is_already(tmp_path):
    assert not become(Owner(0, 0, tmp_path))
    assert our_uid() == os.geteuid()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["/x/backup-scp", "status"], "sudo -u '#54321' /x/backup-scp status"),
        (["/x/backup-scp", "find", "--name", "Doe^Jane"], "sudo -u '#54321' /x/backup-scp find ..."),
        (["/x/backup-scp", "--config", "f", "verify"], "sudo -u '#54321' /x/backup-scp verify ..."),
        (["/x/__main__.py", "serve"], f"sudo -u '#54321' {sys.executable} -m backup_scp serve"),
    ],
)
def test_the_words_name_the_command_and_none_of_its_arguments(monkeypatch, tmp_path, argv, words):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setenv("BACKUP_SCP_CONFIG", "")
    monkeypatch.delenv("BACKUP_SCP_HOME", raising=False)
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    assert words_to_type(Owner(NOBODY_KNOWS, 0, tmp_path)) == words


def test_the_words_keep_what_sudo_drops(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["/x/backup-scp", "status"])
    monkeypatch.setenv("BACKUP_SCP_HOME", "/some where")
    monkeypatch.delenv("BACKUP_SCP_CONFIG", raising=False)
    words = words_to_type(Owner(0, 0, tmp_path))
    assert words.startswith("sudo -u root env 'BACKUP_SCP_HOME=/some where' ")
