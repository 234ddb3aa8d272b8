"""What was told to whom, in a small file: a restart neither repeats nor forgets, also when the index is not there."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from msgspec import Struct

from backup_scp.machine import whole_file
from backup_scp.ports import AlarmCondition, SeenConditions

log = logging.getLogger(__name__)

CALM = timedelta(minutes=10)
"""So long a condition must be away until it is over: one that comes and goes is told once."""

FORGOTTEN = timedelta(days=7)
"""So long after its end a channel that takes nothing may still be told."""

_FILE = "alerts.json"
_MOST_SENT = 50


class ToldAlarm(Struct):
    """What one channel was told of an alarm.

    Attributes
    ----------
    at
        When it last was.
    message
        Number of the first message.
    number
        How many images or such that was about.
    is_over
        Whether it was told the end as well.
    """

    at: datetime
    message: str
    number: int = 0
    is_over: bool = False


class Alarm(Struct):
    """A condition that began.

    Attributes
    ----------
    key, sentence, fix, ended, number
        See ``ports.AlarmCondition``; the sentence is the last one.
    since, seen_at
        When it was first and last seen.
    is_due
        Whether it has lasted long enough to be told.
    ended_at
        When it was over; None while it lasts.  What only happened, such as a crash, is over at once.
    is_event
        Whether it only happened: there is no end to tell.
    told
        By the name of the channel.
    """

    key: tuple[str, str, str]
    sentence: str
    fix: str
    ended: str
    since: datetime
    seen_at: datetime
    number: int = 0
    is_due: bool = False
    ended_at: datetime | None = None
    is_event: bool = False
    told: dict[str, ToldAlarm] = {}


@dataclass(frozen=True, slots=True)
class SentAlert:
    """A message that a channel took.

    Attributes
    ----------
    at
        When.
    channel
        ``e-mail`` or ``webhook``.
    subject
        Its first line.
    is_alarm
        Whether it asked for a person.
    """

    at: datetime
    channel: str
    subject: str
    is_alarm: bool


@dataclass(frozen=True, slots=True)
class ChannelTrouble:
    """Why a channel takes nothing.

    Attributes
    ----------
    since
        Since when.
    sentence
        Why.
    """

    since: datetime
    sentence: str


class AlertState(Struct):
    """All of it.

    Attributes
    ----------
    alarms
        Those that last, and those whose end is not told by every channel.
    drills
        By channel and copy: which result was told.
    troubles
        By channel; the empty name is for settings that cannot be used.
    sent
        The last messages, the newest last.
    """

    alarms: list[Alarm] = []
    drills: dict[str, dict[str, str]] = {}
    troubles: dict[str, ChannelTrouble] = {}
    sent: list[SentAlert] = []

    def follow(self, seen: SeenConditions, now: datetime) -> None:
        """Note which conditions began, last and are over."""
        lasting = {alarm.key: alarm for alarm in self.alarms if alarm.ended_at is None}
        for condition in seen.conditions:
            alarm = lasting.pop(condition.key, None)
            if alarm is None:
                alarm = Alarm(*condition[:4], since=now, seen_at=now)
                self.alarms.append(alarm)
            _bring_up_to_date(alarm, condition, now)
        for alarm in lasting.values():
            if alarm.key[0] in seen.is_unknown:
                alarm.seen_at = now
            elif not alarm.is_due:
                self.alarms.remove(alarm)
            elif abs(now - alarm.seen_at) >= CALM:
                alarm.ended_at = now

    def note_event(self, sentence: str, at: datetime) -> None:
        """Note what only happened; the same sentence once."""
        if not any(alarm.is_event and alarm.sentence == sentence for alarm in self.alarms):
            key = ("event", "", sentence)
            self.alarms.append(Alarm(key, sentence, "", "", at, at, is_due=True, ended_at=at, is_event=True))

    def forget(self, channels: set[str], now: datetime) -> None:
        """Drop alarms that are over and told."""
        self.alarms = [
            alarm
            for alarm in self.alarms
            if alarm.ended_at is None
            or (
                not (channels <= {name for name, told in alarm.told.items() if told.is_over})
                and abs(now - alarm.ended_at) < FORGOTTEN
            )
        ]

    def add_sent(self, sent: SentAlert) -> None:
        """Add a message that was taken."""
        self.sent = [*self.sent, sent][-_MOST_SENT:]


def _bring_up_to_date(alarm: Alarm, condition: AlarmCondition, now: datetime) -> None:
    alarm.sentence, alarm.fix, alarm.ended, alarm.number = (*condition[1:4], condition.number)
    alarm.seen_at = now
    alarm.is_due = alarm.is_due or abs(now - alarm.since) >= condition.grace


def read_alert_state(home: Path) -> AlertState:
    """Read it; an empty one when there is none, or none that can be read."""
    try:
        return msgspec.json.decode((home / _FILE).read_bytes(), type=AlertState)
    except FileNotFoundError:
        return AlertState()
    except (OSError, msgspec.MsgspecError) as error:
        log.warning(
            "%s cannot be read (%s): what was told before may be told again", home / _FILE, type(error).__name__
        )
        return AlertState()


class AlertFile:
    """The file of a running node; whatever cannot be written is tried again with the next change."""

    def __init__(self, home: Path) -> None:
        self._path = home / _FILE
        self.state = read_alert_state(home)
        self._written = msgspec.json.encode(self.state)
        self._is_in_trouble = False

    def save(self) -> None:
        """Write it, when it has changed; on return it is durable, unless the disk does not take it."""
        content = msgspec.json.encode(self.state)
        if content == self._written:
            return
        try:
            whole_file.put(self._path, content)
        except OSError as error:
            if not self._is_in_trouble:
                log.error("%s cannot be written: %s. A restart may tell alarms again", self._path, error.strerror)
            self._is_in_trouble = True
        else:
            self._written, self._is_in_trouble = content, False
