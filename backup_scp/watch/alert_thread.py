"""Tell alarms and results of drills to people who do not look: each once by each channel, again until it is taken."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from backup_scp.errors import AlertNotSent, InvalidSettings, Unavailable
from backup_scp.machine import clock
from backup_scp.ports import Alert, AlertChannel, DrillResult, Index, SeenConditions
from backup_scp.watch.alert_events import take_events
from backup_scp.watch.alert_state import AlertFile, ChannelTrouble, SentAlert
from backup_scp.watch.alert_words import alarm_alert, drill_alert, news_for, note_told
from backup_scp.watch.unforeseen import place_of

log = logging.getLogger(__name__)

LOOK_EVERY_S = 30.0
ASK_EVERY_S = 300.0
"""Interval between two looks for alarms: they try whether the disks can be written."""

_GRACE_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 60.0, 3600.0
_BETWEEN_S = 300.0  # two messages about alarms: what comes meanwhile is told in one


class AlertThread:
    """One thread for all channels.

    What was told is in a file of the data folder, so a restart forgets nothing; it may tell a thing twice.

    Parameters
    ----------
    home
        The data folder.
    index
        Has the results of drills.
    channels
        Makes the channels; asked at each look, so that a password that is put back is found.
    conditions
        Looks for what a person must be told.
    node
        AE title of the node.
    look_every_s, ask_every_s
        Interval between two looks for what is to be sent, and for conditions, in seconds.
    """

    def __init__(
        self,
        home: Path,
        index: Index,
        channels: Callable[[], Sequence[AlertChannel]],
        conditions: Callable[[], SeenConditions],
        node: str,
        *,
        look_every_s: float = LOOK_EVERY_S,
        ask_every_s: float = ASK_EVERY_S,
    ) -> None:
        self._home = home
        self._index = index
        self._channels = channels
        self._conditions = conditions
        self._node = node
        self._look_every_s, self._ask_every_s = look_every_s, ask_every_s
        self._file = AlertFile(home)
        self._ask_at = time.monotonic()
        self._free_at: dict[str, float] = {}  # of a channel: when it may be told of alarms again
        self._pauses: dict[str, tuple[float, float]] = {}  # of a channel: its pause, and when that ends
        self._stop = threading.Event()
        self._is_left = False  # another process may have the file by now
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)

    def start(self) -> None:
        """Begin, with what a crash has left."""
        self._thread.start()

    def stop(self) -> None:
        """End after the current message, or leave it to a mail server that is slow; the next start tells the rest."""
        self._stop.set()
        self._thread.join(_GRACE_S)
        self._is_left = self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except Exception as unforeseen:  # noqa: BLE001 - the next look may do better
                where = place_of(unforeseen)
                log.error("Alerts: %s. This should not have happened; please report it", where)
            if self._stop.wait(self._look_every_s):
                return

    def look(self) -> None:
        """Tell what was not told yet, and note why a channel does not take it."""
        state = self._file.state
        for at, sentence in take_events(self._home):
            state.note_event(sentence, at)
        if time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + self._ask_every_s
            state.follow(self._conditions(), clock.now())
        self._file.save()
        try:
            channels = self._channels()
        except InvalidSettings as error:
            self._note_trouble("", str(error))
            return
        state.troubles.pop("", None)
        results = self._results()
        for channel in channels:
            self._tell_alarms(channel)
            for result in results:
                self._tell_drill(channel, result)
        state.forget({channel.name for channel in channels}, clock.now())
        if not self._is_left:
            self._file.save()

    def _results(self) -> Sequence[DrillResult]:
        try:
            return self._index.drills.latest()
        except Unavailable:  # an alarm says so
            return ()

    def _tell_alarms(self, channel: AlertChannel) -> None:
        now = clock.now()
        news = news_for(channel.name, self._file.state.alarms, now)
        if not news or time.monotonic() < self._free_at.get(channel.name, 0.0):
            return
        alert = alarm_alert(channel.name, news, self._node, now)
        if self._send(channel, alert):
            note_told(channel.name, news, alert)
            self._free_at[channel.name] = time.monotonic() + _BETWEEN_S
            self._took(channel, alert)

    def _tell_drill(self, channel: AlertChannel, result: DrillResult) -> None:
        told = self._file.state.drills.setdefault(channel.name, {})
        which, when = f"{result.copy}/{result.medium}", result.ended_at.isoformat()
        if told.get(which) != when and self._send(channel, alert := drill_alert(result, self._node)):
            told[which] = when
            self._took(channel, alert)

    def _send(self, channel: AlertChannel, alert: Alert) -> bool:
        """Send it, if the channel is not given time; return whether it was taken."""
        name = channel.name
        if self._is_left or (name in self._pauses and time.monotonic() < self._pauses[name][1]):
            return False
        try:
            channel.send(alert)
        except AlertNotSent as error:
            pause_s = min(2 * self._pauses[name][0], _LONGEST_PAUSE_S) if name in self._pauses else _FIRST_PAUSE_S
            self._pauses[name] = pause_s, time.monotonic() + pause_s
            self._note_trouble(name, str(error))
            return False
        self._pauses.pop(name, None)
        self._file.state.troubles.pop(name, None)
        return True

    def _took(self, channel: AlertChannel, alert: Alert) -> None:
        self._file.state.add_sent(SentAlert(clock.now(), channel.name, alert.subject, alert.is_alarm))
        if not self._is_left:
            self._file.save()

    def _note_trouble(self, name: str, sentence: str) -> None:
        before = self._file.state.troubles.get(name)
        if before is None or before.sentence != sentence:
            log.warning("%s", sentence)
            self._file.state.troubles[name] = ChannelTrouble(before.since if before else clock.now(), sentence)
        if not self._is_left:
            self._file.save()
