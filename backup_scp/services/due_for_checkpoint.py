"""What was accepted and is not durable in each place yet: its staged name alone would survive a power cut."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from backup_scp.ports import StagedFile

MANY = 500
"""So many files wait at most before a checkpoint begins at once."""

MUCH = 0.75
"""So much of one file of the intake journal: it goes on in its second one then."""

Due = tuple[StagedFile, str]


class DueForCheckpoint:
    """Staged files with their locations; safe to share between threads."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._one_at_a_time = threading.Lock()
        self._accepted: list[Due] = []
        self._journal_share = 0.0
        self.any = threading.Event()
        self.many = threading.Event()

    def append(self, staged: StagedFile, location: str) -> None:
        """Note a file that was accepted."""
        with self._mutex:
            self._append((staged, location))

    def _append(self, due: Due) -> None:
        self._accepted.append(due)
        self._journal_share += due[0].journal_share
        self.any.set()
        if len(self._accepted) >= MANY or self._journal_share >= MUCH:
            self.many.set()

    @contextlib.contextmanager
    def taken(self) -> Iterator[list[Due]]:
        """Take all of them; where the block fails they are due again."""
        with self._one_at_a_time:
            with self._mutex:
                taken, self._accepted = self._accepted, []
                self._journal_share = 0.0
                self.any.clear()
                self.many.clear()
            try:
                yield taken
            except BaseException:
                with self._mutex:
                    for due in taken:
                        self._append(due)
                raise
