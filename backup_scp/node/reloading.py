"""What a change of settings needs, and what became of it, for the person who asked the running node to use it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from backup_scp.errors import InvalidSelection, InvalidSettings, Unavailable
from backup_scp.machine import clock, whole_file
from backup_scp.node.run_record import look
from backup_scp.node.settings import Sections, Settings

RELOAD = "backup-scp reload"
"""What lets the running node read its settings again."""

RESTART = "restart the node (systemctl restart backup-scp)"

_FILE = "reload.json"
_PAUSE_S = 0.05
_WITH_RESTART = ("[node] home", "[node] workers", "[archive]", "[index]")
_SEVERAL = f"With workers = {{}} in [node] settings change with a restart only: {RESTART}"
_LISTS = frozenset({"remote", "copy"})


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What became of it.

    Attributes
    ----------
    began_at
        When the node began to read the settings.
    applied
        Whether it uses them; otherwise it uses those from before, all of them.
    sentence
        What happened, or what is wrong, with the fix.
    changed
        The settings that changed, as in ``[node] port`` and ``[[remote]] viewer``.
    """

    began_at: datetime
    applied: bool
    sentence: str
    changed: list[str] = field(default_factory=list)


def changed(before: Settings, after: Settings) -> list[str]:
    """Name the settings that differ, as the file has them."""
    found = [] if before.home == after.home else ["[node] home"]
    for section in msgspec.structs.fields(Sections):
        old, new = getattr(before, section.name), getattr(after, section.name)
        if section.name in _LISTS:
            found += [f"[[{section.name}]] {name}" for name in _differing(old, new)]
        elif old != new:
            keys = (key.name for key in msgspec.structs.fields(old) if getattr(old, key.name) != getattr(new, key.name))
            found += [f"[{section.name}] {key}" for key in keys if key != "home"]  # other words for the same folder
    return found


def _differing(old: Sequence[Any], new: Sequence[Any]) -> Iterator[str]:
    before, after = ({one.name: one for one in entries} for entries in (old, new))
    for name in before | after:
        if before.get(name) != after.get(name):
            yield name


def require_live(before: Settings, after: Settings) -> None:
    """Raise when a change needs a restart: then nothing of the change is applied.

    Archive and index are open, and belong together; processes are forked once.

    Raises
    ------
    InvalidSettings
    """
    names = changed(before, after)
    needing = [name for name in names if name.startswith(_WITH_RESTART)]
    if needing:
        raise InvalidSettings(f"{' and '.join(needing)}: with a restart only. Nothing was changed: {RESTART}")
    if before.node.workers > 1 and names:
        raise InvalidSettings(_SEVERAL.format(before.node.workers))


def note(home: Path, outcome: Reloaded) -> None:
    """Leave the outcome for who has asked."""
    with contextlib.suppress(OSError):  # the log has it too
        whole_file.put(home / _FILE, msgspec.json.encode(outcome))


def ask(settings: Settings, wait_s: float) -> Reloaded:
    """Let the running node read its settings again, and wait for the outcome.

    Raises
    ------
    InvalidSelection
        No node runs, or this system has no such signal.
    Unavailable
        It belongs to another user, or does not answer in time.
    """
    state = look(settings.home)
    if not state.running or state.record is None:
        raise InvalidSelection("No node runs here: its next start reads the settings. Try them:  backup-scp check")
    if state.record.workers > 1:
        raise InvalidSelection(_SEVERAL.format(state.record.workers))
    if sys.platform == "win32":
        raise InvalidSelection("On Windows the node reads its settings at its start only: restart its service")
    asked_at = clock.now()
    try:
        os.kill(state.record.process, signal.SIGHUP)
    except PermissionError:
        raise Unavailable(f"The node belongs to another user: sudo {RELOAD}") from None
    except ProcessLookupError:
        raise Unavailable("The node has just ended") from None
    pause, until = threading.Event(), time.monotonic() + wait_s
    while time.monotonic() < until:
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            outcome = msgspec.json.decode((settings.home / _FILE).read_bytes(), type=Reloaded)
            if outcome.began_at >= asked_at:
                return outcome
        pause.wait(_PAUSE_S)
    raise Unavailable(f"The node has not answered within {wait_s:g} s: backup-scp status says whether it is well")
