"""A lock that threads get in the order in which they came, those that matter most first."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class _Waiter:
    """One thread in the queue; its lock is released when it has its turn."""

    what: str
    since: float = field(default_factory=time.monotonic)
    turn: threading.Lock = field(default_factory=threading.Lock)


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
        self._mutex = threading.Lock()
        self._first: deque[_Waiter] = deque()
        self._others: deque[_Waiter] = deque()
        self._holder: _Waiter | None = None
        self._held_since = 0.0

    @contextlib.contextmanager
    def turn(self, what: str = "", *, first: bool = False, timeout_s: float = -1) -> Iterator[bool]:
        """Wait for a turn; the block is given whether there was one within the time.

        Parameters
        ----------
        what
            Is done in it, for ``holder``.
        """
        waiter = self._acquire(what, timeout_s, first=first)
        try:
            yield waiter is not None
        finally:
            if waiter is not None:
                self._release()

    @property
    def holder(self) -> tuple[str, float]:
        """What is done by whoever has it, and for how many seconds; nothing while nobody has it."""
        with self._mutex:
            return (self._holder.what, time.monotonic() - self._held_since) if self._holder else ("", 0.0)

    @property
    def waiting(self) -> int:
        """How many threads wait for it."""
        with self._mutex:
            return len(self._first) + len(self._others)

    def _acquire(self, what: str, timeout_s: float, *, first: bool) -> _Waiter | None:
        waiter = _Waiter(what)
        queue = self._first if first else self._others
        with self._mutex:
            if self._holder is None:
                self._give(waiter)
                return waiter
            waiter.turn.acquire()
            queue.append(waiter)
        try:
            if waiter.turn.acquire(timeout=timeout_s):
                return waiter
        except BaseException:  # Ctrl-C
            self._withdraw(waiter, queue)
            raise
        return None if self._give_up(waiter, queue) else waiter

    def _give_up(self, waiter: _Waiter, queue: deque[_Waiter]) -> bool:
        """Leave the queue; False when the turn came at the last moment."""
        with self._mutex:
            if self._holder is waiter:
                return False
            queue.remove(waiter)
            return True

    def _withdraw(self, waiter: _Waiter, queue: deque[_Waiter]) -> None:
        if not self._give_up(waiter, queue):
            self._release()

    def _release(self) -> None:
        with self._mutex:
            self._holder = None
            waiter = self._next()
            if waiter is not None:
                self._give(waiter)
                waiter.turn.release()

    def _next(self) -> _Waiter | None:
        others = self._others
        is_due = others and time.monotonic() - others[0].since >= self._patience_s
        if self._first and not is_due:
            return self._first.popleft()
        return others.popleft() if others else None

    def _give(self, waiter: _Waiter) -> None:
        self._holder = waiter
        self._held_since = time.monotonic()
