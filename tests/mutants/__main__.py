"""Draws mutants of the core at random, runs the tests of each, and prints those that no test noticed.

    python -m tests.mutants --most 200 [--seed N] [--module ingest.py ...]

It works on copies of the checkout.  A mutant that changes nothing that anybody could notice stands, as its line is
printed without the line's number, in `equivalent.txt`; it is not drawn.  Exit code 1 when 5 % or more survive.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mutants.changing import Mutant, places_of
from tests.mutants.core import CORE

ROOT = Path(__file__).parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.txt")
_ALLOWED_SHARE = 0.05


@dataclass(frozen=True)
class Look:
    """What a run of some tests without a mutant has shown."""

    by_line: dict[str, dict[int, set[str]]]  # by module: the tests that run each line
    seconds: dict[str, float]  # the quickest first

    def split(self, mutant: Mutant) -> tuple[list[str], list[str]]:
        """Return the tests that have run the changed function, and the others."""
        by_line = self.by_line[mutant.module]
        found = set().union(*(by_line.get(line, ()) for line in mutant.function))
        return [name for name in self.seconds if name in found], [name for name in self.seconds if name not in found]


class Copy:
    """A copy of the checkout in which one module after the other is changed.

    Parameters
    ----------
    folder
        Where it is made.
    looks
        What was seen of each file of tests, which is run without a mutant when it is needed first.
    """

    def __init__(self, folder: Path, looks: dict[str, Look]) -> None:
        self._folder = folder
        self._looks = looks
        names = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        for name in filter(None, names.stdout.decode().split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        self._changes = 0
        self._warm = subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.warm"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder), "CI": "true"},  # the same examples each time
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End the process that runs the tests."""
        self._warm.communicate()

    def killer(self, mutant: Mutant) -> str | None:
        """Return the test that fails; those that have run the changed function come first, the quickest first."""
        others = []
        for path in CORE[mutant.module]:
            reaching, rest = self._look(path).split(mutant)
            others.append((path, rest))
            if failed := self._failed(mutant, path, reaching):
                return failed
        return next(filter(None, (self._failed(mutant, path, names) for path, names in others)), None)

    def _look(self, path: str) -> Look:
        if path not in self._looks:
            modules = {str(self._folder / "backup_scp" / module): module for module in CORE if path in CORE[module]}
            without = [] if path.startswith("tests/index/") else ["-k", "not postgresql"]  # it takes 5 s to start
            found = self._run(arguments=[path, *without], limit_s=1800, record=list(modules))
            if found["code"] != 0:
                sys.exit(f"A test fails without a mutant, or none is in {path}: {found.get('failed')}")
            by_line: dict[str, dict[int, set[str]]] = {}
            for file, lines in found["lines"].items():
                by_line[modules[file]] = {int(line): set(names) for line, names in lines.items()}
            self._looks[path] = Look(by_line, dict(sorted(found["seconds"].items(), key=lambda one: one[1])))
        return self._looks[path]

    def _failed(self, mutant: Mutant, path: str, names: list[str]) -> str | None:
        """Run tests of one file on the mutant; return the first that fails."""
        if not names:
            return None
        seconds = [self._looks[path].seconds[name] for name in names]
        with self._changed(mutant):
            found = self._run(
                arguments=[path],
                limit_s=60 + 4 * sum(seconds),
                test_limit_s=20 + 4 * max(seconds),  # else a test of a thread that hangs waits for two minutes
                only=names,
            )
        return None if found["code"] == 0 else found.get("failed") or f"{path}, which gives no result"

    @contextmanager
    def _changed(self, mutant: Mutant) -> Iterator[None]:
        path = self._folder / "backup_scp" / mutant.module
        before = path.stat()
        path.write_text(mutant.changed, "utf-8")
        self._changes += 1  # a time of its own, lest the bytecode of the mutant before be taken
        os.utime(path, (self._changes, self._changes))
        try:
            yield
        finally:
            path.write_text(mutant.source, "utf-8")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def _run(self, **run: Any) -> dict[str, Any]:
        assert self._warm.stdin
        assert self._warm.stdout
        self._warm.stdin.write(json.dumps(run) + "\n")
        self._warm.stdin.flush()
        found: dict[str, Any] = json.loads(self._warm.stdout.readline())
        return found


def draw(modules: list[str], most: int, seed: int) -> list[Mutant]:
    """Draw as many of each module, in turns, as there is time for; the equivalent ones are left out."""
    equivalent = set(EQUIVALENT.read_text("utf-8").splitlines()) if EQUIVALENT.exists() else set()
    chance = random.Random(seed)
    piles = [_pile(module, equivalent, chance) for module in chance.sample(modules, len(modules))]
    drawn: list[Mutant] = []
    while len(drawn) < most and piles:
        for pile in piles.copy():
            if mutant := next(pile, None):
                drawn.append(mutant)
            else:
                piles.remove(pile)
    return drawn[:most]


def _pile(module: str, equivalent: set[str], chance: random.Random) -> Iterator[Mutant]:
    source = (ROOT / "backup_scp" / module).read_text("utf-8")
    places = places_of(source)
    chance.shuffle(places)
    for place in places:
        mutant = place.mutant(module, source)
        if mutant and _unnumbered(mutant.name) not in equivalent:
            yield mutant


def _unnumbered(name: str) -> str:
    module, rest = name.split(":", 1)
    return f"{module}  {rest.split('  ', 1)[1]}"


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=200, help="how many mutants")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--module", action="append", choices=sorted(CORE), help="only these")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    modules = options.module or sorted(CORE)
    print(f"Seed {options.seed}", flush=True)
    drawn = draw(modules, options.most, options.seed)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        looks: dict[str, Look] = {}
        copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for number in range(options.workers):
            copies.put(Copy(Path(folder) / str(number), looks))

        def survives(mutant: Mutant) -> bool:
            copy = copies.get()
            try:
                killer = copy.killer(mutant)
            finally:
                copies.put(copy)
            print(f"{'killed  ' if killer else 'SURVIVED'}  {mutant.name}  {killer or ''}", flush=True)
            return killer is None

        with ThreadPoolExecutor(options.workers) as pool:
            outcomes = list(pool.map(survives, drawn))
        for _ in range(options.workers):
            copies.get().close()
    return _tell(drawn, outcomes)


def _tell(drawn: list[Mutant], outcomes: list[bool]) -> int:
    every = Counter(mutant.module for mutant in drawn)
    survivors = [mutant for mutant, found in zip(drawn, outcomes, strict=True) if found]
    alive = Counter(mutant.module for mutant in survivors)
    print("\n| module | mutants | survived |\n|---|--:|--:|")
    for module, number in sorted(every.items()):
        print(f"| {module} | {number} | {alive[module]} |")
    print(f"| **all** | {len(drawn)} | {len(survivors)} |\n")
    for mutant in survivors:
        print(mutant.name)
    return int(len(survivors) >= _ALLOWED_SHARE * len(drawn))


if __name__ == "__main__":
    sys.exit(main())
