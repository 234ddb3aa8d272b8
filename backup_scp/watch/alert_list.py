"""What the running node has told, and what waits, for people who ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from backup_scp.watch.alert_state import Alarm, AlertState, ChannelTrouble, SentAlert


@dataclass(frozen=True, slots=True)
class ListedAlarm:
    """An alarm that lasts, or whose end was not told by every channel.

    Attributes
    ----------
    since, ended_at
        When it began, and when it was over; null while it lasts.
    sentence
        What is so.
    told_by
        Channels that have told its last news.
    waits_for
        Channels that have not.
    """

    since: datetime
    ended_at: datetime | None
    sentence: str
    told_by: list[str]
    waits_for: list[str]


@dataclass(frozen=True, slots=True)
class AlertList:
    """What the running node has told, and what waits.

    Attributes
    ----------
    alarms
        Those that last, and those whose end waits for a channel.
    troubles
        Why a channel takes nothing, by its name.
    sent
        The last messages that were taken, the newest first; 50 at most.
    """

    alarms: list[ListedAlarm]
    troubles: dict[str, ChannelTrouble]
    sent: list[SentAlert]


def alert_list(state: AlertState, channels: Sequence[str]) -> AlertList:
    """List what is due, with the channels of the settings that wait for it."""
    due = [alarm for alarm in state.alarms if alarm.is_due]
    return AlertList([_listed(alarm, channels) for alarm in due], state.troubles, state.sent[::-1])


def _listed(alarm: Alarm, channels: Sequence[str]) -> ListedAlarm:
    told = [name for name, told in alarm.told.items() if told.is_over or alarm.ended_at is None]
    waits = [name for name in channels if name not in told]
    return ListedAlarm(alarm.since, alarm.ended_at, alarm.sentence, told, waits)
