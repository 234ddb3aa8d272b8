"""A TLS context that takes renewed certificate files without a restart."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from backup_scp.errors import InvalidSettings

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0

_Stamp = tuple[tuple[int, int, int] | None, ...]


class RenewedContext(ssl.SSLContext):
    """A context that is made again when its files have changed; connections that are open keep the earlier one.

    New files that cannot be used are logged, and change nothing: the earlier context goes on.

    Parameters
    ----------
    make
        Makes the context of the files; raises ``InvalidSettings``.
    files
        The files; each is looked at once a second at most, when a connection comes.

    Raises
    ------
    InvalidSettings
        The files cannot be used.
    """

    def __new__(cls, make: Callable[[], ssl.SSLContext], files: Sequence[Path]) -> RenewedContext:  # noqa: ARG004, PYI034 - as __init__
        """Make the outer context, which opens no connection itself."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, make: Callable[[], ssl.SSLContext], files: Sequence[Path]) -> None:
        self._make = make
        self._files = tuple(files)
        self._lock = threading.Lock()
        self._stamp = self._stamps()  # before the files are read: what changes meanwhile is read again
        self._inner = make()
        self._look_at = time.monotonic() + _LOOK_EVERY_S

    def wrap_bio(self, *arguments: Any, **more: Any) -> ssl.SSLObject:
        """Begin a connection with the files as they are now."""
        return self._current().wrap_bio(*arguments, **more)

    def _current(self) -> ssl.SSLContext:
        if time.monotonic() >= self._look_at and self._lock.acquire(blocking=False):  # another thread looks already
            try:
                self._look()
            finally:
                self._lock.release()
        return self._inner

    def _look(self) -> None:
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        stamp = self._stamps()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._inner = self._make()
        except InvalidSettings as error:
            log.error("%s. The earlier certificate stays in use", error)
        else:
            log.info("The certificate in %s was renewed: new connections use it", self._files[0])

    def _stamps(self) -> _Stamp:
        return tuple(map(_stamp, self._files))


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
