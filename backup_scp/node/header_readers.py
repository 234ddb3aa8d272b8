"""Read the headers of many files in several processes at once, since a rebuild spends its time with that."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from backup_scp.node.opening import open_archive
from backup_scp.node.settings import Settings
from backup_scp.ports import Version
from backup_scp.services import rebuild

if TYPE_CHECKING:
    from concurrent.futures import Future, ProcessPoolExecutor

log = logging.getLogger(__name__)

_TO_BEGIN_WITH = 5  # batches
_MOST_DEATHS = 2  # of reading processes; after more, this process reads everything


@contextlib.contextmanager
def reader(settings: Settings) -> Iterator[rebuild.ReadHeaders]:
    """Yield a function that reads headers in other processes: one for each processor, except this process's."""
    with ExitStack() as stack:
        yield functools.partial(_read_in_processes, settings, stack)


def _read_in_processes(settings: Settings, stack: ExitStack, batches: Iterable[rebuild.Folders]) -> rebuild.Found:
    readers = _Readers(settings, stack)
    under_way: deque[tuple[rebuild.Folders, _UnderWay | None]] = deque()
    for number, batch in enumerate(batches):
        if number < _TO_BEGIN_WITH:  # a few batches are read before a process has started
            yield batch, readers.finish(batch, None)
            continue
        under_way.append((batch, readers.begin(batch)))
        if len(under_way) > readers.most_under_way:
            first, begun = under_way.popleft()
            yield first, readers.finish(first, begun)
    for batch, begun in under_way:
        yield batch, readers.finish(batch, begun)


class _UnderWay(NamedTuple):
    """A batch that a process is reading."""

    pool: ProcessPoolExecutor
    found: Future[list[Version | rebuild.SkippedFile]]


class _Readers:
    """Processes that read headers; when one dies or cannot start, this process reads its batch."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._number = max(1, (os.cpu_count() or 2) - 1)
        self._pool: ProcessPoolExecutor | None = None
        self._deaths = 0

    @property
    def most_under_way(self) -> int:
        """How many batches the processes have at once."""
        return 2 * self._number

    def begin(self, batch: rebuild.Folders) -> _UnderWay | None:
        """Give a batch to a process; None when there is no process."""
        from concurrent.futures import BrokenExecutor

        if self._deaths > _MOST_DEATHS:
            return None
        pool = self._pool
        try:
            pool = self._pool = pool or self._started()
            return _UnderWay(pool, pool.submit(_read_files, self._settings, batch.locations))
        except (BrokenExecutor, OSError) as error:
            self._give_up(pool, error)
            return None

    def finish(self, batch: rebuild.Folders, begun: _UnderWay | None) -> list[Version | rebuild.SkippedFile]:
        """Wait until a process has read the batch, or read it here."""
        from concurrent.futures import BrokenExecutor

        if begun is not None:
            try:
                return begun.found.result()
            except (BrokenExecutor, OSError) as error:
                self._give_up(begun.pool, error)
        return _read_files(self._settings, batch.locations)

    def _started(self) -> ProcessPoolExecutor:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        pool = ProcessPoolExecutor(self._number, get_context("spawn"), initializer=_ignore_interrupt)
        self._stack.callback(pool.shutdown, cancel_futures=True)  # after Ctrl-C nobody needs the rest
        return pool

    def _give_up(self, pool: ProcessPoolExecutor | None, error: Exception) -> None:
        """Drop the processes after one has died; the next batch starts new ones, until too many have died."""
        if pool is self._pool:
            self._pool = None
            self._deaths += 1
            log.warning(
                "A process that read the archive has ended (%s): its files are read again", type(error).__name__
            )


def _read_files(settings: Settings, locations: list[str]) -> list[Version | rebuild.SkippedFile]:
    return rebuild.read_files(open_archive(settings), locations)


def _ignore_interrupt() -> None:
    """Ignore Ctrl-C, which the terminal sends to all its processes; the parent process ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
