"""Settle: files whose bytes are durable in a journal become durable in their places."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from backup_scp.archive import FilesystemArchive, intake_journal, staging_folder
from backup_scp.archive.intake_journal import JOURNAL_BYTES
from backup_scp.archive.staging import LOCK, FileInStaging
from backup_scp.errors import ArchiveUnavailable
from backup_scp.machine.folders import FsyncFailed
from tests.archive.dying_process import no_links
from tests.archive.examples import ARRIVAL, HEADING, KEY, digest
from tests.archive.intake import Flushes, prepared, staged_files, swept, take
from tests.archive.test_volume import free

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux flushes a whole file system with one call")


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FilesystemArchive:
    take("journal", monkeypatch.setattr)
    return prepared(FilesystemArchive(tmp_path / "archive"))


def image(number: int) -> bytes:
    return b"%d" % number * 1000


def commit(archive: FilesystemArchive, data: bytes) -> tuple[FileInStaging, str]:
    staged = archive.stage(HEADING)
    staged.write(data)
    return staged, archive.commit(staged, KEY, ARRIVAL)[0]


def fail_once(archive: FilesystemArchive, staged: list[FileInStaging], fails: int = 1) -> list[object]:
    """Settle, and let a flush fail; return what was asked for."""
    with pytest.MonkeyPatch.context() as patch:
        flushes = Flushes(patch, fails=fails)
        with pytest.raises(ArchiveUnavailable):
            archive.settle(staged)
    return flushes.asked


def lose(path: Path) -> None:
    """Overwrite its bytes in place, as the system does that gives up pages that it could not write."""
    with path.open("rb+") as file:
        file.write(bytes(path.stat().st_size))


def open_records(archive: FilesystemArchive) -> int:
    assert archive._staging._own
    return sum(segment.open_records for segment in archive._staging._own.journal._segments)


class TestAfterAFailedFlush:
    """The system told of lost writes once, and not of which."""

    def test_files_are_written_again_from_the_journal(self, tmp_path, archive, monkeypatch):
        root = tmp_path / "archive"
        first, second = commit(archive, image(0)), commit(archive, image(1))
        assert fail_once(archive, [first[0], second[0]]) == ["syncfs"]
        lose(root / first[1])
        after = commit(archive, image(2))
        inodes = [(root / location).stat().st_ino for _, location in (first, second, after)]

        flushes = Flushes(monkeypatch)
        archive.settle([first[0], second[0], after[0]])

        for number, (_, location) in enumerate((first, second, after)):
            assert archive.verify(location, digest(image(number))).arrival == ARRIVAL
        renewed = [
            (root / location).stat().st_ino != inode
            for (_, location), inode in zip((first, second, after), inodes, strict=True)
        ]
        assert renewed == [True, True, False], "what came after the failure is flushed like any other"
        assert flushes.made[-1] == "syncfs"
        assert len(flushes.made) == 3, "one flush for each that was written again, and one for their names"
        for staged, _ in (first, second, after):
            archive.forget(staged)
        assert (staged_files(root), open_records(archive)) == ([], 0)
        assert {(root / location).stat().st_mode & 0o777 for _, location in (first, second, after)} == {0o600}

    @pytest.mark.parametrize("fails", [1, 2])
    def test_and_again_when_that_fails_too(self, tmp_path, archive, fails):
        """The second time it is the fsync of the first or of the second file that fails."""
        both = [commit(archive, image(number)) for number in range(2)]
        staged = [each for each, _ in both]
        fail_once(archive, staged)
        fail_once(archive, staged, fails)
        for _, location in both:
            if (tmp_path / "archive" / location).stat().st_nlink > 1:  # not written again yet
                lose(tmp_path / "archive" / location)
        archive.settle(staged)
        for number, (one, location) in enumerate(both):
            archive.verify(location, digest(image(number)))
            archive.forget(one)
        assert (staged_files(tmp_path / "archive"), open_records(archive)) == ([], 0)
        assert list(tmp_path.rglob("*.new")) == []

    def test_names_that_fail_after_it_are_flushed_again(self, archive, monkeypatch):
        """The last that was written again has no record any more."""
        one, location = commit(archive, image(0))
        fail_once(archive, [one])
        assert "syncfs" in fail_once(archive, [one], fails=2)
        flushes = Flushes(monkeypatch)
        archive.settle([one])
        assert "syncfs" in flushes.made or archive.read(location).path.parent in flushes.made
        archive.forget(one)

    def test_without_hard_links(self, tmp_path, archive, monkeypatch):
        """The file has its place already, and is not promised before that is durable."""
        monkeypatch.setattr(os, "link", no_links)
        staged = archive.stage(HEADING)
        staged.write(image(0))
        with monkeypatch.context() as patch:
            flushes = Flushes(patch)
            archive.commit(staged, KEY, ARRIVAL)
            last = len(flushes.made)
        archive.forget(staged)
        staged = archive.stage(HEADING)
        staged.write(image(1))
        with monkeypatch.context() as patch:
            Flushes(patch, fails=last)
            with pytest.raises(ArchiveUnavailable):
                archive.commit(staged, KEY, ARRIVAL)
        staged.discard()
        (location,) = swept(archive)
        archive.verify(location, digest(image(1)))
        assert staged_files(tmp_path / "archive") == []

    def test_a_process_that_dies_then_leaves_all_in_the_journal(self, tmp_path, archive):
        both = [commit(archive, image(number)) for number in range(2)]
        fail_once(archive, [staged for staged, _ in both])
        for _, location in both:
            lose(tmp_path / "archive" / location)
        archive.close()
        archive._staging._own = None
        both[0][0].lock.close()
        other = FilesystemArchive(tmp_path / "archive")
        assert set(swept(other)) == {location for _, location in both}
        for number, (_, location) in enumerate(both):
            other.verify(location, digest(image(number)))


class TestDiscard:
    """The index failed: the note stays, and nobody settles the file."""

    def test_its_file_is_flushed_and_its_record_is_free(self, archive, monkeypatch):
        staged, location = commit(archive, image(0))
        assert open_records(archive) == 1
        flushes = Flushes(monkeypatch)
        staged.discard()
        assert staged.path in flushes.made
        assert open_records(archive) == 0
        assert swept(archive) == [location]

    def test_where_that_fails_the_journal_keeps_it(self, tmp_path, archive):
        staged, location = commit(archive, image(0))
        with pytest.MonkeyPatch.context() as patch:
            Flushes(patch, fails=1)
            staged.discard()
        assert open_records(archive) == 1
        lose(tmp_path / "archive" / location)
        archive.close()
        staged.lock.close()
        other = FilesystemArchive(tmp_path / "archive")
        assert set(swept(other)) == {location}
        other.verify(location, digest(image(0)))

    def test_what_was_not_shown_leaves_nothing(self, tmp_path, archive):
        staged = archive.stage(HEADING)
        staged.write(image(0))
        staged.finalize(ARRIVAL, "ab/1.2.3/1.2.3.1/1.2.3.4.0123456789ab.dcm")
        assert open_records(archive) == 1
        staged.discard()
        assert (staged_files(tmp_path / "archive"), open_records(archive)) == ([], 0)


class TestFailuresMeanwhile:
    """A flush that fails tells of lost writes once: what was written before it is not trusted to the journal."""

    def test_a_longer_image_that_was_coming_is_flushed_for_itself(self, tmp_path, archive, monkeypatch):
        assert archive._staging._own
        archive._staging._own.journal.largest_bytes = 1 << 20
        settled, _ = commit(archive, image(0))
        coming = archive.stage(HEADING)
        coming.write(bytes(100_000))
        fail_once(archive, [settled])
        coming.write(bytes(100_000))

        flushes = Flushes(monkeypatch)
        location, _ = archive.commit(coming, KEY, ARRIVAL)

        assert coming.journal is None
        assert coming.path in flushes.made
        assert archive.verify(location, digest(bytes(200_000)))

    def test_a_record_that_is_not_what_came_is_not_put_in_its_place(self, tmp_path, archive, monkeypatch):
        staged, location = commit(archive, image(0))
        fail_once(archive, [staged])
        monkeypatch.setattr(intake_journal, "read_at", lambda _descriptor, size, _offset: bytes(size))
        with pytest.raises(ArchiveUnavailable):
            archive.settle([staged])
        assert archive.verify(location, digest(image(0)))

    def test_a_name_whose_flush_failed_is_not_flushed_again(self, tmp_path, monkeypatch):
        take("own file", monkeypatch.setattr)
        archive = FilesystemArchive(tmp_path / "archive")
        first, second = archive.stage(HEADING), archive.stage(HEADING)
        first.write(image(1))
        second.write(image(2))

        def fail(folder: Path) -> None:
            raise FsyncFailed(5, os.strerror(5))

        with monkeypatch.context() as patch:
            patch.setattr(staging_folder, "fsync_folder", fail)
            with pytest.raises(ArchiveUnavailable):
                archive.commit(first, KEY, ARRIVAL)

        with pytest.raises(ArchiveUnavailable):
            archive.commit(second, KEY, ARRIVAL)
        second.discard()
        assert commit(archive, image(3))


class TestWhichWay:
    @pytest.mark.parametrize(("length", "is_journalled"), [(1, True), (64 << 10, True), ((64 << 10) + 1, False)])
    def test_small_ones_go_into_the_journal(self, archive, monkeypatch, length, is_journalled):
        flushes = Flushes(monkeypatch)
        staged, location = commit(archive, bytes(length))
        assert (staged.journal is not None) == (staged.journal_share > 0) == is_journalled
        assert (staged.path in flushes.made) != is_journalled
        archive.settle([staged])
        archive.forget(staged)
        archive.verify(location, digest(bytes(length)))

    @pytest.mark.parametrize(
        ("length", "is_roomy", "is_journalled"),
        [(70_000, True, True), (790_000, True, True), (900_000, True, False), (70_000, False, False)],
    )
    def test_on_a_slow_disk_longer_ones_too(self, tmp_path, monkeypatch, length, is_roomy, is_journalled):
        take("journal", monkeypatch.setattr)
        monkeypatch.setattr(intake_journal, "_flush_s", lambda _: 0.008)
        monkeypatch.setattr(staging_folder, "_ROOMY_BYTES", 0 if is_roomy else 1 << 60)
        archive, data = prepared(FilesystemArchive(tmp_path / "archive")), os.urandom(length)
        staged, location = commit(archive, data)
        assert (staged.journal is not None) == is_journalled
        staged.lock.close()
        (tmp_path / "archive" / location).unlink()
        if is_journalled:
            staged.path.unlink()
        other = FilesystemArchive(tmp_path / "archive")
        assert swept(other) == [location]
        other.verify(location, digest(data))

    def test_what_finds_no_room_in_the_journal_is_flushed_for_itself(self, archive, monkeypatch):
        many = [commit(archive, os.urandom(60_000)) for _ in range(40)]
        ways = [staged.journal is not None for staged, _ in many]
        assert ways.count(True) > 20
        assert not ways[-1]
        assert sum(staged.journal_share for staged, _ in many) <= 2
        flushes = Flushes(monkeypatch)
        archive.settle([staged for staged, _ in many])
        assert flushes.made == ["syncfs"], "all names at once"
        for staged, location in many:
            archive.forget(staged)
            archive.verify(location, staged.sha256)
        assert commit(archive, image(0))[0].journal is not None

    @pytest.mark.parametrize("more", [-1, 0])
    def test_no_journal_is_made_of_the_reserve(self, tmp_path, monkeypatch, more):
        take("journal", monkeypatch.setattr)
        archive = FilesystemArchive(tmp_path / "archive", reserve_bytes=1 << 20)
        free(monkeypatch, for_us=(1 << 20) + 10 * JOURNAL_BYTES + more)
        for number in range(2):
            staged, location = commit(archive, image(number))
            archive.settle([staged])
            archive.forget(staged)
        assert (len(list(tmp_path.rglob("*.tar"))) == 2) == (more == 0)
        archive.verify(location, digest(image(1)))

    def test_the_notes_in_a_lost_folder_stay(self, tmp_path, archive):
        """Its drive was away, so that another process may have taken its lock: ``sweep`` looks after it."""
        lost, _ = commit(archive, image(0))
        (lost.path.parent / LOCK).unlink()
        ours, _ = commit(archive, image(1))
        assert ours.path.parent != lost.path.parent
        archive.settle([lost, ours])
        archive.forget(lost, ours)
        assert (lost.path.exists(), ours.path.exists()) == (True, False)

    def test_a_journal_that_cannot_be_made_fails_nothing(self, tmp_path, monkeypatch):
        """The disk is full: each file is flushed for itself."""
        take("journal", monkeypatch.setattr)
        archive = FilesystemArchive(tmp_path / "archive")
        staged, location = commit(archive, image(0))

        def fails(*_: object) -> int:
            raise OSError(28, os.strerror(28))

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", fails)
            archive.settle([staged])
        assert list(tmp_path.rglob("*.tar")) == []
        archive.forget(staged)
        archive.verify(location, digest(image(0)))
