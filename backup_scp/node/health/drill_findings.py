"""Findings about drills: a copy that did not come back, and one that nobody has tried for long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from backup_scp.machine.readable import count, moment
from backup_scp.node.health.finding import Finding, Severity
from backup_scp.node.settings import Settings
from backup_scp.ports import CopyState, DrillResult

_OVERDUE = 2  # times the days of the settings


def drills(
    settings: Settings, states: Sequence[CopyState], results: Sequence[DrillResult], at: datetime
) -> Iterator[Finding]:
    """Report copies whose last drill failed, and copies that were not tried for long."""
    for result in results:
        if not result.passed:
            yield _failed(result)
    every_days = settings.drill.every_days
    for copy in settings.copy if every_days else ():
        tried = [result.ended_at for result in results if result.copy == copy.name]
        since = max(
            tried, default=min((s.complete_at for s in states if s.name == copy.name and s.complete_at), default=at)
        )
        if at - since > timedelta(days=_OVERDUE * every_days):
            sentence = f"Copy {copy.name}: nobody has proved since {moment(since)} that it comes back"
            fix = f"backup-scp drill {copy.name}"
            yield Finding("drill", Severity.NOTE, sentence, fix, aspect="overdue", subject=copy.name)


def _failed(result: DrillResult) -> Finding:
    who = f"{result.copy} ({result.label})" if result.label else result.copy
    first = result.problems[0]
    image = f" image {first.sop_instance_uid}:" if first.sop_instance_uid else ""
    problems = count(result.problem_count, "problem")
    what = f"{first.kind}:{image} {first.sentence}"
    sentence = f"The drill of copy {who}, {moment(result.ended_at)}, FAILED with {problems}, such as {what}"
    commands = ("copies verify", "copies sync", "drill")
    fix = "\n".join(f"backup-scp {each} {result.copy}" for each in commands)
    return Finding("drill", Severity.ACT, sentence, fix, aspect="failed", subject=who)
