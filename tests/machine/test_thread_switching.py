"""A thread that computes lets another one have its turn soon."""

from __future__ import annotations

import subprocess
import sys

_INTERVAL = """
import sys
from backup_scp.machine.thread_switching import switch_threads_often
switch_threads_often()
print(sys.getswitchinterval())
"""


def test_sixty_four_threads_that_compute_have_all_had_their_turn_in_a_twentieth_of_a_second():
    said = subprocess.run([sys.executable, "-c", _INTERVAL], capture_output=True, text=True, check=True)
    assert 0 < float(said.stdout) * 64 <= 0.05
