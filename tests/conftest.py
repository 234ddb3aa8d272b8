"""Fixtures for every test, and the rule that nothing is skipped silently in CI."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.clock import Clock
from tests.postgres import postgres_database, postgres_server
from tests.processes import Processes, outside_virtual_environments

SYSTEM_TESTS = Path(__file__).parent / "system"
PROCESSES = pytest.StashKey[Processes]()

# pynetdicom installs programs that are called like those of dcmtk: an activated environment would offer them first.
os.environ["PATH"] = outside_virtual_environments(os.environ.get("PATH", os.defpath))

# What runs in the background of a shell inherits that Ctrl-C is ignored, and so would all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: the machine is shared.  In CI the same examples each time.
hypothesis.settings.register_profile("backup-scp", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("backup-scp")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark what lies in `system/` before pytest selects by mark; run the unit tests first, whatever order was drawn."""
    for item in items:
        if item.path.is_relative_to(SYSTEM_TESTS):
            item.add_marker(pytest.mark.system)
    yield
    items.sort(key=lambda item: item.get_closest_marker("system") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Show what the processes printed when a test fails; in CI a system test that is skipped has failed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") and _needs_peers(item):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: a system test may not be skipped in CI: {reason}"
    if report.failed and PROCESSES in item.stash:
        report.sections.extend((f"last lines of {name}", tail) for name, tail in item.stash[PROCESSES].tails())
    return report


def _needs_peers(item: pytest.Item) -> bool:
    return item.get_closest_marker("system") is not None or "postgres_url" in getattr(item, "fixturenames", ())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give the clock that everything in this process goes by, in place of the system's."""
    own = Clock()
    monkeypatch.setattr("backup_scp.machine.clock.source", own)
    return own


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    """Yield a PostgreSQL server: BACKUP_SCP_TEST_POSTGRES, else a private one from the installed binaries."""
    with postgres_server() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server_url: str) -> Iterator[str]:
    """Yield a fresh database."""
    with postgres_database(postgres_server_url) as url:
        yield url


@pytest.fixture
def processes(request: pytest.FixtureRequest) -> Iterator[Processes]:
    """Yield the test's own processes, ended with the test."""
    own = request.node.stash[PROCESSES] = Processes()
    yield own
    own.close()
