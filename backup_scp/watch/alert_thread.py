"""Tell the results of drills to people who do not look: each result once by each channel, again until it is taken."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from backup_scp.errors import AlertNotSent, InvalidSettings, Unavailable
from backup_scp.machine import clock
from backup_scp.machine.readable import count, duration, moment, size
from backup_scp.ports import ALERTS, Alert, AlertChannel, DrillResult, Index, Task
from backup_scp.watch.unforeseen import place_of

log = logging.getLogger(__name__)

LOOK_EVERY_S = 30.0
_GRACE_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 60.0, 3600.0


class AlertThread:
    """One thread for all channels.

    What is to be told follows from the records of the index, so a crash forgets nothing; it may tell a thing twice.

    Parameters
    ----------
    index
        Has the results, and the record of what was told.
    channels
        Makes the channels; asked at each look, so that a password that is put back is found.
    node
        AE title of the node.
    look_every_s
        Interval between two looks, in seconds.
    """

    def __init__(
        self,
        index: Index,
        channels: Callable[[], Sequence[AlertChannel]],
        node: str,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._index = index
        self._channels = channels
        self._node = node
        self._look_every_s = look_every_s
        self._pauses: dict[str, tuple[float, float]] = {}  # of a channel: its pause, and when that ends
        self._troubles: dict[str, str] = {}
        self._stop = threading.Event()
        self._is_left = False  # the index may be closed by now
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the current message, or leave it to a mail server that is slow; the next start tells the rest."""
        self._stop.set()
        self._thread.join(_GRACE_S)
        self._is_left = self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.wait(self._look_every_s):
            try:
                self.look()
            except Unavailable:
                pass  # the index: what needs it reports this
            except Exception as unforeseen:  # noqa: BLE001 - the next look may do better
                where = place_of(unforeseen)
                log.error("Alerts: %s. This should not have happened; please report it", where)

    def look(self) -> None:
        """Tell what was not told yet, and note why a channel does not take it.

        Raises
        ------
        IndexUnavailable
        """
        before = self._index.tasks().get(ALERTS)
        told: dict[str, dict[str, str]] = json.loads(before.position) if before else {}
        try:
            channels = self._channels()
        except InvalidSettings as error:
            channels, self._troubles = (), {"": str(error)}
        else:
            self._troubles.pop("", None)
        results = self._index.drills.latest()
        for channel in channels:
            self._tell(channel, results, told.setdefault(channel.name, {}))
        if not self._is_left:
            self._record(before, told)

    def _tell(self, channel: AlertChannel, results: Sequence[DrillResult], told: dict[str, str]) -> None:
        for result in results:
            which, when = f"{result.copy}/{result.medium}", result.ended_at.isoformat()
            if told.get(which) == when or self._waits(channel.name) or self._is_left:
                continue
            try:
                channel.send(drill_alert(result, self._node))
            except AlertNotSent as error:
                self._give_time(channel.name, str(error))
            else:
                told[which] = when
                self._pauses.pop(channel.name, None)
                self._troubles.pop(channel.name, None)

    def _waits(self, name: str) -> bool:
        return name in self._pauses and time.monotonic() < self._pauses[name][1]

    def _give_time(self, name: str, trouble: str) -> None:
        pause_s = min(2 * self._pauses[name][0], _LONGEST_PAUSE_S) if name in self._pauses else _FIRST_PAUSE_S
        self._pauses[name] = pause_s, time.monotonic() + pause_s
        self._troubles[name] = trouble

    def _record(self, before: Task | None, told: dict[str, dict[str, str]]) -> None:
        trouble, position = ". ".join(self._troubles.values()), json.dumps(told)
        if before and (before.note, before.position) == (trouble, position):
            return
        if trouble and (not before or before.note != trouble):
            log.warning("%s", trouble)
        since = before.began_at if before and bool(before.note) == bool(trouble) else clock.now()
        self._index.record_task(Task(ALERTS, since, position=position, note=trouble))


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
