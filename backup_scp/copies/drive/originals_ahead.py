"""Open the originals of the next images, and let the system read them, while one is written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from backup_scp.machine.writeback import begin_reading
from backup_scp.ports import ArchivedFile, CopyItem, ReadOriginal

_MOST_FILES, _MOST_BYTES = 16, 32 << 20


def originals_ahead(
    items: Sequence[CopyItem], read: ReadOriginal
) -> Generator[tuple[CopyItem, Callable[[], ArchivedFile]], None, None]:
    """Yield each image with a function that returns its original, or raises what ``read`` has raised."""
    opened: deque[tuple[CopyItem, Future[ArchivedFile]]] = deque()
    size_bytes, rest = 0, iter(items)
    thread = ThreadPoolExecutor(1, "drive originals")
    try:
        for item in rest:
            opened.append((item, thread.submit(_opened, item, read)))
            size_bytes += item.held.size_bytes
            while len(opened) > _MOST_FILES or size_bytes > _MOST_BYTES:
                next_item, original = opened.popleft()
                size_bytes -= next_item.held.size_bytes
                yield next_item, original.result
        for next_item, original in opened:
            yield next_item, original.result
    finally:
        thread.shutdown(cancel_futures=True)


def _opened(item: CopyItem, read: ReadOriginal) -> ArchivedFile:
    file = read(item.held)
    with file.reopen() as stream:
        begin_reading(stream.fileno(), min(file.data_set_offset + file.size_bytes, _MOST_BYTES))
    return file
