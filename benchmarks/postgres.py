"""A PostgreSQL server on loopback that keeps its promises: fsync and synchronous_commit are on, as it ships."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def running(folder: Path, port: int) -> Iterator[str]:
    """Yield the URL of a new server's database; the server is stopped afterwards."""
    data, programs = folder / "postgres", _programs()
    data.mkdir(parents=True)
    if os.geteuid() == 0:
        shutil.chown(data, "postgres", "postgres")
        for above in (folder, *folder.parents):  # it has to reach its folder
            if above.stat().st_uid == 0 and not above.stat().st_mode & 0o001:
                above.chmod(above.stat().st_mode | 0o001)
    _run(programs / "initdb", "-D", data / "db", "-U", "backup_scp", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={data}"
    _run(programs / "pg_ctl", "-D", data / "db", "-w", "-l", data / "log", "-o", options, "start")
    try:
        yield f"postgresql+psycopg://backup_scp@127.0.0.1:{port}/postgres"
    finally:
        _run(programs / "pg_ctl", "-D", data / "db", "-w", "-m", "immediate", "stop")


def database(url: str, name: str) -> str:
    """Make a further database on a server that is running; give its URL."""
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{url.rpartition('/')[0]}/{name}"


def _programs() -> Path:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parts[-2]))
    found = str(debian[-1] / "initdb") if debian else shutil.which("initdb")
    if found is None:
        raise SystemExit("PostgreSQL is not installed; `make peers` installs it")
    return Path(found).resolve().parent


def _run(*argv: str | Path) -> None:
    as_postgres = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it refuses to run as root
    subprocess.run(  # noqa: S603
        [*as_postgres, *map(str, argv)], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd="/"
    )
