"""A lock that threads get in the order of their requests, urgent ones first."""

from __future__ import annotations

import time
from collections import deque
from threading import Lock
from types import TracebackType


class Turn:
    """One request for the lock, used in a ``with`` block; ``as`` tells whether the lock was acquired in time.

    Attributes
    ----------
    what
        What the block does; ``FairLock.holder`` returns it.
    is_first
        Whether the request is urgent.
    since
        When it began to wait or, once it has the lock, when it got it.
    gate
        Released when it gets the lock; None when it need not wait.
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
    """A mutex for first come, first served; urgent requests (``first``) overtake all others.

    ``threading.Lock`` is not fair: a thread that releases it and at once acquires it again mostly gets it, while others
    wait for seconds.

    Parameters
    ----------
    patience_s
        How long, in seconds, urgent requests may overtake another one; then the oldest other request is next.
    """

    def __init__(self, patience_s: float = 1.0) -> None:
        self._patience_s = patience_s
        self._mutex = Lock()
        self._first: deque[Turn] = deque()
        self._others: deque[Turn] = deque()
        self._holder: Turn | None = None

    def turn(self, what: str = "", *, first: bool = False, timeout_s: float = -1) -> Turn:
        """Return a request for the lock, for a ``with`` block, which waits for at most ``timeout_s``.

        Parameters
        ----------
        what
            What the block does; ``holder`` returns it.
        """
        return Turn(self, what, timeout_s, is_first=first)

    @property
    def holder(self) -> tuple[str, float]:
        """What the thread with the lock does, and for how many seconds; an empty text when the lock is free."""
        with self._mutex:
            return (self._holder.what, time.monotonic() - self._holder.since) if self._holder else ("", 0.0)

    @property
    def waiting(self) -> int:
        """How many threads wait for the lock."""
        with self._mutex:
            return len(self._first) + len(self._others)

    def acquire(self, turn: Turn, timeout_s: float) -> bool:
        """Wait for the lock, at most ``timeout_s``; tell whether this request got it."""
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
        """Pass the lock to the next request."""
        with self._mutex:
            self._holder = turn = self._next() if self._first or self._others else None
            if turn is not None and turn.gate is not None:
                turn.since = time.monotonic()
                turn.gate.release()

    def _queue_of(self, turn: Turn) -> deque[Turn]:
        return self._first if turn.is_first else self._others

    def _give_up(self, turn: Turn) -> bool:
        """Leave the queue; False when this request got the lock at the last moment."""
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
