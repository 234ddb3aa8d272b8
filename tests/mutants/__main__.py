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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.mutants.changing import Mutant, places_of
from tests.mutants.core import CORE

ROOT = Path(__file__).parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.txt")
_ALLOWED_SHARE = 0.05
T = TypeVar("T")


@dataclass(frozen=True)
class Known:
    """What a run of a module's tests without a mutant has shown."""

    by_line: dict[int, set[str]]
    seconds: dict[str, float]  # the quickest first

    def split(self, lines: range) -> tuple[list[str], list[str]]:
        """Return the tests that have run one of these lines, and the others."""
        found = set().union(*(self.by_line.get(line, ()) for line in lines))
        return [name for name in self.seconds if name in found], [name for name in self.seconds if name not in found]


class Copy:
    """A copy of the checkout in which one module after the other is changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
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

    def look_at(self, module: str) -> Known:
        """Run the module's tests as it is."""
        found = self._run(paths=CORE[module], limit_s=1800, record=str(self._folder / "backup_scp" / module))
        if found["code"] != 0:
            sys.exit(f"The tests of {module} fail without a mutant, or none is in {' '.join(CORE[module])}")
        by_line = {int(line): set(names) for line, names in found["lines"].items()}
        return Known(by_line, dict(sorted(found["seconds"].items(), key=lambda one: one[1])))

    def survives(self, mutant: Mutant, known: Known) -> bool:
        """Tell whether the module's tests pass: first those that reach the changed function, the quickest first."""
        path = self._folder / "backup_scp" / mutant.module
        before = path.stat()
        path.write_text(mutant.changed, "utf-8")
        self._changes += 1  # a time of its own, lest the bytecode of the mutant before be taken
        os.utime(path, (self._changes, self._changes))
        try:
            return all(self._pass(names, known) for names in known.split(mutant.function) if names)
        finally:
            path.write_text(mutant.source, "utf-8")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def _pass(self, names: list[str], known: Known) -> bool:
        seconds = [known.seconds[name] for name in names]
        found = self._run(
            paths=list(dict.fromkeys(name.partition("::")[0] for name in names)),
            limit_s=60 + 4 * sum(seconds),
            test_limit_s=20 + 4 * max(seconds),  # else a test of a thread that hangs waits for two minutes
            only=names,
        )
        return bool(found["code"] == 0)

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
    piles = [_pile(module, equivalent, chance) for module in modules]
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
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for number in range(options.workers):
            copies.put(Copy(Path(folder) / str(number)))
        drawn = draw(modules, options.most, options.seed)

        def with_copy(work: Callable[[Copy], T]) -> T:
            copy = copies.get()
            try:
                return work(copy)
            finally:
                copies.put(copy)

        def survives(mutant: Mutant) -> bool:
            found = with_copy(lambda copy: copy.survives(mutant, known[mutant.module]))
            print(f"{'SURVIVED' if found else 'killed  '}  {mutant.name}", flush=True)
            return found

        with ThreadPoolExecutor(options.workers) as pool:
            seen = pool.map(lambda module: with_copy(lambda copy: copy.look_at(module)), modules)
            known = dict(zip(modules, seen, strict=True))
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
