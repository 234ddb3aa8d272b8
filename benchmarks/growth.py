"""How the cost of C-STORE grows with associations, object size, instances held and processes; prints Markdown tables.

``cores busy`` is the CPU time of node and senders over the wall clock: where it reaches the machine's cores, more
associations cannot be faster, and where it does not, the node waits for the disk.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from backup_scp.archive import FilesystemArchive
from backup_scp.index.sql_index import SQLIndex
from backup_scp.services.archive_guard import adopt
from benchmarks import fill_index, images, limits, load, nodes, synthetic
from benchmarks.images import CT, DR, TINY, Kind
from benchmarks.nodes import BackupSCP, Place
from benchmarks.table import Table

_COUNTS = {DR: 48, CT: 480, TINY: 1920}
_SIZES = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
_SENT_BYTES = 400_000_000
_FEWEST, _MOST = 2, 500
_WARMING = 32
_READY = " is ready"


@dataclass(frozen=True)
class Cost:
    """What sending some instances has cost."""

    sent: load.Sent
    server_cpu_s: float
    of_processes: dict[int, float]

    @property
    def server_ms(self) -> float:
        """Return the node's CPU milliseconds an instance."""
        return self.server_cpu_s / self.sent.instances * 1e3

    @property
    def cores(self) -> float:
        """Return how many cores node and senders kept busy."""
        return (self.server_cpu_s + self.sent.cpu_s) / self.sent.seconds


def cost(node: BackupSCP, kind: Kind, count: int, associations: int = 1) -> Cost:
    """Send new instances of a kind."""
    new = images.new(kind, count)
    os.sync()
    before = {pid: nodes.cpu_s(pid) for pid in node.processes()}
    sent = load.store(node.address, new, associations)
    spent = {pid: nodes.cpu_s(pid) - before.get(pid, 0.0) for pid in node.processes()}
    return Cost(sent, sum(spent.values()), spent)


class Growth:
    """One run, in a folder on the disk to measure."""

    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        self._folder = folder
        self._chosen = arguments
        self._started = itertools.count(1)
        self.parts: dict[str, Callable[[], str]] = {
            "associations": self.associations,
            "sizes": self.sizes,
            "held": self.held,
            "workers": self.workers,
        }

    def associations(self) -> str:
        """Give the table against associations at one time."""
        names = ("/s", "node's CPU, ms", "cores busy")
        table = Table([f"{kind.name} {name}" for kind in _COUNTS for name in names])
        for _ in range(self._chosen.repeat):
            with self._node() as node:
                for associations, kind in itertools.product(self._chosen.associations, _COUNTS):
                    spent = cost(node, kind, _COUNTS[kind], associations)
                    for name, value in zip(names, (spent.sent.rate, spent.server_ms, spent.cores), strict=True):
                        table.add(f"{associations}", f"{kind.name} {name}", value)
        return table.markdown("associations")

    def sizes(self) -> str:
        """Give the table against the size of the object, over one association, with the disk beside it."""
        table = Table(["/s", "MB/s", "node's CPU, ms/MB", "peak memory, MB", "file + fsync here, MB/s", "share of it"])
        for _ in range(self._chosen.repeat):
            for size in self._chosen.sizes:
                with self._node() as node:
                    kind, mb = images.sized(size), size / 1e6
                    count = min(_MOST, max(_FEWEST, _SENT_BYTES // size))
                    files = self._files(size)
                    spent = cost(node, kind, count)
                    table.add(kind.name, "/s", spent.sent.rate)
                    table.add(kind.name, "MB/s", spent.sent.rate * mb)
                    table.add(kind.name, "node's CPU, ms/MB", spent.server_ms / mb)
                    table.add(kind.name, "peak memory, MB", node.peak_mb())
                    table.add(kind.name, "file + fsync here, MB/s", files * mb)
                    table.add(kind.name, "share of it", spent.sent.rate / files)
        return table.markdown("object")

    def held(self) -> str:
        """Give the table against what the index holds already.  A filled index is kept where `--indexes` says."""
        table = Table(["start, s", *(f"{kind.name} {what}" for kind in _COUNTS for what in ("/s", "node's CPU, ms"))])
        kept = self._chosen.indexes or self._folder
        filled = {held: self._filled(kept / f"held-{held}.sqlite", held) for held in self._chosen.held}
        for _ in range(self._chosen.repeat):
            for held, path in filled.items():
                row = f"{held:,}"
                with self._node(f"sqlite:///{path}" if held else "") as node:
                    table.add(row, "start, s", node.started_s)
                    for kind, count in _COUNTS.items():
                        spent = cost(node, kind, count)
                        table.add(row, f"{kind.name} /s", spent.sent.rate)
                        table.add(row, f"{kind.name} node's CPU, ms", spent.server_ms)
        return table.markdown("instances held")

    def workers(self) -> str:
        """Give the table against processes, with the CPU seconds of each."""
        table = Table(["CT /s", "tiny /s", "cores busy, tiny"])
        splits: dict[int, list[float]] = {}
        for _ in range(self._chosen.repeat):
            for workers in self._chosen.workers:
                row = f"workers = {workers}"
                with self._node(workers=workers) as node:
                    table.add(row, "CT /s", cost(node, CT, _COUNTS[CT], 8).sent.rate)
                    spent = cost(node, TINY, _COUNTS[TINY], 8)
                    table.add(row, "tiny /s", spent.sent.rate)
                    table.add(row, "cores busy, tiny", spent.cores)
                    splits[workers] = list(spent.of_processes.values())
        lines = [
            f"| workers = {workers} | {', '.join(f'{seconds:.2f}' for seconds in split)} |"
            for workers, split in splits.items()
        ]
        head = "| processes | CPU seconds of each for the tiny ones, the first process first |\n|---|---|"
        return "\n".join([table.markdown("8 associations"), "", head, *lines])

    def _files(self, size: int) -> float:
        return limits.files(Path(tempfile.mkdtemp(dir=self._folder)), size)

    def _filled(self, path: Path, held: int) -> Path:
        """Fill an index by so many instances, unless an earlier run has."""
        if held and not path.exists():
            print(f"    filling an index with {held:,} instances", flush=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            fill_index.fill(f"sqlite:///{part}", held // synthetic.INSTANCES)
            part.rename(path)
        return path

    @contextlib.contextmanager
    def _node(self, index_url: str = "", *, workers: int = 1) -> Iterator[BackupSCP]:
        """Start one on an empty folder, and let it have served every kind once."""
        place = Place(self._folder / f"node-{next(self._started)}", index_url=index_url)
        node = BackupSCP(place, workers=workers)
        if index_url:  # a filled index speaks of another archive, which would be missed
            with contextlib.closing(SQLIndex(index_url)) as index:
                adopt(FilesystemArchive(place.folder / "data" / "archive"), index)
        try:
            node.start()
            while workers > 1 and place.folder.joinpath("log").read_text(encoding="utf-8").count(_READY) < workers:
                time.sleep(0.01)
            load.store(node.address, [*images.new(CT, 2), *images.new(TINY, _WARMING)], max(4, 4 * workers))
            yield node
        finally:
            node.stop()


def _numbers(text: str) -> list[int]:
    return [int(float(number)) for number in text.split(",")]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", help="associations sizes held workers; all of them without")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--associations", type=_numbers, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--sizes", type=_numbers, default=list(_SIZES), help="bytes, as in 1e4,1e6")
    parser.add_argument("--held", type=_numbers, default=[0, 30_000, 300_000, 3_000_000], help="instances")
    parser.add_argument("--workers", type=_numbers, default=[1, 2, 4])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure")
    parser.add_argument("--indexes", type=Path, help="keep filled indexes in this folder, for the next run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        growth = Growth(Path(folder), arguments)
        if unknown := set(arguments.parts or ()) - growth.parts.keys():
            parser.error(f"no such part: {', '.join(sorted(unknown))}")
        tables = [growth.parts[part]() for part in arguments.parts or growth.parts]
    print("", *tables, sep="\n\n")


if __name__ == "__main__":
    main()
