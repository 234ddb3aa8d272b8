"""Run one attack at a time beside a modality, and see what the modality and the node's processes come to feel of it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.processes import ROOT, wait_until
from tests.system.node import TRACEBACK, Node
from tests.system.probes.target import MODALITY, MODALITY_ADDRESS, Attack, Target

MOST_GROWTH_BYTES = 64 << 20
MORE_MEMORY = {"guesses of passwords and tokens": 80 << 20}
"""Argon2id takes 64 MiB for one password, as RFC 9106 recommends it."""
_FEWEST_CYCLES = 3
_MORE_FILES, _MORE_THREADS = 24, 9  # connections of the index stay open, and spare threads wait
_MOST_OF_WEB = 110  # threads: two pools of 40, which it keeps for a while


@dataclass(frozen=True)
class Cycle:
    """One C-ECHO and one C-STORE of the modality."""

    began: float
    ended: float
    echo_s: float
    store_s: float
    error: str


class LiveModality:
    """The process of the modality, and its cycles so far."""

    def __init__(self, node: Node) -> None:
        argv = [sys.executable, "-m", "tests.system.probes.modality"]
        argv += [node.host, str(node.port), MODALITY_ADDRESS, MODALITY]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=node.env
        )
        self.cycles: list[Cycle] = []
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.cycles.append(Cycle(**json.loads(line)))

    def between(self, began: float, ended: float) -> list[Cycle]:
        """Return the cycles that have something of this time."""
        return [one for one in list(self.cycles) if one.ended > began and one.began < ended]

    def wait_for(self, count: int, since: float) -> None:
        """Wait until so many cycles began and ended since then."""

        def are_there() -> bool:
            assert self._process.poll() is None, "the modality has ended"
            return sum(one.began >= since for one in list(self.cycles)) >= count

        wait_until(are_there, 120, what="the modality's cycles")

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(120)
        self._reading.join()
        self._process.stdout.close()


@dataclass(frozen=True)
class Resources:
    """What the node's processes hold: memory and files together, threads of the first one and of the web's."""

    memory_bytes: int
    files: int
    threads: int
    of_web: int

    @classmethod
    def of(cls, pids: Sequence[int], memory: str = "VmRSS") -> Resources:
        folders = [Path(f"/proc/{pid}") for pid in pids]
        return cls(
            sum(_memory_bytes(folder, memory) for folder in folders),
            sum(len(list((folder / "fd").iterdir())) for folder in folders),
            len(list((folders[0] / "task").iterdir())),
            sum(len(list((folder / "task").iterdir())) for folder in folders[1:]),
        )


def _memory_bytes(folder: Path, name: str) -> int:
    lines = (folder / "status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def processes(node: Node) -> list[int]:
    """Return the node's first process and the one of the web."""
    children = Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text()
    return [node.pid, *map(int, children.split())]


@dataclass(frozen=True)
class Outcome:
    """What came of one attack."""

    attack: str
    cycles: Sequence[Cycle] = field(repr=False)
    waves: int
    before: Resources
    peak: Resources
    after: Resources
    said: Sequence[str]
    most_growth_bytes: int = MOST_GROWTH_BYTES

    @property
    def slowest_echo_s(self) -> float:
        return max(one.echo_s for one in self.cycles)

    @property
    def slowest_store_s(self) -> float:
        return max(one.store_s for one in self.cycles)

    @property
    def growth_bytes(self) -> int:
        return self.peak.memory_bytes - self.before.memory_bytes

    @property
    def troubles(self) -> list[str]:
        """Return what is wrong, whatever the clock says."""
        wrong = sorted({f"the modality: {one.error}" for one in self.cycles if one.error})
        if self.growth_bytes > self.most_growth_bytes:
            wrong.append(f"memory: {self.growth_bytes / 1e6:+.0f} MB")
        if not self.is_back(self.before, self.after):
            wrong.append(f"files and threads: {self.before} before, {self.after} after")
        return wrong + list(self.said)

    @staticmethod
    def is_back(before: Resources, now: Resources) -> bool:
        """Tell whether connections and their threads are gone."""
        has_few_threads = now.threads <= before.threads + _MORE_THREADS and now.of_web <= _MOST_OF_WEB
        return has_few_threads and now.files <= before.files + _MORE_FILES


class Beside:
    """A node under attack, with its modality."""

    def __init__(self, node: Node, target: Target) -> None:
        self._node, self._target = node, target
        self.modality = LiveModality(node)
        target.hold = lambda: self.modality.wait_for(_FEWEST_CYCLES, time.monotonic())

    def attack(self, name: str, attack: Attack, seconds: float = 0.0) -> Outcome:
        """Attack again and again, for so long at least, and until the modality has sent some images beside it."""
        pids = processes(self._node)
        said_before, before = len(self._node.output), Resources.of(pids)
        for pid in pids:
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
        began, waves = time.monotonic(), 0
        while True:
            attack(self._target)
            waves += 1
            now = time.monotonic()
            beside = [one for one in self.modality.between(began, now) if one.began >= began]
            if now - began >= seconds and len(beside) >= _FEWEST_CYCLES:
                break
        self.modality.wait_for(1, now)
        peak = Resources.of(pids, "VmHWM")
        after = self._afterwards(before, pids)
        cycles = self.modality.between(began, now)
        assert processes(self._node) == pids, f"{name}: a process of the node has ended"
        said = self._errors(said_before)
        return Outcome(name, cycles, waves, before, peak, after, said, MORE_MEMORY.get(name, MOST_GROWTH_BYTES))

    def _afterwards(self, before: Resources, pids: Sequence[int]) -> Resources:
        with contextlib.suppress(AssertionError):
            wait_until(lambda: Outcome.is_back(before, Resources.of(pids)), 20)
        return Resources.of(pids)

    def _errors(self, since: int) -> list[str]:
        lines = self._node.output[since:].splitlines()
        return [line for line in lines if " ERROR " in line or " CRITICAL " in line or TRACEBACK in line]

    def close(self) -> None:
        """End the modality."""
        self.modality.close()


@contextlib.contextmanager
def beside(node: Node, target: Target) -> Iterator[Beside]:
    """Let the modality send meanwhile, after it has begun."""
    running = Beside(node, target)
    try:
        running.modality.wait_for(_FEWEST_CYCLES, 0.0)
        yield running
    finally:
        running.close()


def warmed(running: Beside, attacks: Sequence[Attack]) -> None:
    """Let the node take what it keeps: threads, connections of the index, imported modules."""
    for attack in attacks:
        running.attack("warm", attack)
