"""A slow reader keeps no transaction open: its remaining rows are buffered outside of the index."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3

import pytest

from backup_scp.dicom.attributes import Level
from backup_scp.errors import IndexUnavailable
from backup_scp.index.reading import buffered_rows
from tests.index.conftest import opened
from tests.index.examples import query, version

NUMBER = 40


@pytest.fixture
def index(url, small_batches):
    with opened(url) as index:
        for number in range(NUMBER):
            index.add(version(f"1.{number}", f"2.{number}", f"3.{number}", StudyDate=f"2024{number:04}", PatientID="P"))
        yield index


@pytest.fixture
def slow(monkeypatch):
    """Let every reader be slow from its first rows on."""
    monkeypatch.setattr(buffered_rows, "_PATIENCE_S", -1)
    monkeypatch.setattr(buffered_rows, "_IN_MEMORY_BYTES", 100)


STUDIES = query(Level.STUDY, "StudyDate", "PatientID")
IMAGES = query(Level.IMAGE, "SOPInstanceUID", "NumberOfFrames")


@pytest.mark.parametrize("read_ahead_s", [-1, 1000])
@pytest.mark.parametrize("what", ["search", "search_versions"])
def test_a_slow_reader_is_given_the_same(index, monkeypatch, what, read_ahead_s):
    asked = STUDIES if what == "search" else IMAGES
    quick = list(getattr(index, what)(asked))
    assert len(quick) == NUMBER
    monkeypatch.setattr(buffered_rows, "_PATIENCE_S", -1)
    monkeypatch.setattr(buffered_rows, "_IN_MEMORY_BYTES", 100)
    monkeypatch.setattr(buffered_rows, "_READ_AHEAD_S", read_ahead_s)
    assert list(getattr(index, what)(asked)) == quick
    assert buffered_rows._room.taken_bytes == 0


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_the_log_is_shortened_while_a_slow_reader_reads(index, slow):
    """It grew for as long as the reader took, which may be hours at 10 kB/s."""
    with contextlib.closing(index.search(STUDIES)) as found:
        taken = list(itertools.islice(found, 6))  # the sixth of batches of five: by now all are read
        for number in range(20):
            index.add(version(f"9.{number}", "9.1", "9"))
        path = index._database.url.database
        with contextlib.closing(sqlite3.connect(path)) as other:
            busy, in_log, _ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert (busy, in_log) == (0, 0)
        taken += found
    assert len(taken) == NUMBER


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("taken", [1, NUMBER])
def test_the_log_is_shortened_after_a_search_that_was_broken_off(index, taken):
    with contextlib.closing(index.search(STUDIES)) as found:
        list(itertools.islice(found, taken))
    index.add(version("9.1", "9.1", "9"))
    with contextlib.closing(sqlite3.connect(index._database.url.database)) as other:
        busy, in_log, _ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert (busy, in_log) == (0, 0)


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_no_transaction_stays_open_for_a_slow_reader(index, slow):
    pool = index._database._engine.pool
    before = pool.checkedout()
    with contextlib.closing(index.search(STUDIES)) as found:
        next(found)
        assert pool.checkedout() == before + 1
        list(itertools.islice(found, 5))
        assert pool.checkedout() == before


def test_a_quick_reader_s_answers_never_wait_in_a_file(index, monkeypatch):
    monkeypatch.setattr(buffered_rows, "_Waiting", None)
    assert len(list(index.search(STUDIES))) == NUMBER


def test_a_slow_reader_that_goes_away_leaves_nothing(index, slow):
    with contextlib.closing(index.search(STUDIES)) as found:
        list(itertools.islice(found, 6))
        assert buffered_rows._room.taken_bytes > 0
    assert buffered_rows._room.taken_bytes == 0


def test_what_waits_is_bounded(index, slow, monkeypatch):
    monkeypatch.setattr(buffered_rows, "_MOST_BYTES", 500)
    with contextlib.closing(index.search(STUDIES)) as found, pytest.raises(IndexUnavailable, match="ask for fewer"):
        list(found)
    assert buffered_rows._room.taken_bytes == 0
    monkeypatch.undo()
    assert len(list(index.search(STUDIES))) == NUMBER
