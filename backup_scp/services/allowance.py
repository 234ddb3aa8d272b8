"""Limit what a copy sends and reads in a month, for a line that is metered."""

from __future__ import annotations

from datetime import datetime

from backup_scp.errors import AllowanceUsed
from backup_scp.machine import clock
from backup_scp.ports import IndexRecords, Task


class Allowance:
    """The bytes of one calendar month, by this computer's clock; one thread uses it.

    They are stored in the index at each ``require``, so that a restart forgets nothing.

    Parameters
    ----------
    index
        Stores them.
    copy
        The copy's name.
    gb_per_month
        The limit, in billion bytes; 0 for none.
    """

    def __init__(self, index: IndexRecords, copy: str, gb_per_month: float = 0) -> None:
        self._index, self._copy, self._gb = index, copy, gb_per_month
        self._pending = 0

    def count(self, size_bytes: int) -> None:
        """Count bytes that were sent or read."""
        self._pending += size_bytes

    def require(self) -> None:
        """Raise when the month's bytes are used.

        Raises
        ------
        AllowanceUsed
        IndexUnavailable
        """
        if self._gb and self._recorded() >= self._gb * 1e9:
            raise AllowanceUsed(
                f"The {self._gb:g} GB of this month (gb_per_month) are used: it goes on on {_next_month():%Y-%m-%d}"
            )

    def _recorded(self) -> int:
        name, now = f"month of copy {self._copy}", clock.now()
        task = self._index.tasks().get(name)
        used = task.done if task and _month(task.began_at) == _month(now) else 0
        if self._pending:
            used += self._pending
            self._index.record_task(Task(name, now, done=used))
            self._pending = 0
        return used


def _month(moment: datetime) -> tuple[int, int]:
    local = moment.astimezone()
    return local.year, local.month


def _next_month() -> datetime:
    year, month = _month(clock.now())
    return datetime(year + month // 12, month % 12 + 1, 1).astimezone()
