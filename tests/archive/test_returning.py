"""The contract of files that a further copy has kept, and that come back; on each kind of archive."""

from __future__ import annotations

import errno
import os

import pytest

from backup_scp.errors import ArchiveUnavailable, DigestMismatch, FileMissing, NotOurFile
from backup_scp.machine.folders import FsyncFailed
from backup_scp.ports import Archive, ReturnedFile
from tests.archive.contract import Harness
from tests.archive.dying_process import no_links
from tests.archive.examples import ARRIVAL, DATA_SET, digest, store
from tests.archive.intake import take
from tests.archive.test_filesystem import Folder


def failing(*_):
    raise FsyncFailed(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture(params=["rename", "links", "no links"])
def harness(request, tmp_path, monkeypatch) -> Harness:
    take("own file", monkeypatch.setattr)
    if request.param != "rename":
        monkeypatch.setattr("backup_scp.archive.returning.rename_new", lambda *_: False)
    if request.param == "no links":
        monkeypatch.setattr(os, "link", no_links)
    return Folder(tmp_path / "archive")


@pytest.fixture
def archive(harness) -> Archive:
    return harness.open()


@pytest.fixture
def kept(archive: Archive, harness: Harness) -> tuple[str, bytes]:
    """A location, and the bytes of its file, which is gone."""
    location = store(archive)
    content = archive.read(location).path.read_bytes()
    harness.remove(location)
    return location, content


def come(archive: Archive, location: str, content: bytes, sha256: str = digest(DATA_SET)) -> ReturnedFile:
    def fetch(into):
        for at in range(0, len(content), 1000):
            into.write(content[at : at + 1000])

    return archive.take_back(location, sha256, fetch)


def test_a_file_comes_back_as_it_was(archive, harness, kept):
    location, content = kept
    assert not archive.has(location)
    returned = come(archive, location, content)
    assert (returned.location, returned.size_bytes) == (location, len(DATA_SET))
    assert list(archive.locations()) == []
    archive.keep([returned])
    assert archive.has(location)
    assert archive.verify(location, digest(DATA_SET)).path.read_bytes() == content
    assert archive.read(location).arrival == ARRIVAL
    assert list(harness.open().sweep()) == []


def test_a_file_without_a_known_location_comes_to_its_own(archive, kept):
    location, content = kept
    archive.keep([come(archive, "", content)])
    archive.verify(location, digest(DATA_SET))


def test_a_damaged_file_is_set_aside_and_replaced(archive, harness, kept):
    location, content = kept
    archive.keep([come(archive, location, content)])
    harness.flip(location, -1)
    archive.keep([come(archive, location, content)])
    archive.verify(location, digest(DATA_SET))
    assert list(archive.locations()) == [location]


def test_an_intact_file_stays(archive, kept):
    location, content = kept
    first, second = come(archive, location, content), come(archive, location, content)
    archive.keep([first])
    inode = archive.read(location).path.stat().st_ino
    archive.keep([second])
    assert archive.read(location).path.stat().st_ino == inode


@pytest.mark.parametrize("position", [0, 200, 400, 1500, -1])
def test_a_damaged_one_is_refused(archive, kept, position):
    location, content = kept
    damaged = bytearray(content)
    damaged[position] ^= 1
    with pytest.raises(DigestMismatch):
        come(archive, location, bytes(damaged))
    assert not archive.has(location)


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"x" * 200_000], ids=["empty", "short", "long"])
def test_what_is_no_file_of_ours_is_refused(archive, kept, content):
    with pytest.raises(NotOurFile):
        come(archive, kept[0], content)


def test_a_file_that_ends_early_or_late_is_refused(archive, kept):
    location, content = kept
    for wrong in (content[:-1], content + b"x", content[:1000]):
        with pytest.raises(DigestMismatch):
            come(archive, location, wrong)


def test_another_file_is_refused(archive, kept):
    location, content = kept
    with pytest.raises(DigestMismatch, match="another version"):
        come(archive, location, content, digest(b"other"))
    with pytest.raises(DigestMismatch, match="another file"):
        come(archive, location.replace("1.2.3.4", "1.2.3.5"), content)


def test_what_fetching_raises_is_raised_and_nothing_stays(archive, harness, kept):
    def fetch(into):
        into.write(kept[1][:3000])
        raise FileMissing("gone")

    with pytest.raises(FileMissing):
        archive.take_back(kept[0], digest(DATA_SET), fetch)
    harness.die(archive)
    assert list(harness.open().sweep()) == []


def test_a_crash_before_keep_leaves_a_whole_file_that_is_shown(archive, harness, kept):
    location, content = kept
    come(archive, location, content)
    harness.die(archive)
    later = harness.open()
    shown = [] if os.link is no_links else [[location]]  # without links it comes again
    assert list(later.sweep()) == shown
    assert later.has(location) == bool(shown)


def test_what_was_written_before_a_flush_failed_is_never_kept(archive, harness, kept, monkeypatch):
    """Also the file of a batch that was not flushed itself: the system tells of lost bytes once."""
    location, content = kept
    first, second = come(archive, location, content), come(archive, location, content)
    with monkeypatch.context() as now:
        for name in ("flush_all", "fsync"):
            now.setattr(f"backup_scp.archive.volume_flush.{name}", failing)
        with pytest.raises(ArchiveUnavailable):
            archive.keep([first])
    with pytest.raises(ArchiveUnavailable):
        archive.keep([second])
    assert not archive.has(location)
    archive.keep([come(archive, location, content)])
    assert archive.has(location)
