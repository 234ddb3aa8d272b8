"""Runs tests again and again in forks of one process that has imported the libraries: a start costs 0.5 s, not 2.5 s.

Each line of the standard input is one run, as `_run` takes it; each line of the output is what it returns.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import coverage
import pytest

_LIBRARIES = (
    "cryptography",
    "hypothesis.strategies",
    "numpy",
    "pydicom",
    "pynetdicom",
    "sqlalchemy",
    "trustme",
    "xml.etree.ElementTree",
)
_OPTIONS = (
    *("-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # they are imported already
)


@dataclass
class Recorder:
    """A pytest plugin which notes the tests that run each line of these modules, and their seconds."""

    paths: list[str]
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._coverage = coverage.Coverage(data_file=None, include=self.paths, config_file=False)
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self._coverage.switch_context(item.nodeid)
        began = time.monotonic()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.monotonic() - began

    def found(self) -> dict[str, Any]:
        """Return the tests of each line, by path, and the seconds of each test."""
        self._coverage.stop()
        data = self._coverage.get_data()
        lines = {path: data.contexts_by_lineno(path) for path in self.paths}
        return {"lines": lines, "seconds": self.seconds}


@dataclass
class Chosen:
    """A pytest plugin which runs these tests, in this order, and notes the one that fails."""

    names: list[str]
    failed: str = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        place = {name: number for number, name in enumerate(self.names)}
        items[:] = sorted((item for item in items if item.nodeid in place), key=lambda item: place[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = report.nodeid


def main() -> None:
    """Serve runs until the input ends."""
    for name in _LIBRARIES:
        importlib.import_module(name)
    signal.signal(signal.SIGALRM, _time_is_up)
    for line in sys.stdin:
        print(json.dumps(_run(**json.loads(line))), flush=True)


def _time_is_up(*_: object) -> None:
    raise TimeoutError


def _run(
    arguments: list[str],
    limit_s: float,
    test_limit_s: float = 120,
    only: list[str] | None = None,
    record: list[str] | None = None,
) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _be_pytest([f"--timeout={test_limit_s:.0f}", *arguments], only, record, writing)
    os.close(writing)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        with os.fdopen(reading, "rb", closefd=True) as result:
            return json.loads(result.readline() or b'{"code": -1}')
    except TimeoutError:
        return {"code": None}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _be_pytest(arguments: list[str], only: list[str] | None, record: list[str] | None, writing: int) -> None:
    try:
        os.setsid()
        silence = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(silence, standard)
        recorder = Recorder(record) if record else None
        chosen = Chosen(only) if only else None
        plugins = [one for one in (recorder, chosen) if one]
        result: dict[str, Any] = {"code": int(pytest.main([*_OPTIONS, *arguments], plugins))}
        result |= recorder.found() if recorder else {}
        result |= {"failed": chosen.failed} if chosen else {}
        with os.fdopen(writing, "wb") as stream:
            stream.write(json.dumps(result).encode() + b"\n")
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
