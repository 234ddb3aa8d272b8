"""The index of the node under test, on a volume that loses its power: SQLite or PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import psycopg

from tests.postgres import binaries
from tests.processes import LOOPBACK, Process, free_port
from tests.system.power_cut.volume import run

# One process, not two: the one that is killed is the server.
_AS_POSTGRES = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--")
_ROWS = "SELECT sha256 FROM version"
_COPIED = "SELECT name, sha256 FROM copy_object WHERE is_damaged = 0"
_INTACT = """
    SELECT count(bt_index_check(index => c.oid, heapallindexed => i.indisunique)) FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE a.amname = 'btree' AND n.nspname = 'public'
"""


class IndexUnderTest(Protocol):
    """The index of the node, and what remains of it."""

    url: str

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def rows(self) -> set[str]:
        """Return the SHA-256 of every version that has a row; an index that is not intact raises ValueError."""

    def copied(self) -> dict[str, str]:
        """Return the names that a further copy has, and the SHA-256 of their files."""


class SQLiteIndex:
    """The node's own, read without the node."""

    def __init__(self, path: Path) -> None:
        self.url, self._path = f"sqlite:///{path}", path

    def start(self) -> None:
        pass

    kill = start

    def rows(self) -> set[str]:
        with self.copied_file() as path:
            return _rows_in(path)

    def copied(self) -> dict[str, str]:
        with self.copied_file() as path, contextlib.closing(sqlite3.connect(path)) as connection:
            if not _has_tables(connection):
                return {}
            return {name: digest.hex() for name, digest in connection.execute(_COPIED)}

    @contextlib.contextmanager
    def copied_file(self) -> Iterator[Path]:
        """Yield a copy of it: the node is to find its own as the power cut left it."""
        with tempfile.TemporaryDirectory() as folder:
            for path in self._path.parent.glob(f"{self._path.name}*"):
                if not path.name.endswith("-shm"):
                    shutil.copy(path, folder)
            yield Path(folder) / self._path.name


def _rows_in(path: Path) -> set[str]:
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            said = connection.execute("PRAGMA integrity_check").fetchall()
            said += connection.execute("PRAGMA foreign_key_check").fetchall()
            if said != [("ok",)]:
                raise ValueError(f"integrity_check: {said[:3]}")
            return {digest.hex() for (digest,) in connection.execute(_ROWS)} if _has_tables(connection) else set()
    except sqlite3.Error as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _has_tables(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'version'").fetchone())


class PostgreSQLIndex:
    """A server with its data on a volume, and fsync on."""

    def __init__(self, volume: Path, work: Path) -> None:
        self._port = free_port()
        self.url = f"postgresql://backup_scp@{LOOPBACK}:{self._port}/postgres"
        data = volume / "postgresql"
        template = _template(work)
        if not data.exists():
            run("cp", "-a", template, data)
            run("sync", "-f", data)
        options = (f"listen_addresses={LOOPBACK}", f"unix_socket_directories={template.parent}", "fsync=on")
        settings = [argument for option in options for argument in ("-c", option)]
        server = [str(binaries() / "postgres"), "-D", str(data), "-p", str(self._port), *settings]
        self._process = Process([*_AS_POSTGRES, *server], work / "postgresql.log")

    def start(self) -> None:
        self._process.launch(self._answers)

    def stop(self) -> None:
        """Let it write down all that it has, and end."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL to the server and its children, each of which is in a group of its own."""
        if not self._process.running:
            return
        for pid in [self._process.pid, *_children(self._process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.kill()

    def rows(self) -> set[str]:
        try:
            with self._connect() as connection:
                connection.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
                connection.execute(_INTACT)
                return {digest.hex() for (digest,) in connection.execute(_ROWS)}
        except psycopg.Error as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error

    def copied(self) -> dict[str, str]:
        with self._connect() as connection:
            return {name: digest.hex() for name, digest in connection.execute(_COPIED)}

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(self.url, autocommit=True, connect_timeout=5)

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError), self._connect():
            return True
        return False


def _template(work: Path) -> Path:
    """Make a server's data once; `initdb` takes longer than a power cut."""
    data = work / "template" / "data"
    if not data.exists():
        data.parent.mkdir(mode=0o755)
        shutil.chown(data.parent, "postgres", "postgres")
        options = ("-U", "backup_scp", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-k", "-N")
        run(*_AS_POSTGRES, binaries() / "initdb", "-D", data, *options)
    return data


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(FileNotFoundError, subprocess.SubprocessError):
        yield from map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
