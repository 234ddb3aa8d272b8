"""The archive in a folder: the contract, and what is special for a folder."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from backup_scp.archive import FilesystemArchive, layout, staging, staging_folder, stored_files
from backup_scp.errors import ArchiveFull, ArchiveUnavailable, DigestMismatch, FileMissing
from backup_scp.machine.process_lock import Lock
from backup_scp.ports import Archive
from tests.archive.contract import ArchiveContract, Harness
from tests.archive.dying_process import no_links
from tests.archive.examples import ARRIVAL, DATA_SET, HEADING, KEY, digest, store
from tests.archive.intake import WAYS, Flushes, fail_at, files, prepared, run, staged_files, swept, take


class Folder:
    """A ``Harness`` on a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()

    def open(self) -> FilesystemArchive:
        return FilesystemArchive(self.root)

    def die(self, archive: Archive) -> None:
        assert isinstance(archive, FilesystemArchive)
        if archive._staging._own is not None:
            archive._staging._own.lock.close()

    def flip(self, location: str, position: int) -> None:
        data = bytearray((self.root / location).read_bytes())
        data[position] ^= 1
        self._put(location, data)

    def truncate(self, location: str) -> None:
        self._put(location, (self.root / location).read_bytes()[:-1])

    def append(self, location: str) -> None:
        self._put(location, (self.root / location).read_bytes() + b"\0")

    def remove(self, location: str) -> None:
        (self.root / location).unlink()

    def _put(self, location: str, data: bytes | bytearray) -> None:
        (self.root / location).write_bytes(data)


class TestFilesystemArchive(ArchiveContract):
    @pytest.fixture(params=WAYS)
    def harness(self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Harness:
        take(request.param, monkeypatch.setattr)
        return Folder(tmp_path / "archive")


class TestFilesystemArchiveWithoutHardLinks(ArchiveContract):
    """Where a journal is made there are hard links."""

    @pytest.fixture
    def harness(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Harness:
        take("own file", monkeypatch.setattr)
        monkeypatch.setattr(os, "link", no_links)
        return Folder(tmp_path / "archive")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    take(request.param, monkeypatch.setattr)
    return request.param


@pytest.fixture
def archive(tmp_path: Path) -> FilesystemArchive:
    return FilesystemArchive(tmp_path / "archive")


def test_nothing_is_touched_before_the_first_use(tmp_path):
    archive = FilesystemArchive(tmp_path / "new" / "archive")
    assert archive.free_bytes() > 0
    assert list(archive.sweep()) == []
    assert not (tmp_path / "new").exists()
    assert store(archive)


def test_only_the_owner_can_read(tmp_path, archive, way):
    before = os.umask(0)
    try:
        store(archive)
    finally:
        os.umask(before)
    assert len(list((tmp_path / "archive").glob(".staging/*/*"))) > 1
    for path in (tmp_path / "archive", *(tmp_path / "archive").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_a_hundred_files_leave_no_staged_ones(tmp_path, archive, way):
    """Until it is closed there are empty ones for images to come, never more than are made at once, and the journal."""
    for number in range(100):
        store(archive, str(number).encode())
        assert staged_files(tmp_path / "archive") == []
        names = [path for path in files(tmp_path, "archive/.staging") if path.suffix == ".dcm"]
        assert len(names) < staging_folder._NAMES_AT_ONCE
    assert len(list(archive.locations())) == 100
    assert (len(list(tmp_path.rglob("*.tar"))) == 2) == (way == "journal")
    archive.close()
    assert list((tmp_path / "archive/.staging").iterdir()) == []


def test_names_are_made_many_at_once(archive, monkeypatch):
    """One flush of the staging folder makes all of them durable."""
    flushes, folders = Flushes(monkeypatch), set()
    for _ in range(2 * staging_folder._NAMES_AT_ONCE):
        staged = archive.stage(HEADING)
        folders.add(staged.path.parent)
        staged.write(DATA_SET)
        archive.commit(staged, KEY, ARRIVAL)
        archive.forget(staged)
    (folder,) = folders
    assert flushes.made.count(folder) == 2


def test_a_damaged_file_is_kept_aside(tmp_path, archive):
    location = store(archive)
    for number in range(2):
        (tmp_path / "archive" / location).write_bytes(b"damaged %d" % number)
        store(archive)
    aside = files(tmp_path, "archive/.damaged")
    assert sorted(path.read_bytes() for path in aside) == [b"damaged 0", b"damaged 1"]
    assert {path.parent for path in aside} == {(tmp_path / "archive/.damaged" / location).parent}
    assert list(archive.foreign()) == []


def test_a_folder_in_the_place_of_a_file_is_put_aside(tmp_path, archive):
    location = store(archive)
    (tmp_path / "archive" / location).unlink()
    (tmp_path / "archive" / location).mkdir()
    assert store(archive) == location
    archive.verify(location, digest(DATA_SET))


def test_another_data_set_with_the_same_first_digits(archive, monkeypatch):
    one = store(archive, b"one")
    short = layout.location_of
    monkeypatch.setattr(  # two Data Sets whose digests begin alike cannot be had
        layout,
        "location_of",
        lambda key, sha256, whole_digest=False: short(key, sha256, whole_digest=True) if whole_digest else one,
    )
    two = store(archive, b"two")
    assert two.endswith(f".{digest(b'two')}.dcm")
    assert store(archive, b"two") == two
    assert store(archive, b"one") == one
    archive.verify(one, digest(b"one"))
    archive.verify(two, digest(b"two"))
    assert sorted(archive.locations()) == sorted([one, two])


def test_foreign_files_are_named_and_left_alone(tmp_path, archive):
    location = store(archive)
    root = tmp_path / "archive"
    strange = ["readme.txt", "ab/note", "ab/1/2/3.dcm", "ab/1/2/deep"]
    (root / "ab/1/2/deep/er").mkdir(parents=True)
    for name in strange[:3]:
        (root / name).write_bytes(b"")
    assert sorted(archive.foreign()) == sorted(strange)
    assert list(archive.locations()) == [location]


def test_a_missing_archive_is_no_missing_file(tmp_path, archive):
    location = store(archive)
    (tmp_path / "archive").rename(tmp_path / "elsewhere")
    for look in (
        lambda: archive.read(location),
        lambda: archive.verify(location, ""),
        lambda: list(archive.locations()),
    ):
        with pytest.raises(ArchiveUnavailable, match="drive"):
            look()


def test_it_goes_on_when_the_folder_was_changed_under_it(tmp_path, archive):
    store(archive)
    (tmp_path / "archive").rename(tmp_path / "elsewhere")
    location = store(archive)
    archive.verify(location, digest(DATA_SET))
    assert list(FilesystemArchive(tmp_path / "archive").sweep()) == []


def test_read_stays_inside(tmp_path, archive):
    store(archive)
    (tmp_path / "secret").write_bytes(b"secret")
    with pytest.raises(FileMissing):
        archive.read("../secret")


@pytest.mark.parametrize("number", range(1, 12))
def test_a_failed_flush_of_a_commit_is_not_tried_again(tmp_path, archive, monkeypatch, way, number):
    """Each flush of a commit fails once: nothing is promised, and a new attempt succeeds."""
    prepared(archive)
    staged = archive.stage(HEADING)
    staged.write(DATA_SET)
    with monkeypatch.context() as patch:
        flushes = Flushes(patch, fails=number)
        try:
            location, _ = archive.commit(staged, KEY, ARRIVAL)
        except ArchiveUnavailable:
            assert len(flushes.asked) == number, "no other flush is trusted after the one that failed"
            with pytest.raises(ArchiveUnavailable, match="given up"):
                archive.commit(staged, KEY, ARRIVAL)
            assert len(flushes.asked) == number
        else:
            assert number > len(flushes.made) > 0
            archive.verify(location, digest(DATA_SET))
            return
    staged.discard()
    if number == 1:
        assert list(archive.locations()) == []
        assert staged_files(tmp_path / "archive") == []
    archive.verify(store(archive), digest(DATA_SET))


@pytest.mark.parametrize("number", range(1, 12))
def test_after_a_failed_flush_of_settle_the_note_stays(tmp_path, archive, monkeypatch, way, number):
    """Each flush of a settle fails once: the image is promised, so its note stays, and settle tries again."""
    prepared(archive)
    staged = archive.stage(HEADING)
    staged.write(DATA_SET)
    location, _ = archive.commit(staged, KEY, ARRIVAL)
    with monkeypatch.context() as patch:
        flushes = Flushes(patch, fails=number)
        try:
            archive.settle([staged])
        except ArchiveUnavailable:
            assert len(flushes.asked) == number
            assert staged_files(tmp_path / "archive") == [staged.path]
            assert archive.trouble
        else:
            assert number > len(flushes.made) > 0
    archive.settle([staged])
    archive.forget(staged)
    archive.verify(location, digest(DATA_SET))
    archive.verify(store(archive, b"it goes on"), digest(b"it goes on"))
    assert staged_files(tmp_path / "archive") == []


STEPS = [("own file", call, number) for call in ("open", "write", "mkdir", "link", "fsync") for number in range(1, 7)]
STEPS += [("journal", call, number) for call in ("open", "write", "link", "pwritev", "fdatasync") for number in (1, 2)]


@pytest.mark.parametrize(("way", "call", "number"), STEPS)
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EACCES])
def test_any_failure_is_ours_and_names_no_path(archive, monkeypatch, way, call, number, code):
    take(way, monkeypatch.setattr)
    if way == "journal":
        prepared(archive)
    with monkeypatch.context() as patch:
        calls = fail_at(patch, call, number, code)
        error, called = failure_of_a_store(archive, calls)
    assert (error is not None) == (called >= number)
    if error is not None:
        assert isinstance(error, ArchiveFull) == (code == errno.ENOSPC)
        assert str(error).startswith("Archive ")
        assert "path" not in str(error)
    assert archive.verify(store(archive), digest(DATA_SET)).arrival == ARRIVAL


def failure_of_a_store(archive: Archive, calls: Callable[[], int]) -> tuple[ArchiveUnavailable | None, int]:
    """Return it, and how many calls there were by then."""
    staged = None
    try:
        staged = archive.stage(HEADING)
        staged.write(DATA_SET)
        archive.commit(staged, KEY, ARRIVAL)
        archive.settle([staged])
    except ArchiveUnavailable as error:
        return error, calls()
    else:
        return None, calls()
    finally:
        if staged is not None:
            staged.discard()


def test_a_system_that_takes_a_few_bytes_at_a_time(archive, monkeypatch, way):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:5]))
    archive.verify(store(archive), digest(DATA_SET))


def test_memory_does_not_grow_with_the_object(archive):
    """100 MB go through and are read back; a buffer or two are made on the way."""
    chunk = bytes(1 << 20)
    tracemalloc.start()
    try:
        staged = archive.stage(HEADING)
        for _ in range(100):
            staged.write(chunk)
        archive.verify(archive.commit(staged, KEY, ARRIVAL)[0], staged.sha256)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="looks up descriptors in /proc")
@pytest.mark.parametrize("links", [True, False])
def test_what_is_durable_when(tmp_path, monkeypatch, way, links):
    """Bytes under a staged name before the name; the name, and each folder that is new to this process, after it."""
    root = tmp_path / "archive"
    FilesystemArchive(root).stage(HEADING).discard()
    archive, name = FilesystemArchive(root), "link" if links else "rename"
    real_show = getattr(os, name)

    def show(source, target, **_):
        real_show(source, target)
        steps.append(name)

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    steps = Flushes(monkeypatch).made
    monkeypatch.setattr(os, name, show)
    prepared(archive)
    staged = archive.stage(HEADING)
    staged.write(DATA_SET)
    final = root / archive.commit(staged, KEY, ARRIVAL)[0]
    at = steps.index(name)
    folder = staged.path.parent
    assert {root, folder.parent, folder} <= set(steps[:at])  # the way to the staged name
    if way == "journal":
        assert folder / "journal-1.tar" in steps[:at]
        assert staged.path not in steps
    else:
        assert staged.path in steps[:at]
    if not links:
        note = staged.path.with_suffix(".note")
        assert note in steps[:at]
        assert folder in steps[steps.index(note) : at]
    way_to_it = {root, final.parents[2], final.parents[1], final.parent}
    if links:
        assert not way_to_it - {root} & set(steps[at:])  # nobody has waited for it
    archive.settle([staged])
    assert way_to_it <= set(steps[at:]) or (way == "journal" and "syncfs" in steps[at:])
    assert staged.path.exists() == links
    archive.forget(staged)
    steps.clear()
    store(archive, b"another")
    settled = "syncfs" if way == "journal" else final.parent
    assert [step for step in steps if step in (name, settled)][:2] == [name, settled]


@pytest.mark.skipif(sys.platform != "linux", reason="looks up descriptors in /proc")
def test_a_folder_that_somebody_removed_meanwhile_is_durable_anew(tmp_path, archive, monkeypatch):
    take("own file", monkeypatch.setattr)
    location = store(archive)
    shutil.rmtree(tmp_path / "archive" / location[:2])
    flushes = Flushes(monkeypatch)
    assert store(archive) == location
    assert {*(tmp_path / "archive" / location).parents[:4]} <= set(flushes.made)


def test_many_that_are_settled_together_share_what_is_waited_for(archive, monkeypatch, way):
    """One flush of each folder, or one of the whole file system."""
    prepared(archive)
    many = [archive.stage(HEADING) for _ in range(5)]
    for number, staged in enumerate(many):
        staged.write(b"%d" % number)
        archive.commit(staged, KEY, ARRIVAL)
    flushes = Flushes(monkeypatch)
    archive.settle(many)
    finals = {staged.final.parent for staged in many if staged.final}
    if way == "journal":
        assert flushes.made == ["syncfs"]
    else:
        assert [flushed for flushed in flushes.made if flushed in finals] == list(finals)
    for staged in many:
        archive.forget(staged)


@pytest.mark.skipif(sys.platform != "linux", reason="looks up descriptors in /proc")
@pytest.mark.parametrize("links", [True, False])
def test_what_was_damaged_is_kept_before_it_is_replaced(tmp_path, archive, monkeypatch, links):
    """Its new name is durable before its place is taken: a power cut in between must not leave neither."""
    location, real, steps = store(archive), os.replace, list[object]()
    (tmp_path / "archive" / location).write_bytes(b"damaged")

    def fsync(descriptor, real=os.fsync):
        real(descriptor)
        steps.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    def replace(source, target, **_):
        real(source, target)
        steps.append("replace")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    archive.verify(store(archive), digest(DATA_SET))
    (aside,) = files(tmp_path / "archive", ".damaged")
    assert aside.parent in steps[: steps.index("replace")]
    assert links or aside in steps[: steps.index("replace")]
    assert aside.read_bytes() == b"damaged"


def test_commit_does_not_read_the_data_set_again(archive, monkeypatch):
    staged = archive.stage(HEADING)
    staged.write(DATA_SET)
    monkeypatch.setattr(Path, "open", None)
    monkeypatch.setattr(stored_files, "open", None, raising=False)
    assert archive.commit(staged, KEY, ARRIVAL)


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("damaged", [True, False])
def test_many_senders_of_one_instance_at_once(tmp_path, monkeypatch, way, links, damaged):
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    root = tmp_path / "archive"
    if damaged:
        before = FilesystemArchive(root)
        (root / store(before)).write_bytes(b"damaged")
        before.close()
    start, found = threading.Barrier(8), []

    def send():
        archive = FilesystemArchive(root)
        prepared(archive)
        start.wait()
        found.append(store(archive))
        archive.close()

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    FilesystemArchive(root).verify(found[0], digest(DATA_SET))
    assert [path.read_bytes() for path in files(root, ".damaged")] == [b"damaged"] * damaged
    assert files(root, ".staging") == []


# ------------------------------------------------------------------------------------------------- other processes


def test_a_sweep_leaves_another_process_alone(tmp_path):
    archive = FilesystemArchive(tmp_path)
    code = (
        "import sys; from pathlib import Path; from backup_scp.archive import FilesystemArchive;"
        "from tests.archive.examples import *;"
        "archive = FilesystemArchive(Path(sys.argv[1])); staged = archive.stage(HEADING); staged.write(DATA_SET);"
        "print('staged', flush=True); input();"
        "print(archive.commit(staged, KEY, ARRIVAL)[0], flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "staged\n"
        assert list(archive.sweep()) == []
        print(file=other.stdin, flush=True)
        location = other.stdout.readline().strip()
        archive.verify(location, digest(DATA_SET))
        assert list(archive.sweep()) == []
        other.kill()
    assert swept(archive) == [location]
    assert files(tmp_path, ".staging") == []


@pytest.mark.parametrize("error", [BlockingIOError, PermissionError, FileNotFoundError])
def test_a_sweep_passes_over_a_folder_that_it_cannot_lock(archive, monkeypatch, error):
    """Its process lives, it is another user's, or another sweep was faster: the others are swept."""
    dead = [FilesystemArchive(archive._root) for _ in range(3)]
    staged = [each.stage(HEADING) for each in dead]
    folders = sorted(one.path.parent for one in staged)
    for each in dead:
        each._staging._own_folder().lock.close()

    def lock(path: Path) -> Lock:
        if path.parent == folders[1]:
            raise error
        return Lock(path)

    monkeypatch.setattr(staging_folder, "Lock", lock)
    assert list(archive.sweep()) == []
    assert [folder for folder in folders if folder.exists()] == [folders[1]]
    for one in staged:
        one.discard()


def test_a_process_has_one_folder(archive):
    staged = [archive.stage(HEADING) for _ in range(3)]
    assert len({one.path.parent for one in staged}) == 1
    for one in staged:
        one.discard()


def test_a_forked_process_has_its_own_folder(archive, monkeypatch):
    first = archive.stage(HEADING)
    monkeypatch.setattr(os, "getpid", lambda: 0)
    second = archive.stage(HEADING)
    assert first.path.parent != second.path.parent
    first.discard()
    second.discard()


@pytest.mark.system
def test_a_full_volume(tmp_path):
    own = ("unshare", "--map-root-user", "--mount")
    mount = f"mount -t tmpfs -o size=3m,nr_inodes=40 none {tmp_path}"
    tried = subprocess.run([*own, "sh", "-c", mount], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"needs root, or user namespaces, to mount a small volume: {tried.stderr.strip()}")
    done = run("full_volume", tmp_path, prefix=(*own, "sh", "-c", f'{mount} && exec "$@"', "sh"))
    assert done.returncode == 0, done.stderr


def test_staging_gives_up_when_it_cannot_lock(archive, monkeypatch):
    def held(*_args, **_kwargs):
        raise BlockingIOError

    monkeypatch.setattr(staging_folder, "Lock", held)
    with pytest.raises(ArchiveUnavailable, match="locked"):
        archive.stage(HEADING)


def test_a_visible_file_that_was_discarded_is_swept_by_its_own_process(tmp_path):
    """It has no row in the index: else nobody would look at it before the next start."""
    archive = FilesystemArchive(tmp_path)
    staged = archive.stage(HEADING)
    staged.write(DATA_SET)
    location, _ = archive.commit(staged, KEY, ARRIVAL)
    staged.discard()
    assert archive.has_leftovers
    assert swept(archive) == [location]
    assert not archive.has_leftovers


def test_nothing_is_written_after_a_write_that_failed(tmp_path, monkeypatch):
    """The file has a gap."""

    def fails(*_):
        raise OSError(errno.EIO, "no more")

    staged = FilesystemArchive(tmp_path).stage(HEADING)
    with monkeypatch.context() as patch:
        patch.setattr(staging, "write_all", fails)
        with pytest.raises(ArchiveUnavailable):
            staged.write(bytes(200_000))
    with pytest.raises(ArchiveUnavailable, match="given up"):
        staged.write(b"more")
    staged.discard()


@pytest.mark.parametrize("is_away", [False, True])
def test_no_file_is_called_damaged_while_the_drive_is_away(tmp_path, monkeypatch, is_away):
    """A drive that is pulled out answers with errors of its files before its folder is gone."""
    root = tmp_path / "drive"
    archive = FilesystemArchive(root)
    staged = archive.stage(HEADING)
    staged.write(DATA_SET)
    location, _ = archive.commit(staged, KEY, ARRIVAL)
    archive.forget(staged)

    def fails(*_):
        if is_away:
            root.rename(tmp_path / "away")
        raise OSError(errno.EIO, "no more")

    monkeypatch.setattr(stored_files, "open", fails, raising=False)
    with pytest.raises(ArchiveUnavailable if is_away else DigestMismatch):
        archive.read(location)


@pytest.mark.parametrize("has_folder", [False, True])
def test_only_files_of_the_dead_are_swept_and_their_folder_when_it_is_empty(tmp_path, has_folder):
    dead = FilesystemArchive(tmp_path)
    staged = dead.stage(HEADING)
    staged.write(DATA_SET)
    staged._close()
    own = dead._staging._own_folder()
    folder = own.folder
    if has_folder:
        (folder / "of somebody else").mkdir()
    own.lock.close()
    assert list(FilesystemArchive(tmp_path).sweep()) == []
    assert folder.exists() == has_folder
    assert list(folder.rglob("*.dcm")) == []
