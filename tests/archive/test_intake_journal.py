"""The intake journal: what it has taken is durable, and readable without this program."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from backup_scp.archive import intake_journal
from backup_scp.archive.intake_journal import IntakeJournal, is_journal, read_journal, worth_journalling
from backup_scp.machine import file_system
from backup_scp.machine.folders import FsyncFailed
from tests.archive.intake import Flushes, fail_at, take
from tests.processes import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux flushes a whole file system with one call")

BLOCK = 512
SEGMENT = 1 << 20
FITS = SEGMENT - 3 * BLOCK  # beside the member's header, and the end of the tar file


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IntakeJournal]:
    take("journal", monkeypatch.setattr)
    made = IntakeJournal()
    made.prepare(tmp_path)
    yield made
    for segment in made._segments:
        segment.open_records = 0
    made.remove()


def journals(folder: Path) -> list[Path]:
    return [folder / "journal-1.tar", folder / "journal-2.tar"]


def listed(path: Path) -> list[str]:
    """Return what the system's own tar finds."""
    tar = shutil.which("tar")
    assert tar
    return subprocess.run([tar, "-tf", path], check=True, capture_output=True, text=True).stdout.split()


def in_files(folder: Path) -> list[bytes]:
    return [content for path in journals(folder) for content in read_journal(path)]


def flushed_at_once(descriptor: int) -> float:
    file_system.fdatasync(descriptor)
    return 0.0


class Gate:
    """Holds up the first flush until ``open``; ``fails`` then."""

    def __init__(self, patch: pytest.MonkeyPatch, *, fails: bool = False) -> None:
        self.flushes = Flushes(patch)
        self.is_reached, self._opened = threading.Event(), threading.Event()
        real = os.fdatasync

        def fdatasync(descriptor: int) -> None:
            if not self.is_reached.is_set():
                self.is_reached.set()
                assert self._opened.wait(60)
                if fails:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(descriptor)

        patch.setattr(os, "fdatasync", fdatasync)

    def open(self) -> None:
        self._opened.set()


class TestMaking:
    def test_it_takes_nothing_before(self, tmp_path):
        journal = IntakeJournal()
        assert journal.append(b"image") is None
        assert journal.must_be_prepared
        assert list(tmp_path.iterdir()) == []

    def test_its_files_are_there_in_full_and_durable(self, tmp_path, monkeypatch):
        """So that a flush of a record has no other work for the file system."""
        take("journal", monkeypatch.setattr)
        flushes, journal = Flushes(monkeypatch), IntakeJournal()
        journal.prepare(tmp_path)
        assert flushes.made == [*journals(tmp_path), tmp_path]
        before = [path.stat() for path in journals(tmp_path)]
        assert {(stat.st_size, stat.st_mode & 0o777) for stat in before} == {(SEGMENT, 0o600)}
        assert all(stat.st_blocks * 512 >= SEGMENT for stat in before)
        assert journal.append(bytes(FITS))
        assert [path.stat().st_size for path in journals(tmp_path)] == [SEGMENT] * 2
        assert not journal.must_be_prepared
        journal.release(intake_journal.Record(journal._segments[0], 0, 0, 0))
        journal.remove()

    def test_it_is_not_made_where_one_call_cannot_flush_all(self, tmp_path, monkeypatch):
        take("own file", monkeypatch.setattr)
        journal = IntakeJournal()
        journal.prepare(tmp_path)
        assert journal.append(b"image") is None
        assert list(tmp_path.iterdir()) == []
        assert not journal.must_be_prepared

    def test_one_that_works_is_not_made_anew(self, journal, tmp_path):
        """Also when two threads have seen at once that there was none."""
        record = journal.append(b"image")
        before = [path.stat().st_ino for path in journals(tmp_path)]
        journal.release(record)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(journal.prepare, [tmp_path] * 8))
        assert [path.stat().st_ino for path in journals(tmp_path)] == before

    @pytest.mark.parametrize("call", ["pwritev", "fsync", "fdatasync", "open"])
    @pytest.mark.parametrize("number", [1, 2, 3, 4])
    def test_what_fails_leaves_nothing(self, tmp_path, monkeypatch, call, number):
        take("journal", monkeypatch.setattr)
        monkeypatch.setattr(intake_journal, "_flush_s", flushed_at_once)
        before, journal = len(list(Path("/proc/self/fd").iterdir())), IntakeJournal()
        with monkeypatch.context() as patch:
            calls = fail_at(patch, call, number, errno.ENOSPC)
            try:
                journal.prepare(tmp_path)
            except OSError:
                assert list(tmp_path.iterdir()) == []
                assert len(list(Path("/proc/self/fd").iterdir())) == before
                assert journal.append(b"image") is None
            else:
                assert calls() < number
                journal.remove()
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    def test_it_is_removed_when_nothing_is_needed(self, journal, tmp_path):
        before = len(list(Path("/proc/self/fd").iterdir()))
        records = [journal.append(b"one"), journal.append(b"two")]
        for record in records:
            journal.remove()
            assert all(path.exists() for path in journals(tmp_path))
            journal.release(record)
        journal.remove()
        journal.remove()
        assert list(tmp_path.iterdir()) == []
        assert len(list(Path("/proc/self/fd").iterdir())) == before - 3
        assert journal.append(b"three") is None

    @pytest.mark.parametrize(
        ("flush_s", "longest"), [(0.0, 64 << 10), (0.0001, 64 << 10), (0.008, 800_000), (1, 1 << 20)]
    )
    def test_a_slow_disk_is_worth_longer_files(self, flush_s, longest):
        assert worth_journalling(flush_s) == longest

    @pytest.mark.parametrize("may_be_long", [True, False])
    def test_one_for_longer_files_is_longer(self, tmp_path, monkeypatch, may_be_long):
        take("journal", monkeypatch.setattr)
        monkeypatch.setattr(intake_journal, "_flush_s", lambda _: 0.008)
        journal = IntakeJournal()
        assert journal.largest_bytes == 64 << 10
        journal.prepare(tmp_path, may_be_long=may_be_long)
        assert journal.largest_bytes == (800_000 if may_be_long else 64 << 10)
        assert [path.stat().st_size for path in journals(tmp_path)] == [32 << 20 if may_be_long else SEGMENT] * 2
        journal.remove()


class TestTaking:
    @pytest.mark.parametrize("length", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 65536, 65537])
    def test_the_bytes_come_back(self, journal, tmp_path, length):
        image = os.urandom(length)
        record = journal.append(image[:100], bytearray(image[100:200]), image[200:])
        assert record.content() == image
        assert in_files(tmp_path) == [image]

    def test_stock_tar_lists_and_extracts_them(self, journal, tmp_path):
        images = [os.urandom(length) for length in (1, 511, 512, 513, 70_000)]
        for image in images:
            journal.append(image)
        first, second = journals(tmp_path)
        names = listed(first)
        assert (names, listed(second)) == ([f"{number:08}.dcm" for number in range(1, 6)], [])
        out = tmp_path / "out"
        out.mkdir()
        subprocess.run(["tar", "-xf", first, "-C", out], check=True)
        assert [(out / name).read_bytes() for name in names] == images
        assert {(out / name).stat().st_mode & 0o777 for name in names} <= {0o600}

    def test_it_is_flushed_before_it_is_said(self, journal, tmp_path, monkeypatch):
        flushes = Flushes(monkeypatch)
        for number in range(1, 4):
            journal.append(b"image")
            assert flushes.made == [journals(tmp_path)[0]] * number

    def test_who_comes_while_another_flushes_shares_the_next_flush(self, journal, tmp_path, monkeypatch):
        gate = Gate(monkeypatch)
        with ThreadPoolExecutor(9) as pool:
            first = pool.submit(journal.append, b"first")
            assert gate.is_reached.wait(60)
            others = [pool.submit(journal.append, b"%d" % number) for number in range(8)]
            wait_until(lambda: journal._written == 9)
            assert not any(one.done() for one in [first, *others])
            gate.open()
            records = [one.result() for one in [first, *others]]
        assert len(gate.flushes.made) == 2
        assert {record.content() for record in records} == {b"first", *(b"%d" % number for number in range(8))}
        in_order = sorted(records, key=lambda record: record.number)
        assert [record.number for record in in_order] == list(range(1, 10))
        assert in_files(tmp_path) == [record.content() for record in in_order]

    def test_a_shared_flush_takes_both_files(self, journal, tmp_path, monkeypatch):
        """One record was the last for the first file, the next is in the second."""
        gate = Gate(monkeypatch)
        with ThreadPoolExecutor(3) as pool:
            pool.submit(journal.append, b"first")
            assert gate.is_reached.wait(60)
            pool.submit(journal.append, bytes(FITS // 2))
            wait_until(lambda: journal._written == 2)
            pool.submit(journal.append, bytes(FITS // 2))
            wait_until(lambda: journal._written == 3)
            gate.open()
        assert gate.flushes.made[0] == journals(tmp_path)[0]
        assert set(gate.flushes.made[1:]) == set(journals(tmp_path))
        assert len(gate.flushes.made) == 3

    def test_many_threads(self, journal, tmp_path):
        def send(number: int) -> None:
            record = journal.append(b"%d" % number, os.urandom(30_000))
            if number % 3:
                journal.release(record)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(send, range(60)))
        kept = {content[:-30_000] for content in in_files(tmp_path)}
        assert {b"%d" % number for number in range(0, 60, 3)} <= kept


class TestRoom:
    def test_what_fits_to_the_last_block(self, journal, tmp_path):
        assert journal.append(bytes(FITS + 1)) is None
        assert journal.append(bytes(FITS)).segment.path == journals(tmp_path)[0]
        assert journal.append(bytes(FITS)).segment.path == journals(tmp_path)[1]
        assert journal.append(b"") is None
        assert not journal.must_be_prepared, "it is full, which is no fault"
        assert [len(listed(path)) for path in journals(tmp_path)] == [1, 1]

    def test_it_goes_on_in_the_second_file_and_begins_the_first_anew(self, journal, tmp_path):
        one = [journal.append(b"1", bytes(FITS // 3)) for _ in range(2)]
        two = journal.append(b"2", bytes(FITS // 2))
        assert [record.segment.path for record in (*one, two)] == [*journals(tmp_path)[:1] * 2, journals(tmp_path)[1]]
        journal.release(one[0])
        again = journal.append(b"3", bytes(FITS // 3))
        assert again.segment.path == journals(tmp_path)[1]
        assert journal.append(b"4", bytes(FITS // 2)) is None
        journal.release(one[1])
        fresh = journal.append(b"5", bytes(FITS // 3))
        assert (fresh.segment.path, fresh.offset) == (journals(tmp_path)[0], one[0].offset)
        assert [content[:1] for content in in_files(tmp_path)] == [b"5", b"2", b"3"]

    def test_nothing_is_written_over_what_is_needed(self, journal):
        """Hundreds go through, a few of them stay for long."""
        kept = {}
        for number in range(400):
            image = b"%d " % number + bytes(20_000)
            record = journal.append(image)
            if record is None or number % 40:
                if record:
                    journal.release(record)
                continue
            kept[record] = image
            if len(kept) > 4:
                record, image = next(iter(kept.items()))
                assert record.content() == image
                kept.pop(record)
                journal.release(record)
        assert all(record.content() == image for record, image in kept.items())


class TestFailure:
    @pytest.mark.parametrize("how_many", [1, 6])
    def test_a_failed_flush_fails_for_all_that_wait(self, journal, tmp_path, monkeypatch, how_many):
        """The descriptor is not asked again: it would say that all is well."""
        before = journal.append(b"before")
        gate = Gate(monkeypatch, fails=True)
        with ThreadPoolExecutor(how_many) as pool:
            waiting = [pool.submit(journal.append, b"first")]
            assert gate.is_reached.wait(60)
            waiting += [pool.submit(journal.append, b"%d" % number) for number in range(how_many - 1)]
            wait_until(lambda: journal._written == 1 + how_many)
            gate.open()
            assert [type(one.exception()) for one in waiting] == [FsyncFailed] * how_many
        assert gate.flushes.made == []
        assert journal.must_be_prepared
        assert journal.append(b"later") is None
        assert gate.flushes.made == []
        assert before.content() == b"before"
        self.require_made_anew(journal, before, tmp_path)

    def test_a_failed_write_is_not_written_over(self, journal, tmp_path, monkeypatch):
        before = journal.append(b"before")
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", self.fails)
            with pytest.raises(OSError, match="No space"):
                journal.append(b"image")
        assert journal.append(b"later") is None
        assert in_files(tmp_path) == [b"before"]
        self.require_made_anew(journal, before, tmp_path)

    def test_a_write_that_wrote_less_has_failed(self, journal, tmp_path, monkeypatch):
        before, real = journal.append(b"before"), os.pwritev
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", lambda descriptor, parts, offset: real(descriptor, parts[:1], offset))
            with pytest.raises(OSError, match="No space"):
                journal.append(b"image")
        assert in_files(tmp_path)[0] == b"before"
        self.require_made_anew(journal, before, tmp_path)

    @staticmethod
    def fails(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @staticmethod
    def require_made_anew(journal, needed, folder: Path) -> None:
        """Not before its records are released: until then its files are all that is durable of them."""
        old = journals(folder)[0].stat().st_ino
        journal.prepare(folder)
        assert journal.append(b"later") is None
        assert needed.content() == b"before"
        assert journals(folder)[0].stat().st_ino == old
        journal.release(needed)
        journal.prepare(folder)
        assert journal.append(b"anew").content() == b"anew"
        assert in_files(folder) == [b"anew"]
        assert listed(journals(folder)[0]) != ["00000001.dcm"]

    def test_after_a_failed_flush_of_all_files_those_before_are_in_doubt(self, journal, monkeypatch):
        before = journal.append(b"before")
        with monkeypatch.context() as patch:
            flushes = Flushes(patch, fails=1)
            with pytest.raises(FsyncFailed):
                journal.flush_files()
            assert flushes.asked == ["syncfs"]
        after = journal.append(b"after")
        journal.flush_files()
        assert (journal.is_doubtful(before), journal.is_doubtful(after)) == (True, False)

    def test_all_files_are_flushed_through_a_descriptor_from_before(self, journal, tmp_path, monkeypatch):
        """The system tells each descriptor of the writes that failed since it was opened."""
        asked: list[int] = []
        monkeypatch.setattr(file_system, "_syncfs", asked.append)
        for _ in range(2):
            journal.append(b"image")
            journal.flush_files()
        assert len(set(asked)) == 1
        assert Path(f"/proc/self/fd/{asked[0]}").readlink() == tmp_path


class TestReading:
    """After a crash: each whole file before the first torn one; the caller compares digests."""

    @pytest.fixture
    def path(self, journal, tmp_path) -> Path:
        for number in range(3):
            journal.append(b"%d" % number * 1000)
        return journals(tmp_path)[0]

    def test_a_blank_one(self, journal, tmp_path):
        assert in_files(tmp_path) == []

    @pytest.mark.parametrize("content", [b"", b"\0" * 100, b"no journal", os.urandom(5000)])
    def test_what_is_none(self, tmp_path, content):
        path = tmp_path / "journal-1.tar"
        path.write_bytes(content)
        assert list(read_journal(path)) == []

    @pytest.mark.parametrize("length", range(0, 4 * BLOCK * 3, 100))
    def test_a_torn_end(self, path, length):
        """Whatever is yielded of the torn one, no byte of another is taken for it."""
        content = path.read_bytes()
        for torn in (content[:length], content[:length] + bytes(len(content) - length)):
            path.write_bytes(torn)
            whole = length // (3 * BLOCK)
            found = list(read_journal(path))
            assert found[: min(whole, 3)] == [b"%d" % number * 1000 for number in range(min(whole, 3))]
            assert len(found) <= whole + 1

    def test_a_torn_record_in_the_middle(self, path):
        """Its bytes are wrong, which its digest says; what follows is found."""
        self.overwrite(path, 4 * BLOCK, b"?" * 100)
        first, torn, last = read_journal(path)
        assert (first, last) == (b"0" * 1000, b"2" * 1000)
        assert torn == b"?" * 100 + b"1" * 900

    def test_a_torn_header_in_the_middle(self, path):
        """A file after it was written after it, and nobody was told of it before both were flushed."""
        self.overwrite(path, 3 * BLOCK, b"?" * 100)
        assert list(read_journal(path)) == [b"0" * 1000]

    def test_what_is_stale_after_the_end_is_not_read(self, journal, tmp_path):
        old = [journal.append(b"old" * 1000) for _ in range(5)]
        for record in old:
            journal.release(record)
        journal.append(b"new")
        assert in_files(tmp_path) == [b"new"]
        assert listed(journals(tmp_path)[0]) == ["00000006.dcm"]

    @staticmethod
    def overwrite(path: Path, offset: int, data: bytes) -> None:
        with path.open("rb+") as file:
            file.seek(offset)
            file.write(data)

    def test_one_that_cannot_be_read_is_no_empty_one(self, tmp_path):
        (tmp_path / "journal-1.tar").mkdir()
        with pytest.raises(IsADirectoryError):
            list(read_journal(tmp_path / "journal-1.tar"))

    def test_its_names(self, tmp_path):
        assert [is_journal(path) for path in journals(tmp_path)] == [True, True]
        assert not any(is_journal(tmp_path / name) for name in ("1.dcm", "journal-1.3", "journal-3.tar", "lock"))


@pytest.mark.parametrize(("number", "size"), [(1, 0), (7, 12_345), (123_456_789, 1 << 25)])
def test_the_header_of_a_member_is_the_librarys(number, size):
    member = tarfile.TarInfo(f"{number % 10**8:08}.dcm")
    member.size, member.mode = size, 0o600
    assert intake_journal._member(number, size) == member.tobuf(tarfile.USTAR_FORMAT)


def test_a_journal_that_is_given_up_keeps_what_its_records_say(tmp_path, monkeypatch):
    """Its descriptors live as long as they: a number that is used again would name another file."""
    take("journal", monkeypatch.setattr)
    journal = IntakeJournal()
    journal.prepare(tmp_path)
    record = journal.append(b"an image")
    assert record
    journal.close()

    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(Path(os.devnull).open("rb"))
        assert record.content() == b"an image"


def test_one_that_holds_a_record_is_not_made_again(tmp_path, monkeypatch):
    """A thread may have written into it while another thread's flush failed."""
    take("journal", monkeypatch.setattr)
    journal = IntakeJournal()
    journal.prepare(tmp_path)
    assert journal.append(b"an image")
    journal._is_broken = journal._is_wanted = True

    journal.prepare(tmp_path)

    assert journal.must_be_prepared
    assert b"an image" in [*read_journal(tmp_path / "journal-1.tar"), *read_journal(tmp_path / "journal-2.tar")]
