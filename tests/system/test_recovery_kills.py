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

from tests.processes import wait_until
from tests.system.node import Node
from tests.system.recovering_home import MADE_IN_TURN, RecoveringHome
from tests.system.test_recover import NEW, SAMPLES, Clinic, files, rows

KILLS = int(os.environ.get("BACKUP_SCP_TEST_KILLS", "4"))
SEED = int(os.environ.get("BACKUP_SCP_TEST_SEED", "0")) or random.SystemRandom().getrandbits(32)
IN_A_ROW = 20


class Victim(RecoveringHome):
    """A recovery that is killed, and begun again."""

    def __init__(self, node: Node, drive: Path, draw: random.Random) -> None:
        super().__init__(node, drive)
        self._draw = draw

    def kill(self) -> str:
        """Kill it at a random moment; return how far it was."""
        home = self.node.home
        if self._draw.random() < 0.5:  # in the first second, on an empty computer
            shutil.rmtree(home, ignore_errors=True)
            self.begin("--throttle", "2")
            self._wait_for((home / self._draw.choice(MADE_IN_TURN)).exists)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(self._draw.choice((0, self._draw.uniform(0, 0.3))))
        else:
            self.begin("--throttle", "2")
            enough = self.images() + self._draw.randrange(1, 8)
            self._wait_for(lambda: self.images() >= enough or self.is_whole)
        assert self.process.running, self.process.tail()
        self.process.kill()
        return self.state()

    def _wait_for(self, what: Callable[[], bool]) -> None:
        wait_until(lambda: not self.process.running or what(), 100)


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
        victim = Victim(node, clinic.drive, draw)
        processes.add(victim.process)
        for _ in range(min(IN_A_ROW, KILLS - len(met))):
            met.append(victim.kill())
            if victim.is_whole:
                break
        else:
            victim.finish()
        victim.assert_is_as_before(before, told)
        assert len(files(node)) == len(before)
    print({state: met.count(state) for state in met})
