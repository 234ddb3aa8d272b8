"""Count Associations over all processes of a node, in total and for one peer."""

from __future__ import annotations

from mmap import mmap

_BYTES = 8
_MOST_TOLD_APART = 4096
"""Limit of Associations of one process whose peers are counted."""


class SharedCount:
    """Counts the peers of Associations, in memory that forked processes share.

    Check and increment are not atomic across processes: a limit may be exceeded by one for each other process, for a
    moment.

    Parameters
    ----------
    processes
        Maximum number of processes.
    """

    def __init__(self, processes: int = 1) -> None:
        self._size = 1 + _MOST_TOLD_APART
        self._shared = memoryview(mmap(-1, processes * self._size * _BYTES)).cast("q")
        self._processes = processes
        self._begin = 0
        self._here: list[int] = []

    def begin(self, number: int) -> None:
        """Start counting for this process, whose number begins at 0."""
        self._begin = number * self._size
        self._here.clear()
        self._shared[self._begin] = 0

    def take(self, peer: str) -> None:
        """Count an Association with a peer."""
        self._here.append(hash(peer))  # hashes are equal in forked processes
        self._tell(len(self._here) - 1)

    def leave(self, peer: str) -> None:
        """Subtract an ended Association with a peer."""
        place = self._here.index(hash(peer))
        last = self._here.pop()
        if place < len(self._here):
            self._here[place] = last
        self._tell(place)

    def _tell(self, place: int) -> None:
        taken = len(self._here)
        if place < taken and place < _MOST_TOLD_APART:
            self._shared[self._begin + 1 + place] = self._here[place]
        self._shared[self._begin] = taken

    @property
    def total(self) -> int:
        """Number of Associations of all processes."""
        return sum(self._shared[:: self._size])

    def taken_by(self, peer: str) -> int:
        """Return the number of Associations with a peer, of all processes."""
        wanted, found = hash(peer), 0
        for begin in range(0, self._processes * self._size, self._size):
            told = min(self._shared[begin], _MOST_TOLD_APART)
            found += self._shared[begin + 1 : begin + 1 + told].tolist().count(wanted)
        return found
