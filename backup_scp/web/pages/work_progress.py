"""How far long work is, how fast it goes on, and when it will be ready: a recovery, and copies that are filled.

The numbers are those of ``status --json``; the rate is what changed between two looks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from backup_scp.ports import RECOVERY
from backup_scp.web.pages.backup_state import BackupState

_WINDOW = timedelta(minutes=10)
_LEAST = timedelta(seconds=5)
_MOST_LOOKS = 64


@dataclass(frozen=True, slots=True)
class WorkProgress:
    """How far one work is.

    Attributes
    ----------
    name
        ``recovery``, or ``copy`` with the name of the copy, and of its drive.
    done, total
        Images.
    per_minute
        Images in a minute, in the last ten; None when nothing changed since the first look.
    ready_at
        When it will be ready at that rate; None when that is not known.
    """

    name: str
    done: int
    total: int
    per_minute: float | None = None
    ready_at: datetime | None = None

    @property
    def percent(self) -> int:
        """Return the share that is done; 100 only when all is."""
        return 100 * self.done // self.total if self.total else 0


class WorkPace:
    """Remembers the last looks at each work."""

    def __init__(self) -> None:
        self._looks: dict[str, deque[tuple[datetime, int]]] = {}

    def progress(self, state: BackupState, at: datetime) -> dict[str, WorkProgress]:
        """Return the unfinished work, by name."""
        found = {name: self._one(name, done, total, at) for name, done, total in _unfinished(state)}
        self._looks = {name: looks for name, looks in self._looks.items() if name in found}
        return found

    def _one(self, name: str, done: int, total: int, at: datetime) -> WorkProgress:
        looks = self._looks.setdefault(name, deque(maxlen=_MOST_LOOKS))
        if looks and (done < looks[-1][1] or at < looks[-1][0]):  # it began again, or a clock was set
            looks.clear()
        while looks and at - looks[0][0] > _WINDOW:
            looks.popleft()
        looks.append((at, done))
        began_at, before = looks[0]
        passed = at - began_at
        if passed < _LEAST or done == before:
            return WorkProgress(name, done, total)
        each = passed / (done - before)
        return WorkProgress(name, done, total, timedelta(minutes=1) / each, at + each * (total - done))


def copy_work(name: str, drive: str) -> str:
    """Name the work of filling a copy."""
    return f"copy {name} {drive}".strip()


def _unfinished(state: BackupState) -> Iterator[tuple[str, int, int]]:
    recovery, held = state.tasks.get(RECOVERY), state.holdings
    if recovery is not None and held is not None:
        yield RECOVERY, min(recovery.done, held.versions), held.versions
    for one in state.copies:
        if one.due and one.seen_at is not None:
            yield copy_work(one.name, one.label or one.medium), one.held, one.held + one.due
