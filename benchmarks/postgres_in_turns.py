"""Compare C-STORE into an index on SQLite and on PostgreSQL, near and far, image by image in turns.

``--beside CHECKOUT`` adds another version of this node on PostgreSQL.  The nodes take turns image by image, so that
whatever else the machine does slows all of them.  As root ``chrt -f 20 python -m ...`` keeps the CPU for them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from pathlib import Path

from backup_scp.index.connection.migrate import upgrade
from benchmarks import distance, images, load, nodes, postgres
from benchmarks.cpu_beside import cpu_us
from benchmarks.images import CT, DR, TINY, Kind
from benchmarks.nodes import BackupSCP, Place

_WARMING = 20


def measured(running: dict[str, BackupSCP], kind: Kind, count: int) -> list[str]:
    """Store so many images on each node in turns; give a row for each: milliseconds, ratio to the first, CPU."""
    os.sync()
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in running}
    sent = {name: images.new(kind, count) for name in running}
    contexts = [(kind.sop_class, load.EXPLICIT)]
    with contextlib.ExitStack() as stack:
        open_ = {name: stack.enter_context(load.Association(node.address, contexts)) for name, node in running.items()}
        names = list(running)
        for number in range(count):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                cpu, began = cpu_us(running[name]), time.perf_counter()
                if status := open_[name].store(sent[name][number]):
                    raise SystemExit(f"{name} answered 0x{status:04X}")
                ms = (time.perf_counter() - began) * 1e3
                spent[name].append((ms, (cpu_us(running[name]) - cpu) / 1e3))
    rows, best = [], 0.0
    for name, values in spent.items():
        ms, cpu_ms = (statistics.median(column) for column in zip(*values, strict=True))
        best = best or ms
        rows.append(f"| {kind.name} | {name} | {ms:.2f} | {best / ms:.2f} | {cpu_ms:.2f} |")
    return rows


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beside", type=Path, help="the checkout of another version")
    parser.add_argument("--latency-ms", type=float, default=1.0, help="of the network to the far PostgreSQL")
    parser.add_argument("--dr", type=int, default=20)
    parser.add_argument("--ct", type=int, default=120)
    parser.add_argument("--tiny", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        running: dict[str, BackupSCP] = {}

        def start(name: str, index_url: str = "", checkout: Path | None = None) -> None:
            node = BackupSCP(Place(folder / f"node-{len(running)}", index_url=index_url, checkout=checkout))
            stack.callback(node.stop)
            running[name] = node.start()
            load.store(node.address, images.new(TINY, _WARMING))

        start("SQLite")
        versions: dict[str, Path | None] = {"": None}
        versions |= {", other version": arguments.beside} if arguments.beside else {}
        for number, (suffix, checkout) in enumerate(versions.items()):
            port = nodes.free_port()
            url = stack.enter_context(postgres.running(folder / f"database-{number}", port))
            far_port = stack.enter_context(distance.running(port, arguments.latency_ms))
            for what, at in (("PostgreSQL", port), (f"PostgreSQL, {arguments.latency_ms:g} ms away", far_port)):
                database = postgres.database(url, f"index_{at}")
                upgrade(database)
                start(f"{what}{suffix}", database.replace(f":{port}/", f":{at}/"), checkout)
        rows = ["| image | index | ms each | rate to SQLite's | CPU of the node, ms |", "|---" * 5 + "|"]
        for kind, count in ((DR, arguments.dr), (CT, arguments.ct), (TINY, arguments.tiny)):
            rows += measured(running, kind, count)
    print("", *rows, sep="\n")


if __name__ == "__main__":
    main()
