"""Measure further copies beside rsync and restic, in turns, and what they cost receiving.

``drive``: an archive of DR and CT is copied to a folder that stands for a drive, flushed, read back and compared; each
program begins with nothing in the page cache.  ``new``: nothing has changed since.  ``receiving``: C-STORE alone, and
while three copies are filled, with the memory of the node.  ``s3``: the same to a sealed bucket of Ceph on loopback,
beside a crypt remote of rclone.  Needs Debian's rsync, restic and radosgw, and root (page cache).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import images, load
from benchmarks.images import CT, DR, TINY, Kind
from benchmarks.nodes import BackupSCP, Place, inherited
from benchmarks.table import Table
from benchmarks.way_back_bucket import SealedBucket, Used

OURS, RSYNC, RESTIC, RCLONE = "backup-scp", "rsync", "restic", "rclone crypt"
ALONE, COPYING = "alone", "three copies being filled"
_COPIES = 3


class CopyingNode(BackupSCP):
    """The node with some drives."""

    def __init__(self, place: Place, drives: Sequence[Path] = (), *, mb_per_s: float = 0) -> None:
        super().__init__(place)
        self.drives = list(drives)
        self._mb_per_s = mb_per_s

    def environment(self) -> dict[str, str]:
        """Give its settings."""
        copies = [{"name": drive.name, "url": f"file://{drive}", "mb_per_s": self._mb_per_s} for drive in self.drives]
        return super().environment() | {"BACKUP_SCP_COPY": json.dumps(copies)}

    def run(self, *arguments: str) -> None:
        """Run a command on its archive."""
        subprocess.run(  # noqa: S603
            [sys.executable, "-m", "backup_scp", *arguments],
            env=inherited() | self.environment(),
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def prepare(self) -> None:
        """Make its drives ready."""
        for drive in self.drives:
            drive.mkdir(exist_ok=True)
            self.run("copies", "init", drive.name, "--same-disk")


class Copies:
    """One run."""

    def __init__(self, folder: Path, chosen: argparse.Namespace) -> None:
        self._folder = folder
        self._chosen = chosen
        self._number = 0

    def _new(self, name: str) -> Path:
        self._number += 1
        folder = self._folder / f"{self._number}-{name}"
        folder.mkdir()
        return folder

    @contextmanager
    def _filled(self, counts: dict[Kind, int], drives: int = 1) -> Iterator[CopyingNode]:
        """Store images in a new archive; give its node, stopped."""
        folder = self._new("archive")
        node = CopyingNode(Place(folder / "node"), [folder / f"drive{number}" for number in range(drives)])
        held, node.drives = node.drives, []
        node.start()
        for kind, count in counts.items():
            for start in range(0, count, 500):
                load.store(node.address, images.new(kind, min(500, count - start)), 2)
        _terminate(node)
        node.drives = held
        yield node

    def drive(self) -> str:
        """Give the table of one drive, in MB of images a second."""
        table = Table([OURS, RSYNC, RESTIC])
        counts = {DR: self._chosen.dr, CT: self._chosen.ct}
        megabytes = sum(kind.size_bytes * count for kind, count in counts.items()) / 1e6
        with self._filled(counts) as node:
            archive = node.drives[0].parent / "node" / "data" / "archive"
            ways: dict[str, Callable[[], float]] = {
                OURS: lambda: self._ours(node),
                RSYNC: lambda: self._rsync(archive),
                RESTIC: lambda: self._restic(archive),
            }
            for repeat in range(self._chosen.repeat):
                for name in [*ways][repeat % 3 :] + [*ways][: repeat % 3]:
                    table.add("copied, flushed, read back, compared; MB/s", name, megabytes / ways[name]())
        return table.markdown("200 DR and 2,000 CT" if counts == {DR: 200, CT: 2000} else "drive")

    def _ours(self, node: CopyingNode) -> float:
        drive = self._new("drive")
        node.drives = [drive]
        node.prepare()
        _drop_cache()
        began = time.perf_counter()
        node.run("copies", "sync", drive.name)
        return time.perf_counter() - began

    def _rsync(self, archive: Path) -> float:
        to = self._new("rsync")
        _drop_cache()
        began = time.perf_counter()
        _run("rsync", "-a", f"{archive}/", str(to))
        _run("sync", "-f", str(to))
        _drop_cache()
        files = [str(path.relative_to(archive)) for path in archive.rglob("*.dcm")]
        listed = subprocess.run(
            ["xargs", "sha256sum"],  # noqa: S607
            input="\n".join(files).encode(),
            cwd=archive,
            check=True,
            stdout=subprocess.PIPE,
        )
        subprocess.run(["sha256sum", "-c", "--quiet"], cwd=to, check=True, input=listed.stdout)  # noqa: S607
        return time.perf_counter() - began

    def _restic(self, archive: Path) -> float:
        to = self._new("restic")
        os.environ |= {"RESTIC_PASSWORD": "measured", "RESTIC_CACHE_DIR": str(self._new("cache"))}
        _run("restic", "-r", str(to), "init")
        _drop_cache()
        began = time.perf_counter()
        _run("restic", "-r", str(to), "backup", str(archive))
        _run("sync", "-f", str(to))
        _drop_cache()
        _run("restic", "-r", str(to), "check", "--read-data")
        return time.perf_counter() - began

    def new(self) -> str:
        """Give the table of a copy to which nothing is to be added, in seconds."""
        table = Table([OURS, RSYNC])
        with self._filled({TINY: self._chosen.held}) as node:
            archive, to = node.drives[0].parent / "node" / "data" / "archive", self._new("rsync")
            node.prepare()
            node.run("copies", "sync")
            _run("rsync", "-a", f"{archive}/", str(to))
            row = f"{self._chosen.held:,} held, nothing new; s"
            for _ in range(self._chosen.repeat):
                table.add(row, OURS, _clocked(lambda: node.run("copies", "sync")))
                table.add(row, RSYNC, _clocked(lambda: _run("rsync", "-a", f"{archive}/", str(to))))
        return table.markdown("nothing new")

    def s3(self) -> str:
        """Give the table of a sealed bucket, in MB of images a second, and of the memory of each program."""
        table = Table([OURS, RCLONE], (OURS, RCLONE), "aim")
        counts = {DR: self._chosen.s3_dr, CT: self._chosen.s3_ct}
        megabytes = sum(kind.size_bytes * count for kind, count in counts.items()) / 1e6
        row = f"{counts[DR]} DR and {counts[CT]:,} CT sealed, read back, compared"

        def add(column: str, *used: Used) -> None:
            table.add(f"{row}; MB/s", column, megabytes / sum(each.seconds for each in used), "1.0")
            table.add("peak memory, MB", column, max(each.peak_mb for each in used), "0.25")

        for repeat in range(self._chosen.repeat):
            with self._filled(counts) as node, SealedBucket(self._new("keys") / "bucket") as bucket:
                archive = node.drives[0].parent / "node" / "data" / "archive"
                for name in (OURS, RCLONE) if repeat % 2 else (RCLONE, OURS):
                    _drop_cache()
                    if name == OURS:
                        add(OURS, bucket.copy(node))
                    else:
                        add(RCLONE, bucket.rclone_copy(archive), bucket.rclone_check(archive))
        return table.markdown("a bucket on loopback")

    def receiving(self) -> str:
        """Give the table of C-STORE alone and beside three copies that are being filled, in turns of some seconds.

        A disk may be twice as fast in one minute as in the next: only short turns, many of them, can be compared.
        """
        table = Table([ALONE, COPYING], (COPYING, ALONE))
        for _ in range(self._chosen.repeat):
            with self._filled({CT: self._chosen.ct, DR: self._chosen.dr}, _COPIES) as node:
                drives = node.drives
                node.prepare()
                for turn in range(self._chosen.turns):
                    for column in (ALONE, COPYING) if turn % 2 else (COPYING, ALONE):
                        node.drives = drives if column == COPYING else []
                        self._received(node, table, column)
        return table.markdown("C-STORE")

    def _received(self, node: CopyingNode, table: Table, column: str) -> None:
        os.sync()
        before = sum(map(_size_bytes, node.drives))
        node.start()
        load.store(node.address, images.new(TINY, 20))
        node.forget_peak()
        while node.drives and sum(map(_size_bytes, node.drives)) == before:
            time.sleep(0.05)  # until the copies grow
        for kind, count in ((DR, 15), (CT, 200)):
            table.add(f"{kind.name}, 1 association, /s", column, load.store(node.address, images.new(kind, count)).rate)
        table.add("peak memory, MB", column, node.peak_mb())
        if node.drives and sum(map(_size_bytes, node.drives)) == before:
            raise RuntimeError("Nothing was left to copy: give more --dr and --ct")
        _terminate(node)


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _clocked(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)  # noqa: S603


def _drop_cache() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")


def _terminate(node: CopyingNode) -> None:
    """Stop a node, and leave its files."""
    process = node._process  # noqa: SLF001
    if process is not None:
        process.terminate()
        process.wait()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--parts", nargs="+", default=["drive", "new", "receiving", "s3"])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--turns", type=int, default=6, help="for the part receiving")
    parser.add_argument("--dr", type=int, default=200, help="instances of 15 MB")
    parser.add_argument("--ct", type=int, default=2000, help="instances of 0.5 MB")
    parser.add_argument("--s3-dr", type=int, default=20, help="instances of 15 MB, for the part s3; Ceph has 4 GB")
    parser.add_argument("--s3-ct", type=int, default=600, help="instances of 0.5 MB, for the part s3")
    parser.add_argument("--held", type=int, default=100_000, help="small instances held, for the part new")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="backup-scp-copies-", dir=chosen.folder))
    try:
        run = Copies(folder, chosen)
        for part in chosen.parts:
            print(f"\n{getattr(run, part)()}\n", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
