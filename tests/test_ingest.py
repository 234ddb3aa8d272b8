"""The one way in: what is kept, what is refused, and what a failure leaves behind."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup_scp.archive.filesystem import FilesystemArchive
from backup_scp.attributes import BY_KEYWORD, Level
from backup_scp.errors import ArchiveFull, IndexUnavailable, InvalidDataSet
from backup_scp.index.migrate import upgrade
from backup_scp.index.sql_index import SQLIndex
from backup_scp.information_model import Query
from backup_scp.ingest import Ingest
from backup_scp.network.access import AccessPolicy
from backup_scp.ports import Admission, Arrival, Heading, RemoteAE, Selection
from backup_scp.rebuild import rebuild
from tests.samples import Sample, encode, one_of_each

FIRST = Arrival(datetime(2026, 1, 2, 3, 4, 5, 678, UTC), "C-STORE", "CONSOLE", "BACKUP_SCP", "192.0.2.1", "north")
LATER = replace(FIRST, received_at=FIRST.received_at + timedelta(minutes=1))


@pytest.fixture
def archive(tmp_path: Path) -> FilesystemArchive:
    return FilesystemArchive(tmp_path / "archive")


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


def in_staging(archive_root: Path) -> list[Path]:
    return [path for path in (archive_root / ".staging").rglob("*") if path.is_file() and path.name != "lock"]


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
    assert admissions == [Admission.NEW, Admission.CLASH, Admission.VERSION]
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


def test_what_is_accepted_is_in_archive_and_index(archive, index, sample):
    ingest = Ingest(archive, index)

    accepted = ingest.accept(staged(ingest, sample), FIRST)

    (held,) = index.select(Selection())
    assert (accepted.admission, held.location) == (Admission.NEW, accepted.location)
    assert archive.verify(held.location, held.sha256).arrival == FIRST


def test_the_same_bytes_again_are_held(archive, index, sample):
    ingest = Ingest(archive, index)
    ingest.accept(staged(ingest, sample), FIRST)

    again = ingest.accept(staged(ingest, sample), LATER)

    assert (again.admission, again.repaired) == (Admission.HELD, False)
    assert len(list(archive.locations())) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks up descriptors in /proc")
@pytest.mark.parametrize("rebuilt", [True, False])
def test_what_others_put_there_is_flushed_before_it_is_held(archive, index, sample, tmp_path, monkeypatch, rebuilt):
    """Somebody copied an archive and rebuilt its index: bytes and names may still be in memory only."""
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
    damage(tmp_path / "archive" / location)

    again = ingest.accept(staged(ingest, sample), LATER)

    (held,) = index.select(Selection())
    assert again.repaired
    assert archive.verify(location, held.sha256).arrival == FIRST


@pytest.mark.parametrize("other", [{"sop_instance_uid": "1.2.3"}, {"sop_class_uid": "1.2.3"}])
def test_uids_that_disagree_are_refused_with_both_named(archive, index, sample, tmp_path, other):
    ingest = Ingest(archive, index)

    with pytest.raises(InvalidDataSet, match=r"1\.2\.3.*"):
        ingest.accept(staged(ingest, sample, **other), FIRST)

    assert in_staging(tmp_path / "archive") == []
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

    assert in_staging(tmp_path / "archive") == []


def test_a_row_that_fails_leaves_the_file_and_its_note(archive, index, sample, tmp_path):
    broken = Ingest(archive, Broken(index, "add", IndexUnavailable("Gone")))
    with pytest.raises(IndexUnavailable):
        broken.accept(staged(broken, sample), FIRST)
    assert len(in_staging(tmp_path / "archive")) == 1

    ingest = Ingest(archive, index)
    again = ingest.accept(staged(ingest, sample), LATER)

    assert again.admission is Admission.NEW
    before = index.select(Selection())
    assert before[0].received_at == FIRST.received_at, "the file that is kept tells of its own arrival"
    rebuild(archive, index)
    assert index.select(Selection()) == before
