"""What a process left in staging when it died: no image is lost whose sender was told that it is stored."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from backup_scp.archive import FilesystemArchive, layout, leftovers
from backup_scp.errors import ArchiveUnavailable
from backup_scp.machine import file_system
from backup_scp.machine.folders import FsyncFailed
from tests.archive.dying_process import no_links
from tests.archive.examples import ARRIVAL, DATA_SET, HEADING, KEY, digest, store
from tests.archive.intake import Flushes, prepared, staged_files, swept, take

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux flushes a whole file system with one call")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def image(number: int) -> bytes:
    return b"%d" % number * 1000


def dies_after(root: Path, *images: bytes, journal: bool) -> list[str]:
    """Let a process die that has acknowledged these images, before any was settled; return their locations."""
    archive = FilesystemArchive(root)
    if journal:
        prepared(archive)
    locations = []
    for data in images:
        staged = archive.stage(HEADING)
        staged.write(data)
        locations.append(archive.commit(staged, KEY, ARRIVAL)[0])
        assert (staged.journal is not None) == journal
    die(archive)
    return locations


def die(archive: FilesystemArchive) -> None:
    assert archive._staging._own
    archive._staging._own.lock.close()


def journal_of(root: Path) -> Path:
    (path,) = root.glob(".staging/*/journal-1.tar")
    return path


def require_nothing_left(root: Path) -> None:
    assert [path for path in root.glob(".staging/*") if path.is_dir()] == []
    assert swept(FilesystemArchive(root)) == []


WHAT_A_POWER_CUT_LEAVES: dict[str, Callable[[bytes], bytes | None]] = {
    "nothing": lambda _: None,
    "no byte": lambda _: b"",
    "zeros": lambda content: bytes(len(content)),
    "the header": lambda content: content[: -len(image(1))],
    "a part": lambda content: content[:-1],
    "all but its last page": lambda content: content[:-500] + bytes(500),
    "another's bytes": lambda content: content[:-500] + b"?" * 500,
    "more": lambda content: content + bytes(100),
}


@linux
class TestJournal:
    @pytest.fixture(autouse=True)
    def way(self, monkeypatch):
        take("journal", monkeypatch.setattr)

    @pytest.mark.parametrize("left", WHAT_A_POWER_CUT_LEAVES.values(), ids=WHAT_A_POWER_CUT_LEAVES)
    @pytest.mark.parametrize("has_staged", [True, False])
    def test_what_did_not_come_to_the_disk_is_made_whole(self, root, left, has_staged):
        locations = dies_after(root, *map(image, range(3)), journal=True)
        content = (root / locations[1]).read_bytes()
        for path in (root / locations[1], *staged_files(root)):
            torn = left(content)
            if torn is None or (path.parent.name != "1.2.3.1" and not has_staged):
                path.unlink()
            elif path == root / locations[1]:
                path.write_bytes(torn)

        archive = FilesystemArchive(root)
        assert set(swept(archive)) == set(locations)

        for number, location in enumerate(locations):
            assert archive.verify(location, digest(image(number))).arrival == ARRIVAL
        assert (root / locations[1]).read_bytes() == content
        assert (root / locations[1]).stat().st_mode & 0o777 == 0o600
        require_nothing_left(root)

    def test_what_is_intact_is_left_alone(self, root):
        locations = dies_after(root, image(0), image(1), journal=True)
        before = [(root / location).stat()[:3] for location in locations]
        assert set(swept(FilesystemArchive(root))) == set(locations)
        assert [(root / location).stat()[:3] for location in locations] == before
        assert not (root / ".damaged").exists()

    def test_folders_that_were_lost_are_made(self, root):
        (location,) = dies_after(root, image(0), journal=True)
        for path in (root / location, *staged_files(root)):
            path.unlink()
        for folder in (root / location).parents[:3]:
            folder.rmdir()
        archive = FilesystemArchive(root)
        assert set(swept(archive)) == {location}
        archive.verify(location, digest(image(0)))

    def test_another_data_set_is_never_overwritten(self, root, monkeypatch):
        """It has the place since its digest begins with the same digits; the sender of this one was not told."""
        (location,) = dies_after(root, image(0), journal=True)
        (root / location).unlink()
        for staged in staged_files(root):
            staged.unlink()
        short = layout.location_of
        monkeypatch.setattr(
            layout,
            "location_of",
            lambda key, sha256, whole_digest=False: short(key, sha256, whole_digest=True) if whole_digest else location,
        )
        archive = FilesystemArchive(root)
        assert store(archive, image(1)) == location
        archive.close()
        assert swept(archive) == []
        archive.verify(location, digest(image(1)))
        require_nothing_left(root)

    def test_a_damaged_file_that_was_there_before_is_kept_aside(self, root):
        archive = FilesystemArchive(root)
        location = store(archive, image(0))
        archive.close()
        (root / location).write_bytes(b"damaged")
        dying = prepared(FilesystemArchive(root))
        staged = dying.stage(HEADING)
        staged.write(image(0))
        staged.finalize(ARRIVAL, location)
        die(dying)

        assert location in swept(archive)

        archive.verify(location, digest(image(0)))
        assert [path.read_bytes() for path in (root / ".damaged").rglob("*.dcm")] == [b"damaged"]

    def test_a_torn_record_is_dropped_and_those_around_it_are_not(self, root):
        """Its sender was not told: the flush of those after it would have flushed it."""
        locations = dies_after(root, *map(image, range(3)), journal=True)
        path = journal_of(root)
        content = path.read_bytes()
        at = content.index(image(1))
        path.write_bytes(content[:at] + b"?" + content[at + 1 :])
        for lost in (*(root / location for location in locations), *staged_files(root)):
            lost.unlink()
        archive = FilesystemArchive(root)
        assert swept(archive) == [locations[0], locations[2]]
        assert set(archive.locations()) == {locations[0], locations[2]}

    @pytest.mark.parametrize("location", ["../../secret.dcm", "/tmp/secret.dcm", "readme.txt", ""])
    def test_a_record_with_no_location_goes_nowhere(self, root, tmp_path, location):
        archive = prepared(FilesystemArchive(root))
        staged = archive.stage(HEADING)
        staged.write(image(0))
        staged.finalize(ARRIVAL, location)
        die(archive)
        other = FilesystemArchive(root)
        assert swept(other) == []
        assert list(other.locations()) == []
        assert not (tmp_path / "secret.dcm").exists()

    def test_a_crash_in_the_middle_of_it_is_no_end(self, root, monkeypatch):
        """Each time it dies before the file has its name: the next time all of it is done again."""
        locations = dies_after(root, *map(image, range(3)), journal=True)
        for location in locations:
            (root / location).unlink()
        for staged in staged_files(root):
            staged.unlink()

        def dies(*_: object) -> None:
            raise KeyboardInterrupt

        for _ in range(2):
            with monkeypatch.context() as patch:
                patch.setattr(Path, "replace", dies)
                with pytest.raises(KeyboardInterrupt):
                    swept(FilesystemArchive(root))
        archive = FilesystemArchive(root)
        assert set(swept(archive)) == set(locations)
        for number, location in enumerate(locations):
            archive.verify(location, digest(image(number)))
        require_nothing_left(root)

    def test_a_folder_that_goes_meanwhile_is_no_end(self, root, monkeypatch):
        """A file or folder that is not found is no reason to give up those that follow."""
        locations = dies_after(root, *map(image, range(3)), journal=True)
        for path in (*(root / location for location in locations), *staged_files(root)):
            path.unlink()

        def fails(*_: object) -> None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

        with monkeypatch.context() as patch, suppress(ArchiveUnavailable):
            patch.setattr(Path, "replace", fails)
            swept(FilesystemArchive(root))
        archive = FilesystemArchive(root)
        swept(archive)
        assert set(archive.locations()) == set(locations)

    def test_without_hard_links(self, root, monkeypatch):
        monkeypatch.setattr(os, "link", no_links)
        archive = prepared(FilesystemArchive(root))
        staged = archive.stage(HEADING)
        staged.write(image(0))
        location, _ = archive.commit(staged, KEY, ARRIVAL)
        die(archive)
        (root / location).write_bytes(b"")
        other = FilesystemArchive(root)
        assert set(swept(other)) == {location}
        other.verify(location, digest(image(0)))
        require_nothing_left(root)


class TestStaged:
    @pytest.fixture(autouse=True)
    def way(self, monkeypatch):
        take("own file", monkeypatch.setattr)

    def test_a_whole_file_is_shown(self, root):
        """Its visible name was lost, or its process died before it gave it one."""
        locations = dies_after(root, image(0), image(1), journal=False)
        (root / locations[0]).unlink()
        archive = FilesystemArchive(root)
        assert set(swept(archive)) == set(locations)
        for number, location in enumerate(locations):
            assert archive.verify(location, digest(image(number))).arrival == ARRIVAL
        require_nothing_left(root)

    def test_a_long_file_is_shown(self, root):
        data = os.urandom(3_000_000)
        (location,) = dies_after(root, data, journal=False)
        (root / location).unlink()
        archive = FilesystemArchive(root)
        assert swept(archive) == [location]
        archive.verify(location, digest(data))

    @pytest.mark.parametrize("left", list(WHAT_A_POWER_CUT_LEAVES.values())[1:], ids=list(WHAT_A_POWER_CUT_LEAVES)[1:])
    def test_a_torn_one_is_dropped(self, root, left):
        """Its sender was not told."""
        locations = dies_after(root, image(0), image(1), journal=False)
        staged = next(path for path in staged_files(root) if path.samefile(root / locations[1]))
        (root / locations[1]).unlink()
        staged.write_bytes(left(staged.read_bytes()))
        archive = FilesystemArchive(root)
        assert swept(archive) == [locations[0]]
        assert list(archive.locations()) == [locations[0]]
        require_nothing_left(root)

    def test_one_whose_place_is_taken_is_the_note_of_that_file(self, root):
        """That may be another copy with the same bytes: a re-send after the power cut."""
        (location,) = dies_after(root, image(0), journal=False)
        (root / location).unlink()
        archive = FilesystemArchive(root)
        store(archive, image(0))
        inode = (root / location).stat().st_ino
        assert swept(archive) == [location]
        assert (root / location).stat().st_ino == inode

    def test_an_acknowledged_one_is_not_lost_with_the_damaged_file_that_it_replaced(self, root):
        """The replacement did not come to the disk; the staged file did."""
        archive = FilesystemArchive(root)
        location = store(archive, image(0))
        (root / location).write_bytes(b"damaged")
        archive.close()
        dying = FilesystemArchive(root)
        staged = dying.stage(HEADING)
        staged.write(image(0))
        flushed = FlushedFolders(root)
        with flushed:
            dying.commit(staged, KEY, ARRIVAL)
        die(dying)
        if (root / location).parent not in flushed.folders:
            (root / location).unlink()
            (root / location).write_bytes(b"damaged")

        assert swept(archive) == [location]

        archive.verify(location, digest(image(0)))
        assert b"damaged" in {path.read_bytes() for path in (root / ".damaged").rglob("*.dcm")}

    def test_more_than_are_swept_at_once(self, root, monkeypatch):
        locations = dies_after(root, *map(image, range(150)), journal=False)
        for location in locations:
            (root / location).unlink()
        archive = FilesystemArchive(root)
        parts = []
        for found in archive.sweep():
            parts.append(len(found))
            assert len(staged_files(root)) == 150 - sum(parts) + len(found), (
                "their notes stay until their rows are durable"
            )
        assert sum(parts) == 150
        assert max(parts) <= 64
        assert set(archive.locations()) == set(locations)
        require_nothing_left(root)


class FlushedFolders:
    """The folders that were flushed within the block."""

    def __init__(self, root: Path) -> None:
        self.folders: set[object] = set()
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> None:
        self._flushes = Flushes(self._patch)

    def __exit__(self, *_: object) -> None:
        self._patch.undo()
        self.folders.update(self._flushes.made)


@linux
@pytest.mark.parametrize("way", ["own file", "journal"])
class TestDurable:
    """A process that was killed has lost nothing; but its files may be in memory only, and their note goes."""

    @pytest.fixture(autouse=True)
    def _way(self, way, monkeypatch):
        take(way, monkeypatch.setattr)

    @pytest.mark.parametrize("flushes_all", [True, False])
    @pytest.mark.parametrize("is_shown", [True, False])
    def test_what_is_found_is_flushed_before_its_note_goes(self, root, monkeypatch, way, flushes_all, is_shown):
        locations = dies_after(root, image(0), image(1), journal=way == "journal")
        if not is_shown:
            (root / locations[1]).unlink()
        monkeypatch.setattr("backup_scp.archive.leftovers.can_flush_all", lambda _: flushes_all)
        notes = set(root.glob(".staging/*/*"))
        flushes = Flushes(monkeypatch)
        found = next(FilesystemArchive(root).sweep())
        assert set(found) == set(locations)
        assert notes <= set(root.glob(".staging/*/*"))
        if flushes_all:
            assert "syncfs" in flushes.made
        else:
            finals = [root / location for location in locations]
            assert {*finals, *finals[0].parents[:4]} <= set(flushes.made)

    @pytest.mark.parametrize("call", ["fsync", "syncfs"])
    def test_where_that_fails_the_notes_stay(self, root, monkeypatch, way, call):
        (location,) = dies_after(root, image(0), journal=way == "journal")
        monkeypatch.setattr("backup_scp.archive.leftovers.can_flush_all", lambda _: call == "syncfs")
        with monkeypatch.context() as patch:
            patch.setattr(*{"fsync": (os, "fsync"), "syncfs": (file_system, "_syncfs")}[call], self.fails)
            with pytest.raises(ArchiveUnavailable):
                swept(FilesystemArchive(root))
        archive = FilesystemArchive(root)
        assert set(swept(archive)) == {location}
        archive.verify(location, digest(image(0)))

    @staticmethod
    def fails(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("way", [pytest.param("journal", marks=linux), "own file"])
class TestCount:
    """How many images the next sweep looks after; it changes nothing."""

    @pytest.fixture(autouse=True)
    def _way(self, way, monkeypatch):
        take(way, monkeypatch.setattr)

    def test_each_image_of_the_dead_counts_once(self, root, way):
        dies_after(root, image(0), image(1), journal=way == "journal")
        dies_after(root, image(1), image(2), journal=way == "journal")
        if way == "journal":
            for path in staged_files(root)[::2]:
                path.unlink()
        before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        archive = FilesystemArchive(root)
        assert archive.left_by_the_dead() == 3
        assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
        assert len(set(swept(archive))) == 3
        assert archive.left_by_the_dead() == 0

    def test_torn_ones_do_not_count(self, root, way):
        dies_after(root, image(0), image(1), journal=way == "journal")
        for path in root.glob(".staging/*/*"):
            path.write_bytes(path.read_bytes().replace(b"1" * 1000, b"?" * 1000))
        assert FilesystemArchive(root).left_by_the_dead() == 1

    def test_the_living_have_left_nothing(self, root, way):
        archive = FilesystemArchive(root)
        assert archive.left_by_the_dead() == 0
        if way == "journal":
            prepared(archive)
        staged = archive.stage(HEADING)
        staged.write(image(0))
        archive.commit(staged, KEY, ARRIVAL)
        assert FilesystemArchive(root).left_by_the_dead() == 0
        die(archive)
        assert FilesystemArchive(root).left_by_the_dead() == 1

    def test_what_cannot_be_read_is_passed_over(self, root, way, monkeypatch):
        dies_after(root, image(0), image(1), journal=way == "journal")
        for path in root.glob(".staging/*/*"):
            unreadable(monkeypatch, path, errno.EIO)
        assert FilesystemArchive(root).left_by_the_dead() == 0


def _no_flush(*_: object) -> None:
    raise FsyncFailed(errno.EIO, os.strerror(errno.EIO))


class TestUnreadable:
    """A sector of the disk is lost: a person is told, and what is left is kept."""

    @pytest.fixture(params=[pytest.param("journal-1.tar", marks=linux), "1.dcm"])
    def lost(self, request, root, monkeypatch) -> Path:
        journal = request.param == "journal-1.tar"
        take("journal" if journal else "own file", monkeypatch.setattr)
        self.locations = dies_after(root, DATA_SET, image(1), image(2), journal=journal)
        (path,) = root.glob(f".staging/*/{request.param}")
        return path

    def test_it_is_set_aside_and_logged(self, root, monkeypatch, caplog, lost):
        for location in self.locations:
            (root / location).unlink()
        content = lost.read_bytes()
        unreadable(monkeypatch, lost, errno.EIO)
        archive = FilesystemArchive(root)
        with caplog.at_level(logging.ERROR):
            found = swept(archive)

        assert set(found) == set(self.locations) - ({self.locations[1]} if lost.suffix == ".dcm" else set())
        aside = root / ".damaged" / f"{lost.parent.name}-{lost.name}"
        assert aside.read_bytes() == content
        (said,) = [record.message for record in caplog.records]
        assert said.startswith(f"{aside} cannot be read ({os.strerror(errno.EIO)})")
        assert "may be lost" in said
        assert list(archive.foreign()) == []
        require_nothing_left(root)

    def test_an_error_of_its_place_sets_nothing_aside(self, root, monkeypatch, lost):
        for location in self.locations:
            (root / location).unlink()
        with monkeypatch.context() as patch:
            patch.setattr(leftovers, "install", _no_flush)
            patch.setattr(os, "link", _no_flush)
            with pytest.raises(ArchiveUnavailable):
                swept(FilesystemArchive(root))
        assert lost.exists()
        assert not (root / ".damaged").exists()

        assert set(swept(FilesystemArchive(root))) == set(self.locations)

    def test_it_is_not_removed_when_it_cannot_be_set_aside(self, root, monkeypatch, lost):
        unreadable(monkeypatch, lost, errno.EIO)

        def fails(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", fails)
            patch.setattr(os, "rename", fails)
            with pytest.raises(ArchiveUnavailable):
                swept(FilesystemArchive(root))
        assert lost.exists()
        swept(FilesystemArchive(root))
        assert (root / ".damaged" / f"{lost.parent.name}-{lost.name}").exists()

    def test_a_drive_that_is_away_sets_nothing_aside(self, root, monkeypatch, lost):
        with monkeypatch.context() as patch:
            unreadable(patch, lost, errno.ENODEV)
            with pytest.raises(ArchiveUnavailable):
                swept(FilesystemArchive(root))
        assert lost.exists()
        assert not (root / ".damaged").exists()
        assert set(swept(FilesystemArchive(root))) == set(self.locations)


def unreadable(patch: pytest.MonkeyPatch, path: Path, code: int) -> None:
    real = Path.open

    def opened(self: Path, *args, **kwargs):
        if self == path:
            raise OSError(code, os.strerror(code))
        return real(self, *args, **kwargs)

    patch.setattr(Path, "open", opened)
