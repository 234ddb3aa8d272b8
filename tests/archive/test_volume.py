"""The volume of an archive: its free space, and whether an fsync failed."""

from __future__ import annotations

import errno
import gc
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backup_scp.archive.filesystem import FilesystemArchive
from backup_scp.archive.volume import Volume
from backup_scp.errors import ArchiveFull, ArchiveUnavailable
from tests.archive.examples import ARRIVAL, DATA_SET, HEADING, KEY, digest, store
from tests.processes import ROOT, clean_environment

NOT_KEPT = f"did not keep data: {os.strerror(errno.EIO)}"


@pytest.fixture
def archive(tmp_path: Path) -> FilesystemArchive:
    return FilesystemArchive(tmp_path / "archive")


@contextmanager
def a_disk_that_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def fails(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        yield


class TestFsync:
    def test_a_failed_one_is_believed_whoever_asked_for_it(self, archive, monkeypatch):
        """Also where the file of a re-send is flushed: the next fsync of it would succeed, and mean nothing."""
        location = store(archive)
        with a_disk_that_keeps_nothing(monkeypatch):
            with pytest.raises(ArchiveUnavailable, match="cannot be written"):
                archive.flush(location)
            assert NOT_KEPT in archive.trouble
            with pytest.raises(ArchiveUnavailable, match=NOT_KEPT):
                archive.stage(HEADING)
        assert archive.trouble
        archive.stage(HEADING).discard()
        assert archive.trouble == ""

    def test_one_that_failed_meanwhile_refuses_what_was_flushed_beside_it(self, archive, monkeypatch):
        location = store(archive)
        other = FilesystemArchive(archive._root)
        other.stage(HEADING).discard()
        real, failed = os.fsync, list[int]()

        def fsync(descriptor: int) -> None:
            real(descriptor)
            if not failed:
                failed.append(descriptor)
                with a_disk_that_keeps_nothing(monkeypatch), pytest.raises(ArchiveUnavailable):
                    other.flush(location)

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(ArchiveUnavailable, match="an fsync failed"):
            archive.flush(location)
        archive.flush(location)

    def test_another_process_of_the_node_is_heard_of(self, tmp_path):
        done = subprocess.run(
            [sys.executable, "-m", "tests.archive.workers", str(tmp_path / "archive")],
            check=False, capture_output=True, text=True, env=clean_environment(PYTHONPATH=str(ROOT)), timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def test_what_another_process_has_found_is_tried(self, archive, monkeypatch):
        store(archive)
        archive.mark_faulty("somebody said so")
        with a_disk_that_keeps_nothing(monkeypatch), pytest.raises(ArchiveUnavailable, match=NOT_KEPT):
            archive.stage(HEADING)
        archive.stage(HEADING).discard()
        assert archive.trouble == ""

    def test_one_that_failed_in_another_archive_of_this_process_is_heard_of(self, archive, tmp_path, monkeypatch):
        store(archive)
        other = FilesystemArchive(tmp_path / "other")
        location = store(other)
        with a_disk_that_keeps_nothing(monkeypatch):
            with pytest.raises(ArchiveUnavailable):
                other.flush(location)
            with pytest.raises(ArchiveUnavailable, match=NOT_KEPT):
                archive.stage(HEADING)

    @pytest.mark.parametrize("is_kind", [stat.S_ISREG, stat.S_ISDIR])
    def test_neither_a_file_nor_its_folder_alone_proves_that_the_disk_is_sound(self, archive, monkeypatch, is_kind):
        store(archive)
        archive.mark_faulty("somebody said so")
        real = os.fsync

        def fails(descriptor: int) -> None:
            if is_kind(os.fstat(descriptor).st_mode):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fails)
        with pytest.raises(ArchiveUnavailable, match=NOT_KEPT):
            archive.stage(HEADING)

    def test_a_disk_that_takes_no_byte_is_not_sound(self, archive, monkeypatch):
        store(archive)
        archive.mark_faulty("somebody said so")

        def fails(*_: object) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, "write", fails)
        with pytest.raises(ArchiveUnavailable, match=NOT_KEPT):
            archive.stage(HEADING)

    @pytest.mark.skipif(sys.platform != "linux", reason="Linux lists a process's descriptors in a folder")
    def test_what_was_written_to_try_the_disk_is_gone_again(self, archive, tmp_path):
        archive.stage(HEADING).discard()
        gc.collect()  # what other tests have left open
        before = len(list(Path("/proc/self/fd").iterdir()))
        archive.mark_faulty("somebody said so")
        archive.stage(HEADING).discard()
        assert archive.trouble == ""
        assert list((tmp_path / "archive").rglob("test-*")) == []
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def free(monkeypatch: pytest.MonkeyPatch, *, for_us: int, for_root: int = 1 << 50, files: int = 1 << 20) -> None:
    """Let the volume have so many bytes free."""
    real = os.statvfs

    def statvfs(path):
        found = list(real(path))
        found[0:2] = 4096, 1
        found[3:5] = for_root, for_us
        found[5:8] = 1 << 30, files, files
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", statvfs)


class TestReserve:
    def test_it_is_left_to_the_byte(self, tmp_path, monkeypatch):
        volume = Volume(tmp_path, reserve_bytes=1000)
        free(monkeypatch, for_us=1000)
        volume.require_room()
        assert volume.free_bytes() == 1000
        with pytest.raises(ArchiveFull, match="less than"):
            volume.require_room(1)
        free(monkeypatch, for_us=999)
        with pytest.raises(ArchiveFull, match="less than"):
            volume.require_room()

    def test_what_is_kept_for_root_is_not_ours(self, tmp_path, monkeypatch):
        free(monkeypatch, for_us=7, for_root=1 << 40)
        assert Volume(tmp_path, 0).free_bytes() == 7

    def test_a_folder_that_is_not_there_yet_is_on_the_volume_of_those_above(self, tmp_path, monkeypatch):
        free(monkeypatch, for_us=7)
        assert Volume(tmp_path / "not" / "yet", 0).free_bytes() == 7

    @pytest.mark.parametrize(("reserve", "words"), [(1_000_000_000, "1.0 GB"), (999_000_000, "999 MB")])
    def test_the_reserve_in_words(self, tmp_path, monkeypatch, reserve, words):
        free(monkeypatch, for_us=0)
        with pytest.raises(ArchiveFull, match=f"less than {words} are free"):
            Volume(tmp_path, reserve).require_room()

    def test_a_hundred_files_are_left(self, tmp_path, monkeypatch):
        volume = Volume(tmp_path, 1)
        free(monkeypatch, for_us=1 << 40, files=100)
        volume.require_room()
        free(monkeypatch, for_us=1 << 40, files=99)
        with pytest.raises(ArchiveFull, match="further files"):
            volume.require_room()

    def test_it_is_looked_at_while_a_data_set_comes_in(self, tmp_path, monkeypatch):
        """Its length is not known in advance: the space is checked after each 4 MiB."""
        archive = FilesystemArchive(tmp_path / "archive", reserve_bytes=1 << 20)
        free(monkeypatch, for_us=1 << 40)
        staged = archive.stage(HEADING)
        free(monkeypatch, for_us=(1 << 20) + 1000)
        for _ in range((4 << 20) // 4096 - 1):
            staged.write(bytes(4096))
        with pytest.raises(ArchiveFull):
            staged.write(bytes(4096))
        staged.discard()

    def test_no_reserve_is_none(self, tmp_path, monkeypatch):
        free(monkeypatch, for_us=0, files=0)
        Volume(tmp_path, 0).require_room(1)
        archive = FilesystemArchive(tmp_path / "archive")
        assert archive.verify(store(archive, key=KEY, arrival=ARRIVAL), digest(DATA_SET)).size_bytes == len(DATA_SET)
