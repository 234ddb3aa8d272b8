"""A process that kills itself at its n-th call to the operating system, for each n.

``python -m tests.archive.dying_process FOLDER BEFORE WAY [nolinks]`` brings one Data Set into an archive ``FOLDER/n``,
in a child process for each n; the last one lives.  Each writes into ``FOLDER/n.said`` what it has flushed and named,
and what it had been told: ``committed``, ``indexed``, ``settled``, ``forgotten``.  ``BEFORE`` is what is in the place
of the file: ``nothing``, ``the same`` or ``damaged``.  ``WAY`` is one of ``intake.WAYS``; a journal is there before,
with one Data Set in it.  With ``nolinks`` it meets a file system that knows no hard links.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path

from backup_scp.archive import FilesystemArchive, layout, staging_folder
from backup_scp.machine import file_system
from tests.archive.examples import ARRIVAL, DATA_SET, HEADING, KEY, digest, store
from tests.archive.intake import prepared, take

CALLS = ("open", "write", "fsync", "mkdir", "link", "rename", "replace", "unlink", "rmdir", "pwritev", "fdatasync")
NOTED = ("fsync", "syncfs", "link", "rename", "replace")
OTHER = layout.location_of(KEY, digest(b"before"))

say = os.write


def crash_at(number: int, said: int) -> None:
    calls = 0

    def counted(name, call):
        def wrapped(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == number:
                if call is say:
                    call(args[0], args[1][: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            found = call(*args, **kwargs)
            if name in NOTED:
                what = f"/proc/self/fd/{args[0]}" if isinstance(args[0], int) else args[1]
                say(said, f"{name} {os.path.realpath(what)}\n".encode())
            return found

        return wrapped

    for name in CALLS:
        if hasattr(os, name):
            setattr(os, name, counted(name, getattr(os, name)))
    file_system._syncfs = counted("syncfs", file_system._syncfs)


def no_links(*_args, **_kwargs) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def main(folder: str, before: str, way: str, *options: str) -> None:
    take(way, setattr)
    staging_folder._NAMES_AT_ONCE = 2
    if "nolinks" in options:
        os.link = no_links
    for number in range(1, 200):
        child = os.fork()
        if child == 0:
            bring_in(Path(folder, str(number)), number, before, way)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if status == 0:
            return
        assert os.WIFSIGNALED(status)
    raise AssertionError


def bring_in(root: Path, number: int, before: str, way: str) -> None:
    said = os.open(f"{root}.said", os.O_WRONLY | os.O_CREAT)
    prepare(root, before)
    archive = FilesystemArchive(root)
    if way == "journal":
        store(prepared(archive), b"before")
    crash_at(number, said)
    staged = archive.stage(HEADING)
    staged.write(DATA_SET)
    archive.commit(staged, KEY, ARRIVAL)
    say(said, b"committed\n")
    os.write(1, b"")  # a crash here is one of the index
    say(said, b"indexed\n")
    archive.settle([staged])
    say(said, b"settled\n")
    archive.forget(staged)
    archive.close()
    say(said, b"forgotten\n")


def prepare(root: Path, before: str) -> None:
    if before == "nothing":
        return
    archive = FilesystemArchive(root)
    location = store(archive)
    archive.close()
    if before == "damaged":
        (root / location).write_bytes(b"damaged")


if __name__ == "__main__":
    main(*sys.argv[1:])
