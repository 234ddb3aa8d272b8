"""Snapshots of an index, from both engines: one SQLite file that answers as the index did."""

from __future__ import annotations

import contextlib
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from backup_scp.dicom.attributes import Level
from backup_scp.errors import IndexUnavailable
from backup_scp.ports import (
    CommitmentRequest,
    CopyResult,
    FailureReason,
    Reference,
    Requester,
    Selection,
    StoredCopy,
    Task,
    VerificationResult,
)
from tests.index.conftest import opened
from tests.index.examples import DX, MORNING, answers, at, rejection, rows, version

KEYS = ("PatientName", "NumberOfStudyRelatedInstances", "ModalitiesInStudy")
LATER = MORNING + timedelta(minutes=1)


@pytest.fixture
def index(url):
    with opened(url) as index:
        yield index


@pytest.fixture
def taken(index, tmp_path):
    """Take a snapshot, and open it as an index."""
    with contextlib.ExitStack() as stack:

        def taken():
            path = tmp_path / "drive ü?" / "index.db"
            path.parent.mkdir()
            index.snapshot(path)
            assert [each.name for each in path.parent.iterdir()] == ["index.db"]
            copy = tmp_path / "copy.db"
            copy.write_bytes(path.read_bytes())
            return stack.enter_context(opened(f"sqlite:///{copy}"))

        yield taken


def fill(index):
    for number in range(30):
        index.add(version(f"1.2.3.{number}", study=f"1.2.{number % 7}", PatientName=f"ÄRZTIN^{number % 7}"))
    index.add(version("1.2.3.1", study="1.2.1", content="corrected", minute=1))
    index.add(version("", study="", series="", content="odd", parsed=False, PatientName="\udcff\0"))
    index.add(version("2.1", study="2", NumberOfFrames="7", SliceThickness="0.1", SeriesNumber="12"))
    index.record_verification([VerificationResult(version("2.1", study="2").location, "other bytes", at(5))])


def test_a_snapshot_answers_as_the_index(index, url, taken, tmp_path):
    fill(index)
    index.record_archive_identity("3f2a")
    index.record_task(Task("rebuild", MORNING, position="x", done=7))

    copy = taken()

    assert rows(f"sqlite:///{tmp_path}/copy.db") == rows(url)
    assert copy.holdings() == index.holdings()
    for level in Level:
        assert sorted(answers(copy, level, *KEYS), key=repr) == sorted(answers(index, level, *KEYS), key=repr)
    assert answers(copy, Level.STUDY, PatientName="ÄRZTIN^3") == answers(index, Level.STUDY, PatientName="ÄRZTIN^3")
    everything = Selection(all_versions=True)
    assert copy.select(everything) == index.select(everything)
    assert copy.remarks(9) == index.remarks(9) != []
    assert copy.tasks() == index.tasks()
    assert copy.archive_identity() == "3f2a"
    assert copy.add(version("9.9")).value == "new"


def test_a_snapshot_is_one_file_without_a_log(index, tmp_path):
    index.add(version())
    path = tmp_path / "snapshot.db"
    index.snapshot(path)
    assert path.read_bytes()[18:20] == b"\1\1"  # of a file in WAL mode: 2, 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(tmp_path.glob("snapshot*")) == [path]


def test_a_snapshot_keeps_the_numbers_and_what_copies_have(index, taken):
    fill(index)
    drive = index.copies.register("drive", "A1", MORNING, "Monday")
    for name in ("1", "2"):
        index.add(version(f"7.{name}"))
    batch = index.copies.lease(drive, MORNING, LATER, 9, 10**9)
    first, second = (item.number for item in batch.items)
    index.copies.conclude(batch, [CopyResult(first, StoredCopy("x", "0a" * 32, 5))], MORNING, MORNING)
    index.copies.lease(drive, MORNING, LATER, 9, 10**9)

    copy = taken().copies

    assert copy.states(MORNING) == index.copies.states(MORNING)
    assert copy.stored(drive, 0, 9) == index.copies.stored(drive, 0, 9)
    again = copy.lease(drive, MORNING, LATER, 9, 10**9)  # nobody holds a lease of a copy
    assert [item.number for item in again.items] == [second]


def test_a_snapshot_leaves_out_what_belongs_to_the_node(index, taken):
    """Else a restored node would send a report again, or one that another disk has proven."""
    requester = Requester("", "DR1", "192.0.2.7")
    for transaction in ("1.1", "1.2"):
        index.commitments.enter(CommitmentRequest(transaction, (Reference(DX, "1.2"),), requester, MORNING))
    leased = index.commitments.lease_request(MORNING, LATER)
    index.commitments.conclude(leased, [None], MORNING)
    index.commitments.ask("1.3", MORNING)
    index.commitments.answer("1.3", {Reference(DX, "1.2"): FailureReason.PROCESSING_FAILURE})
    index.record_rejections([rejection("A")])
    index.record_archive_trouble("The disk reports errors")

    copy = taken()

    assert copy.commitments.owed() == []
    assert copy.commitments.lease_request(LATER, LATER) is None
    assert copy.commitments.answer_to("1.3") is None
    assert copy.rejections(9) == []
    assert copy.archive_trouble() is None
    assert len(index.rejections(9)) == 1
    assert index.archive_trouble() is not None
    assert [owed.waiting + owed.owed for owed in index.commitments.owed()] == [2]


def test_a_snapshot_has_one_moment_whatever_comes_in(index, tmp_path):
    path = tmp_path / "snapshot.db"
    for number in range(30):
        index.add(version(f"1.{number}"))
    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(lambda: [index.add(version(f"2.{n}", study=f"9.{n}")) for n in range(100)])
        index.snapshot(path)
        adding.result()
    assert index.holdings().versions == 130
    with opened(f"sqlite:///{path}") as copy:
        counted = copy.holdings().versions
        assert 30 <= counted <= 130
        assert len(copy.select(Selection(all_versions=True))) == counted


def test_a_snapshot_from_postgresql_has_one_moment(postgres_url, tmp_path):
    """An image that comes when its study row was read already, and its version row was not."""
    path = tmp_path / "snapshot.db"
    with opened(postgres_url) as index:
        index.add(version("1.1"))
        engine = index._database._engine

        def add_one(_connection, _cursor, statement, *_):
            if statement.endswith('FROM "version" ORDER BY "id"'):
                index.add(version("1.2"))

        sa.event.listen(engine, "before_cursor_execute", add_one)
        index.snapshot(path)
        assert index.holdings().versions == 2
    with opened(f"sqlite:///{path}") as copy:
        assert copy.holdings().versions == len(copy.select(Selection(all_versions=True))) == 1
        with copy._database.reading() as connection:
            assert connection.execute(sa.text("SELECT count(*) FROM version")).scalar() == 1


def test_a_snapshot_never_replaces_a_file(index, tmp_path):
    path = tmp_path / "snapshot.db"
    path.write_bytes(b"mine")
    with pytest.raises(IndexUnavailable, match="new file"):
        index.snapshot(path)
    assert path.read_bytes() == b"mine"


def test_a_snapshot_that_fails_leaves_nothing(index, tmp_path):
    resource = pytest.importorskip("resource")
    fill(index)
    folder = tmp_path / "full"
    folder.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(IndexUnavailable):
            index.snapshot(folder / "snapshot.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(folder.iterdir()) == []
    index.snapshot(folder / "snapshot.db")
    with pytest.raises(IndexUnavailable, match="cannot be written"):
        index.snapshot(tmp_path / "nowhere" / "snapshot.db")
