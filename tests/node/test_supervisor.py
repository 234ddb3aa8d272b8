"""The processes of a node: signals at any time, and the messages about a process that ended."""

from __future__ import annotations

import signal
import subprocess
import sys
from unittest.mock import Mock

import pytest

from backup_scp.errors import InvalidSettings
from backup_scp.node import supervisor
from backup_scp.node.settings import Settings
from backup_scp.node.start_report import Teller
from backup_scp.node.supervisor import _how_it_ended
from tests.processes import ROOT

# The signal comes at each line that runs while a node waits, those of the standard library included.
AT_EVERY_LINE = """
import os, signal, sys
from backup_scp.node import supervisor

def waits_through(line):
    stop, left = supervisor._StopSignal(), [line]
    def trace(frame, event, _):
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                sys.settrace(None)
                signal.raise_signal(signal.SIGTERM)
        return trace
    sys.settrace(trace)
    came = stop.wait(0.001)
    sys.settrace(None)
    if left[0] > 0:
        return False
    assert came or stop.wait(60), line
    stop.close()
    return True

line = 1
while waits_through(line):
    line += 1
print(line)
"""


def test_a_signal_ends_the_wait_whenever_it_comes():
    done = subprocess.run(
        [sys.executable, "-c", AT_EVERY_LINE], capture_output=True, text=True, timeout=100, check=True, cwd=ROOT
    )
    assert int(done.stdout) > 2, "lines that were tried"


def test_a_python_without_its_lock_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with pytest.raises(InvalidSettings, match="PYTHON_GIL=1"):
        supervisor.serve(Settings(home=tmp_path / "home"), Mock(Teller))
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("status", "words"), [(256, "with exit code 1"), (0, "with exit code 0"), (signal.SIGKILL, "by SIGKILL")]
)
def test_how_a_process_ended(status, words):
    assert _how_it_ended(status) == words
