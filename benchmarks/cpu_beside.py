"""Compare the CPU time of this node with that of another version, in turns, both running: ``--beside CHECKOUT``.

On a machine that does other work the wall clock says little, and CPU time varies, too.  So each round measures both
versions one after the other, the second round the other way round, and what counts is the median of the rounds' ratios.
On a quiet machine ``--wall`` compares the time that passes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import images, load
from benchmarks.images import CT, DR, TINY, Kind
from benchmarks.nodes import BackupSCP, Place

_KINDS = {kind.name: kind for kind in (DR, CT, TINY)}
_COUNTS = {DR: 6, CT: 40, TINY: 120}
_ECHOES, _FINDS = 60, 10
_WARMING = 40
_TOGETHER = {", four": 4, ", eight": 8}
_WAYS = ("", ", one each", *_TOGETHER)
_MEASURES = (*(f"{name}{way}" for name in _KINDS for way in _WAYS), "get CT", "get DR", "echo", "find", "start")

Nodes = dict[str, BackupSCP]


def cpu_us(node: BackupSCP) -> float:
    """Return the CPU microseconds of a node's first process, ended threads included."""
    return time.clock_gettime((~node.pid << 3) | 2) * 1e6  # the clock of another process, as clock_getcpuclockid(3)


def wall_us(_: BackupSCP) -> float:
    """Return the microseconds of a clock on the wall."""
    return time.perf_counter() * 1e6


def work(measure: str) -> tuple[int, Callable[[BackupSCP], object]]:
    """Give how often a measure does its work in a round, and the work."""
    name, comma, how = measure.partition(", ")
    if measure == "echo":
        return _ECHOES, lambda node: load.associate(node.address, _ECHOES)
    if measure.startswith("get "):
        wanted = _one_study(_KINDS[measure.removeprefix("get ")])
        return len(wanted), lambda node: _get_back(node, wanted)
    if measure == "find":
        return _FINDS, lambda node: [load.find_all(node.address) for _ in range(_FINDS)]
    kind = _KINDS[name]
    associations = _TOGETHER.get(f"{comma}{how}", 1)
    sent = _COUNTS[kind] * associations
    return sent, lambda node: load.store(node.address, images.new(kind, sent), associations, one_each=how == "one each")


def _one_study(kind: Kind) -> list[images.Instance]:
    return images.new(kind, _COUNTS[kind])


def _get_back(node: BackupSCP, wanted: list[images.Instance]) -> None:
    """Retrieve by C-GET what the node was sent the first time that it is asked for it."""
    studies = dict.fromkeys(instance.study for instance in wanted)
    came, _ = load.retrieve(node.address, "C-GET", wanted[0].sop_class, studies)
    if came != len(wanted):
        load.store(node.address, wanted)
        os.sync()


def compared(measure: str, of_round: Callable[[int], dict[str, float]], rounds: int) -> str:
    """Measure in turns; give a row: medians, and the median of the ratios with its quartiles."""
    found = [of_round(number) for number in range(rounds)]
    ours, theirs = ([values[column] for values in found] for column in ("this", "other"))
    ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    least = min(ours) / min(theirs)
    row = f"| {measure} | {statistics.median(theirs):,.0f} | {statistics.median(ours):,.0f} "
    row += f"| {middle:.3f} ({low:.3f} to {high:.3f}) | {least:.3f} |"
    print(row, flush=True)
    return row


def in_turns(nodes: Nodes, measure: str, spent_us: Callable[[BackupSCP], float]) -> Callable[[int], dict[str, float]]:
    """Give what measures a round, each node in its turn."""
    count, do = work(measure)
    for node in nodes.values():
        do(node)  # what the first time alone costs is no measure

    def of_round(number: int) -> dict[str, float]:
        spent = {}
        for column, node in list(nodes.items())[:: -1 if number % 2 else 1]:
            before = spent_us(node)
            do(node)
            spent[column] = (spent_us(node) - before) / count
        return spent

    return of_round


def starts(folder: Path, checkouts: dict[str, Path | None], *, wall: bool) -> Callable[[int], dict[str, float]]:
    """Give what measures the CPU of a start on an archive that is there already."""

    def of_round(number: int) -> dict[str, float]:
        spent = {}
        for column, checkout in list(checkouts.items())[:: -1 if number % 2 else 1]:
            node = BackupSCP(Place(folder / f"{column}-start-{number}", checkout=checkout))
            try:
                node.start()
                spent[column] = node.started_s * 1e6 if wall else cpu_us(node)
            finally:
                node.stop()
        return spent

    return of_round


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beside", type=Path, required=True, help="the checkout of another version")
    parser.add_argument("--wall", action="store_true", help="compare the time that passes")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure")
    parser.add_argument("measures", nargs="*", default=_MEASURES, help=f"of {', '.join(_MEASURES)}")
    arguments = parser.parse_args()
    if unknown := set(arguments.measures) - set(_MEASURES):
        parser.error(f"no such measure: {', '.join(sorted(unknown))}; there are {', '.join(_MEASURES)}")
    checkouts = {"this": None, "other": arguments.beside}
    what, spent_us = ("time that passes", wall_us) if arguments.wall else ("CPU of the node", cpu_us)
    rows = [f"| {what} | the other, us | this, us | ratio (quartiles) | ratio of the least |", "|---" * 5 + "|"]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        nodes = {column: BackupSCP(Place(folder / column, checkout=checkout)) for column, checkout in checkouts.items()}
        try:
            for node in nodes.values():
                node.start()
                load.store(node.address, images.new(TINY, _WARMING))
            os.sync()
            for measure in arguments.measures:
                of_round = (
                    starts(folder, checkouts, wall=arguments.wall)
                    if measure == "start"
                    else in_turns(nodes, measure, spent_us)
                )
                rows.append(compared(measure, of_round, arguments.rounds))
        finally:
            for node in nodes.values():
                node.stop()
    print("", *rows, sep="\n")


if __name__ == "__main__":
    main()
