"""A process that kills itself at its n-th call to the operating system.

``python -m tests.archive.dying_process ROOT N [nolinks]`` brings one Data Set in; on its way out it prints what it had
been told: ``committed``, ``indexed``.  With ``nolinks`` it meets a file system that knows no hard links.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path

from backup_scp.archive import FilesystemArchive
from tests.archive.examples import ARRIVAL, DATA_SET, HEADING, KEY

CALLS = ("open", "write", "fsync", "mkdir", "link", "rename", "replace", "unlink", "rmdir")

say = os.write


def crash_at(number: int) -> None:
    calls = 0

    def counted(call):
        def wrapped(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == number:
                if call is say:
                    call(args[0], args[1][: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return wrapped

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))


def no_links(*_args, **_kwargs) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def main(root: str, number: str, *options: str) -> None:
    archive = FilesystemArchive(Path(root))
    if "nolinks" in options:
        os.link = no_links
    crash_at(int(number))
    staged = archive.stage(HEADING)
    staged.write(DATA_SET)
    archive.commit(staged, KEY, ARRIVAL)
    say(1, b"committed\n")
    os.write(1, b"")  # a crash here is one of the index
    say(1, b"indexed\n")
    archive.forget(staged)


if __name__ == "__main__":
    main(*sys.argv[1:])
