"""Group commit: threads that add versions together share a transaction, but not a failure."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from backup_scp.errors import IndexUnavailable
from backup_scp.index.connection import database
from backup_scp.index.connection.driver_cursor import DriverCursor
from backup_scp.index.sql_index import SQLIndex
from backup_scp.index.writing.version_writer import VersionWriter
from backup_scp.ports import AddResult
from tests.index.conftest import opened
from tests.index.examples import version


@pytest.fixture
def index(tmp_path):
    with opened(f"sqlite:///{tmp_path}/index.db") as index:
        yield index


def add_at_once(index, versions):
    """Let a thread for each version wait before the first of them is served."""
    together = index._entering
    with ThreadPoolExecutor(len(versions)) as pool:
        with together._lock:
            futures = [pool.submit(index.add, each) for each in versions]
            queued = threading.Event()
            while len(together._waiting) < len(versions):
                queued.wait(0.001)
        return [future.exception() or future.result() for future in futures]


def examples(number):
    return [version(f"1.2.3.{n}", InstanceNumber=str(n)) for n in range(number)]


@pytest.mark.parametrize("number", [1, 4, 70])
def test_those_who_wait_share_a_transaction(index, transactions, number):
    assert add_at_once(index, examples(number)) == [AddResult.NEW] * number
    assert transactions() == 1 + number // 64
    held = index.holdings()
    assert (held.studies, held.instances, held.versions) == (1, number, number)


def test_the_rows_of_a_study_are_cached_for_its_next_instance(index):
    facts = version("1.2.3.1")
    assert index.add(facts) is AddResult.NEW
    assert [key.study_instance_uid for key in index._entering._known._studies] == ["1.2.3"]


def test_who_cannot_be_entered_fails_alone(index, monkeypatch):
    """And what the others were counted by is of the database, not of the transaction that failed."""
    index.add(version("1.2.3.99"))
    poison = version("1.2.3.5", StudyID="POISON")
    admitted = VersionWriter.insert

    def admit(entrance, facts):
        admission = admitted(entrance, facts)
        if facts.study["study_id"]:
            raise IndexUnavailable("poisoned")
        return admission

    monkeypatch.setattr(VersionWriter, "insert", admit)
    first, second, bad, third = add_at_once(index, [*examples(2), poison, version("1.2.3.8")])
    assert [first, second, third] == [AddResult.NEW] * 3
    assert (type(bad), str(bad)) == (IndexUnavailable, "poisoned")
    index.add(version("1.2.3.9"))
    held = index.holdings()
    assert (held.studies, held.instances) == (1, 5)
    with index._database.reading() as connection:
        study = connection.exec_driver_sql("SELECT number_of_study_related_instances, study_id FROM study").one()
    assert tuple(study) == (5, "")


def test_ctrl_c_in_one_thread_leaves_nobody_waiting(index, monkeypatch):
    """It may be the one that enters what the others bring: they hear that it is not entered."""
    admitted = VersionWriter.insert

    def admit(entrance, facts):
        if facts.study["study_id"]:
            raise KeyboardInterrupt
        return admitted(entrance, facts)

    with monkeypatch.context() as patch:
        patch.setattr(VersionWriter, "insert", admit)
        found = add_at_once(index, [*examples(2), version("1.2.3.5", StudyID="POISON")])
    kinds = [type(each) for each in found]
    assert (kinds.count(IndexUnavailable), kinds.count(KeyboardInterrupt)) == (2, 1)
    assert index.holdings().instances == 0
    assert index.add(version("1.2.3.9")) is AddResult.NEW


def test_a_commit_that_fails_is_everybodys(index, monkeypatch):
    """Its flush may have failed: no caller may be told that the row is durable."""
    monkeypatch.setattr(database, "BEGIN", "BEGIN IMMEDIATE; SELECT")
    found = add_at_once(index, examples(3))
    assert [type(each) for each in found] == [IndexUnavailable] * 3
    assert len(set(map(id, found))) == 3


def test_what_was_undone_is_not_remembered(index, tmp_path, monkeypatch):
    """Else the count of an undone instance would come back, once another process has raised the row's revision."""
    control = DriverCursor.control

    def fails(direct, statement):
        if statement == "COMMIT":
            raise IndexUnavailable("the disk is full")
        control(direct, statement)

    index.add(version("1.2.3.1"))
    with monkeypatch.context() as patch:
        patch.setattr(DriverCursor, "control", fails)
        with pytest.raises(IndexUnavailable):
            index.add(version("1.2.3.2", content="of another length"))
    with contextlib.closing(SQLIndex(f"sqlite:///{tmp_path}/index.db")) as other:
        other.add(version("1.2.3.3"))
    index.add(version("1.2.3.4"))
    with index._database.reading() as connection:
        sums = [connection.exec_driver_sql(f"SELECT sum(size_bytes) FROM {of}").scalar() for of in ("study", "version")]
    assert sums[0] == sums[1]
