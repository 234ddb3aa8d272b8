"""Read and write the archive's marker: a file that tells an archive from the empty mount point of its drive."""

from __future__ import annotations

import json
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from backup_scp.archive.os_errors import UNREADABLE
from backup_scp.machine.folders import fsync, fsync_folder

MARKER = ".backup-scp-archive"

_MOST_BYTES = 4096
_IDENTITY = re.compile(r"[0-9a-f]{32}")


def new_identity() -> str:
    """Return a random identity for a new archive: 32 hex digits."""
    return secrets.token_hex(16)


class Marker:
    """The marker of one archive folder; its content is cached while the file stays the same.

    Parameters
    ----------
    root
        The archive's folder.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / MARKER
        self._seen: tuple[tuple[int, int, int], str | None] | None = None

    def identity(self) -> str | None:
        """Read the identity; None when there is no marker or it is damaged: the caller then writes it again.

        Raises
        ------
        OSError
            The file cannot be read for another reason.
        """
        try:
            found = self._path.stat()
            version = (found.st_dev, found.st_ino, found.st_mtime_ns)
            if self._seen is None or self._seen[0] != version:
                self._seen = (version, _parse(self._path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno in UNREADABLE:
                return None
            raise
        return self._seen[1]

    def write(self, identity: str) -> None:
        """Write the identity; on return it is durable.

        Raises
        ------
        OSError
        """
        fresh = self._path.with_name(f"{MARKER}.{secrets.token_hex(4)}")
        content = json.dumps({"format": 1, "identity": identity}) + "\n"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content.encode())
                stream.flush()
                fsync(stream.fileno())
            fresh.replace(self._path)
        except OSError:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise
        fsync_folder(self._path.parent)


def _parse(path: Path) -> str | None:
    with path.open("rb") as stream:
        raw = stream.read(_MOST_BYTES)
    with suppress(ValueError):
        content = json.loads(raw)
        identity = content.get("identity") if isinstance(content, dict) else None
        if isinstance(identity, str) and _IDENTITY.fullmatch(identity):
            return identity
    return None
