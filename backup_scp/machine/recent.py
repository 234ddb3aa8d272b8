"""Keep values that were used lately, up to a size; threads share it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class Recent(Generic[_Value]):
    """Values by key; the longest unused ones are dropped.

    Parameters
    ----------
    limit
        Of the sizes of all values together.
    size_of
        Returns the size of a value; each counts as one without it.
    """

    def __init__(self, limit: int, size_of: Callable[[_Value], int] = lambda _: 1) -> None:
        self._limit = limit
        self._size_of = size_of
        self._size = 0
        self._values: OrderedDict[object, _Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: object) -> _Value | None:
        """Return a value; None when it was never kept, or was dropped."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def keep(self, key: object, value: _Value) -> None:
        """Keep a value; the newest one stays whatever its size is."""
        with self._lock:
            if (before := self._values.pop(key, None)) is not None:
                self._size -= self._size_of(before)
            self._values[key] = value
            self._size += self._size_of(value)
            while self._size > self._limit and len(self._values) > 1:
                self._size -= self._size_of(self._values.popitem(last=False)[1])

    def __len__(self) -> int:
        return len(self._values)
