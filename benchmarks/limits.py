"""What this machine can do at all: loopback, disk, digest, database.  ``python -m benchmarks.limits`` prints the table.

Each is the least that a durable archive must do for an instance, alone on the machine and in C.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import socket
import sqlite3
import statistics
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.images import CT, DR, TINY, Kind, pixels, sized

_LOOPBACK_BYTES = 1 << 30
_WRITTEN_BYTES = 150_000_000
_FILES = 200
_COMMITS = 300
_FEWEST = 100
_JOURNAL_BYTES = 64 << 20

EACH = "file, folder and row, each flushed"
FILE = "file flushed, folder and row later"
JOURNAL = "bytes flushed in a journal; file, folder and row later"


def loopback(_folder: Path) -> float:
    """Give MB/s over one connection, 128 KiB a write, a process at each end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if not (sender := os.fork()):
            with socket.create_connection(listener.getsockname()) as out:
                block = bytes(131_072)
                for _ in range(_LOOPBACK_BYTES // len(block)):
                    out.sendall(block)
            os._exit(0)
        accepted, _ = listener.accept()
        with accepted:
            buffer, began = bytearray(1 << 20), time.perf_counter()
            while accepted.recv_into(buffer):
                pass
            seconds = time.perf_counter() - began
        os.waitpid(sender, 0)
    return _LOOPBACK_BYTES / seconds / 1e6


def digest(_folder: Path) -> float:
    """Give MB/s of SHA-256."""
    (block,) = pixels(DR.size_bytes - 1)
    began = time.perf_counter()
    for _ in range(5):
        hashlib.sha256(block)
    return 5 * len(block) / (time.perf_counter() - began) / 1e6


def write(path: Path, size_bytes: int, *, flushed: bool = True) -> None:
    """Write one file, and flush it."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    for part in pixels(size_bytes):
        os.write(file, part)
    if flushed:
        os.fsync(file)
    os.close(file)


def files(folder: Path, size_bytes: int, threads: int = 1) -> float:
    """Give files a second, each flushed."""
    pixels(size_bytes)
    count = max(3, min(_FILES, _WRITTEN_BYTES // max(1, size_bytes)))
    paths = [folder / f"{number}" for number in range(count)]
    os.sync()
    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        list(pool.map(lambda path: write(path, size_bytes), paths))
        seconds = time.perf_counter() - began
    for path in paths:
        os.truncate(path, 0)  # a deleted one would slow down the next: see nodes.empty
    return count / seconds


def named_files(folder: Path) -> float:
    """Give files of 10 KB a second, each flushed, linked to its place, its folder flushed, its first name removed."""
    (target := folder / "named").mkdir()
    began = time.perf_counter()
    for number in range(_FILES):
        _name(folder / f"{number}", target, TINY.size_bytes)
    return _FILES / (time.perf_counter() - began)


def _name(staged: Path, target: Path, size_bytes: int, way: str = EACH) -> None:
    write(staged, size_bytes, flushed=way != JOURNAL)
    (target / staged.name).hardlink_to(staged)
    if way == EACH:
        opened = os.open(target, os.O_RDONLY)
        os.fsync(opened)
        os.close(opened)
    staged.unlink()


def _database(folder: Path, synchronous: str = "FULL") -> contextlib.closing[sqlite3.Connection]:
    database = sqlite3.connect(folder / "limits.sqlite", isolation_level=None, check_same_thread=False)
    for setting in ("journal_mode=WAL", f"synchronous={synchronous}"):
        database.execute(f"PRAGMA {setting}")
    database.execute("CREATE TABLE held (uid TEXT PRIMARY KEY, name TEXT)")
    return contextlib.closing(database)


def _insert(database: sqlite3.Connection, number: int) -> None:
    database.execute("INSERT INTO held VALUES (?, ?)", (f"1.2.826.0.1.{number}", "NOBODY^AT ALL"))


def commits(folder: Path) -> float:
    """Give commits of one row a second, SQLite with WAL and synchronous=FULL."""
    with _database(folder) as database:
        began = time.perf_counter()
        for number in range(_COMMITS):
            _insert(database, number)
        return _COMMITS / (time.perf_counter() - began)


class Journal:
    """A file that was written once already, so that a flush changes nothing but its bytes; all who wait share one."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        block = bytes(1 << 20)
        for _ in range(_JOURNAL_BYTES // len(block)):
            os.write(self._file, block)
        os.fsync(self._file)
        self._end = self._appended = self._flushed = 0
        self._is_flushing = False
        self._changed = threading.Condition()

    def keep(self, size_bytes: int) -> None:
        """Append so many bytes, and return when they are flushed."""
        with self._changed:
            if self._end + size_bytes > _JOURNAL_BYTES:
                self._end = 0
            self._end += sum(os.pwrite(self._file, part, self._end) for part in pixels(size_bytes))
            self._appended += 1
            mine = self._appended
            while self._flushed < mine:
                if self._is_flushing:
                    self._changed.wait()
                    continue
                self._is_flushing, last = True, self._appended
                self._changed.release()
                try:
                    os.fdatasync(self._file)
                finally:
                    self._changed.acquire()
                self._is_flushing, self._flushed = False, last
                self._changed.notify_all()


def kept(folder: Path, size_bytes: int, threads: int = 1, way: str = EACH) -> float:
    """Give instances a second: file, folder and row of each, kept in one of three ways, and nothing done beside it."""
    count = max(_FEWEST, min(_COMMITS, _WRITTEN_BYTES // size_bytes))
    waiting: deque[int] = deque()
    lock = threading.Lock()
    targets = [folder / f"named-{thread}" for thread in range(threads)]
    for target in targets:
        target.mkdir()
    pixels(size_bytes)
    journal = Journal(folder / "journal") if way == JOURNAL else None

    def keep(number: int) -> None:
        if journal is not None:
            journal.keep(size_bytes)
        _name(folder / f"{number}", targets[number % threads], size_bytes, way)
        waiting.append(number)
        with lock:  # who comes first enters the rows of all who wait by then
            if waiting:
                database.execute("BEGIN IMMEDIATE")
                while waiting:
                    _insert(database, waiting.popleft())
                database.execute("COMMIT")

    with _database(folder, "FULL" if way == EACH else "NORMAL") as database, ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        list(pool.map(keep, range(count)))
        return count / (time.perf_counter() - began)


def _of(kind: Kind, threads: int = 1) -> Callable[[Path], float]:
    return lambda folder: files(folder, kind.size_bytes, threads)


def _kept(kind: Kind, threads: int, way: str) -> Callable[[Path], float]:
    return lambda folder: kept(folder, kind.size_bytes, threads, way)


LIMITS: dict[str, tuple[str, Callable[[Path], float]]] = {
    "loopback, one connection": ("MB/s", loopback),
    "SHA-256, one core": ("MB/s", digest),
    "15 MB file + fsync": ("files/s", _of(DR)),
    "15 MB file + fsync, 4 threads": ("files/s", _of(DR, 4)),
    "0.5 MB file + fsync": ("files/s", _of(CT)),
    "0.5 MB file + fsync, 4 threads": ("files/s", _of(CT, 4)),
    "10 KB file + fsync": ("files/s", _of(TINY)),
    "10 KB file + fsync, 4 threads": ("files/s", _of(TINY, 4)),
    "10 KB file + fsync + link + fsync of the folder": ("files/s", named_files),
    "SQLite, WAL and FULL, one row a commit": ("commits/s", commits),
    **{
        f"{size}: {way}" + (f", {threads} threads" if threads > 1 else ""): ("instances/s", _kept(kind, threads, way))
        for size, kind in (("10 KB", TINY), ("0.5 MB", CT), ("2 MB", sized(2_000_000)))
        for threads in (1, 4)
        for way in (EACH, FILE, JOURNAL)
    },
}


def measure(name: str, folder: Path) -> float:
    """Measure one limit, once, in a new folder below this one, which stays."""
    return LIMITS[name][1](Path(tempfile.mkdtemp(dir=folder)))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default="", help="those whose name has this in it")
    arguments = parser.parse_args()
    measured: dict[str, list[float]] = {name: [] for name in LIMITS if arguments.only in name}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for name, values in [*measured.items()] * arguments.repeat:
            values.append(measure(name, Path(folder)))
    print("| limit | median | lowest to highest |\n|---|---|---|")
    for name, values in measured.items():
        unit = LIMITS[name][0]
        print(f"| {name} | {statistics.median(values):,.0f} {unit} | {min(values):,.0f} to {max(values):,.0f} |")


if __name__ == "__main__":
    main()
