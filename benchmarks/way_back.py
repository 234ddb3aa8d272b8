"""Measure the way back beside Orthanc, dcmqrscp and rclone, in turns: from a copy to a whole node, and to a console.

``first``: the seconds from the start of ``recover`` to the first answers, with small and large indexes on the drive.
``drive``: a drive becomes a whole, verified archive.  ``bucket``: the same, sealed, from Ceph on loopback.
``console``: everything goes to a console.  ``memory``: what the recovering node takes at most.  Each program begins
with nothing in the page cache.  Needs root (page cache), Debian's dcmtk, Orthanc and Ceph, and rclone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from benchmarks import fill_index, images, load, nodes
from benchmarks.copies import CopyingNode, _drop_cache, _run, _terminate
from benchmarks.images import CT, DR, Kind
from benchmarks.load import Association
from benchmarks.nodes import BackupSCP, DcmQRSCP, Orthanc, Place, inherited, program
from benchmarks.table import Table

OURS, ORTHANC, DCMQRSCP, RCLONE = "backup-scp", "Orthanc", "dcmqrscp", "rclone crypt"
_FIRST_ID = 100_000  # of generated studies: below are those of the real one
_INDEX = "BACKUPSC/INDEX.SQLITE"
_GIVE_UP_S = 300.0
_MOST_REGISTERED = 3_000  # the index of a dcmqrscp storage area ends at 32 MiB; with 10,000 images dcmqridx never ends
_Way = TypeVar("_Way")


class NewNode(BackupSCP):
    """A node on an empty computer."""

    def __init__(self, place: Place, *source: str) -> None:
        super().__init__(place)
        self._source = source

    def argv(self) -> list[str]:
        """Give the command that makes it."""
        return [sys.executable, "-m", "backup_scp", "recover", *self._source, "--yes"]

    def recover(self) -> tuple[float, float]:
        """Bring everything back; return seconds, and the most memory that the process has had, in MB."""
        with (self._place.folder / "log").open("wb") as log:
            began = time.perf_counter()
            process = subprocess.Popen(  # noqa: S603
                [*self.argv(), "--stop-when-done"],
                stdout=log,
                stderr=log,
                env=inherited() | self.environment(),
                cwd=self._place.folder,
            )
            _, status, usage = os.wait4(process.pid, 0)
        seconds, process.returncode = time.perf_counter() - began, os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit((self._place.folder / "log").read_text(errors="replace")[-2000:])
        return seconds, usage.ru_maxrss * 1024 / 1e6

    def first(self, study: str) -> tuple[float, float]:
        """Start; return the seconds to the first C-FIND answered, and to the first study sent by C-MOVE."""
        with (self._place.folder / "log").open("wb") as log:
            began = time.perf_counter()
            self._process = subprocess.Popen(  # noqa: S603
                self.argv(), stdout=log, stderr=log, env=inherited() | self.environment(), cwd=self._place.folder
            )
        keys = load.study_keys(study)
        try:
            found_s = self._until(began, load.FIND, lambda association: association.find(keys))
            return found_s, self._until(began, load.MOVE, lambda association: association.move(keys))
        finally:
            self._process.kill()
            self._process.wait()

    def _until(self, began: float, sop_class: str, ask: Callable[[Association], int]) -> float:
        while time.perf_counter() - began < _GIVE_UP_S and self._process and self._process.poll() is None:
            try:
                with Association(self.address, [(sop_class, load.IMPLICIT)]) as association:
                    if ask(association):
                        return time.perf_counter() - began
            except (OSError, KeyError):
                pass
            time.sleep(0.01)
        raise SystemExit((self._place.folder / "log").read_text(errors="replace")[-2000:])


class WayBack:
    """One run."""

    def __init__(self, folder: Path, chosen: argparse.Namespace, sink_port: int) -> None:
        self._folder = folder
        self._chosen = chosen
        self._sink = sink_port
        self._number = 0

    def _place(self, name: str) -> Place:
        self._number += 1
        return Place(self._folder / f"{self._number}-{name}", self._sink)

    def _clinic(self, kind: Kind, count: int) -> tuple[CopyingNode, list[str]]:
        """Store images on a node, stopped again; return it and its studies."""
        node, studies = CopyingNode(self._place("clinic")), dict[str, None]()
        node.start()
        for start in range(0, count, 500):
            some = images.new(kind, min(500, count - start))
            load.store(node.address, some, 2)
            studies |= dict.fromkeys(image.study for image in some)
        _terminate(node)
        return node, list(studies)

    def _drive(self, count: int) -> tuple[Path, list[str]]:
        """Make a drive with CT; return it and their studies."""
        node, studies = self._clinic(CT, count)
        drive = self._place("media").folder / "drive"
        drive.parent.mkdir()
        node.drives = [drive]
        node.prepare()
        node.run("copies", "sync", drive.name)
        node.stop()
        return drive, studies

    def first(self) -> str:
        """Give the table of the first answers, in seconds."""
        sizes = [f"{instances:,} instances" for instances in self._chosen.instances]
        table = Table(sizes, (sizes[-1], sizes[0]), "aim")
        drives = []
        for instances in self._chosen.instances:
            drive, studies = self._drive(20)
            _fill(drive / _INDEX, instances)
            drives.append((drive, studies[0]))
        for repeat in range(self._chosen.repeat):
            for size, (drive, study) in _turned([*zip(sizes, drives, strict=True)], repeat):
                _drop_cache()
                found_s, sent_s = NewNode(self._place("new"), str(drive)).first(study)
                table.add("first C-FIND answered, s", size, found_s, "10 s, 1.5")
                table.add("first study sent by C-MOVE, s", size, sent_s, "10 s, 1.5")
        return table.markdown("from the start of recover")

    def drive(self) -> str:
        """Give the table of a drive that becomes a whole archive, in images a second."""
        table = Table([OURS, ORTHANC, DCMQRSCP])
        count = self._chosen.ct
        drive, _ = self._drive(count)
        files = sorted(path for path in drive.rglob("*") if path.is_file() and path.stat().st_size > CT.size_bytes)
        files = [path for path in files if path.suffix != ".SQLITE"]
        if len(files) != count:
            raise SystemExit(f"{len(files)} of {count} images are on the drive: no figure")
        ways: list[tuple[str, Callable[[], float]]] = [
            (OURS, lambda: self._recovered(str(drive))),
            (ORTHANC, lambda: self._sent_to_orthanc(files)),
        ]
        if count <= _MOST_REGISTERED:
            ways.append((DCMQRSCP, lambda: self._registered(files)))
        for repeat in range(self._chosen.repeat):
            for name, way in _turned(ways, repeat):
                _drop_cache()
                table.add(f"{count:,} CT from a drive, /s", name, count / way())
        return _with_ratios(table, OURS)

    def _recovered(self, *source: str) -> float:
        node = NewNode(self._place("new"), *source)
        seconds, _ = node.recover()
        node.stop()
        return seconds

    def _sent_to_orthanc(self, files: Sequence[Path]) -> float:
        node = Orthanc(self._place("orthanc"))
        began = time.perf_counter()
        node.start()
        where = ("-aec", node.ae_title, "127.0.0.1", str(node.address.port))
        subprocess.run(  # noqa: S603
            [program("storescu"), "-xe", "-pdu", "131072", *where, *map(str, files)],
            env=os.environ | {"TCP_NODELAY": "1"},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - began
        node.stop()
        return seconds

    def _registered(self, files: Sequence[Path]) -> float:
        node = DcmQRSCP(self._place("dcmqrscp"))
        node.argv()
        storage = node._place.folder / "storage"  # noqa: SLF001
        began = time.perf_counter()
        targets = [str(storage / f"{number:06}.dcm") for number in range(len(files))]
        for file, target in zip(files, targets, strict=True):
            shutil.copyfile(file, target)
        for start in range(0, len(targets), 1000):
            _run(program("dcmqridx"), str(storage), *targets[start : start + 1000])
        seconds = time.perf_counter() - began
        node.stop()
        return seconds

    def bucket(self) -> str:
        """Give the table of a sealed bucket on loopback, in images a second."""
        from benchmarks.way_back_bucket import SealedBucket

        table = Table([OURS, RCLONE], (OURS, RCLONE), "aim")
        count = self._chosen.bucket_ct
        node, _ = self._clinic(CT, count)
        archive = node._place.folder / "data" / "archive"  # noqa: SLF001
        with SealedBucket(self._place("bucket").folder) as bucket:
            bucket.fill(node, archive)
            node.stop()
            ways: list[tuple[str, Callable[[], float]]] = [
                (OURS, lambda: self._recovered(*bucket.source)),
                (RCLONE, lambda: bucket.rclone_back(self._place("rclone").folder)),
            ]
            for repeat in range(self._chosen.repeat):
                for name, way in _turned(ways, repeat):
                    _drop_cache()
                    table.add(f"{count:,} CT from a sealed bucket, /s", name, count / way(), "1.0")
        return table.markdown("sealed, from Ceph on loopback")

    def console(self) -> str:
        """Give the table of everything that goes to a console, in images a second."""
        table = Table([OURS, ORTHANC], (OURS, ORTHANC), "aim")
        count = self._chosen.dr
        ours, _ = self._clinic(DR, count)
        orthanc, studies = Orthanc(self._place("orthanc")), dict[str, None]()
        orthanc.start()
        for start in range(0, count, 100):
            some = images.new(DR, min(100, count - start))
            load.store(orthanc.address, some, 2)
            studies |= dict.fromkeys(image.study for image in some)

        def ours_sends() -> float:
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "backup_scp", "restore", "--to", "sink", "--all", "--again"],
                env=inherited() | ours.environment(),
                capture_output=True,
                text=True,
                check=False,  # the sink takes all, and lists nothing: that is said, and is the exit code
            )
            seconds = time.perf_counter() - began
            if f"All {count} images" not in done.stdout:
                raise SystemExit(f"not all came: no figure\n{done.stdout}{done.stderr}")
            return seconds

        def orthanc_sends() -> float:
            came, seconds = load.retrieve(orthanc.address, "C-MOVE", DR.sop_class, studies)
            if came != count:
                raise SystemExit(f"{came} of {count} images came: no figure")
            return seconds

        ways = [(OURS, ours_sends), (ORTHANC, orthanc_sends)]
        for repeat in range(self._chosen.repeat):
            for name, way in _turned(ways, repeat):
                _drop_cache()
                table.add(f"{count} DR to a console, /s", name, count / way(), "2")
        orthanc.stop()
        ours.stop()
        return table.markdown("everything to a console")

    def memory(self) -> str:
        """Give the table of the most memory that a recovering node takes, in MB."""
        counts = [1000, self._chosen.ct]
        columns = [f"{count:,} CT" for count in counts]
        table = Table(columns, (columns[1], columns[0]), "aim")
        drives = [self._drive(count)[0] for count in counts]
        for repeat in range(self._chosen.repeat):
            for column, drive in _turned([*zip(columns, drives, strict=True)], repeat):
                node = NewNode(self._place("new"), str(drive))
                _drop_cache()
                _, peak_mb = node.recover()
                table.add("peak memory of the recovering node, MB", column, peak_mb, "flat")
                node.stop()
        return table.markdown("memory")


def _fill(index: Path, instances: int) -> None:
    """Add generated studies to the index on a drive, which say that the drive has their files."""
    studies = instances // 3
    fill_index.fill(f"sqlite:///{index}", studies, _FIRST_ID)
    with closing(sqlite3.connect(index, isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO copy_object (copy_id, version_id, name, sha256, size_bytes, object_version, is_damaged) "
            "SELECT (SELECT min(id) FROM copy), id, '2020/01/' || id || '.dcm', sha256, size_bytes, '', 0 FROM version "
            "WHERE id > ?",
            (_FIRST_ID,),
        )
        connection.execute("ANALYZE")
        connection.execute("PRAGMA journal_mode=DELETE")


def _turned(ways: list[_Way], by: int) -> list[_Way]:
    by %= len(ways)
    return ways[by:] + ways[:by]


def _with_ratios(table: Table, ours: str) -> str:
    """Give the table with a line of what ours is to each of the others."""
    text = table.markdown("a drive becomes a whole archive")
    for row, columns in table.rows.items():
        own = table.median(row, ours) or 0.0
        ratios = [
            f"{name}: {own / other:.2f}" for name in columns if name != ours and (other := table.median(row, name))
        ]
        text += f"\n\nratio to {', to '.join(ratios)}"
    return text


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--parts", nargs="+", default=["first", "drive", "bucket", "console", "memory"])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--instances", type=int, nargs=2, default=[10_000, 1_000_000], help="in the index, for first")
    parser.add_argument("--ct", type=int, default=10_000, help="instances of 0.5 MB on the drive")
    parser.add_argument("--bucket-ct", type=int, default=2_000, help="in the bucket, which Ceph keeps in memory")
    parser.add_argument("--dr", type=int, default=500, help="instances of 15 MB for the console")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="backup-scp-way-back-", dir=chosen.folder))
    try:
        with nodes.running_sink() as port:
            run = WayBack(folder, chosen, port)
            for part in chosen.parts:
                print(f"\n{getattr(run, part)()}\n", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
