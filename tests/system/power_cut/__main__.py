"""`python -m tests.system.power_cut`: as root; see --help."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from tests.processes import ROOT
from tests.system.power_cut import recovery
from tests.system.power_cut.crash_points import CrashPoints, Points, Recording
from tests.system.power_cut.cutting import INDEXES, Cutting, Result
from tests.system.power_cut.others import SERVERS, OtherResult, cut_power_of
from tests.system.power_cut.shutdowns import Shutdowns, shut_down
from tests.system.power_cut.volume import FILE_SYSTEMS, run

LOGGED = {"sqlite": ("sqlite", "sqlite apart"), "postgresql": ("postgresql",)}
Row = TypeVar("Row", bound=Result | Points)
LEFT_OUT = ("wait", "files", "drive", "return")
"""The wait before the answer, the files of a checkpoint, a further copy, or what comes back from one: see
unflushed/sitecustomize.py."""
PRIVATE = "BACKUP_SCP_POWER_CUT_PRIVATE"


def main() -> int:
    options = _options()
    if os.environ.pop(PRIVATE, "") != "1":
        _go_into_namespaces_of_its_own()
    with tempfile.TemporaryDirectory(prefix="backup-scp-power-cut-") as folder:
        work = Path(folder)
        run("mount", "-t", "tmpfs", "-o", "mode=0711", "none", work)
        try:
            return _run(options, work)
        finally:
            run("umount", "--lazy", work)


def _go_into_namespaces_of_its_own() -> NoReturn:
    """Run this program again in namespaces of its own, so that its mounts are private and its processes end with it."""
    if os.geteuid():
        sys.exit("A power cut needs root, to mount file systems on loop devices: sudo make test-power")
    unshare = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    argv = [*unshare, sys.executable, "-m", "tests.system.power_cut", *sys.argv[1:]]
    os.execvpe(argv[0], argv, os.environ | {PRIVATE: "1"})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.system.power_cut", description=__doc__)
    parser.add_argument("--cycles", type=int, default=0, help="power cuts at random moments, over all rows")
    parser.add_argument("--file-system", nargs="+", choices=FILE_SYSTEMS, default=list(FILE_SYSTEMS))
    parser.add_argument("--index", nargs="+", choices=INDEXES, default=list(INDEXES))
    parser.add_argument("--associations", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--points", type=int, default=0, help="crash points of block logs, over all rows")
    parser.add_argument("--instances", type=int, default=40, help="C-STOREs in a block log")
    parser.add_argument("--drive", action="store_true", help="fill a drive on a volume of its own meanwhile")
    parser.add_argument("--recovery", action="store_true", help="of a home that is being recovered from a drive")
    parser.add_argument("--peers", type=int, default=0, help="power cuts of Orthanc, storescp and dcmqrscp, each")
    parser.add_argument("--shutdowns", type=int, default=0, help="shutdowns of each file system with no node on it")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--without-fsync", action="store_true", help="preload libeatmydata: losses are to be found")
    parser.add_argument("--left-out", choices=LEFT_OUT, help="leave out one flush: losses are to be found")
    parser.add_argument("--json", action="store_true", help="a line for each row, for a program")
    return parser.parse_args()


def _run(options: argparse.Namespace, work: Path) -> int:
    print(f"seed {options.seed}", file=sys.stderr)
    sites = list(itertools.product(options.file_system, options.index))
    env = {"LD_PRELOAD": "libeatmydata.so"} if options.without_fsync else {}
    if options.left_out:
        env["PYTHONPATH"] = os.pathsep.join(map(str, (Path(__file__).with_name("unflushed"), ROOT)))
        env["BACKUP_SCP_TEST_LEFT_OUT"] = options.left_out
    if options.recovery:
        recovered = recovery.run(work, options.file_system, options.cycles, options.points, options.seed, env)
        rows_of_it = [each for row in recovered for each in _told([row])]
        _print(rows_of_it, as_json=options.json, has_drive=False)
        return 0 if all(row.is_clean for row in rows_of_it) else 1
    rows: list[Result] = []
    for number, (file_system, index) in enumerate(sites if options.cycles else []):
        cycles = options.cycles * (number + 1) // len(sites) - options.cycles * number // len(sites)
        cutting = Cutting(work, file_system, index, options.associations, options.seed, env, has_drive=options.drive)
        rows += _told(cutting.run(cycles))
    points = _crash_points(options, work, env) if options.points else []
    others = [
        cut_power_of(name, file_system, work, options.peers, options.seed)
        for name, file_system in itertools.product(SERVERS if options.peers else (), options.file_system)
    ]
    tool = [
        shut_down(file_system, work, options.shutdowns, options.seed)
        for file_system in (options.file_system if options.shutdowns else [])
    ]
    _print([*rows, *points, *others, *tool], as_json=options.json, has_drive=options.drive)
    judged: list[Result | Points | Shutdowns] = [*rows, *points, *tool]
    return 0 if all(row.is_clean for row in judged) else 1


def _crash_points(options: argparse.Namespace, work: Path, env: dict[str, str]) -> list[Points]:
    indexes = [logged for index in options.index for logged in LOGGED[index]]
    runs = list(itertools.product(options.file_system, indexes, options.associations))
    rows = []
    for number, run_of in enumerate(runs):
        points = Points(*run_of)
        recording = Recording(work, points, options.seed, env, has_drive=options.drive)
        recording.run(options.instances)
        count = options.points * (number + 1) // len(runs) - options.points * number // len(runs)
        rows += _told([CrashPoints(recording, work, points, options.seed).run(count)])
    return rows


def _told(rows: list[Row]) -> list[Row]:
    """Say how far it is: the whole takes an hour."""
    for row in rows:
        print(row, file=sys.stderr, flush=True)
    return rows


def _print(rows: Sequence[Result | Points | OtherResult | Shutdowns], *, as_json: bool, has_drive: bool) -> None:
    tables = [dataclasses.asdict(row) for row in rows]
    if as_json:
        print(json.dumps(tables), flush=True)
        return
    columns: list[str] = []
    for row in tables:
        troubles = row.pop("troubles", [])
        drive = row.pop("drive", {})
        if has_drive:
            row.update(drive)
        if columns != list(row):
            columns = list(row)
            print(f"\n| {' | '.join(columns).replace('_', ' ')} |", "|---" * len(columns) + "|", sep="\n")
        print(f"| {' | '.join(map(str, row.values()))} |")
        for trouble in troubles:
            print(trouble, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
