"""Run a command on a disk that is slow to flush, or must seek (Linux, root): ``slow_disk --flush-ms 8 -- COMMAND``.

An ext4 file system lies on a loop device, and that on a file which FUSE shows.  The kernel hands each flush of the disk
down as an fsync of that file, and that takes as long as a disk would.  The command finds the file system's folder in
TMPDIR, where the benchmarks of this folder put what they measure.  At the end it says how often the disk was flushed.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import mmap
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import mfusepy

_IMAGE = "/image"
_TOTALS = "/totals"
_NEAR_BYTES = 1 << 20
"""What lies so near to what was written before it is reached without a seek."""

_OPTIONS = "lazy_itable_init=0,lazy_journal_init=0"


class SlowImage(mfusepy.Operations):
    """One image, shown as a file; a second file tells how often it was flushed, and how many seeks that took.

    Parameters
    ----------
    image
        What holds the bytes.
    flush_s, seek_s
        Seconds that each flush takes, and each place that was written since the last one.
    """

    use_ns = True

    def __init__(self, image: Path, flush_s: float, seek_s: float) -> None:
        self._flush_s, self._seek_s = flush_s, seek_s
        with image.open("r+b") as file:
            self._bytes = mmap.mmap(file.fileno(), 0)
        self._written: list[tuple[int, int]] = []
        self._flushes = self._seeks = 0

    @mfusepy.overrides(mfusepy.Operations)
    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
        sizes = {_IMAGE: len(self._bytes), _TOTALS: len(self._totals())}
        if path not in sizes:
            raise mfusepy.FuseOSError(errno.ENOENT)
        return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": sizes[path]}

    @mfusepy.overrides(mfusepy.Operations)
    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return (self._totals() if path == _TOTALS else self._bytes)[offset : offset + size]

    @mfusepy.overrides(mfusepy.Operations)
    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._bytes[offset : offset + len(data)] = data
        self._written.append((offset, offset + len(data)))
        return len(data)

    @mfusepy.overrides(mfusepy.Operations)
    def fsync(self, path: str, datasync: int, fh: int) -> int:
        places = _places(self._written)
        self._written.clear()
        self._flushes += 1
        self._seeks += places
        time.sleep(self._flush_s + self._seek_s * places)
        return 0

    def _totals(self) -> bytes:
        return b"%12d %12d\n" % (self._flushes, self._seeks)


def _places(written: list[tuple[int, int]]) -> int:
    """Count the places at which a disk must write, when it does so in order."""
    count, end = 0, -_NEAR_BYTES
    for first, last in sorted(written):
        count += first > end + _NEAR_BYTES
        end = max(end, last)
    return count


@contextlib.contextmanager
def slow_disk(work: Path, size_mb: int, flush_s: float, seek_s: float) -> Iterator[tuple[Path, Path]]:
    """Mount one; give its folder, and the file that tells of flushes and seeks."""
    image, shown, mounted = work / "image", work / "shown", work / "mounted"
    shown.mkdir()
    mounted.mkdir()
    with image.open("xb") as file:
        file.truncate(size_mb << 20)
    _run("mkfs.ext4", "-q", "-F", "-E", _OPTIONS, image)
    argv = [sys.executable, "-m", "benchmarks.slow_disk", "--show", image, shown, str(flush_s), str(seek_s)]
    serving = subprocess.Popen(list(map(str, argv)))  # noqa: S603
    try:
        while not (shown / _IMAGE[1:]).exists():
            if serving.poll() is not None:
                raise SystemExit("FUSE does not start")
            time.sleep(0.01)
        _run("mount", "-o", "loop", shown / _IMAGE[1:], mounted)
        try:
            yield mounted, shown / _TOTALS[1:]
        finally:
            _run("umount", mounted)
    finally:
        _run("umount", shown)
        serving.wait()


def _run(*argv: str | Path) -> None:
    environment = os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    subprocess.run(list(map(str, argv)), check=True, env=environment)  # noqa: S603


def flushes(totals: Path) -> tuple[int, int]:
    """Read how many flushes and seeks there were so far."""
    flushed, seeks = totals.read_text().split()
    return int(flushed), int(seeks)


def _show(image: str, folder: str, flush_s: str, seek_s: str) -> None:
    operations = SlowImage(Path(image), float(flush_s), float(seek_s))
    mfusepy.FUSE(operations, folder, foreground=True, nothreads=True, fsname="slow-disk")


def main() -> None:
    """Run from the command line."""
    if sys.argv[1:2] == ["--show"]:
        _show(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flush-ms", type=float, default=8, help="what each flush takes")
    parser.add_argument("--seek-ms", type=float, default=0, help="what each place takes that is written to")
    parser.add_argument("--size-mb", type=int, default=6000, help="of the disk; only what is written takes room")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    with (
        tempfile.TemporaryDirectory() as name,
        slow_disk(Path(name), arguments.size_mb, arguments.flush_ms / 1e3, arguments.seek_ms / 1e3) as (folder, totals),
    ):
        done = subprocess.run(command, env=os.environ | {"TMPDIR": str(folder)}, check=False)  # noqa: S603
        flushed, seeks = flushes(totals)
        print(f"{flushed} flushes, {seeks} seeks")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
