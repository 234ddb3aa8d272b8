"""The headers of many files, read by several processes at once: a rebuild takes its time for that."""

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
_MOST_DEATHS = 2  # of processes that read; then all is read in this one


@contextlib.contextmanager
def reader(settings: Settings) -> Iterator[rebuild.ReadHeaders]:
    """Give what reads the headers of many files: other processes, one for each processor but this one's."""
    with ExitStack() as stack:
        yield functools.partial(_read_in_processes, settings, stack)


def _read_in_processes(settings: Settings, stack: ExitStack, batches: Iterable[rebuild.Folders]) -> rebuild.Found:
    readers = _Readers(settings, stack)
    under_way: deque[tuple[rebuild.Folders, _UnderWay | None]] = deque()
    for number, batch in enumerate(batches):
        if number < _TO_BEGIN_WITH:  # what is few is read before a process has started
            yield batch, readers.finish(batch, None)
            continue
        under_way.append((batch, readers.begin(batch)))
        if len(under_way) > readers.most_under_way:
            first, begun = under_way.popleft()
            yield first, readers.finish(first, begun)
    for batch, begun in under_way:
        yield batch, readers.finish(batch, begun)


class _UnderWay(NamedTuple):
    """What a process reads."""

    pool: ProcessPoolExecutor
    found: Future[list[Version | rebuild.SkippedFile]]


class _Readers:
    """Processes that read headers; what one of them was at when it died, or could not be started for, is read here."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._number = max(1, (os.cpu_count() or 2) - 1)
        self._pool: ProcessPoolExecutor | None = None
        self._deaths = 0

    @property
    def most_under_way(self) -> int:
        """How many batches are given to them at once."""
        return 2 * self._number

    def begin(self, batch: rebuild.Folders) -> _UnderWay | None:
        """Give a batch to a process; None where there is none."""
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
        """Wait for what a process reads, or read it here."""
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
        self._stack.callback(pool.shutdown, cancel_futures=True)  # after Ctrl-C nobody asks for the rest
        return pool

    def _give_up(self, pool: ProcessPoolExecutor | None, error: Exception) -> None:
        """Begin with new processes next time, unless that has been of no use."""
        if pool is self._pool:
            self._pool = None
            self._deaths += 1
            log.warning("A process that read the archive has ended (%s): its files are read anew", type(error).__name__)


def _read_files(settings: Settings, locations: list[str]) -> list[Version | rebuild.SkippedFile]:
    return rebuild.read_files(open_archive(settings), locations)


def _ignore_interrupt() -> None:
    """Ctrl-C goes to every process of the terminal; the one that asked for this work will end it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
