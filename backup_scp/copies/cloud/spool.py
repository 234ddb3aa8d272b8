"""A folder for files that are on their way to or from a place: each process has its own, removed after a crash too."""

from __future__ import annotations

import itertools
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Self, cast

from backup_scp.errors import DestinationUnavailable
from backup_scp.machine.process_lock import Lock, exclusive_lock, is_locked

_LOCK = "lock"
_IN_MEMORY_BYTES = 2 << 20


class Spool:
    """Gives names for temporary files below a folder; a context manager, which removes them all at its end.

    Parameters
    ----------
    folder
        Created when missing, for its owner alone.  Below it each spool has a folder that it locks: what is not locked
        was left by a process that died, and is removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._own: Path | None = None
        self._lock: Lock | None = None

    def __enter__(self) -> Self:
        own = self._folder / secrets.token_hex(8)
        try:
            self._folder.mkdir(0o700, parents=True, exist_ok=True)
            with exclusive_lock(self._folder / _LOCK):  # between making a folder and locking it, it looks dead
                self._remove_those_of_the_dead()
                own.mkdir(0o700)
                self._lock = Lock(own / _LOCK)
        except OSError as error:
            raise self.unavailable(error) from error
        self._own = own
        return self

    def __exit__(self, *exc: object) -> None:
        own, self._own = self._own, None
        if own is not None and self._lock is not None:
            with suppress(OSError):  # what cannot be removed now is removed by the next spool
                for file in own.iterdir():
                    if file.name != _LOCK:
                        file.unlink(missing_ok=True)
            self._lock.close()
            shutil.rmtree(own, ignore_errors=True)

    @contextmanager
    def file(self) -> Iterator[Path]:
        """Yield a path at which no file is; remove the file that is there afterwards."""
        if self._own is None:
            raise DestinationUnavailable("The copy is not open")
        path = self._own / str(next(self._numbers))
        try:
            yield path
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    @contextmanager
    def writing(self, path: Path) -> Iterator[BinaryIO]:
        """Open a new file for writing.

        Raises
        ------
        DestinationUnavailable
            It cannot be written.
        """
        try:
            with path.open("xb") as file:
                yield file
        except OSError as error:
            raise self.unavailable(error) from error

    @contextmanager
    def buffer(self) -> Iterator[BinaryIO]:
        """Yield a new file to write and then to read, in memory as long as it is small.

        Raises
        ------
        DestinationUnavailable
            The copy is not open.
        """
        if self._own is None:
            raise DestinationUnavailable("The copy is not open")
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=str(self._own)) as file:
            yield cast("BinaryIO", file)

    def unavailable(self, error: OSError) -> DestinationUnavailable:
        """Return the error to raise when a temporary file cannot be written."""
        reason = error.strerror or type(error).__name__
        return DestinationUnavailable(
            f"{self._folder} cannot take the temporary files of a copy ({reason}): make room there, and check its "
            "rights"
        )

    def _remove_those_of_the_dead(self) -> None:
        for folder in self._folder.iterdir():
            if folder.is_dir() and not is_locked(folder / _LOCK):
                shutil.rmtree(folder, ignore_errors=True)
