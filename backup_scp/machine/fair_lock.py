"""A lock that threads get in the order in which they came, those that matter most first."""

from __future__ import annotations

import time
from collections import deque
from threading import Lock
from types import TracebackType


class Turn:
    """What one thread does with the lock in a ``with`` block; the block is given whether there was a turn in time.

    Attributes
    ----------
    what
        Is done in it, for ``FairLock.holder``.
    is_first
        Whether it comes before those that are not.
    since
        When it began to wait or, once it is its turn, when that began.
    gate
        Released when it is its turn; nobody who need not wait has one.
    """

    __slots__ = ("_has_it", "_lock", "_timeout_s", "gate", "is_first", "since", "what")

    def __init__(self, lock: FairLock, what: str, timeout_s: float, *, is_first: bool) -> None:
        self._lock = lock
        self._timeout_s = timeout_s
        self._has_it = False
        self.what = what
        self.is_first = is_first
        self.since = 0.0
        self.gate: Lock | None = None

    def __enter__(self) -> bool:
        self._has_it = self._lock.acquire(self, self._timeout_s)
        return self._has_it

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._has_it:
            self._lock.release()


class FairLock:
    """Mutual exclusion: first come, first served, and who asks for it ``first`` before all others.

    ``threading.Lock`` goes to whoever happens to ask at the right moment: who has it and wants it again at once gets it
    again, and others wait for seconds.

    Parameters
    ----------
    patience_s
        So long those who did not ask for it first are overtaken; then the oldest of them is next.
    """

    def __init__(self, patience_s: float = 1.0) -> None:
        self._patience_s = patience_s
        self._mutex = Lock()
        self._first: deque[Turn] = deque()
        self._others: deque[Turn] = deque()
        self._holder: Turn | None = None

    def turn(self, what: str = "", *, first: bool = False, timeout_s: float = -1) -> Turn:
        """Give what waits for a turn in a ``with`` block, at most so long.

        Parameters
        ----------
        what
            Is done in it, for ``holder``.
        """
        return Turn(self, what, timeout_s, is_first=first)

    @property
    def holder(self) -> tuple[str, float]:
        """What is done by whoever has it, and for how many seconds; nothing while nobody has it."""
        with self._mutex:
            return (self._holder.what, time.monotonic() - self._holder.since) if self._holder else ("", 0.0)

    @property
    def waiting(self) -> int:
        """How many threads wait for it."""
        with self._mutex:
            return len(self._first) + len(self._others)

    def acquire(self, turn: Turn, timeout_s: float) -> bool:
        """Wait for it, at most so long; tell whether it is this one's turn."""
        turn.since = time.monotonic()
        with self._mutex:
            if self._holder is None:
                self._holder = turn
                return True
            turn.gate = gate = Lock()
            gate.acquire()
            self._queue_of(turn).append(turn)
        try:
            if gate.acquire(timeout=timeout_s):
                return True
        except BaseException:  # Ctrl-C
            if not self._give_up(turn):
                self.release()
            raise
        return not self._give_up(turn)

    def release(self) -> None:
        """Give it to the next one."""
        with self._mutex:
            self._holder = turn = self._next() if self._first or self._others else None
            if turn is not None and turn.gate is not None:
                turn.since = time.monotonic()
                turn.gate.release()

    def _queue_of(self, turn: Turn) -> deque[Turn]:
        return self._first if turn.is_first else self._others

    def _give_up(self, turn: Turn) -> bool:
        """Leave the queue; False when the turn came at the last moment."""
        with self._mutex:
            if self._holder is turn:
                return False
            self._queue_of(turn).remove(turn)
            return True

    def _next(self) -> Turn:
        others = self._others
        is_due = others and time.monotonic() - others[0].since >= self._patience_s
        if self._first and not is_due:
            return self._first.popleft()
        return others.popleft()
