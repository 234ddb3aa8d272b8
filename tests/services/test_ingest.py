"""Ingest: what is stored, what is refused, and what a failure leaves."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from backup_scp.archive.filesystem import FilesystemArchive
from backup_scp.dicom.attributes import BY_KEYWORD, Level
from backup_scp.dicom.query.information_model import Query
from backup_scp.dimse.association.access import AccessPolicy
from backup_scp.errors import ArchiveFull, ArchiveUnavailable, IndexUnavailable, InvalidDataSet
from backup_scp.index.connection.migrate import upgrade
from backup_scp.index.sql_index import SQLIndex
from backup_scp.ports import AddResult, Arrival, Heading, RemoteAE, Selection, VerificationResult
from backup_scp.services.archive_guard import ArchiveGuard, adopt
from backup_scp.services.ingest import Ingest
from backup_scp.services.rebuild import rebuild
from tests.archive.dying_process import no_links
from tests.archive.intake import WAYS, Flushes, prepared, staged_files, take
from tests.samples import Sample, encode, one_of_each

FIRST = Arrival(datetime(2026, 1, 2, 3, 4, 5, 678, UTC), "C-STORE", "CONSOLE", "BACKUP_SCP", "192.0.2.1", "north")
LATER = replace(FIRST, received_at=FIRST.received_at + timedelta(minutes=1))


@pytest.fixture(params=WAYS)
def archive(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FilesystemArchive:
    """Open an archive that flushes each file, and one that has a journal already."""
    take(request.param, monkeypatch.setattr)
    archive = FilesystemArchive(tmp_path / "archive")
    return prepared(archive) if request.param == "journal" else archive


@pytest.fixture
def index(tmp_path: Path):
    with _an_empty_index(tmp_path, "index") as index:
        yield index


def _an_empty_index(folder: Path, name: str = "another"):
    url = f"sqlite:///{folder}/{name}.sqlite"
    upgrade(url)
    return closing(SQLIndex(url))


@pytest.fixture
def sample() -> Sample:
    return encode(one_of_each()[0])


def staged(ingest: Ingest, sample: Sample, **other: str):
    heading = Heading(sample.sop_class_uid, sample.sop_instance_uid, sample.transfer_syntax_uid, "CONSOLE")
    file = ingest.begin(replace(heading, **other))
    file.write(sample.data_set)
    return file


def changed_copy(sample: Sample, **values: str) -> Sample:
    """Give the same SOP Instance with other values."""
    changed = sample.dataset()
    for keyword, value in values.items():
        setattr(changed, keyword, value)
    return encode(changed, sample.transfer_syntax_uid)


SETTINGS = AccessPolicy([RemoteAE("console", "CONSOLE", "192.0.2.1")])


def arrival_from(address: str, minute: int) -> Arrival:
    """Give what the node notes of a caller with the console's AE title."""
    caller = SETTINGS.identify("CONSOLE", address, "192.0.2.200")
    at, name = FIRST.received_at + timedelta(minutes=minute), caller.remote.name if caller.remote else ""
    return Arrival(at, "C-STORE", caller.ae_title, "BACKUP_SCP", caller.address, caller.site, name)


def test_who_writes_the_consoles_ae_title_does_not_replace_what_it_sent(archive, index, sample):
    ingest = Ingest(archive, index)
    admissions = []
    for minute, (name, address) in enumerate([("Own", "192.0.2.1"), ("Evil", "198.51.100.66"), ("New", "192.0.2.1")]):
        changed = changed_copy(sample, PatientName=name)
        admissions.append(ingest.accept(staged(ingest, changed), arrival_from(address, minute)).admission)
        (held,) = index.select(Selection())
        assert held.sha256 == (changed.sha256 if name != "Evil" else changed_copy(sample, PatientName="Own").sha256)
    assert admissions == [AddResult.NEW, AddResult.CLASH, AddResult.VERSION]
    (remark,) = index.remarks(9)
    assert (remark.flags, remark.address, remark.remote) == (("clash",), "198.51.100.66", "")


def test_a_correction_answers_though_the_clock_was_ahead_before(archive, index, sample, clock, tmp_path):
    ingest = Ingest(archive, index)

    def send(name: str) -> str:
        file = staged(ingest, changed_copy(sample, PatientName=name))
        digest = file.sha256
        ingest.accept(file, replace(FIRST, received_at=clock()))
        return digest

    def answering(index) -> tuple[str, str]:
        (held,) = index.select(Selection())
        (answer,) = index.search(Query(Level.STUDY, (), (BY_KEYWORD["PatientName"],)))
        return held.sha256, answer["PatientName"]

    clock.jump(days=400)
    send("Old")
    clock.jump(days=-400)
    for name in ("New", "Newer"):
        assert (send(name), name) == answering(index)
    assert index.holdings().last_received_at > clock() + timedelta(days=399)  # what the clock said stays known
    with _an_empty_index(tmp_path) as another:
        rebuild(archive, another)
        assert answering(another) == answering(index)


def test_what_is_accepted_is_in_archive_and_index(archive, index, sample, tmp_path):
    ingest = Ingest(archive, index)

    accepted = ingest.accept(staged(ingest, sample), FIRST)

    (held,) = index.select(Selection())
    assert (accepted.admission, held.location) == (AddResult.NEW, accepted.location)
    assert not accepted.repaired
    assert archive.verify(held.location, held.sha256).arrival == FIRST
    assert len(staged_files(tmp_path / "archive")) == 1, "its note, until it is durable in each place"
    ingest.checkpoint()
    assert staged_files(tmp_path / "archive") == []


class Noting:
    """A port that notes in a list what it is asked for."""

    def __init__(self, port, asked: list[tuple[str, int]], *methods: str) -> None:
        self._port, self._asked, self._methods = port, asked, methods

    def __getattr__(self, name: str):
        real = getattr(self._port, name)
        if name not in self._methods:
            return real

        def noted(*arguments):
            self._asked.append((name, len(arguments[0] if arguments and isinstance(arguments[0], list) else arguments)))
            return real(*arguments)

        return noted


class TestCheckpoint:
    def test_it_takes_all_at_once_and_forgets_them_last(self, archive, index, tmp_path):
        asked: list[tuple[str, int]] = []
        ingest = Ingest(Noting(archive, asked, "settle", "forget"), Noting(index, asked, "flush"))
        for each in one_of_each()[:3]:
            ingest.accept(staged(ingest, encode(each)), FIRST)
        asked.clear()

        ingest.checkpoint()

        assert asked == [("settle", 3), ("flush", 0), ("forget", 3)]
        assert not ingest.due.any.is_set()
        assert staged_files(tmp_path / "archive") == []

    @pytest.mark.parametrize("port", ["archive", "index"])
    @pytest.mark.parametrize("how_often", [1, 2])
    def test_where_it_fails_all_are_due_again(self, archive, index, tmp_path, port, how_often):
        error = ArchiveUnavailable("Gone") if port == "archive" else IndexUnavailable("Gone")
        ports = {"archive": archive, "index": index}
        ports[port] = broken = Broken(ports[port], {"archive": "settle", "index": "flush"}[port], error)
        ingest = Ingest(**ports)
        for each in one_of_each()[:2]:
            ingest.accept(staged(ingest, encode(each)), FIRST)
        for _ in range(how_often):
            with pytest.raises(type(error)):
                ingest.checkpoint()
            assert len(staged_files(tmp_path / "archive")) == 2
            assert ingest.due.any.is_set()
        ingest.accept(staged(ingest, encode(one_of_each()[2])), FIRST)

        broken._method = ""
        ingest.checkpoint()

        assert staged_files(tmp_path / "archive") == []
        assert len(index.select(Selection())) == 3

    def test_a_disk_that_fails_once(self, archive, index, sample, tmp_path, monkeypatch):
        ingest = Ingest(archive, index)
        location = ingest.accept(staged(ingest, sample), FIRST).location
        with monkeypatch.context() as patch:
            Flushes(patch, fails=1)
            with pytest.raises(ArchiveUnavailable):
                ingest.checkpoint()
        assert len(staged_files(tmp_path / "archive")) == 1
        ingest.checkpoint()
        assert staged_files(tmp_path / "archive") == []
        archive.verify(location, sample.sha256)

    def test_a_disk_that_fails_is_known_to_other_processes_at_once(self, archive, index, sample, monkeypatch):
        ingest = Ingest(archive, index)
        ingest.accept(staged(ingest, sample), FIRST)
        with monkeypatch.context() as patch:
            Flushes(patch, fails=1)
            with pytest.raises(ArchiveUnavailable):
                ingest.checkpoint()
        assert "disk did not keep data" in index.archive_trouble().sentence

    def test_the_end_of_the_block_makes_one(self, archive, index, sample, tmp_path):
        with Ingest(archive, index) as ingest:
            ingest.accept(staged(ingest, sample), FIRST)
            assert staged_files(tmp_path / "archive")
        assert staged_files(tmp_path / "archive") == []

    def test_nothing_due_is_no_failure(self, archive, index):
        Ingest(archive, index).checkpoint()

    def test_what_was_held_already_is_not_due(self, archive, index, sample, tmp_path):
        ingest = Ingest(archive, index)
        ingest.accept(staged(ingest, sample), FIRST)
        ingest.checkpoint()
        ingest.accept(staged(ingest, sample), LATER)
        assert not ingest.due.any.is_set()
        assert staged_files(tmp_path / "archive") == []

    def test_a_power_cut_before_it_loses_neither_file_nor_row(self, archive, index, sample, tmp_path):
        """Where its note is durable, or the journal: the visible name and the row are lost."""
        location = Ingest(archive, index).accept(staged(Ingest(archive, index), sample), FIRST).location
        archive._staging._own.lock.close()
        (tmp_path / "archive" / location).unlink()
        for folder in (tmp_path / "archive" / location).parents[:3]:
            folder.rmdir()
        later = FilesystemArchive(tmp_path / "archive")
        with _an_empty_index(tmp_path) as empty:
            empty.record_archive_identity(later.identity())
            assert Ingest(later, empty).recover() == 1
            (held,) = empty.select(Selection())
        assert held.location == location
        assert later.verify(location, sample.sha256).arrival == FIRST
        assert staged_files(tmp_path / "archive") == []


class Forgetful:
    """An index on a server that stops after an ``add``, and has lost the row when it is back."""

    def __init__(self, index, *, loses: int) -> None:
        self._index, self._loses = index, loses

    def __getattr__(self, name: str):
        return getattr(self._index, name)

    def add(self, *arguments):
        if self._loses:
            self._loses -= 1
            return AddResult.NEW
        return self._index.add(*arguments)


def test_rows_that_the_server_lost_are_added_by_the_checkpoint(archive, index, tmp_path):
    """Nobody had waited for them: the server may have stopped since, without being noticed."""
    ingest = Ingest(archive, Forgetful(index, loses=1))
    for each in one_of_each()[:2]:
        ingest.accept(staged(ingest, encode(each)), FIRST)
    assert len(index.select(Selection())) == 1
    ingest.checkpoint()
    assert len(index.select(Selection())) == 2
    assert staged_files(tmp_path / "archive") == []


def test_rows_that_the_server_lost_are_added_by_the_recovery(archive, index, tmp_path):
    broken = Ingest(archive, Broken(index, "add", IndexUnavailable("Gone")))
    for each in one_of_each()[:2]:
        with pytest.raises(IndexUnavailable):
            broken.accept(staged(broken, encode(each)), FIRST)
    Ingest(archive, Forgetful(index, loses=1)).recover()
    assert len(index.select(Selection())) == 2
    assert staged_files(tmp_path / "archive") == []


def test_the_same_bytes_again_are_held(archive, index, sample):
    ingest = Ingest(archive, index)
    ingest.accept(staged(ingest, sample), FIRST)

    again = ingest.accept(staged(ingest, sample), LATER)

    assert (again.admission, again.repaired) == (AddResult.HELD, False)
    assert len(list(archive.locations())) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks up descriptors in /proc")
@pytest.mark.parametrize("rebuilt", [True, False])
def test_what_others_put_there_is_flushed_before_it_is_held(archive, index, sample, tmp_path, monkeypatch, rebuilt):
    """After an archive was copied and its index rebuilt, bytes and names may still be in memory only."""
    ingest = Ingest(archive, index)
    location = ingest.accept(staged(ingest, sample), FIRST).location
    shutil.copytree(tmp_path / "archive", tmp_path / "copy", ignore=shutil.ignore_patterns(".staging"))
    copy, flushed = FilesystemArchive(tmp_path / "copy"), list[Path]()

    def fsync(descriptor, real=os.fsync):
        real(descriptor)
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    monkeypatch.setattr(os, "fsync", fsync)
    with _an_empty_index(tmp_path) as empty:
        ingest = Ingest(copy, index if rebuilt else empty)
        ingest.accept(staged(ingest, sample), LATER)

    final = tmp_path / "copy" / location
    assert {final, *final.parents[:4]} <= set(flushed)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-2])])
def test_a_resend_repairs_and_keeps_the_first_arrival(archive, index, sample, tmp_path, damage):
    ingest = Ingest(archive, index)
    location = ingest.accept(staged(ingest, sample), FIRST).location
    ingest.checkpoint()
    damage(tmp_path / "archive" / location)

    again = ingest.accept(staged(ingest, sample), LATER)

    (held,) = index.select(Selection())
    assert again.repaired
    assert archive.verify(location, held.sha256).arrival == FIRST
    assert staged_files(tmp_path / "archive") == []


def test_a_repair_that_the_index_is_not_told_of_is_told_by_the_next_recovery(archive, index, sample, tmp_path):
    ingest = Ingest(archive, index)
    location = ingest.accept(staged(ingest, sample), FIRST).location
    ingest.checkpoint()
    (tmp_path / "archive" / location).unlink()
    broken = Ingest(archive, Broken(index, "record_verification", IndexUnavailable("Gone")))

    with pytest.raises(IndexUnavailable):
        broken.accept(staged(broken, sample), LATER)

    assert archive.read(location).arrival == FIRST
    assert ingest.recover() == 0
    assert staged_files(tmp_path / "archive") == []


@pytest.mark.parametrize("other", [{"sop_instance_uid": "1.2.3"}, {"sop_class_uid": "1.2.3"}])
def test_uids_that_disagree_are_refused_with_both_named(archive, index, sample, tmp_path, other):
    ingest = Ingest(archive, index)

    with pytest.raises(InvalidDataSet, match=r"1\.2\.3.*"):
        ingest.accept(staged(ingest, sample, **other), FIRST)

    assert staged_files(tmp_path / "archive") == []
    assert index.select(Selection()) == []


class Broken:
    """A port that fails in one place, as a full disk or a lost database does."""

    def __init__(self, port, method: str, error: Exception) -> None:
        self._port, self._method, self._error = port, method, error

    def __getattr__(self, name: str):
        if name == self._method:
            raise self._error
        return getattr(self._port, name)


def test_a_commit_that_fails_leaves_nothing(archive, index, sample, tmp_path):
    ingest = Ingest(Broken(archive, "commit", ArchiveFull("No room")), index)

    with pytest.raises(ArchiveFull):
        ingest.accept(staged(ingest, sample), FIRST)

    assert staged_files(tmp_path / "archive") == []


def test_a_row_that_fails_leaves_the_file_and_its_note(archive, index, sample, tmp_path):
    broken = Ingest(archive, Broken(index, "add", IndexUnavailable("Gone")))
    with pytest.raises(IndexUnavailable):
        broken.accept(staged(broken, sample), FIRST)
    assert len(staged_files(tmp_path / "archive")) == 1

    ingest = Ingest(archive, index)
    again = ingest.accept(staged(ingest, sample), LATER)

    assert again.admission is AddResult.NEW
    before = index.select(Selection())
    assert before[0].received_at == FIRST.received_at, "the file that is kept tells of its own arrival"
    rebuild(archive, index)
    assert index.select(Selection()) == before


def bytes_of_their_own(archive_root: Path) -> int:
    """Return the disk space of staging; a hard link to a visible file takes none."""
    return sum(stat.st_size for path in staged_files(archive_root) if (stat := path.stat()).st_nlink == 1)


@pytest.mark.parametrize("links", [True, False])
def test_retries_while_the_index_cannot_be_written_take_no_room(archive, index, sample, tmp_path, monkeypatch, links):
    """And once it can be written, the image is entered without another retry."""
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    broken = Ingest(archive, Broken(index, "add", IndexUnavailable("Full")))
    for number in range(6):
        with pytest.raises(IndexUnavailable):
            broken.accept(staged(broken, sample), replace(FIRST, received_at=FIRST.received_at + timedelta(number)))
        assert len(staged_files(tmp_path / "archive")) == 1
        assert bytes_of_their_own(tmp_path / "archive") < (1 if links else 4096)  # without links a copy of its header
        assert archive.has_leftovers
    with pytest.raises(IndexUnavailable):
        broken.recover()
    assert archive.has_leftovers

    assert Ingest(archive, index).recover() == 1

    (held,) = index.select(Selection())
    assert held.received_at == FIRST.received_at
    assert not archive.has_leftovers
    assert staged_files(tmp_path / "archive") == []


def test_every_image_that_the_index_was_not_told_of_is_recovered(archive, index, sample, tmp_path):
    broken = Ingest(archive, Broken(index, "add", IndexUnavailable("Full")))
    for each in (sample, encode(one_of_each()[1])):
        with pytest.raises(IndexUnavailable):
            broken.accept(staged(broken, each), FIRST)
    assert Ingest(archive, index).recover() == 2
    assert len(index.select(Selection())) == 2
    assert staged_files(tmp_path / "archive") == []


def test_what_was_sent_again_meanwhile_is_not_counted_as_recovered(archive, index, sample, tmp_path):
    broken, ingest = Ingest(archive, Broken(index, "add", IndexUnavailable("Full"))), Ingest(archive, index)
    with pytest.raises(IndexUnavailable):
        broken.accept(staged(broken, sample), FIRST)
    ingest.accept(staged(ingest, sample), LATER)
    ingest.checkpoint()
    assert ingest.recover() == 0
    assert staged_files(tmp_path / "archive") == []


@pytest.mark.parametrize("is_known", [True, False])
def test_a_damaged_leftover_is_told_of_as_what_it_is(archive, index, tmp_path, caplog, is_known):
    """The staged name of one that was acknowledged may come back after a power cut; and the next is entered."""
    known = Ingest(archive, index)
    first, second = (encode(ds) for ds in one_of_each()[1:3])
    if is_known:
        known.accept(staged(known, first), FIRST)
        known.checkpoint()
    broken = Ingest(archive, Broken(index, "add", IndexUnavailable("Full")))
    for each in (first, second):
        with pytest.raises(IndexUnavailable):
            broken.accept(staged(broken, each), FIRST) if each is second or not is_known else _show_again(archive, each)
    location = next(where for where in archive.locations() if first.sha256[:12] in where)
    path = archive.read(location).path
    path.write_bytes(path.read_bytes()[:-1] + b"?")

    assert known.recover() == 1

    assert second.sha256 in {held.sha256 for held in index.select(Selection())}
    assert index.is_damaged(location) is is_known
    (said,) = [record.message for record in caplog.records if location in record.message]
    assert "send it again" in said
    assert staged_files(tmp_path / "archive") == []


def _show_again(archive, sample):
    """Create the staged name of a visible file again."""
    (location,) = archive.locations()
    folder = next(path for path in archive._root.glob(".staging/*") if path.is_dir())
    os.link(archive.read(location).path, folder / "came-back.dcm")
    archive._staging._notes.append(folder / "came-back.dcm")
    raise IndexUnavailable


def test_a_mark_of_damage_goes_with_a_re_send_of_what_is_whole_again(archive, index, sample):
    """A person has restored the bytes by hand."""
    ingest = Ingest(archive, index)
    location = ingest.accept(staged(ingest, sample), FIRST).location
    index.record_verification([VerificationResult(location, "its drive was loose")])
    assert index.is_damaged(location)

    assert not ingest.accept(staged(ingest, sample), LATER).repaired

    assert not index.is_damaged(location)


def test_a_re_send_is_no_verification_of_what_nobody_called_damaged(archive, index, sample):
    ingest = Ingest(archive, index)
    for arrival in (FIRST, LATER):
        ingest.accept(staged(ingest, sample), arrival)
    assert index.holdings().never_verified == 1


@pytest.mark.parametrize("work", [lambda ingest: ingest.begin(Heading("", "", "")), Ingest.recover])
def test_nothing_is_done_to_an_archive_that_is_not_the_indexs(archive, index, sample, tmp_path, work):
    ingest = Ingest(archive, index)
    ingest.accept(staged(ingest, sample), FIRST)
    other = FilesystemArchive(tmp_path / "other")
    other.establish()
    before = sorted((tmp_path / "other").rglob("*"))
    with pytest.raises(ArchiveUnavailable, match=r"another archive|drive"):
        work(Ingest(other, index))
    assert sorted((tmp_path / "other").rglob("*")) == before


def test_recover_looks_again_whose_archive_it_is(index, sample, tmp_path):
    """The drive was changed since the last image came."""
    ingest = Ingest(FilesystemArchive(tmp_path / "archive"), index)
    ingest.accept(staged(ingest, sample), FIRST)
    (tmp_path / "archive").rename(tmp_path / "old drive")
    (tmp_path / "archive").mkdir()

    with pytest.raises(ArchiveUnavailable, match="drive"):
        ingest.recover()


def on_a_drive_that_rebuild_took_over(index, sample, tmp_path) -> Ingest:
    """Return the way in of a node that runs, whose drive was changed for one that is the index's own by now."""
    ingest = Ingest(FilesystemArchive(tmp_path / "archive"), index)
    ingest.accept(staged(ingest, sample), FIRST)
    (tmp_path / "archive").rename(tmp_path / "old drive")
    another = FilesystemArchive(tmp_path / "archive")
    another.establish()
    adopt(another, index)
    return ingest


def test_an_archive_that_rebuild_made_the_indexs_is_written_by_the_node_that_runs(index, sample, tmp_path):
    """After one refusal, by which the node notices that the drive is another."""
    ingest = on_a_drive_that_rebuild_took_over(index, sample, tmp_path)
    with pytest.raises(ArchiveUnavailable, match="another archive"):
        staged(ingest, sample)
    ingest.begin(Heading("", "", "")).discard()


def test_recover_knows_an_archive_that_rebuild_made_the_indexs(index, sample, tmp_path):
    """At once: the node that runs may have had no image to store since."""
    ingest = on_a_drive_that_rebuild_took_over(index, sample, tmp_path)
    assert ingest.recover() == 0


def test_a_disk_that_does_not_keep_a_data_set_is_known_to_other_processes_at_once(archive, index, sample, monkeypatch):
    ingest = Ingest(archive, index)
    file = staged(ingest, sample)

    def fails(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for flush in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, flush, fails, raising=False)
    with pytest.raises(ArchiveUnavailable):
        ingest.accept(file, FIRST)
    trouble = index.archive_trouble()
    assert "disk did not keep data" in trouble.sentence
    assert trouble.ended_at is None


@pytest.mark.parametrize("last", ["", "The second fault"], ids=["over", "goes on"])
def test_the_index_is_told_last_what_the_disk_does_now(archive, index, monkeypatch, last):
    """A second fault is found while another thread records that the first one is over."""
    guard, record = ArchiveGuard(archive, index), index.record_archive_trouble
    archive.mark_faulty("The first fault")
    guard.report_fault()

    def record_slowly(sentence):
        monkeypatch.setattr(index, "record_archive_trouble", record)
        record(sentence)
        archive.mark_faulty("The second fault")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(guard.report_fault).result(timeout=10)

    monkeypatch.setattr(index, "record_archive_trouble", record_slowly)
    archive.mark_faulty("")
    guard.report_fault()
    archive.mark_faulty(last)
    guard.report_fault()

    trouble = index.archive_trouble()
    assert ("" if trouble.ended_at else trouble.sentence) == last


def test_what_nobody_names_is_refused(archive, index, tmp_path):
    ingest = Ingest(archive, index)
    file = ingest.begin(Heading("1.2.3", "", "1.2.840.10008.1.2.1"))
    file.write(encode(one_of_each()[0]).data_set[:20])
    with pytest.raises(InvalidDataSet, match="Neither the Command Set nor the Data Set names a SOP Instance UID"):
        ingest.accept(file, FIRST)
    assert staged_files(tmp_path / "archive") == []


def in_implicit_vr(sample: Sample) -> Sample:
    return encode(sample.dataset(), ImplicitVRLittleEndian)


def test_the_same_image_in_another_encoding_is_no_clash_and_takes_nobodys_place(archive, index, sample, tmp_path):
    ingest = Ingest(archive, index)
    sent = [(sample, "CONSOLE"), (in_implicit_vr(sample), "PACS"), (changed_copy(sample, PatientName="New"), "CONSOLE")]
    sent += [(encode(sample.dataset(), DeflatedExplicitVRLittleEndian), "CONSOLE")]  # as before the correction
    sent += [(in_implicit_vr(sent[2][0]), "PACS")]
    admissions = [
        ingest.accept(
            staged(ingest, each),
            replace(FIRST, received_at=FIRST.received_at + timedelta(minutes=minute), calling_ae_title=title),
        ).admission
        for minute, (each, title) in enumerate(sent)
    ]
    assert admissions == [
        AddResult.NEW, AddResult.REENCODED, AddResult.VERSION, AddResult.REENCODED, AddResult.REENCODED
    ]  # fmt: skip

    with _an_empty_index(tmp_path) as another:
        rebuild(archive, another)
        for each in (index, another):
            assert [held.sha256 for held in each.select(Selection())] == [sent[2][0].sha256]
            assert {held.sha256 for held in each.select(Selection(all_versions=True))} == {s.sha256 for s, _ in sent}
            assert each.remarks(9) == []
            assert each.storms(FIRST.received_at + timedelta(minutes=2.5), 1) == []


def test_what_cannot_be_compared_is_judged_as_it_was(archive, index, sample):
    """Its stored version is damaged, so its content is unknown."""
    ingest = Ingest(archive, index)
    first = ingest.accept(staged(ingest, sample), FIRST)
    path = archive.read(first.location).path
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])
    again = ingest.accept(staged(ingest, in_implicit_vr(sample)), LATER)
    assert again.admission is AddResult.VERSION
