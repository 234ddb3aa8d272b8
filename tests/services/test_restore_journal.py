"""Confirmations: they survive a crash, have a date, and expire."""

from __future__ import annotations

import contextlib
import sqlite3
import tracemalloc
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from backup_scp.ports import StoredVersion
from backup_scp.services.restore_journal import RestoreJournal

NOW = datetime(2026, 11, 29, 10, 59, tzinfo=UTC)


def held(number: int, location: str = "") -> StoredVersion:
    location = location or f"ab/1.2/1.2.{number}/1.2.{number}.dcm"
    return StoredVersion("1.2", f"1.2.{number}", f"1.2.{number}", "1.2", "1.2", location, f"{number:064x}", 1, NOW)


@pytest.fixture
def calendar(monkeypatch):
    """Return the clock; a test moves its ``now``."""
    calendar = SimpleNamespace(now=NOW)
    monkeypatch.setattr("backup_scp.machine.clock.source", lambda: calendar.now)
    return calendar


@pytest.fixture
def opened(tmp_path, calendar):
    """Return ``opened()``: the journal, as another process opens it."""
    made = []

    def make() -> RestoreJournal:
        made.append(RestoreJournal(tmp_path / "restores" / "console.sqlite"))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_what_was_confirmed_is_known_to_the_next_run(opened):
    with opened() as journal:
        assert journal.is_empty()
        assert journal.dropped == (0, 0)
        journal.confirm(held(1), "1.2.3 CONSOLE_1")
        assert held(1) in journal
    again = opened()
    assert not again.is_empty()
    assert again.confirmed_at(held(1)) == NOW
    assert held(2) not in again


def test_another_version_of_an_instance_and_another_place_are_others(opened):
    journal = opened()
    journal.confirm(held(1))
    assert held(1)._replace(sha256="f" * 64) not in journal
    assert held(1, "elsewhere.dcm") not in journal


def test_a_process_that_is_killed_has_kept_what_was_confirmed(opened):
    """Nothing is held back for the end: each confirmation is its own transaction."""
    opened().confirm(held(1))
    assert held(1) in opened()  # while the first is still open


def test_a_confirmation_counts_for_thirty_days(opened, calendar):
    journal = opened()
    journal.confirm(held(1))
    calendar.now += timedelta(minutes=1)
    journal.confirm(held(2))
    calendar.now += timedelta(days=30, seconds=-1)
    journal.drop()
    assert held(1) not in journal
    assert held(2) in journal
    assert journal.dropped == (1, 0)


def test_a_confirmation_by_a_clock_that_was_ahead_counts_no_more(opened, calendar):
    journal = opened()
    calendar.now += timedelta(days=4000)
    journal.confirm(held(1))
    calendar.now = NOW
    journal.confirm(held(2))
    journal.drop()
    assert [number for number in (1, 2) if held(number) in journal] == [2]


def test_a_confirmation_counts_for_one_implementation(opened):
    """New equipment with the same name and address; undetected when one of them does not name its implementation."""
    journal = opened()
    for number, implementation in enumerate(["1.2.3 A", "1.2.3 B", ""]):
        journal.confirm(held(number), implementation)
    journal.drop("")
    assert journal.dropped == (0, 0)
    journal.drop("1.2.3 B")
    assert journal.dropped == (0, 1)
    assert [number for number in range(3) if held(number) in journal] == [1, 2]


def test_what_is_forgotten(opened):
    journal = opened()
    for number in range(4):
        journal.confirm(held(number))
    journal.forget([held(1), held(2)])
    assert [number for number in range(4) if held(number) in opened()] == [0, 3]
    journal.start_over()
    assert opened().is_empty()


class TestOfEarlierVersions:
    """One line each: SHA-256 and location; it was only ever appended to."""

    @pytest.fixture
    def lines(self, tmp_path):
        def write(text: str) -> None:
            (tmp_path / "restores").mkdir(exist_ok=True)
            (tmp_path / "restores" / "console.txt").write_text(text)

        return write

    def test_they_are_read_and_a_line_that_a_crash_cut_off_is_not(self, opened, lines):
        one, two = (f"{held(number).sha256}  {held(number).location}" for number in (1, 2))
        lines(f"{one}\nno digest  x\n\n{two}")
        journal = opened()
        assert held(1) in journal
        assert held(2) not in journal

    def test_they_are_read_once(self, opened, lines):
        lines(f"{held(1).sha256}  {held(1).location}\n")
        with opened() as journal:
            journal.start_over()
        assert opened().is_empty()

    def test_what_they_say_stays(self, opened, lines):
        lines(f"{held(1).sha256}  {held(1).location}\n")
        with opened() as journal:
            assert not journal.is_empty()
        assert held(1) in opened()

    def test_a_journal_says_that_they_were_read(self, opened, tmp_path):
        """In the place where earlier versions of this file say it."""
        with opened() as journal:
            assert journal.is_empty()
        with contextlib.closing(sqlite3.connect(tmp_path / "restores" / "console.sqlite")) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_damaged_one_is_set_aside(opened, tmp_path, caplog):
    (tmp_path / "restores").mkdir()
    (tmp_path / "restores" / "console.sqlite").write_bytes(b"no database" * 1000)
    journal = opened()
    assert journal.is_empty()
    journal.confirm(held(1))
    assert held(1) in opened()
    assert "console.damaged" in caplog.text
    assert (tmp_path / "restores" / "console.damaged").exists()


def test_one_that_cannot_be_written_stops_nothing(opened, tmp_path, caplog):
    (tmp_path / "restores").touch()
    journal = opened()
    journal.confirm(held(1))
    assert held(1) not in journal
    assert journal.is_empty()
    assert caplog.text.count("will be sent again") == 1


def test_one_that_fails_while_it_is_used_is_used_no_more(opened, tmp_path, caplog):
    journal = opened()
    journal.confirm(held(1))
    with contextlib.closing(sqlite3.connect(tmp_path / "restores" / "console.sqlite")) as connection:
        connection.execute("DROP TABLE confirmed")
    assert journal.is_empty()
    journal.confirm(held(2))
    assert held(2) not in journal
    assert caplog.text.count("will be sent again") == 1


def test_its_folder_is_made_with_what_is_above_and_the_file_let_go_of(tmp_path):
    file = tmp_path / "home" / "restores" / "console.sqlite"
    with RestoreJournal(file) as journal:
        journal.confirm(held(1))
    assert [path.name for path in file.parent.iterdir()] == ["console.sqlite"], "the last one to close it tidies up"


def test_one_that_somebody_else_writes_is_waited_for(opened, tmp_path):
    one, two = opened(), opened()
    one.confirm(held(1))
    two.confirm(held(2))
    assert held(2) in one
    assert held(1) in two
    with sqlite3.connect(tmp_path / "restores" / "console.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM confirmed").fetchone() == (2,)
    connection.close()


def test_memory_does_not_grow_with_what_was_confirmed(opened):
    journal = opened()
    for number in range(2000):
        journal.confirm(held(number))
    tracemalloc.start()
    try:
        assert all(held(number) in journal for number in range(2000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000  # 2,000 lines were 400,000
