"""Small files are replaced as a whole, with mode, owner and attributes, and the old one stays."""

from __future__ import annotations

import os
import stat
import sys

import pytest

from backup_scp.machine.whole_file import replace, write_new


@pytest.fixture
def old(tmp_path):
    file = tmp_path / "a.toml"
    file.write_bytes(b"old")
    file.chmod(0o604)
    return file


def test_it_is_replaced_with_its_mode_and_the_old_one_stays(old):
    number = old.stat().st_ino
    replace(old, b"new", old.with_name("a.old"))
    assert old.read_bytes() == b"new"
    assert stat.S_IMODE(old.stat().st_mode) == 0o604
    assert old.with_name("a.old").read_bytes() == b"old"
    assert old.with_name("a.old").stat().st_ino == number
    assert sorted(path.name for path in old.parent.iterdir()) == ["a.old", "a.toml"]


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can give a file away")
def test_owner_and_group_stay(old):
    os.chown(old, 54321, 54322)
    replace(old, b"new", old.with_name("a.old"))
    assert (old.stat().st_uid, old.stat().st_gid) == (54321, 54322)


def test_a_backup_that_is_there_is_never_overwritten(old):
    backup = old.with_name("a.old")
    backup.write_bytes(b"older")
    with pytest.raises(FileExistsError):
        replace(old, b"new", backup)
    assert (old.read_bytes(), backup.read_bytes()) == (b"old", b"older")
    assert len(list(old.parent.iterdir())) == 2


def test_without_hard_links_the_old_one_is_copied(old, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    replace(old, b"new", old.with_name("a.old"))
    assert old.with_name("a.old").read_bytes() == b"old"
    assert stat.S_IMODE(old.with_name("a.old").stat().st_mode) == 0o604


def test_a_new_one_is_private_and_makes_its_folders(tmp_path):
    write_new(tmp_path / "a" / "b.toml", b"new")
    assert stat.S_IMODE((tmp_path / "a" / "b.toml").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
