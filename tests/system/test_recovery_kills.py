"""kill -9 at any moment of a recovery, also while settings, index and marker are made: the same command goes on.

A few kills; BACKUP_SCP_TEST_KILLS=200 makes so many.  BACKUP_SCP_TEST_SEED repeats a run.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import Process, wait_until
from tests.system.node import TRACEBACK, Node
from tests.system.test_recover import NEW, SAMPLES, Clinic, files, rows

KILLS = int(os.environ.get("BACKUP_SCP_TEST_KILLS", "4"))
SEED = int(os.environ.get("BACKUP_SCP_TEST_SEED", "0")) or random.SystemRandom().getrandbits(32)
IN_A_ROW = 20


class Victim:
    """A recovery onto an empty computer, without a settings file, that is killed and begun again."""

    def __init__(self, node: Node, drive: Path, processes, draw: random.Random) -> None:
        self._node, self._draw = node, draw
        node.config = node.home / "backup-scp.toml"
        environment = node.env | {"BACKUP_SCP_NODE__PORT": str(node.port), "BACKUP_SCP_NODE__HOST": node.host}
        self._argv = [node.python, "-m", "backup_scp", "recover", str(drive), "--yes", "--throttle"]
        self.process = Process(self._argv, node.home.with_name("recover.log"), environment)
        processes.add(self.process)

    def begin(self, *arguments: str) -> None:
        self.process.argv = [*self._argv, *arguments]
        self.process.launch(lambda: True)

    def kill(self) -> str:
        """Kill it at a random moment; return how far it was."""
        home = self._node.home
        if self._draw.random() < 0.5:  # in the first second, on an empty computer
            shutil.rmtree(home, ignore_errors=True)
            names = (".", "backup-scp.toml", "index.sqlite.coming", "archive", "archive/.backup-scp-archive")
            self.begin("2")
            self._wait_for((home / self._draw.choice(names)).exists)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(self._draw.choice((0, self._draw.uniform(0, 0.3))))
        else:
            self.begin("2")
            enough = self._images() + self._draw.randrange(1, 8)
            self._wait_for(lambda: self._images() >= enough or self.is_whole)
        assert self.process.running, self.process.tail()
        self.process.kill()
        return self._state()

    def _wait_for(self, what: Callable[[], bool]) -> None:
        wait_until(lambda: not self.process.running or what(), 100)

    @property
    def is_whole(self) -> bool:
        """Whether it has said that all is back."""
        return "whole again" in self.process.output

    def _images(self) -> int:
        """Count the images that are here; folders may vanish meanwhile."""
        folders = os.walk(self._node.home / "archive")
        return sum(len(names) for folder, _, names in folders if "/." not in folder.removeprefix(str(self._node.home)))

    def _state(self) -> str:
        home = self._node.home
        there = (
            ("nothing", home.exists()),
            ("a home", self._node.config.exists()),
            ("settings", (home / "index.sqlite.coming").exists() or (home / "index.sqlite").exists()),
            ("half an index", (home / "index.sqlite").exists()),
            ("the index", self._images() > 1),  # and the marker
            ("images", self.is_whole),
        )
        return next((name for name, goes_on in there if not goes_on), "all")


@pytest.mark.timeout(300 + 20 * KILLS)
def test_kills_at_random_moments_lose_nothing(tmp_path, make_node, processes):
    print(f"BACKUP_SCP_TEST_SEED={SEED}")
    draw = random.Random(SEED)
    clinic = Clinic(tmp_path, make_node)
    clinic.copy(SAMPLES)
    clinic.copy(NEW)  # the lists alone know them
    told, before = rows(clinic.node), clinic.lose()
    met: list[str] = []
    while len(met) < KILLS:
        node = make_node(ae_title="CLINIC")
        victim = Victim(node, clinic.drive, processes, draw)
        for _ in range(min(IN_A_ROW, KILLS - len(met))):
            met.append(victim.kill())
            if victim.is_whole:
                break
        else:
            victim.begin("0", "--stop-when-done")
            assert victim.process.wait(100) == 0, victim.process.tail()
            victim.process.terminate()
        assert TRACEBACK not in victim.process.output
        assert files(node) == before
        assert rows(node) == told
        assert node.json("verify")["intact"] == len(before)
        node.cli("rebuild")
        assert rows(node) == told
        assert not [path.name for path in node.home.iterdir() if path.name.endswith((".coming", ".part", ".key"))]
    print({state: met.count(state) for state in met})
