"""Work on several versions at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from backup_scp.ports import CopyItem, CopyResult

_AT_ONCE = 4


def in_parallel(items: Sequence[CopyItem], work: Callable[[CopyItem], CopyResult]) -> Iterator[CopyResult]:
    """Yield results as they come.  Only a few are begun at a time, and none while the caller does not ask.

    After an error, those that were begun are finished and yielded before it is raised.
    """
    waiting: set[Future[CopyResult]] = set()
    error: Exception | None = None
    left = iter(items)
    with ThreadPoolExecutor(_AT_ONCE, "copy") as pool:
        while True:
            while error is None and len(waiting) < _AT_ONCE and (item := next(left, None)) is not None:
                waiting.add(pool.submit(work, item))
            if not waiting:
                break
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                try:
                    result = future.result()
                except Exception as raised:  # noqa: BLE001 - raised again after the others
                    error = error or raised
                    continue
                yield result
    if error is not None:
        raise error
