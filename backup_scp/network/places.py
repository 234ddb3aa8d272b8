"""How many Associations there are, over all processes of a node."""

from __future__ import annotations

from mmap import mmap

_BYTES = 8


class Places:
    """A count for each process, in memory that they share when one has come of the other.

    A limit is looked at and a place taken in two steps: as many Associations as there are other processes may be too
    many for a moment.

    Parameters
    ----------
    processes
        How many there may be.
    """

    def __init__(self, processes: int = 1) -> None:
        self._counts = memoryview(mmap(-1, processes * _BYTES)).cast("q")
        self._number = 0

    def begin(self, number: int) -> None:
        """Be this process, counted from 0, and have none."""
        self._number = number
        self._counts[number] = 0

    def note(self, associations: int) -> None:
        """Tell how many this process has now."""
        self._counts[self._number] = associations

    @property
    def taken(self) -> int:
        """How many all have."""
        return sum(self._counts)
