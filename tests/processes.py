"""Real processes for the tests: started, waited for by their effects, ended by their own id."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[1]
LOOPBACK = "127.0.0.1"

_FIRST_PORT = 15_000
_given: set[int] = set()
_any = random.SystemRandom()  # it draws nothing from the seeded numbers of a test


def wait_until(predicate: Callable[[], T], timeout_s: float = 30.0, *, what: str = "") -> T:
    """Ask until the answer is true, and return it; the one place where a test waits."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not (answer := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or predicate} did not come true in {timeout_s:g} s")
        pause.wait(0.02)
    return answer


def outside_virtual_environments(path: str) -> str:
    """Return a PATH without the folders of Python's virtual environments."""
    folders = path.split(os.pathsep)
    return os.pathsep.join(folder for folder in folders if not (Path(folder).parent / "pyvenv.cfg").is_file())


def free_port() -> int:
    """Return a port that is free, never the same one twice.

    It lies below those that the system gives to connections: one of these would take it while a node starts again.
    Each worker of the tests has ports of its own.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    known = Path("/proc/sys/net/ipv4/ip_local_port_range")
    end = int(known.read_text().split()[0]) if known.exists() else 32768
    while True:
        port = _any.randrange(_FIRST_PORT + worker, end, workers)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            if port not in _given:
                _given.add(port)
                return port


def connects(port: int, host: str = LOOPBACK) -> bool:
    """Tell whether something listens."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5):
        return True
    return False


def clean_environment(**more: str) -> dict[str, str]:
    """Return this environment without settings of backup-scp, and with Nagle's algorithm off in dcmtk and Orthanc.

    dcmtk leaves it on and writes an answer in two pieces: each would wait 40 ms for the peer's delayed ACK.
    """
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("BACKUP_SCP_")}
    # Set and empty: not the settings file of this machine either.  DICOMweb only in the tests of it.
    ours = {"BACKUP_SCP_CONFIG": "", "BACKUP_SCP_WEB__ENABLED": "false"}
    return inherited | ours | {"TCP_NODELAY": "1", "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"} | more


def peer_missing(name: str, target: str = "peers") -> None:
    """Skip what needs this peer; in CI a missing peer is a failure."""
    sentence = f"{name} is not installed; `make {target}` installs it"
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)


class Process:
    """One process in a group of its own, its output in a file."""

    def __init__(
        self, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None, user: int | None = None
    ) -> None:
        self.argv = list(argv)
        self.log = log
        self.env = dict(env or clean_environment())
        self.user = user
        self._popen: subprocess.Popen[bytes] | None = None
        self._ended_by_test = True

    @property
    def pid(self) -> int:
        assert self._popen is not None, "not started"
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def output(self) -> str:
        """Everything that it has printed, over all its starts."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.output.splitlines()[-lines:])

    def launch(self, ready: Callable[[], object], timeout_s: float = 60.0) -> None:
        """Start it, and return when `ready` says so."""
        assert not self.running, "already running"
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.env,
                cwd=self.log.parent,
                start_new_session=True,
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
            )
        self._ended_by_test = False
        wait_until(lambda: not self.running or ready(), timeout_s, what=f"{Path(self.argv[0]).name} being ready")
        assert self.running, f"{self.argv} ended with {self._popen.returncode}:\n{self.tail()}"

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = 60.0) -> int:
        """Wait for its end and return its exit code."""
        assert self._popen is not None, "not started"
        return self._popen.wait(timeout_s)

    def terminate(self, timeout_s: float = 60.0) -> int:
        """Send SIGTERM and return the exit code."""
        self._ended_by_test = True
        if self.running:
            self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL: no time to say anything."""
        self._ended_by_test = True
        if self.running:
            self.signal(signal.SIGKILL)
            self.wait()

    def close(self) -> None:
        """End it and whatever it has forked; say so if it had ended by itself."""
        if self._popen is None:
            return
        died = not self.running and not self._ended_by_test
        self.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        assert not died, f"{self.argv} ended by itself with {self._popen.returncode}:\n{self.tail()}"


class Processes:
    """The processes of one test; the reports show their output when it fails."""

    def __init__(self) -> None:
        self._all: list[Process] = []

    def add(self, process: Process) -> None:
        self._all.append(process)

    def tails(self) -> Iterator[tuple[str, str]]:
        for process in self._all:
            yield process.log.name, process.tail()

    def close(self) -> None:
        """End all, the latest first, and raise what the first of them has to say."""
        with contextlib.ExitStack() as stack:
            for process in self._all:
                stack.callback(process.close)
