"""The index without SQLAlchemy: it says what the whole one says, or that something is due."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
import sqlalchemy as sa

from backup_scp.index.connection.sqlite_engine import sqlite_path
from backup_scp.index.quiet_index import NotQuiet, QuietIndex
from backup_scp.index.schema.tables import copy_object
from backup_scp.index.sql_index import SQLIndex
from backup_scp.ports import CopyTrouble, Task, VerificationResult
from tests.index.conftest import opened
from tests.index.examples import at, version
from tests.index.test_copies import add, failed, image, leased, number_of, stored_all

NAME, DRIVE = "drive", "ab" * 16


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'index.sqlite'}"


@pytest.fixture
def index(url):
    with opened(url) as index:
        yield index


@pytest.fixture
def path(index):
    return sqlite_path(index._database.url)


@pytest.fixture
def quiet(path):
    with closing(QuietIndex(path)) as quiet:
        yield quiet


@pytest.fixture
def drive(index) -> int:
    """Give the number of a copy that has two images, all there are, and was compared."""
    add(index, "1", "2")
    number = index.copies.register(NAME, DRIVE, at(0), "blue")
    stored_all(index.copies, number)
    index.copies.record_comparison(number, (), at(1), until=None)
    return number


def state_of(index: SQLIndex, name=NAME):
    (found,) = [state for state in index.copies.states(at(9)) if state.name == name]
    return found


def test_it_says_the_same_while_nothing_is_due(index, quiet, drive):
    index.record_archive_identity("cd" * 16)
    index.record_task(Task("alarm seen", at(0), done=3, note="by a person"))
    index.record_task(Task("rebuild", at(0), ended_at=at(1)))
    assert quiet.archive_identity() == index.archive_identity() == "cd" * 16
    assert quiet.tasks() == index.tasks()
    assert quiet.count_damaged() == index.count_damaged() == 0
    assert quiet.storms(at(0), 1) == index.storms(at(0), 1) == []
    assert quiet.copies.names_of(DRIVE) == index.copies.names_of(DRIVE) == {NAME}
    assert quiet.copies.names_of("") == index.copies.names_of("") == set()
    assert quiet.copies.count_due(drive) == index.copies.count_due(drive) == 0
    assert quiet.copies.lease(drive, at(2), at(3), 1, 1) is None
    assert quiet.copies.comparison(drive) == index.copies.comparison(drive) == (0, at(1))
    assert quiet.copies.lost(drive, 9) == index.copies.lost(drive, 9) == []
    ours = {image("1").location, image("2").location}
    assert set(quiet.copies.sample(50)) == set(index.copies.sample(50)) == ours


def test_an_empty_index_has_nothing_to_draw(index, quiet):
    assert quiet.copies.sample(9) == index.copies.sample(9) == []
    assert quiet.archive_identity() is None


def test_it_notes_that_the_place_was_reached_and_is_complete(index, quiet, drive):
    index.copies.note_trouble(NAME, "no cable", at(1), CopyTrouble.AWAY)
    assert quiet.copies.register(NAME, DRIVE, at(5), "red") == drive
    quiet.copies.note_complete(drive, at(6))
    found = state_of(index)
    assert (found.label, found.seen_at, found.complete_at) == ("red", at(5), at(6))
    assert (found.trouble, found.trouble_since, found.trouble_kind) == ("", None, CopyTrouble.NONE)


@pytest.mark.parametrize(("name", "medium"), [("another", DRIVE), (NAME, "ef" * 16)])
def test_a_drive_that_was_never_here_is_left_to_the_whole_index(index, quiet, drive, name, medium):
    with pytest.raises(NotQuiet):
        quiet.copies.register(name, medium, at(5))


def new_image(index, _):
    add(index, "3")


def older_image(index, copy):
    with index._database.writing() as connection:
        connection.execute(sa.text("UPDATE copy SET first_version = last_version"))


def failed_image(index, copy):
    add(index, "3")
    batch = leased(index.copies, copy)
    index.copies.conclude(batch, [failed(number_of(index, "3"))], at(1), at(100))


def damaged_there(index, copy):
    index.copies.record_comparison(copy, [failed(number_of(index, "1"))], at(1), until=None)


def leased_by_another(index, copy):
    add(index, "3")
    leased(index.copies, copy)


@pytest.mark.parametrize("happens", [new_image, older_image, failed_image, damaged_there, leased_by_another])
def test_what_is_due_is_noticed(index, quiet, drive, happens):
    assert quiet.copies.count_due(drive) == 0
    happens(index, drive)
    assert index.copies.count_due(drive) == 1
    for ask in (lambda: quiet.copies.count_due(drive), lambda: quiet.copies.lease(drive, at(2), at(3), 1, 1)):
        with pytest.raises(NotQuiet):
            ask()


def test_a_copy_that_is_forgotten_is_none(index, quiet, drive):
    index.copies.register("later", "", at(0))
    index.copies.forget(NAME)
    with pytest.raises(NotQuiet):
        quiet.copies.count_due(drive)


def test_what_can_be_healed_is_noticed(index, quiet, drive):
    index.record_verification([VerificationResult(image("1").location, "gone", at(2))])
    assert quiet.count_damaged() == index.count_damaged() == 1
    assert len(index.copies.lost(drive, 9)) == 1
    with pytest.raises(NotQuiet):
        quiet.copies.lost(drive, 9)
    with index._database.writing() as connection:
        connection.execute(sa.update(copy_object).values(is_damaged=1))
    assert quiet.copies.lost(drive, 9) == index.copies.lost(drive, 9) == []


def test_a_mass_change_is_noticed(index, quiet):
    for study in range(2):
        for minute, content in enumerate("ab"):
            index.add(version(f"1.2.{study}", f"8.{study}", f"9.{study}", content=content, minute=minute))
    begin = at(0) - timedelta(days=1)
    assert index.storms(begin, 2) != []
    with pytest.raises(NotQuiet):
        quiet.storms(begin, 2)
    assert quiet.storms(begin, 3) == index.storms(begin, 3) == []


def test_damage_that_was_seen_is_for_the_whole_index(quiet):
    found = [VerificationResult(image("1").location, "gone", at(2))]
    with pytest.raises(NotQuiet) as raised:
        quiet.record_verification(found)
    assert raised.value.damaged == tuple(found)


def test_what_it_does_not_have_needs_the_whole_index(quiet):
    for ask in (lambda: quiet.record_task(Task("a", at(0))), lambda: quiet.copies.states(at(0))):
        with pytest.raises(NotQuiet):
            ask()


def test_a_time_that_a_wrong_clock_has_written_is_unknown(index, quiet, drive):
    ahead = at(0) + timedelta(days=100_000)
    index.copies.record_comparison(drive, (), ahead, until=None)
    assert quiet.copies.comparison(drive) == index.copies.comparison(drive) == (0, None)


@pytest.mark.parametrize("statement", ["UPDATE alembic_version SET version_num = '0001'", "DROP TABLE alembic_version"])
def test_an_index_of_another_release_is_left_to_the_whole_one(index, path, statement):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)
    with pytest.raises(NotQuiet):
        QuietIndex(path)


def test_a_missing_file_is_not_made(tmp_path):
    with pytest.raises(NotQuiet):
        QuietIndex(tmp_path / "index.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_index_is_left_to_the_whole_one(tmp_path):
    file = tmp_path / "index.sqlite"
    file.write_bytes(b"no index" * 1000)
    with pytest.raises(NotQuiet):
        QuietIndex(file)


def test_a_lock_is_left_to_the_whole_one(monkeypatch, path, drive):
    monkeypatch.setattr("backup_scp.index.quiet_index._WAIT_S", 0)
    with closing(QuietIndex(path)) as quiet, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(NotQuiet):
            quiet.copies.note_complete(drive, at(1))


@pytest.mark.parametrize("sample", ["quiet", "whole"])
def test_a_sample_of_a_large_archive_reads_few_rows(index, path, sample):
    with closing(sqlite3.connect(path)) as writer, writer:
        add(index, "1")
        columns = ", ".join(name for _, name, *_ in writer.execute("PRAGMA table_info(version)"))
        values = (
            columns.replace("location", "location || n").replace("sha256", "randomblob(32)", 1).replace("id", "n", 1)
        )
        numbers = "WITH RECURSIVE more(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM more WHERE n < 20000)"
        writer.execute(f"INSERT INTO version ({columns}) {numbers} SELECT {values} FROM version, more")
    steps = [0]

    def count() -> int:
        steps[0] += 1
        return 0

    with index._database.reading() as connection:  # the next one that reads gets it again
        connection.connection.driver_connection.set_progress_handler(count, 100)
    with closing(QuietIndex(path)) as quiet:
        quiet._connection.set_progress_handler(count, 100)
        assert len((quiet if sample == "quiet" else index).copies.sample(9)) == 9
    assert 0 < steps[0] < 50
