"""Hand over what happened from one process to the one that tells it, by small files: the first one may be gone."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from backup_scp.machine import clock, whole_file

log = logging.getLogger(__name__)

_MOST = 20  # a process may die again and again, before anything is told
_NAME = "event-{:%Y%m%dT%H%M%S.%f}.json"


def leave_event(home: Path, sentence: str) -> None:
    """Leave a sentence for the thread that tells alarms; never raises."""
    if len(list(home.glob("event-*.json"))) >= _MOST:
        return
    at = clock.now()
    try:
        whole_file.write_new(home / _NAME.format(at), msgspec.json.encode((at, sentence)))
    except OSError as error:
        log.warning("It will not be told by an alert: %s", error.strerror)


def take_events(home: Path) -> list[tuple[datetime, str]]:
    """Return what was left, the oldest first, and remove it."""
    found = []
    for file in sorted(home.glob("event-*.json")):
        with suppress(OSError, msgspec.MsgspecError):  # another user's file, or a power cut
            found.append(msgspec.json.decode(file.read_bytes(), type=tuple[datetime, str]))
        with suppress(OSError):
            file.unlink()
    return found
