"""Send a node PDUs and Data Sets that nobody should send (`make fuzz`): none crashes it, stays, or takes a second.

Each input follows from the seed and its number, and what fails is printed with both: `--seed S --only KIND --first N`
does it again.
"""

from __future__ import annotations

import argparse
import gc
import logging
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Self

from tests.fuzz.live_server import LiveServer, live_server
from tests.fuzz.parsers import PARSERS
from tests.fuzz.pdu_streams import stream

_SLOWEST_S = 1.0
_MOST_GROWTH_BYTES = 64 << 20
_WARM = 2000  # inputs after which caches are full
_LOOK_EVERY = 500
_PDUS = "PDUs"


def main() -> int:
    """Run all kinds, and return 1 when anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--pdus", type=int, default=1_000_000, help="PDUs to send to a server")
    parser.add_argument("--data-sets", type=int, default=2_000_000, help="Data Sets to read")
    parser.add_argument("--others", type=int, default=200_000, help="inputs of each other kind")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--only", choices=[_PDUS, *PARSERS], help="one kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    found = 0
    if asked.only in {None, _PDUS}:
        found += _send_pdus(asked)
    for kind, read in PARSERS.items():
        if asked.only in {None, kind}:
            most = asked.data_sets if kind == "Data Sets" else asked.others
            found += _Run(kind, most, asked).each(read)
    print("Nothing found" if not found else f"{found} found")
    return int(bool(found))


def _send_pdus(asked: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="backup-scp-fuzz-") as folder, live_server(Path(folder)) as server:
        run = _Run(_PDUS, asked.pdus, asked)
        slowest_echo_s = 0.0

        def send(rng: Random) -> int:
            nonlocal slowest_echo_s
            pdus = stream(rng)
            server.send(pdus)
            if run.number % _LOOK_EVERY == 0:
                slowest_echo_s = max(slowest_echo_s, server.echo())
            return len(pdus)

        for number in range(_LOOK_EVERY):  # the index keeps its connections
            server.send(stream(Random(f"warm:{number}")))
        before = _Resources.now()
        with _Faults() as faults:
            found = run.each(send) + len(faults.said) + server.server.faults
        print(f"{_PDUS}: the slowest C-ECHO of another caller took {slowest_echo_s:.3f} s")
        found += _left(server, before)
    return found + (slowest_echo_s > _SLOWEST_S)


class _Resources:
    """Threads and open files of this process."""

    def __init__(self, threads: int, files: int) -> None:
        self.threads, self.files = threads, files

    @classmethod
    def now(cls) -> _Resources:
        return cls(
            threading.active_count(), len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0
        )


def _left(server: LiveServer, before: _Resources) -> int:
    """Return 1 when threads or files of connections stay after their end."""
    server.server.stop(_SLOWEST_S)
    now = _Resources.now()
    is_more = now.threads > before.threads or now.files > before.files
    if is_more:
        print(f"{_PDUS}: {before.threads} threads and {before.files} files before, {now.threads} and {now.files} after")
    return int(is_more)


class _Faults(logging.Handler):
    """Collects what the server logs as an error of its own."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())

    def __enter__(self) -> Self:
        logging.getLogger("backup_scp").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("backup_scp").removeHandler(self)


class _Run:
    """One kind of input, a number of times, with progress; what is found is printed with its number."""

    def __init__(self, kind: str, most: int, asked: argparse.Namespace) -> None:
        self._kind, self._most, self._seed = kind, most, asked.seed
        self.number = asked.first

    def each(self, take: Callable[[Random], int | None]) -> int:
        found, done, slowest_s, before = 0, 0, 0.0, 0
        began = time.monotonic()
        while done < self._most:
            at = time.monotonic()
            try:
                done += take(Random(f"{self._seed}:{self._kind}:{self.number}")) or 1
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault
                found += 1
                done += 1
                print(f"\n{self._again()}: {type(error).__name__}: {error}")
            took_s = time.monotonic() - at
            slowest_s = max(slowest_s, took_s)
            if took_s > _SLOWEST_S:
                found += 1
                print(f"\n{self._again()}: {took_s:.1f} s")
            if self.number % _WARM == _WARM - 1 and not before:
                gc.collect()
                before = _memory_bytes()
            if self.number % _LOOK_EVERY == 0:
                self._show(done, began)
            self.number += 1
        gc.collect()
        growth = max(0, _memory_bytes() - before) if before else 0
        print(
            f"\r{self._kind}: {done:,} in {time.monotonic() - began:.0f} s, {found} found, slowest {slowest_s:.3f} s, "
            f"memory + {growth / 1e6:.0f} MB"
        )
        return found + (growth > _MOST_GROWTH_BYTES)

    def _again(self) -> str:
        return f"{self._kind}: --seed {self._seed} --only {self._kind!r} --first {self.number}"

    def _show(self, done: int, began: float) -> None:
        if sys.stdout.isatty():
            rate = done / max(time.monotonic() - began, 1e-9)
            print(f"\r{self._kind}: {done:,} of {self._most:,}, {rate:,.0f} a second ", end="", flush=True)


def _memory_bytes() -> int:
    """Return the memory in use; the most so far where the system tells no more."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.exit(main())
