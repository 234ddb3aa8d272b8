"""A PostgreSQL server of the tests' own, and a fresh database for each test."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.processes import LOOPBACK, clean_environment, free_port, peer_missing

_number = itertools.count(1)


def binaries() -> Path:
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3].split(".")[0])
    )
    found = debian[-1] if debian else shutil.which("initdb")
    if not found:
        peer_missing("PostgreSQL")
    return Path(str(found)).resolve().parent


def _run(*argv: str) -> None:
    # initdb and the server refuse to run as root.
    as_postgres = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*as_postgres, *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd="/",
        env=clean_environment(),
        timeout=100,
    )
    assert done.returncode == 0, f"{argv[0]} ended with {done.returncode}:\n{done.stdout}"


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """Yield the URL of the server that is given, or of one of our own."""
    if given := os.environ.get("BACKUP_SCP_TEST_POSTGRES"):
        yield _with_driver(given)
        return
    with own_server() as url:
        yield url


@contextlib.contextmanager
def own_server(*more_options: str) -> Iterator[str]:
    """Yield the URL of a server on a free port of loopback; it is stopped and removed afterwards."""
    programs = binaries()
    folder = Path(tempfile.mkdtemp(prefix="backup-scp-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    data, port = str(folder / "data"), free_port()
    options = f"-p {port} -c listen_addresses={LOOPBACK} -c unix_socket_directories={folder} -c fsync=off"
    options = " ".join([options, *more_options])
    try:
        _run(str(programs / "initdb"), "-D", data, "-U", "backup_scp", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        _run(str(programs / "pg_ctl"), "-D", data, "-w", "-t", "60", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://backup_scp@{LOOPBACK}:{port}/postgres"
        finally:
            _run(str(programs / "pg_ctl"), "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def frozen(url: str) -> Iterator[None]:
    """Stop all processes of a server of our own, as when its disk or its host hangs: the system still takes bytes."""
    with _psycopg().connect(url.replace("+psycopg", "", 1)) as connection:
        status = Path(f"/proc/{connection.info.backend_pid}/status").read_text("ascii")
    first = int(status.partition("PPid:")[2].split()[0])
    stopped = [first]
    try:
        os.kill(first, signal.SIGSTOP)  # before its children, so that it starts no more
        for child in Path(f"/proc/{first}/task/{first}/children").read_text("ascii").split():
            os.kill(int(child), signal.SIGSTOP)
            stopped.append(int(child))
        yield
    finally:
        for process in reversed(stopped):
            os.kill(process, signal.SIGCONT)


@contextlib.contextmanager
def postgres_database(server_url: str) -> Iterator[str]:
    """Yield the URL of a new, empty database; it is dropped afterwards, whoever still uses it."""
    psycopg = _psycopg()
    name = f"backup_scp_test_{os.getpid()}_{next(_number)}"
    plain = server_url.replace("+psycopg", "", 1)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    try:
        yield server_url.rpartition("/")[0] + f"/{name}"
    finally:
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _psycopg():
    try:
        import psycopg
    except ImportError:
        peer_missing("the extra `postgres`")
    return psycopg


def _with_driver(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if scheme in {"postgres", "postgresql"} else url
