from __future__ import annotations

import contextlib
import random
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backup_scp.errors import IndexDamaged, IndexUnavailable, InvalidSettings
from backup_scp.index.connection import database, sqlite_engine
from backup_scp.index.connection.index_copy import backup
from backup_scp.index.connection.migrate import upgrade
from backup_scp.index.connection.sqlite_file import damage_of, set_aside
from backup_scp.index.sql_index import SQLIndex
from tests.index.conftest import opened
from tests.index.contract import IndexContract
from tests.index.examples import rejection, version
from tests.processes import wait_until


@pytest.fixture
def path(tmp_path):
    return tmp_path / "index.db"


@pytest.fixture
def index(path):
    with opened(f"sqlite:///{path}") as index:
        yield index


class TestSQLiteIndex(IndexContract):
    @pytest.fixture
    def index(self, path):
        with opened(f"sqlite:///{path}") as index:
            yield index

    @pytest.fixture
    def further_index(self, index, path):
        with contextlib.closing(SQLIndex(f"sqlite:///{path}")) as further:
            yield further


def test_every_commit_reaches_the_disk(path):
    with opened(f"sqlite:///{path}") as index, index._database.writing() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_lock_that_is_not_given_back_is_an_error_in_plain_words(path, monkeypatch):
    monkeypatch.setattr(sqlite_engine, "_PRAGMAS", (*sqlite_engine._PRAGMAS, "PRAGMA busy_timeout=10"))
    with opened(f"sqlite:///{path}") as index, contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(IndexUnavailable, match="another process keeps it locked") as caught:
            index.add(version(PatientID="SECRET"))
        assert "SECRET" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        other.rollback()
        index.add(version())
        assert index.holdings().instances == 1


def test_who_changes_a_new_file_at_the_same_moment_is_waited_for(path, monkeypatch):
    with (
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other,
        contextlib.closing(sqlite3.connect(path, timeout=0)) as ours,
    ):
        other.execute("CREATE TABLE made (a)")
        other.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr("backup_scp.index.connection.sqlite_engine.time.sleep", lambda _: other.rollback())
        sqlite_engine._use_wal(ours)
        assert ours.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_place_without_wal_is_refused(path):
    """The dot-file locks of some network shares leave no room for it."""
    url = f"sqlite:///file:{path}?vfs=unix-dotfile&uri=true"
    with (
        contextlib.closing(SQLIndex(url)) as index,
        pytest.raises(IndexUnavailable, match="local disk"),
    ):
        index.holdings()


def test_what_is_not_an_index_is_said_to_be_none(path):
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(IndexUnavailable, match="rebuild"):
        upgrade(f"sqlite:///{path}")


def test_an_index_without_tables_says_what_to_do(path):
    path.touch()
    with contextlib.closing(SQLIndex(f"sqlite:///{path}")) as index:
        with pytest.raises(IndexUnavailable, match="db upgrade"):
            index.add(version())
        with pytest.raises(IndexUnavailable, match="db upgrade"):
            index.holdings()


def test_an_index_that_is_gone_is_not_replaced_by_an_empty_one(path):
    with opened(f"sqlite:///{path}") as index:
        index.add(version("1.1"))
        for file in path.parent.glob("index.db*"):
            file.unlink()
        for ask in (lambda: index.add(version("1.2")), index.holdings, lambda: index.add(version("1.2"))):
            with pytest.raises(IndexDamaged, match="gone"):
                ask()
        assert "gone" in index.damage()
        assert not path.exists()
        upgrade(f"sqlite:///{path}")
        assert index.damage() == ""
        index.add(version("1.2"))
        assert index.holdings().versions == 1


def test_a_file_that_appears_after_none_was_there_is_another_one(path):
    """Even with the inode of the deleted file, which file systems give to a later file."""
    aside = path.with_name("aside")
    with opened(f"sqlite:///{path}") as index:
        index.add(version("1.1"))
        assert not index.is_replaced
        path.rename(aside)
        with pytest.raises(IndexDamaged, match="gone"):
            index.holdings()
        assert not index.is_replaced  # by nothing
        aside.rename(path)  # with its inode
        assert index.damage() == ""
        assert index.is_replaced
        index.accept()
        assert not index.is_replaced


def test_a_file_that_is_replaced_as_soon_as_it_is_open_is_another_one(path):
    aside = path.with_name("aside")
    with opened(f"sqlite:///{path}") as index:
        path.rename(aside)
        path.touch()
        assert index.is_replaced


def test_an_index_that_is_set_aside_is_written_by_nobody_any_more(path):
    url = f"sqlite:///{path}"
    with opened(url) as index, opened(url) as other:
        index.add(version("1.1"))
        assert other.holdings().versions == 1
        aside = set_aside(url)
        upgrade(url)
        index.add(version("1.2"))
        assert (index.holdings().versions, other.holdings().versions) == (1, 1)
        other.add(version("1.3"))
        with contextlib.closing(SQLIndex(f"sqlite:///{aside}")) as old:
            assert old.holdings().versions == 1


def test_a_backup_is_the_sqlite_index_one_moment_whatever_comes_in(path, tmp_path):
    with opened(f"sqlite:///{path}") as index, ThreadPoolExecutor(1) as pool:
        for number in range(50):
            index.add(version(f"1.{number}"))
        adding = pool.submit(lambda: [index.add(version(f"2.{n}", study=f"9.{n}")) for n in range(150)])
        backup(f"sqlite:///{path}", tmp_path / "copy")
        adding.result()
        assert index.holdings().versions == 200
    with contextlib.closing(sqlite3.connect(tmp_path / "copy")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (counted,) = copy.execute("SELECT sum(version_count) FROM study").fetchone()
        assert copy.execute("SELECT count(*) FROM version").fetchone() == (counted,)
        assert copy.execute("SELECT count(*) FROM version WHERE location IS NOT NULL").fetchone()[0] >= 50
    with opened(f"sqlite:///{tmp_path}/copy") as restored:
        assert restored.holdings().versions == counted
        restored.add(version("3.1"))
    with pytest.raises(IndexUnavailable, match="new file"):
        backup(f"sqlite:///{path}", tmp_path / "copy")


@pytest.mark.parametrize("seed", range(12))
def test_a_page_that_is_overwritten_is_noticed(path, seed):
    """Small files are read page by page."""
    with opened(f"sqlite:///{path}") as index:
        for number in range(100):
            index.add(version(f"1.{number}", study=f"3.{number % 7}", PatientName=f"NAME{number}"))
    assert damage_of(f"sqlite:///{path}") is None
    content = bytearray(path.read_bytes())
    chance = random.Random(seed)
    page = chance.randrange(len(content) // 4096)
    content[page * 4096 : (page + 1) * 4096] = chance.randbytes(4096)
    path.write_bytes(content)
    assert damage_of(f"sqlite:///{path}")


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://here/x", "sqlite://", "sqlite:///:memory:"])
def test_a_url_that_cannot_be_an_index(url):
    with pytest.raises(InvalidSettings):
        SQLIndex(url)


# ------------------------------------------------------------------------------------------------------ who writes next


def test_an_image_does_not_wait_for_housekeeping(index, monkeypatch):
    """Whatever else keeps the index busy, an image is next."""
    served = []
    queue = index._database._write_lock
    monkeypatch.setattr(queue, "_patience_s", 1000)

    def reject():
        index.record_rejections([rejection("A")])
        served.append("rejections")

    def store():
        index.add(version())
        served.append("image")

    with ThreadPoolExecutor(6) as pool, queue.turn("long work"):
        for work in (reject, reject, reject, reject, store):
            before = queue.waiting
            pool.submit(work)
            wait_until(lambda before=before: queue.waiting > before)  # type: ignore[misc]
    assert served == ["image", *["rejections"] * 4]


def test_housekeeping_has_its_turn_though_images_keep_coming(index, monkeypatch):
    monkeypatch.setattr(index._database._write_lock, "_patience_s", 0.01)
    numbers, done = iter(range(10_000)), threading.Event()

    def bring_images():
        while not done.is_set():
            index.add(version(f"1.2.3.{next(numbers)}"))

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(bring_images)
        for _ in range(3):
            index.record_rejections([rejection("A")])
        done.set()
    assert [r.count for r in index.rejections(9)] == [3]


def test_who_waits_in_vain_is_told_what_for(index, monkeypatch):
    monkeypatch.setattr(database, "WAIT_S", 0)
    with index._database.writing("studies of a rebuild"), pytest.raises(IndexUnavailable) as busy:
        index.add(version())
    assert str(busy.value).startswith("The index was busy for 0 s; now studies of a rebuild are written to it, for 0 s")
    index.add(version())


# ------------------------------------------------------------------------------------------------- only to be read

NO_DESCRIPTOR_LEFT = """
import contextlib, os, resource, sys
from backup_scp.errors import IndexUnavailable
from backup_scp.index.sql_index import SQLIndex
index = SQLIndex(sys.argv[1])
index.holdings()
index.close()
with contextlib.ExitStack() as stack:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    files = []
    with contextlib.suppress(OSError):
        while True:
            files.append(open(os.devnull))
    for _ in range(int(sys.argv[2])):
        files.pop().close()
    try:
        index.holdings()
    except IndexUnavailable as error:
        print(error)
    else:
        print("read")
"""


@pytest.mark.parametrize("left", [0, 1, 2])
def test_no_file_that_others_write_is_read_as_one_that_nobody_does(path, left):
    """With one descriptor left the file can be opened and its log cannot; the log is empty for a moment."""
    url = f"sqlite:///{path}"
    with opened(url) as index:
        index.add(version())
        with index._database.reading() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        assert path.with_name(f"{path.name}-wal").stat().st_size == 0
        command = [sys.executable, "-c", NO_DESCRIPTOR_LEFT, url, str(left)]
        root = Path(__file__).parents[2]
        done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=60, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    assert "too many files are open" in done.stdout


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_file_that_somebody_may_have_open_is_not_taken_for_a_still_one(path, suffix):
    path.write_bytes(b"x")
    assert sqlite_engine._is_whole_and_still(path, "SQLITE_FULL")
    assert not sqlite_engine._is_whole_and_still(path, "SQLITE_CANTOPEN")
    assert not sqlite_engine._is_whole_and_still(path, "SQLITE_READONLY")
    path.with_name(f"{path.name}{suffix}").write_bytes(b"x")
    assert not sqlite_engine._is_whole_and_still(path, "SQLITE_FULL")


def test_what_is_met_in_a_file_that_is_read_without_locks_is_not_its_damage(path):
    """Another process may have written to it meanwhile: a healthy index must not be renamed."""
    with opened(f"sqlite:///{path}") as index:
        index.add(version())
        index._database._frozen.set()
        with pytest.raises(IndexUnavailable, match="nothing can be written") as met, index._database._noticing():
            raise IndexDamaged("its pages contradict each other")
        assert not isinstance(met.value, IndexDamaged)
        assert index.damage() == ""
