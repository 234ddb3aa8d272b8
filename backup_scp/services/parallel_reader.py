"""Read and compare the next instances in threads while one is sent (docs/adr/0048)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from itertools import islice
from typing import Self

from backup_scp.ports import ReadableArchive, StoredVersion, Upcoming
from backup_scp.services.read_ahead import MEMORY_BYTES, Buffer, LoadedInstance, VerifiedReader

READERS = 3  # one waits for the disk while two hash: SHA-256 takes longer than sending


class ParallelReader(VerifiedReader):
    """A ``VerifiedReader`` for a command that sends a whole archive.

    Each instance has a buffer of its own, which is reused when the next one is requested.

    Parameters
    ----------
    archive
        Holds the instances; several threads read it.
    by_sha256
        See ``VerifiedReader``.
    """

    def __init__(self, archive: ReadableArchive, *, by_sha256: bool = False) -> None:
        super().__init__(archive, by_sha256=by_sha256)
        self._open = ExitStack()
        self._coming: deque[tuple[StoredVersion, Buffer, Future[LoadedInstance]]] = deque()

    def __enter__(self) -> Self:
        super().__enter__()
        self._pool = self._open.enter_context(ThreadPoolExecutor(READERS, "read"))
        self._buffers = [Buffer(MEMORY_BYTES) for _ in range(READERS + 1)]
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()
        self._buffers = []
        super().__exit__(*exc)

    def in_order(self, held: Sequence[StoredVersion]) -> Iterator[LoadedInstance]:
        """Yield the instances in order.  The buffer of one is reused when the next is requested."""
        free, upcoming = list(self._buffers), iter(held)

        def begin(count: int) -> None:
            for one in islice(upcoming, count):
                buffer = free.pop()
                self._coming.append((one, buffer, self._pool.submit(self.load, one, buffer)))

        try:
            begin(READERS)
            while self._coming:
                _, buffer, future = self._coming.popleft()
                begin(1)
                yield future.result()
                free.append(buffer)
        finally:
            self._drop()

    def read_ahead(self) -> Upcoming | None:
        """Return the next instance, if it has been read by now and is intact."""
        if not self._coming or not self._coming[0][2].done():
            return None
        held, _, future = self._coming[0]
        file = future.result().file
        return None if file is None else (file, held)

    def _drop(self) -> None:
        """Wait for what is being read, so that its buffers are free."""
        futures = [future for _, _, future in self._coming]
        self._coming.clear()
        wait(future for future in futures if not future.cancel())
