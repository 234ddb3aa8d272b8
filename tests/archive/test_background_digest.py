"""Long Data Sets: hashed in a second thread while they are written, and read while they arrive."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import threading

import pytest

from backup_scp.archive import FilesystemArchive, staging
from backup_scp.archive import background_digest as digesting
from backup_scp.errors import ArchiveUnavailable, Damaged
from backup_scp.machine import writeback
from backup_scp.machine.digests import Digests
from tests.archive.examples import ARRIVAL, HEADING, KEY, digest

_LONG = digesting.WORTH_BYTES + writeback.WRITEBACK_BYTES + 12_345
_PART = 99_999


@pytest.fixture
def data():
    return os.urandom(_LONG)


def stage(archive, data):
    staged = archive.stage(HEADING)
    for at in range(0, len(data), _PART):
        staged.write(data[at : at + _PART])
    return staged


@pytest.mark.parametrize("cores", [0, 1], ids=["no core is free", "a core is free"])
def test_the_digest_is_of_every_byte(tmp_path, monkeypatch, data, cores):
    monkeypatch.setattr(digesting, "_free_cores", threading.Semaphore(cores))
    archive = FilesystemArchive(tmp_path)
    for _ in range(2):  # the core is free again
        staged = stage(archive, data)
        assert (staged._beside is not None) == bool(cores)
        assert staged.sha256 == digest(data)
        location, _ = archive.commit(staged, KEY, ARRIVAL)
        archive.verify(location, digest(data))


def digest_threads():
    return [thread for thread in threading.enumerate() if thread.name == "digest"]


def test_a_data_set_given_up_takes_no_core_and_its_thread_serves_the_next(tmp_path, monkeypatch, data):
    monkeypatch.setattr(digesting, "_free_cores", threading.Semaphore(1))
    archive = FilesystemArchive(tmp_path)
    stage(archive, data).discard()
    assert digesting._free_cores.acquire(blocking=False)
    digesting._free_cores.release()
    threads = digest_threads()
    staged = stage(archive, data[::-1])
    assert staged._beside is not None
    assert digest_threads() == threads
    assert staged.sha256 == digest(data[::-1])
    staged.discard()


class _Slow(Digests):
    """Goes on when it is let; notes how far it has come."""

    def __init__(self):
        super().__init__()
        self.let, self.begun, self.made = threading.Semaphore(0), threading.Semaphore(0), 0

    def update(self, data):
        self.begun.release()
        assert self.let.acquire(timeout=30)
        super().update(data)
        self.made += 1


def test_a_piece_is_digested_while_the_next_comes_and_done_when_it_is_there(tmp_path, monkeypatch, data):
    monkeypatch.setattr(digesting, "_free_cores", threading.Semaphore(1))
    beside = digesting.BackgroundDigest.begin(slow := _Slow())
    assert beside is not None
    first, second = memoryview(data)[:100_000], memoryview(data)[100_000:200_000]
    beside.update(first)  # comes back while it is being made
    assert slow.begun.acquire(timeout=30)
    assert slow.made == 0
    slow.let.release()
    beside.update(second)
    assert slow.made == 1
    slow.let.release()
    beside.finish()
    assert slow.sha256 == digest(data[:200_000])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system makes processes otherwise")
def test_a_process_that_was_forked_has_a_thread_of_its_own(tmp_path, monkeypatch, data):
    monkeypatch.setattr(digesting, "_free_cores", threading.Semaphore(1))
    archive = FilesystemArchive(tmp_path)
    stage(archive, data).discard()  # a thread is idle
    if not (child := os.fork()):
        staged = stage(archive, data)
        os._exit(0 if staged._beside is not None and staged.sha256 == digest(data) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("cores", [0, 1], ids=["no core is free", "a core is free"])
def test_the_digest_is_of_what_was_received_not_of_what_the_disk_has_kept(tmp_path, monkeypatch, data, cores):
    monkeypatch.setattr(digesting, "_free_cores", threading.Semaphore(cores))
    archive = FilesystemArchive(tmp_path)

    def forgetful(file, part):
        file.write(bytes(len(part)))

    monkeypatch.setattr(staging, "write_all", forgetful)
    staged = stage(archive, data)
    assert staged.sha256 == digest(data)
    monkeypatch.undo()
    location, _ = archive.commit(staged, KEY, ARRIVAL)
    with pytest.raises(Damaged):
        archive.verify(location, digest(data))


class _OutOfMemory(Digests):
    def update(self, data):
        raise MemoryError


def test_a_piece_that_was_not_digested_is_told_of_with_the_next(tmp_path, monkeypatch, data):
    monkeypatch.setattr(digesting, "_free_cores", threading.Semaphore(1))
    staged = FilesystemArchive(tmp_path).stage(HEADING)
    staged.write(data[: digesting.WORTH_BYTES])
    staged.write(b"")  # what came before is digested now
    assert staged._beside is not None
    staged._beside._digests = _OutOfMemory()
    staged.write(data[digesting.WORTH_BYTES :])
    with pytest.raises(ArchiveUnavailable):
        staged.write(data)
    with pytest.raises(ArchiveUnavailable, match="given up"):
        staged.write(data)
    staged.discard()


def test_a_digest_that_was_not_made_is_not_taken_for_one(tmp_path, monkeypatch, data):
    monkeypatch.setattr(digesting, "_free_cores", threading.Semaphore(1))
    archive = FilesystemArchive(tmp_path)
    staged = archive.stage(HEADING)
    staged.write(data[: digesting.WORTH_BYTES])
    staged.write(b"")  # what came before is digested now
    assert staged._beside is not None
    staged._beside._digests = _OutOfMemory()
    staged.write(data[digesting.WORTH_BYTES :])
    for _ in range(2):
        with pytest.raises(ArchiveUnavailable):
            archive.commit(staged, KEY, ARRIVAL)
        with pytest.raises(ArchiveUnavailable, match="given up"):
            assert not staged.sha256
    staged.discard()
    assert list(archive.locations()) == []


def test_a_write_that_fails_leaves_no_core_taken(tmp_path, monkeypatch, data):
    monkeypatch.setattr(digesting, "_free_cores", threading.Semaphore(1))
    staged = stage(FilesystemArchive(tmp_path), data)

    def fails(*_):
        raise OSError(errno.EIO, "no more")

    monkeypatch.setattr(staging, "write_all", fails)
    with pytest.raises(ArchiveUnavailable):
        staged.write(bytes(digesting.WORTH_BYTES))
    assert digesting._free_cores.acquire(blocking=False)
    staged.discard()


@pytest.mark.parametrize("size", [10, 64 << 10, (64 << 10) + 1, 200_000])
def test_what_has_come_in_is_read_like_a_file(tmp_path, data, size):
    staged = stage(FilesystemArchive(tmp_path), data[:size])
    with staged.data_set() as stream:
        assert stream.seek(0, os.SEEK_END) == size
        assert stream.read(1) == b""
        for start, length in ((0, 5), (size // 2, 70_000), (size - 3, 10), (65_530, 10), (size + 5, 1)):
            stream.seek(start)
            assert stream.read(length) == data[:size][start : start + length]
        stream.seek(1)
        assert stream.tell() == 1
        assert stream.read() == data[1:size]
    staged.discard()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be told")
def test_a_writeback_that_fails_at_once_is_believed(tmp_path, monkeypatch, data, number):
    def fails(*_):
        ctypes.set_errno(number)
        return -1

    monkeypatch.setattr(writeback, "_sync_file_range", fails)
    staged = FilesystemArchive(tmp_path).stage(HEADING)
    staged.write(data[:100_000])
    with pytest.raises(ArchiveUnavailable):
        staged.data_set()
    with pytest.raises(ArchiveUnavailable):
        staged.write(data)
    with pytest.raises(ArchiveUnavailable, match="given up"):
        staged.write(data)
    staged.discard()
