"""Which findings are told to people who do not look, after how long, and what is said when they are over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

from backup_scp.machine.readable import count
from backup_scp.node.health.finding import Finding, Severity
from backup_scp.ports import AlarmCondition, SeenConditions

_AT_ONCE = timedelta()
_MOMENT = timedelta(minutes=2)  # a server that restarts, a drive that wakes up
_WHILE = timedelta(minutes=15)  # what often mends itself, such as a network
_HOURS = timedelta(hours=2)  # what a person may be working at just now


class _Rule(NamedTuple):
    grace: timedelta
    ended: str


_OTHERWISE = _Rule(_WHILE, "this is not so any more")
_RULES = {
    # Images are refused, or lost, or may be changed by a virus: nobody should wait.
    ("storing", ""): _Rule(_MOMENT, "images can be stored again"),
    ("node", "deaf"): _Rule(_MOMENT, "the node accepts connections again"),
    ("node", "silent"): _Rule(_MOMENT, "the node is active again"),
    ("damage", ""): _Rule(_AT_ONCE, "no image is damaged any more"),
    ("changes", ""): _Rule(_AT_ONCE, "{subject}: the changes are older than the days of [alerts]"),
    ("index", ""): _Rule(_MOMENT, "the index can be read again"),
    ("index", "rebuild"): _Rule(_AT_ONCE, "the index is complete again"),
    ("owner", ""): _Rule(_WHILE, "the node can write into all folders of the archive"),
    ("refused", "images"): _Rule(_MOMENT, "{subject}: its images are accepted, or nothing has come for 30 days"),
    ("refused", "configured"): _Rule(_WHILE, "{subject}: nothing was refused for a day, or it succeeded"),
    # Anybody may call, scanners of networks too; a technician tries several times while he enters a new console.
    ("refused", "stranger"): _Rule(_HOURS, "no unknown caller was refused for a day"),
    ("maintenance", "ended"): _Rule(_MOMENT, "the maintenance thread runs"),
    ("maintenance", "stuck"): _Rule(_AT_ONCE, "the maintenance thread makes progress again"),  # it is an hour already
    ("maintenance", "blocked"): _Rule(_WHILE, "maintenance goes on"),
    # Slow things, which a day's number decides: it may swing around its limit.
    ("disk", "low"): _Rule(_WHILE, "the archive's disk has room again"),
    ("disk", "filling"): _Rule(_HOURS, "the archive's disk will not be full within a month"),
    ("certificate", ""): _Rule(_AT_ONCE, "the certificate of {subject} can be used, and for more than 30 days"),
    ("clock", "unset"): _Rule(_MOMENT, "this computer's clock is set"),
    ("clock", "future"): _Rule(_MOMENT, "this computer's clock is right again"),
    ("commitment", ""): _Rule(_AT_ONCE, "{subject}: no Storage Commitment report waits any more"),  # a day already
    # A drive that is being changed, a cloud that does not answer for a while.
    ("copies", "alarm"): _Rule(_AT_ONCE, "copy {subject}: copying goes on"),
    ("copies", "deleted there"): _Rule(_AT_ONCE, "copy {subject}: nothing is missing there any more"),
    ("copies", "never reached"): _Rule(_HOURS, "copy {subject} is reached"),
    ("copies", "away"): _Rule(_AT_ONCE, "copy {subject} is here again"),  # away_days have passed already
    ("copies", "trouble"): _Rule(_HOURS, "copy {subject} can be used again"),
    ("copies", "failed"): _Rule(_HOURS, "copy {subject}: all images are written"),
    ("copies", "behind"): _Rule(_HOURS, "copy {subject} has caught up"),
    ("copies", "too few"): _Rule(_HOURS, "every image has the {subject}copies that Storage Commitment waits for"),
    ("drill", "overdue"): _Rule(_HOURS, "copy {subject} was proved to come back"),
    ("silent", ""): _Rule(_AT_ONCE, "{subject} sends again, or is not expected any more"),  # hours or days already
    ("recovery", ""): _Rule(_HOURS, "the archive has all images again"),
    ("audit", "not written"): _Rule(_WHILE, "the audit log can be written again"),
    ("audit", ""): _Rule(_AT_ONCE, "{subject} takes the audit log again"),  # an hour already
    ("alerts", ""): _Rule(_AT_ONCE, "every channel of [alerts] takes messages again"),  # a day already
}

_TOLD_NOTES = {("copies", "behind"), ("drill", "overdue")}
"""Nobody must act at once, but only a person can."""

_TOLD_OTHERWISE = {("drill", "failed")}
"""The result of each drill is a message of its own."""

_WITHOUT_INDEX = frozenset({"node", "maintenance", "web", "owner", "certificate", "index", "alerts", "audit"})

ALL_KINDS = frozenset(what for what, _ in _RULES)
INDEX_KINDS = ALL_KINDS - _WITHOUT_INDEX
"""Kinds that cannot be looked for while the index does not answer."""


def conditions(findings: Sequence[Finding], unknown: frozenset[str] = frozenset()) -> SeenConditions:
    """Choose what is told; unknown callers count as one, or a scanner would send a message for each name it tries.

    Parameters
    ----------
    unknown
        Kinds that could not be looked for: their alarms stay as they are.
    """
    chosen: dict[tuple[str, str, str], AlarmCondition] = {}
    strangers = [each for each in findings if each.key[:2] == ("refused", "stranger")]
    for finding in [each for each in findings if each not in strangers] + _as_one(strangers):
        if _is_told(finding):
            rule = _RULES.get(finding.key[:2], _OTHERWISE)
            ended = rule.ended.format(subject=finding.subject)
            condition = AlarmCondition(finding.key, finding.sentence, finding.fix, ended, rule.grace, finding.number)
            chosen.setdefault(finding.key, condition)
    return SeenConditions(tuple(chosen.values()), unknown)


def _is_told(finding: Finding) -> bool:
    kind = finding.key[:2]
    if kind in _TOLD_OTHERWISE:
        return False
    return finding.severity is Severity.ACT or (finding.severity is Severity.NOTE and kind in _TOLD_NOTES)


def _as_one(strangers: list[Finding]) -> list[Finding]:
    urgent = [each for each in strangers if each.severity is Severity.ACT]
    if not urgent:
        return []
    more = f" (and {count(len(urgent) - 1, 'other')})" if len(urgent) > 1 else ""
    return [replace(urgent[0], sentence=f"{urgent[0].sentence}{more}", subject="")]
