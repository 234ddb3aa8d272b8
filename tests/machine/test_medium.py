"""Files are read as their medium has them, written past the page cache, and byte for byte."""

from __future__ import annotations

import errno
import os
import random
import sys

import pytest

from backup_scp.machine.medium import MediumWriter, aligned, read_medium

SIZES = (0, 1, 4095, 4096, 4097, 65_535, 65_536, 65_537, 200_000)
_DIRECT = getattr(os, "O_DIRECT", 0)


def content_of(path, *, expected_bytes=0, refuse=frozenset(), buffer_bytes=65_536):
    """Read a file; opening it with some flags is refused as a file system does that has no such thing."""

    def open_with(flags):
        if flags in refuse:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | flags)

    return b"".join(map(bytes, read_medium(open_with, aligned(buffer_bytes), expected_bytes)))


@pytest.fixture(params=SIZES)
def file(request, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(random.Random(request.param).randbytes(request.param))
    return path


@pytest.mark.parametrize("refuse", [frozenset(), frozenset({_DIRECT}) - {0}], ids=["direct", "through the cache"])
@pytest.mark.parametrize("wrong_by", [None, -5000, -1, 0, 1, 5000])
def test_all_of_it_comes_whatever_length_is_expected(file, refuse, wrong_by):
    size = file.stat().st_size
    expected = 0 if wrong_by is None else max(size + wrong_by, 0)
    assert content_of(file, refuse=refuse, expected_bytes=expected) == file.read_bytes()


@pytest.fixture
def refuse_direct(monkeypatch):
    """Return a function that lets a call of the system fail while a file bypasses the page cache."""
    import fcntl

    def refuse(name):
        call = getattr(os, name)

        def refusing(descriptor, buffer):
            if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return call(descriptor, buffer)

        monkeypatch.setattr(os, name, refusing)

    return refuse


@pytest.mark.skipif(sys.platform != "linux", reason="O_DIRECT")
def test_a_medium_that_refuses_direct_reads_is_read_through_the_cache(file, refuse_direct):
    refuse_direct("readv")
    assert content_of(file) == file.read_bytes()


def written(path, content, chunk_bytes):
    """Write a file in chunks, and return what is in it."""
    memory = aligned(chunk_bytes)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0))
    try:
        writer = MediumWriter(descriptor)
        for start in range(0, len(content), chunk_bytes):
            chunk = content[start : start + chunk_bytes]
            memory[: len(chunk)] = chunk
            writer.write(memory[: len(chunk)])
    finally:
        os.close(descriptor)
    return path.read_bytes()


@pytest.mark.parametrize("chunk_bytes", [65_536, 5000])
def test_all_of_it_is_written_in_chunks_of_any_length(file, tmp_path, chunk_bytes):
    assert written(tmp_path / "new", file.read_bytes(), chunk_bytes) == file.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="O_DIRECT")
def test_a_medium_that_refuses_direct_writes_is_written_through_the_cache(file, tmp_path, refuse_direct):
    refuse_direct("write")
    assert written(tmp_path / "new", file.read_bytes(), 65_536) == file.read_bytes()


def test_what_the_system_takes_in_pieces_is_written_whole(file, tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, chunk: write(descriptor, chunk[:4100]))
    assert written(tmp_path / "new", file.read_bytes(), 65_536) == file.read_bytes()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a pipe has no sectors")
def test_other_errors_of_a_write_are_raised(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with pytest.raises(BrokenPipeError):
            MediumWriter(writing).write(aligned(4096))
    finally:
        os.close(writing)


def test_other_errors_are_raised(tmp_path):
    with pytest.raises(FileNotFoundError):
        content_of(tmp_path / "nothing")


@pytest.mark.skipif(sys.platform != "linux", reason="the page cache of Linux")
def test_it_leaves_the_page_cache_alone(tmp_path):
    if _is_cached(_uncached_file(tmp_path / "first")):
        pytest.skip("this file system is the cache")
    path = _uncached_file(tmp_path / "file")
    assert content_of(path) == bytes(65_536)
    assert not _is_cached(path)


@pytest.mark.skipif(sys.platform != "linux", reason="the page cache of Linux")
def test_what_is_written_is_not_in_the_page_cache(tmp_path):
    if _is_cached(_uncached_file(tmp_path / "first")):
        pytest.skip("this file system is the cache")
    path = tmp_path / "new"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    MediumWriter(descriptor).write(aligned(65_536))
    os.close(descriptor)
    assert not _is_cached(path)


def _uncached_file(path):
    with path.open("wb") as file:
        file.write(bytes(65_536))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return path


def _is_cached(path):
    """Tell it once: to ask may bring it there."""
    try:
        with path.open("rb") as file:
            return os.preadv(file.fileno(), (bytearray(4096),), 0, os.RWF_NOWAIT) > 0
    except BlockingIOError:
        return False
    except OSError:
        pytest.skip("this file system does not say what it has in memory")
