"""Facts of a node without problems, for tests to change one at a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup_scp import __version__
from backup_scp.node.health.diagnosis import findings
from backup_scp.node.health.facts import Known, NodeFacts
from backup_scp.node.health.finding import Finding, needs_a_person
from backup_scp.node.run_record import Maintenance, NodeState, RunRecord
from backup_scp.node.settings import Settings
from backup_scp.ports import Holdings
from backup_scp.watch.forecast import Forecast

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
RECORD = RunRecord(
    __version__,
    4711,
    1000,
    NOW - timedelta(days=1),
    "BACKUP_SCP",
    "192.0.2.7",
    11112,
    None,
    1,
    NOW,
    True,
    Maintenance(True, NOW),
)
HOLDINGS = Holdings(1, 1, 1, 1, 1, 1000, 0, 0, NOW - timedelta(hours=1), NOW - timedelta(hours=1), 0)
KNOWN = Known(HOLDINGS, Forecast(30, 0, None), None)
WELL = NodeFacts(Settings(home=Path("/nowhere")), NOW, NodeState(True, RECORD), [], KNOWN, "", 10**12, 0, "", [], [])


@pytest.fixture
def found():
    """Derive findings from changed facts, index facts and node records."""

    def found(known=None, record=None, **facts) -> list[Finding]:
        if known:
            facts["known"] = replace(KNOWN, **known)
        if record:
            facts["node"] = NodeState(True, replace(RECORD, **record))
        listed = findings(replace(WELL, **facts))
        assert all(finding.sentence for finding in listed)
        assert not needs_a_person(listed) or any(finding.severity == "act" for finding in listed)
        return listed

    return found
