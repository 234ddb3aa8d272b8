"""A folder's entry is durable before anything in it counts as durable."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from backup_scp.machine.folders import fsync_folder, make_folders

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks up descriptors in /proc")


@pytest.fixture
def flushed(monkeypatch):
    """Return the folders that fsync was called for, in order."""
    folders: list[Path] = []

    def fsync(descriptor, real=os.fsync):
        real(descriptor)
        folders.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    monkeypatch.setattr(os, "fsync", fsync)
    return folders


def test_every_new_folder_is_flushed_in_the_one_above(tmp_path, flushed):
    make_folders(tmp_path / "one" / "two" / "three", 0o700)

    assert set(flushed) == {tmp_path, tmp_path / "one", tmp_path / "one" / "two"}
    assert (tmp_path / "one" / "two" / "three").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_there_costs_nothing(tmp_path, flushed):
    make_folders(tmp_path)

    assert flushed == []


def test_a_failed_flush_is_said(tmp_path, monkeypatch):
    def fsync(_descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output"):
        make_folders(tmp_path / "new")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_flushes_no_folder_is_not_asked_again(tmp_path, monkeypatch, number):
    def fsync(_descriptor):
        raise OSError(number, "not here")

    monkeypatch.setattr(os, "fsync", fsync)
    fsync_folder(tmp_path)
