"""Draws mutants of the core at random, runs the tests of each, and prints those that no test noticed.

    python -m tests.mutants --most 200 [--seed N] [--module ingest.py ...]

It works on copies of the checkout.  A mutant that changes nothing that anybody could notice stands, as its line is
printed without the line's number, in `equivalent.txt`; it is not drawn.  Exit code 1 when 5 % or more survive.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.changing import Mutant, mutants_of
from tests.mutants.core import CORE

ROOT = Path(__file__).parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.txt")
_ALLOWED_SHARE = 0.05
_NONE_SELECTED = 5


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

    def run(self, module: str, source: str, limit_s: float) -> str:
        """Return `passed`, `failed` or `too slow`: what the module's tests make of this source."""
        path = self._folder / "backup_scp" / module
        whole = path.read_text("utf-8")
        path.write_text(source, "utf-8")
        try:
            return self._pytest(CORE[module], limit_s)
        finally:
            path.write_text(whole, "utf-8")

    def _pytest(self, tests: tuple[str, ...], limit_s: float) -> str:
        argv = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *tests]
        environment = os.environ | {"PYTHONPATH": str(self._folder), "CI": "true"}  # the same examples each time
        process = subprocess.Popen(
            argv,
            cwd=self._folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return "too slow"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if code == _NONE_SELECTED:
            sys.exit(f"No test is in {' '.join(tests)}: correct tests/mutants/core.py")
        return "failed" if code else "passed"


def draw(modules: list[str], most: int, seed: int) -> list[Mutant]:
    """Draw as many of each module, in turns, as there is time for; the equivalent ones are left out."""
    equivalent = set(EQUIVALENT.read_text("utf-8").splitlines()) if EQUIVALENT.exists() else set()
    chance = random.Random(seed)
    piles = []
    for module in modules:
        pile = [
            one for one in mutants_of(module, ROOT / "backup_scp" / module) if _unnumbered(one.name) not in equivalent
        ]
        chance.shuffle(pile)
        piles.append(pile)
    drawn: list[Mutant] = []
    while len(drawn) < most and any(piles):
        drawn.extend(pile.pop() for pile in piles if pile)
    return drawn[:most]


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
        limits_s = {module: _limit_of(copies, module) for module in modules}
        drawn = draw(modules, options.most, options.seed)

        def outcome(mutant: Mutant) -> str:
            copy = copies.get()
            try:
                found = copy.run(mutant.module, mutant.changed, limits_s[mutant.module])
            finally:
                copies.put(copy)
            print(f"{'SURVIVED' if found == 'passed' else 'killed  '}  {mutant.name}", flush=True)
            return found

        with ThreadPoolExecutor(options.workers) as pool:
            outcomes = list(pool.map(outcome, drawn))
    return _tell(drawn, outcomes)


def _limit_of(copies: queue.SimpleQueue[Copy], module: str) -> float:
    """Run the tests on the module as it is; return the seconds after which a mutant's are too slow."""
    copy = copies.get()
    began = time.monotonic()
    if copy.run(module, (ROOT / "backup_scp" / module).read_text("utf-8"), 600) != "passed":
        sys.exit(f"The tests of {module} fail without a mutant")
    copies.put(copy)
    return 60 + 4 * (time.monotonic() - began)


def _tell(drawn: list[Mutant], outcomes: list[str]) -> int:
    every = Counter(mutant.module for mutant in drawn)
    survivors = [mutant for mutant, found in zip(drawn, outcomes, strict=True) if found == "passed"]
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
