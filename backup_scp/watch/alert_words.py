"""Put alarms and results of drills into words, without what could name an image or a patient."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from backup_scp.machine.readable import count, duration, moment, size
from backup_scp.ports import Alert, DrillResult
from backup_scp.watch.alert_state import Alarm, ToldAlarm

REMINDED = timedelta(days=7)
"""After so long an alarm that lasts is told again."""

WORSE = timedelta(days=1)
"""After so long it is told again when its number has grown."""

_MOST = 20  # in one message
_LONGEST_SUBJECT = 140
_UID = re.compile(r"(?<![\w.])\d+(?:\.\d+){4,}(?!\w)")
_PERSON_NAME = re.compile(r"\S*\^\S*")


class Step(StrEnum):
    """What is told of an alarm."""

    BEGINS = "begins"
    LASTS = "lasts"
    ENDS = "ends"
    WAS = "was"  # it began and ended while the channel took nothing
    HAPPENED = "happened"


class News(NamedTuple):
    """One alarm, and what is told of it."""

    alarm: Alarm
    step: Step


def news_for(channel: str, alarms: Sequence[Alarm], now: datetime) -> list[News]:
    """List what a channel was not told yet."""
    return [News(alarm, step) for alarm in alarms if alarm.is_due and (step := _step(alarm, channel, now))]


def _step(alarm: Alarm, channel: str, now: datetime) -> Step | None:
    told = alarm.told.get(channel)
    if told is None:
        if alarm.is_event:
            return Step.HAPPENED
        return Step.BEGINS if alarm.ended_at is None else Step.WAS
    if alarm.ended_at is not None:
        return None if told.is_over else Step.ENDS
    ago = abs(now - told.at)
    return Step.LASTS if ago >= REMINDED or (alarm.number > told.number and ago >= WORSE) else None


def note_told(channel: str, news: Sequence[News], alert: Alert) -> None:
    """Note that a channel has taken it."""
    for alarm, _ in news:
        before = alarm.told.get(channel)
        first = before.message if before else alert.number
        alarm.told[channel] = ToldAlarm(alert.at, first, alarm.number, is_over=alarm.ended_at is not None)


def alarm_alert(channel: str, news: Sequence[News], node: str, now: datetime) -> Alert:
    """Put all news for a channel into one message."""
    bad = [each for each in news if each.step in {Step.BEGINS, Step.LASTS, Step.HAPPENED}]
    told = [each.alarm.told[channel].message for each in news if channel in each.alarm.told]
    lines = [line for each in news[:_MOST] for line in (*_lines(each), "")]
    if len(news) > _MOST:
        lines += [f"And {len(news) - _MOST} more.", ""]
    lines.append("backup-scp status  at the node says more; backup-scp alerts list  shows what was told.")
    return Alert(
        kind="alarm",
        node=node,
        at=now,
        is_alarm=bool(bad),
        subject=f"{node}: {_subject(news)}"[:_LONGEST_SUBJECT],
        text=without_names("\n".join(lines)),
        number=secrets.token_hex(8),
        answers=tuple(dict.fromkeys(told)),
    )


def _subject(news: Sequence[News]) -> str:
    if len(news) == 1:
        alarm, step = news[0]
        before = {Step.LASTS: "still: ", Step.ENDS: "over: ", Step.WAS: "over again: "}.get(step, "")
        return without_names(before + (alarm.ended if step is Step.ENDS else alarm.sentence))
    begun = sum(each.step in {Step.BEGINS, Step.HAPPENED} for each in news)
    last = sum(each.step is Step.LASTS for each in news)
    over = len(news) - begun - last
    parts = [(begun, count(begun, "alarm")), (last, f"{last} still last"), (over, f"{over} over")]
    return ", ".join(words for number, words in parts if number)


def _lines(news: News) -> list[str]:
    alarm, step = news
    if step is Step.HAPPENED:
        return [f"{alarm.sentence}."]
    if step is Step.ENDS:
        return [f"Over: {alarm.ended}.", f"It began {moment(alarm.since)}: {alarm.sentence}"]
    if step is Step.WAS:
        return [f"From {moment(alarm.since)} to {moment(alarm.ended_at)}: {alarm.sentence}", f"Now: {alarm.ended}."]
    since = f"Still so, since {moment(alarm.since)}: " if step is Step.LASTS else ""
    first, *rest = alarm.fix.splitlines() or [""]
    return [f"{since}{alarm.sentence}", *([f"What to do: {first}", *rest] if first else [])]


def without_names(text: str) -> str:
    """Return a text without what has the form of a UID or of a Person Name (PS3.5 6.2)."""
    return _PERSON_NAME.sub("(a name)", _UID.sub("(a UID)", text))


def drill_alert(result: DrillResult, node: str) -> Alert:
    """Put the result of a drill into words, without what could name an image."""
    who = f"{result.copy} ({result.label})" if result.label else result.copy
    lines = [f"The drill of copy {who} ended {moment(result.ended_at)}."]
    if result.passed and result.compared:
        outcome = "passed"
        lines.append(f"{count(result.compared, 'image')} intact, but sealed: tried without the recovery key.")
    elif result.passed:
        outcome = "passed"
        lines.append(
            f"{result.came_back} of {count(result.tried, 'image')} came back, byte for byte "
            f"({size(result.size_bytes)}); pixels of {result.decoded} compared."
        )
        if result.everything_s is not None:
            lines.append(f"Everything would be back on a console in {duration(result.everything_s)}.")
    else:
        outcome = f"FAILED with {count(result.problem_count, 'problem')}"
        kinds = Counter(str(problem.kind) for problem in result.problems)
        more = " at least" if result.problem_count > len(result.problems) else ""
        lines.append(f"It found{more}: {', '.join(f'{kind} ({number})' for kind, number in kinds.most_common())}.")
        lines.append("What to do: type  backup-scp status  at the node, which names them.")
    lines += [f"Not proved: {each}." for each in result.unproven]
    subject = f"{node}: drill of copy {who} {outcome}"
    return Alert("drill", node, result.ended_at, not result.passed, subject, "\n".join(lines))
