"""The report of what came from another PACS: what is missing has its patient and study."""

from __future__ import annotations

from backup_scp.node.recovery_report import report_of_pull
from backup_scp.services.pull_result import MissingStudy, Pulled


def test_missing_studies_are_named_with_their_patient():
    missing = [MissingStudy("1.2.3", "20260131", 4, "It does not send them", "P1"), MissingStudy("1.2.4", "", 1, "Why")]
    report = report_of_pull(Pulled("pacs", studies=3, complete=1, missing=5, incomplete=missing))
    assert report.problems == (
        "4 images of patient P1, study 1.2.3 of 20260131: It does not send them",
        "1 images of patient unknown, study 1.2.4 of no date: Why",
    )
    assert (report.is_complete, report.missing_count, report.missing) == (False, 5, {"1.2.3": 4, "1.2.4": 1})
