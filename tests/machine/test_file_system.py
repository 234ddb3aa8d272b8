"""Flush a whole file system, and write at offsets."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from backup_scp.machine import file_system
from backup_scp.machine.file_system import can_flush_all, fdatasync, flush_all, read_at, write_at
from backup_scp.machine.folders import FsyncFailed, last_failed_fsync

linux = pytest.mark.skipif(sys.platform != "linux", reason="uses calls of Linux")


def file_system_of(folder: Path) -> str:
    """Return its type, as the system lists it."""
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    found = ""
    for place, kind in sorted(mounts, key=lambda mount: len(mount[0])):
        if folder.resolve().is_relative_to(place):
            found = kind
    return found


@pytest.fixture
def descriptor(tmp_path):
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


@linux
@pytest.mark.parametrize("folder", ["/dev/shm", "/proc", "/sys", "the tests' own"])
def test_it_is_believed_where_it_is_known_to_keep_its_word(tmp_path, folder):
    place = tmp_path if folder == "the tests' own" else Path(folder)
    if not place.is_dir():
        pytest.skip(f"there is no {folder}")
    kind = file_system_of(place)
    assert can_flush_all(place) == (kind in {"ext2", "ext3", "ext4", "xfs", "btrfs"}), kind


@linux
@pytest.mark.parametrize(
    ("number", "is_known"),
    [(0xEF53, True), (0x58465342, True), (0x9123683E, True), (0x01021994, False), (0x6969, False)],
)
def test_each_that_is_known(tmp_path, monkeypatch, number, is_known):
    """Ext4, XFS, Btrfs; not a memory file system, nor NFS: there the bytes may be in a server."""

    class Library:
        syncfs = None

        @staticmethod
        def statfs(_path, found):
            found[:8] = number.to_bytes(8, sys.byteorder)
            return 0

    monkeypatch.setattr(file_system, "_libc", Library())
    assert can_flush_all(tmp_path) == is_known


def test_where_nobody_knows_it_is_not_believed(tmp_path, monkeypatch):
    assert not can_flush_all(tmp_path / "not there")
    monkeypatch.setattr(file_system, "_libc", object())  # a system without the call
    assert not can_flush_all(tmp_path)
    monkeypatch.setattr(file_system, "_libc", None)
    assert not can_flush_all(tmp_path)


@linux
def test_a_flush_of_all_is_one_of_the_system(descriptor, tmp_path):
    before = last_failed_fsync()
    flush_all(descriptor)
    folder = os.open(tmp_path, os.O_RDONLY)
    flush_all(folder)
    os.close(folder)
    assert last_failed_fsync() == before


@linux
def test_one_that_the_system_refuses_has_failed():
    """And everyone who flushed meanwhile hears of it."""
    before = last_failed_fsync()
    with pytest.raises(FsyncFailed) as caught:
        flush_all(-1)
    assert caught.value.errno == errno.EBADF
    assert last_failed_fsync() != before


@linux
def test_its_error_is_the_system_s(descriptor, monkeypatch):
    class Library:
        @staticmethod
        def syncfs(_descriptor):
            return -1

    monkeypatch.setattr(file_system, "_libc", Library())
    monkeypatch.setattr("ctypes.get_errno", lambda: errno.EIO)
    before = last_failed_fsync()
    with pytest.raises(FsyncFailed) as caught:
        flush_all(descriptor)
    assert (caught.value.errno, caught.value.strerror) == (errno.EIO, os.strerror(errno.EIO))
    assert last_failed_fsync() != before


@linux
def test_a_failed_flush_of_bytes_has_failed():
    before, pipe = last_failed_fsync(), os.pipe()
    with pytest.raises(FsyncFailed):
        fdatasync(pipe[0])  # it has no bytes on a disk
    for end in pipe:
        os.close(end)
    assert last_failed_fsync() != before


@linux
def test_what_is_written_at_an_offset_is_read_there(descriptor):
    write_at(descriptor, (b"one", bytearray(b"two"), b""), 5)
    fdatasync(descriptor)
    assert read_at(descriptor, 6, 5) == b"onetwo"
    assert read_at(descriptor, 5, 0) == bytes(5)
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 0


@linux
def test_less_than_all_is_a_full_disk(descriptor, monkeypatch):
    monkeypatch.setattr(os, "pwritev", lambda *_: 5)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write_at(descriptor, (b"one", b"two"), 0)
