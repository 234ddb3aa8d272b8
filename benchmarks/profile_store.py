"""Where the time of one C-STORE goes on one association: own time of each thread by place, and calls of the system.

Three runs each: as it is, for the time to be explained; with a profile of each thread, whose own cost is in its
figures; and, where strace is there, with the calls of the system counted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from benchmarks import growth, images, load
from benchmarks.images import CT, DR, TINY, Kind
from benchmarks.nodes import BackupSCP, Place

_KINDS = {kind.name.lower(): kind for kind in (DR, CT, TINY)}
_COUNTS = {DR: 60, CT: 600, TINY: 3000}
_TRACED = {DR: 20, CT: 100, TINY: 300}
_SERVING, _DIGEST = "association", "digest"
_LEAST_US = 5.0
_CALL = re.compile(r"^ *[\d.]+ +([\d.]+) +[\d.]+ +(\d+) +(?:\d+ +)?(\w+)$", re.MULTILINE)

# The first that fits names the place; what Python calls in C stands under its own name there.
_PLACES = (
    (r"posix\.f(?:data)?sync|_syncfs", "fsync of the file or the journal: waiting"),
    (r"sqlite3\.", "SQLite: statements and commit, with its flush"),
    (r"psycopg", "PostgreSQL's driver"),
    (r"recv|select\.poll|_ssl.*read", "receiving, and waiting for the sender"),
    (r"send", "sending the answer"),
    (r"_hashlib|_sha|openssl_sha", "SHA-256"),
    (r"posix\.p?writev?\b", "write of the file"),
    (r"posix\.|_io\.", "other calls of the system: open, link, unlink, mkdir, stat"),
    (r"lock|_queue", "waiting for another thread, and for Python's lock"),
    (r"backup_scp/(network|ingest|archive|index|data_set|[a-z0-9_]+)", r"Python: \1"),
    (r"site-packages/(pydicom|pynetdicom|sqlalchemy|msgspec)", r"Python: \1"),
    (r"/", "Python: its own library"),
    (r"", "built-in functions of Python"),
)


class _Profiled(BackupSCP):
    """The node with a profile of each thread."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.profile = place.folder.with_suffix(".json")

    def argv(self) -> list[str]:
        """Give the command that starts it."""
        return [sys.executable, "-m", "benchmarks.profiled_node", "serve"]

    def environment(self) -> dict[str, str]:
        """Give its settings, and where the profile goes."""
        return {
            **super().environment(),
            "BENCHMARK_PROFILE": str(self.profile),
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }


def place_of(where: str) -> str:
    """Give the place that a function's file, or name in C, belongs to."""
    for pattern, place in _PLACES:
        if found := re.search(pattern, where):
            return found.expand(place)
    raise AssertionError(where)


def as_it_is(folder: Path, kind: Kind) -> float:
    """Give the microseconds of one C-STORE, nobody looking, and print what they cost in CPU."""
    node = BackupSCP(Place(folder / "plain"))
    try:
        node.start()
        growth.cost(node, kind, max(2, _COUNTS[kind] // 10))
        spent = growth.cost(node, kind, _COUNTS[kind])
    finally:
        node.stop()
    wall_us = 1e6 / spent.sent.rate
    cpu_us, sender_us = spent.server_ms * 1e3, spent.sent.cpu_s / spent.sent.instances * 1e6
    print(f"\n{kind.name}: {wall_us:,.0f} µs; the node's CPU {cpu_us:,.0f} µs, the sender's {sender_us:,.0f} µs\n")
    return wall_us


def by_place(folder: Path, kind: Kind, wall_us: float) -> None:
    """Print own time by place, of the thread that serves and of the one that digests beside it."""
    node = _Profiled(Place(folder / "profiled"))
    try:
        node.start()
        load.store(node.address, images.new(kind, _COUNTS[kind]))
    finally:
        node.stop()
    spent: dict[str, dict[str, float]] = {_SERVING: defaultdict(float), _DIGEST: defaultdict(float)}
    calls: dict[str, int] = defaultdict(int)
    for thread, where, count, seconds in json.loads(node.profile.read_text()):
        if thread in spent:
            spent[thread][place_of(where)] += seconds / _COUNTS[kind] * 1e6
        if thread == _SERVING:
            calls[place_of(where)] += count
    seen = sum(spent[_SERVING].values())
    head = f"{kind.name}: where, of {seen:,.0f} µs under the profiler ({wall_us:,.0f} without)"
    print(f"| {head} | µs | share | calls | beside it, µs |\n|---|---|---|---|---|")
    for place, us in sorted(spent[_SERVING].items(), key=lambda item: -item[1]):
        beside = spent[_DIGEST].get(place, 0.0)
        if us >= _LEAST_US:
            shown = f"{beside:,.0f}" if beside >= _LEAST_US else ""
            print(f"| {place} | {us:,.0f} | {us / seen:.0%} | {calls[place] / _COUNTS[kind]:.0f} | {shown} |")


def by_call(folder: Path, kind: Kind) -> None:
    """Print the calls of the system, and how long they took, by strace."""
    node, said = BackupSCP(Place(folder / "traced")), folder / "calls"
    try:
        node.start()
        load.store(node.address, images.new(kind, 20))
        argv = ["strace", "-f", "-c", "-w", "-o", str(said), "-p", str(node.pid)]
        tracer = subprocess.Popen(argv, stderr=subprocess.DEVNULL)  # noqa: S603
        while f"TracerPid:\t{tracer.pid}" not in Path(f"/proc/{node.pid}/status").read_text(encoding="utf-8"):
            time.sleep(0.01)
        load.store(node.address, images.new(kind, _TRACED[kind]))
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
    finally:
        node.stop()
    print(f"\n| {kind.name}: call of the system, under strace | calls an instance | µs an instance |\n|---|---|---|")
    for seconds, count, call in _CALL.findall(said.read_text()):
        us = float(seconds) / _TRACED[kind] * 1e6
        if us >= _LEAST_US and call not in {"futex", "poll", "total", "accept4", "restart_syscall"}:
            print(f"| {call} | {int(count) / _TRACED[kind]:.1f} | {us:,.0f} |")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=["dr", "tiny"], help="dr ct tiny")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure")
    arguments = parser.parse_args()
    for name in arguments.kinds:
        if name not in _KINDS:
            parser.error(f"no such kind: {name}")
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            os.sync()
            kind = _KINDS[name]
            by_place(Path(folder), kind, as_it_is(Path(folder), kind))
            if shutil.which("strace"):
                by_call(Path(folder), kind)


if __name__ == "__main__":
    main()
