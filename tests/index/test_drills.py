"""Results of drills, on both engines: kept, also through a snapshot and a rebuild."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from backup_scp.index.connection.migrate import upgrade
from backup_scp.index.schema.tables import drill
from backup_scp.index.sql_index import SQLIndex
from backup_scp.ports import DrillKind, DrillProblem, DrillResult
from tests.index.conftest import opened
from tests.index.examples import MORNING

PROBLEM = DrillProblem(DrillKind.SWAPPED, "1.2.3", "another image of the archive is in its place")
PASSED = DrillResult("drive", MORNING, MORNING + timedelta(minutes=1), True, medium="a" * 32, label="blue")
FAILED = replace(PASSED, passed=False, problems=(PROBLEM,), problem_count=1, everything_s=12.5, unproven=("Pixels",))


@pytest.fixture
def index(url):
    with opened(url) as index:
        yield index


def test_the_last_result_of_each_drive_is_told(index):
    assert index.drills.latest() == []
    red = replace(PASSED, medium="b" * 32, label="red")
    for result in (PASSED, red, FAILED):
        index.drills.record(result)
    assert index.drills.latest() == [red, FAILED]


def test_a_result_of_a_later_release_is_left_out(index):
    index.drills.record(FAILED)
    with index._database.writing("a later release") as connection:
        connection.execute(sa.update(drill).values(result=sa.func.replace(drill.c.result, "swapped", "melted")))
    assert index.drills.latest() == []


def test_since_when_not_all_images_were_tried(index):
    assert index.drills.not_full_since("drive", PASSED.medium) is None
    days = [replace(PASSED, ended_at=MORNING + timedelta(days=day), is_full=day == 2) for day in range(4)]
    for result, since in zip(days, (0, 0, 2, 2), strict=True):
        index.drills.record(result)
        assert index.drills.not_full_since("drive", PASSED.medium) == days[since].ended_at
    assert index.drills.not_full_since("drive", "") is None


def test_a_snapshot_has_them(index, tmp_path):
    index.drills.record(FAILED)
    index.snapshot(tmp_path / "copy.sqlite")
    url = f"sqlite:///{tmp_path / 'copy.sqlite'}"
    upgrade(url)
    copied = SQLIndex(url)
    assert copied.drills.latest() == [FAILED]
    copied.close()
