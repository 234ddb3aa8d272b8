"""Let an archive flush each image's own file, or take small ones into a journal, on any file system."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from backup_scp.archive import FilesystemArchive, intake_journal
from backup_scp.machine import file_system
from backup_scp.ports import Archive
from tests.archive.examples import HEADING

if TYPE_CHECKING:
    import pytest

WAYS = ("own file", "journal")


def take(way: str, set_attribute: Callable[[object, str, object], None]) -> None:
    """Let every archive of this process go this way; a journal is short here, so that it is made quickly."""
    if way == "journal" and sys.platform != "linux":
        import pytest

        pytest.skip("only Linux flushes a whole file system with one call")
    set_attribute(intake_journal, "can_flush_all", lambda _: way == "journal")
    set_attribute(intake_journal, "_flush_s", lambda _: 0.0)
    set_attribute(intake_journal, "SEGMENT_BYTES", 1 << 20)


def prepared(archive: FilesystemArchive) -> FilesystemArchive:
    """Let an archive have its journal, where it may have one, and staged names: as after its first images."""
    archive.stage(HEADING).discard()
    assert archive._staging._own is not None
    assert archive._staging._own.journal.append(b"turned away") is None
    archive._staging.prepare_journal()
    return archive


def swept(archive: Archive) -> list[str]:
    """Sweep, and return all locations."""
    return list(itertools.chain.from_iterable(archive.sweep()))


def files(root: Path, below: str = "") -> list[Path]:
    return [path for path in (root / below).rglob("*") if path.is_file() and path.name != "lock"]


def staged_files(root: Path) -> list[Path]:
    """Return the files in staging that hold something, without journals; an empty one is for an image to come."""
    return [
        path
        for path in (root / ".staging").rglob("*")
        if path.is_file() and path.stat().st_size and path.name != "lock" and path.suffix != ".tar"
    ]


def run(module: str, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-m", f"tests.archive.{module}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])


class Flushes:
    """Notes each flush of the disk in a list, after it was made; the n-th fails instead.

    A file or folder is noted by its path, a whole file system as ``"syncfs"``.
    """

    def __init__(self, patch: pytest.MonkeyPatch, fails: int = 0, code: int = 5) -> None:
        self.made: list[object] = []
        self.asked: list[object] = []
        self._fails = fails
        self._code = code
        for module, name in ((os, "fsync"), (os, "fdatasync"), (file_system, "_syncfs")):
            patch.setattr(module, name, self._noting(getattr(module, name), name == "_syncfs"))

    def _noting(self, real: Callable[[int], object], is_all: bool) -> Callable[[int], None]:
        def flush(descriptor: int) -> None:
            what = "syncfs" if is_all else Path(f"/proc/self/fd/{descriptor}").readlink()
            self.asked.append(what)
            if len(self.asked) == self._fails:
                raise OSError(self._code, os.strerror(self._code), "/a/path")
            real(descriptor)
            self.made.append(what)

        return flush


def fail_at(patch: pytest.MonkeyPatch, call: str, number: int, code: int = errno.EIO) -> Callable[[], int]:
    """Let the n-th call fail; return what tells the calls so far."""
    real, calls = getattr(os, call), 0

    def failing(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == number:
            raise OSError(code, os.strerror(code), "/a/path")
        return real(*args, **kwargs)

    patch.setattr(os, call, failing)
    return lambda: calls
