"""Two processes of one node on one disk: ``python -m tests.archive.workers FOLDER``."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backup_scp.archive import FilesystemArchive
from backup_scp.errors import ArchiveUnavailable
from tests.archive.examples import ARRIVAL, HEADING, KEY, digest, store

_fsync = os.fsync


def main(folder: str) -> None:
    root = Path(folder)
    location = store(FilesystemArchive(root))
    archive = FilesystemArchive(root)
    staged = archive.stage(HEADING)
    staged.write(b"under way")
    os.fsync = _once_in_another_process(root, location)  # type: ignore[assignment]
    with pytest.raises(ArchiveUnavailable, match="an fsync failed"):
        archive.commit(staged, KEY, ARRIVAL)
    staged.discard()

    os.fsync = _fails
    with pytest.raises(ArchiveUnavailable, match="did not keep data"):
        archive.stage(HEADING)  # it tries the disk first
    os.fsync = _fsync
    archive.verify(store(archive, b"it keeps data again"), digest(b"it keeps data again"))
    assert archive.trouble == ""


def _once_in_another_process(root: Path, location: str) -> Callable[[Any], None]:
    """Let the first fsync of this process be the moment at which another one's fails."""

    def fsync(fd: Any) -> None:
        os.fsync = _fsync
        other = os.fork()
        if other == 0:
            os.fsync = _fails
            try:
                FilesystemArchive(root).flush(location)
            except ArchiveUnavailable:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(other, 0)[1] == 0
        _fsync(fd)

    return fsync


def _fails(fd: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


if __name__ == "__main__":
    main(sys.argv[1])
