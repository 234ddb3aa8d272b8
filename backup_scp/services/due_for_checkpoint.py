"""What was accepted and is not durable in each place yet: its staged name alone would survive a power cut."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from backup_scp.ports import StagedFile

MANY = 500
"""So many files wait at most before a checkpoint begins at once."""

MANY_BYTES = 6 << 20
"""So much of the intake journal, which then goes on in its second file."""

Due = tuple[StagedFile, str]


class DueForCheckpoint:
    """Staged files with their locations; safe to share between threads."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._one_at_a_time = threading.Lock()
        self._accepted: list[Due] = []
        self._journalled_bytes = 0
        self.any = threading.Event()
        self.many = threading.Event()

    def append(self, staged: StagedFile, location: str) -> None:
        """Note a file that was accepted."""
        with self._mutex:
            self._accepted.append((staged, location))
            self.any.set()
            self._journalled_bytes += staged.journalled_bytes
            if len(self._accepted) >= MANY or self._journalled_bytes >= MANY_BYTES:
                self.many.set()

    @contextlib.contextmanager
    def taken(self) -> Iterator[list[Due]]:
        """Take all of them; where the block fails they are due again."""
        with self._one_at_a_time:
            with self._mutex:
                taken, self._accepted = self._accepted, []
                self._journalled_bytes = 0
                self.any.clear()
                self.many.clear()
            try:
                yield taken
            except BaseException:
                with self._mutex:
                    self._accepted = taken + self._accepted
                    self.any.set()
                raise
