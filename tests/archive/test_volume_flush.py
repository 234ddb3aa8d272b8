"""What a failed flush of a volume means for all that was written before it."""

from __future__ import annotations

import errno
import os

import pytest

from backup_scp.archive import volume_flush
from backup_scp.archive.volume_flush import VolumeFlush
from backup_scp.machine.folders import FsyncFailed


def failing(*_):
    raise FsyncFailed(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("is_of_all", [True, False])
def test_after_a_failure_it_never_succeeds(tmp_path, monkeypatch, is_of_all):
    """The system tells of a lost write once: a second flush would succeed without the bytes."""
    monkeypatch.setattr(volume_flush, "can_flush_all", lambda _: is_of_all)
    file = tmp_path / "file"
    file.write_bytes(b"bytes")
    flush = VolumeFlush(tmp_path)
    with monkeypatch.context() as now:
        now.setattr(volume_flush, "flush_all", failing)
        now.setattr(volume_flush, "fsync", failing)
        with pytest.raises(FsyncFailed):
            flush([str(file)])
    with pytest.raises(FsyncFailed):
        flush([str(file)])
    VolumeFlush(tmp_path)([str(file)])


def test_where_the_volume_is_not_flushed_as_a_whole_each_file_is(tmp_path, monkeypatch):
    monkeypatch.setattr(volume_flush, "can_flush_all", lambda _: False)
    flushed = []
    monkeypatch.setattr(volume_flush, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    files = [tmp_path / name for name in ("a", "b")]
    for file in files:
        file.write_bytes(b"bytes")
    flush = VolumeFlush(tmp_path)
    assert not flush.is_of_all
    flush(map(str, files))
    assert flushed == [file.stat().st_ino for file in files]
