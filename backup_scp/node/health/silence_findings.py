"""Findings about consoles that are silent for longer than their habit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple
from weakref import WeakKeyDictionary

from backup_scp.machine.readable import duration
from backup_scp.node.health.finding import Finding, Severity
from backup_scp.node.run_record import Outage
from backup_scp.node.settings import Settings
from backup_scp.ports import Index
from backup_scp.watch.silence import FORGOTTEN, LEARNED, Silence, console_silences

_AGAIN_S = 240.0
_SHARE = 100  # looking takes at most one part in so many of the time


class _Found(NamedTuple):
    silences: list[Silence]
    until: float


_FOUND: WeakKeyDictionary[Index, _Found] = WeakKeyDictionary()


def look_for_silences(index: Index, now: datetime, outages: Sequence[Outage]) -> list[Silence]:
    """List the silent consoles; an open index is asked every few minutes at most, since it reads twelve weeks.

    Raises
    ------
    IndexUnavailable
    """
    found = _FOUND.get(index)
    if found is None or time.monotonic() >= found.until:
        began = time.monotonic()
        arrivals = index.first_arrivals(now - LEARNED - FORGOTTEN)
        silent = console_silences(arrivals, now, [(one.began_at, one.ended_at) for one in outages])
        took_s = time.monotonic() - began
        found = _FOUND[index] = _Found(silent, time.monotonic() + max(_AGAIN_S, _SHARE * took_s))
    return found.silences


def silences(settings: Settings, silent: Sequence[Silence]) -> Iterator[Finding]:
    """Report silent consoles; one that is not in the settings is a note, since nobody may expect it."""
    known = {remote.name for remote in settings.remotes} | {remote.ae_title for remote in settings.remotes}
    for one in silent:
        pace = f"at this time of the week it usually sends every {duration(one.every_s)}"
        sentence = f"{one.console} has sent nothing since {one.last_at.astimezone():%a %Y-%m-%d %H:%M}; {pace}"
        if one.is_closed:
            sentence += ". If the clinic is closed, nothing is to do"
        cable = "is it on, is its network cable in, does its auto-send work? Press Echo at the console"
        if one.console in known:
            retired = f'if it is retired, remove the [[remote]] "{one.console}"'
            fix = f"{cable}\nbackup-scp echo {one.console}\n{retired}"
            yield Finding("silent", Severity.ACT, sentence, fix, can_wait=True, subject=one.console)
        else:
            yield Finding("silent", Severity.NOTE, sentence, cable, aspect="stranger", subject=one.console)
