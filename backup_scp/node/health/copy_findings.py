"""Findings about further copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from backup_scp.machine.readable import count, moment
from backup_scp.node.health.finding import Finding, Severity
from backup_scp.node.settings import CopySettings, Settings
from backup_scp.ports import CopyState, CopyTrouble

_BEHIND = timedelta(days=2)
_JUST_RECEIVED = timedelta(minutes=15)
"""So long an image may lack the copies that Storage Commitment waits for."""

_AFTER_A_LOOK = "look what has changed (docs/copies.md), then  backup-scp copies sync --despite-alarm"


def copies(settings: Settings, states: Sequence[CopyState], at: datetime) -> Iterator[Finding]:
    """Report copies that are away too long, that fail, or that are behind; and images with too few copies."""
    of_name = {copy.name: [state for state in states if state.name == copy.name] for copy in settings.copy}
    for copy in settings.copy:
        yield from _one(copy, of_name[copy.name], at)
    yield from _too_few(settings, of_name, at)


def _one(copy: CopySettings, states: Sequence[CopyState], at: datetime) -> Iterator[Finding]:
    seen_at = max((state.seen_at for state in states if state.seen_at), default=None)
    trouble = next((state for state in states if state.trouble), None)
    is_alarm = trouble is not None and trouble.trouble_kind is CopyTrouble.ALARM
    is_drive = copy.url.startswith("file:")
    fix = f"backup-scp copies sync {copy.name}"
    if trouble and is_alarm:
        yield _act(copy.name, "alarm", f"Copy {copy.name}: {trouble.trouble}", _AFTER_A_LOOK)
    for alarm in sorted({state.alarm for state in states} - {""}):
        fix_it = f"afterwards  backup-scp copies verify {copy.name}"
        yield _act(copy.name, "deleted there", f"Copy {copy.name}: {alarm}", fix_it)
    if seen_at is None:
        if not is_alarm:
            why = f": {trouble.trouble}" if trouble else ""
            yield _act(copy.name, "never reached", f"Copy {copy.name} was never reached{why}", fix)
        return
    if trouble and is_alarm:
        pass  # so it is not reached, however long the drive is here
    elif copy.away_days and at - seen_at > timedelta(days=copy.away_days):
        what = "No drive of it was here" if is_drive else "It was not reached"
        why = f". {trouble.trouble}" if trouble else ""
        sentence = f"Copy {copy.name}: {what} since {moment(seen_at)}{why}"
        yield _act(copy.name, "away", sentence, "connect it" if is_drive else fix)
    elif trouble and not (is_drive and trouble.trouble_kind is CopyTrouble.AWAY):
        yield _act(copy.name, "trouble", f"Copy {copy.name}: {trouble.trouble}", fix)
    yield from _work_of(copy, states, fix, at, is_usable=trouble is None)


def _work_of(
    copy: CopySettings, states: Sequence[CopyState], fix: str, at: datetime, *, is_usable: bool
) -> Iterator[Finding]:
    """Report what fails or waits at a copy; of several drives, at the one that was here last."""
    latest = max(states, key=lambda state: str(state.seen_at or ""))
    if latest.failed:
        failed = f"Copy {copy.name}: {count(latest.failed, 'image')} failed and tried again: {latest.error}"
        yield _act(copy.name, "failed", failed, fix)
    elif latest.oldest_due and is_usable and at - latest.oldest_due > _BEHIND:
        images = count(latest.due, "image")
        behind = f"Copy {copy.name} is behind: {images} due, the oldest received {moment(latest.oldest_due)}"
        yield _note(copy.name, "behind", behind, fix)
    if latest.damaged:
        images = count(latest.damaged, "image")
        damaged = f"Copy {copy.name}: {images} found damaged or missing there; written again"
        yield _note(copy.name, "damaged", damaged, fix)


def _too_few(settings: Settings, of_name: dict[str, list[CopyState]], at: datetime) -> Iterator[Finding]:
    """Report images that fewer copies have than Storage Commitment asks for, and not only since a moment ago."""
    due = {name: min((_overdue(state, at) for state in states), default=None) for name, states in of_name.items()}
    off_site = {copy.name for copy in settings.copy if copy.is_off_site}
    for wanted, names, kind in (
        (settings.commitment.copies, list(due), ""),
        (settings.commitment.off_site_copies, [name for name in due if name in off_site], "off-site "),
    ):
        if not wanted:
            continue
        lacking = sorted(due[name] is None for name in names)[wanted - 1 : wanted]
        known = sorted(number for name in names if (number := due[name]) is not None)
        if lacking == [True]:
            never = f"Not every image is at {count(wanted, f'{kind}copy')}: one was never reached"
            yield _act(kind, "too few", never, "see above")
        elif known[wanted - 1]:
            images = count(known[wanted - 1], "image")
            fewer = f"{images} at fewer than {count(wanted, f'{kind}copy')}; Storage Commitment waits for them"
            yield _act(kind, "too few", fewer, "backup-scp copies  shows where they are due")


def _overdue(state: CopyState, at: datetime) -> int:
    """Return how many versions are due there; 0 while even the oldest of them has just been received."""
    is_new = state.oldest_due is not None and at - state.oldest_due < _JUST_RECEIVED
    return 0 if is_new else state.due


def _act(subject: str, aspect: str, sentence: str, fix: str = "") -> Finding:
    return Finding("copies", Severity.ACT, sentence, fix, aspect=aspect, subject=subject)


def _note(subject: str, aspect: str, sentence: str, fix: str = "") -> Finding:
    return Finding("copies", Severity.NOTE, sentence, fix, aspect=aspect, subject=subject)
