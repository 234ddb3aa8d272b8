"""Read the settings file, replace it as a whole, and keep its old versions beside it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from backup_scp.errors import InvalidSettings
from backup_scp.machine import clock, whole_file
from backup_scp.machine.ownership import our_uid, owner_of, user_name
from backup_scp.node.health.surroundings import why_closed
from backup_scp.node.settings import Settings, file_in_home, find_file
from backup_scp.node.settings.known import CONFIG

_HEADING = "# Settings of backup-scp; conf/backup-scp.toml explains each of them.\n"
_LATEST = 5


class SettingsOnDisk(NamedTuple):
    """The settings file as it is now; ``content`` is None when it is not there."""

    path: Path
    content: bytes | None

    @property
    def digest(self) -> str:
        """SHA-256 of its bytes; empty when it is not there."""
        return "" if self.content is None else hashlib.sha256(self.content).hexdigest()

    @property
    def text(self) -> str:
        """What it says; of one that is not there, what a new one begins with."""
        try:
            return _HEADING if self.content is None else self.content.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidSettings(f"The settings file {self.path} is not UTF-8 text: save it as UTF-8") from None

    @property
    def before(self) -> str:
        """What it says; empty when it is not there."""
        return "" if self.content is None else self.text


def path_of(running: Settings, environment: Mapping[str, str]) -> Path | None:
    """Return the settings file, or where one would be made; None when the environment wants none."""
    if running.file is not None:
        return running.file
    if CONFIG in environment:
        return Path(named).absolute() if (named := environment[CONFIG]) else None
    return find_file(None, environment) or file_in_home(environment)


def read(path: Path) -> SettingsOnDisk:
    """Read it.

    Raises
    ------
    InvalidSettings
    """
    try:
        return SettingsOnDisk(path, path.read_bytes())
    except FileNotFoundError:
        return SettingsOnDisk(path, None)
    except OSError as error:
        raise InvalidSettings(f"The settings file {path} cannot be read ({error.strerror})") from None


def write(found: SettingsOnDisk, content: bytes, mode: int = 0o600) -> None:
    """Replace the file, also behind a symbolic link; make it when it is not there.

    Parameters
    ----------
    mode
        Who may read a new one; one that is replaced keeps its mode.

    Raises
    ------
    OSError
        It is as it was.
    """
    if found.content is None:
        whole_file.write_new(found.path, content, mode)
        return
    path = found.path.resolve()
    whole_file.replace(path, content, path.with_name(f"{path.name}.{clock.now():%Y%m%dT%H%M%S.%fZ}"))


def backups(path: Path) -> list[str]:
    """Return the names of the old versions, the latest first."""
    path = path.resolve()
    dated = re.compile(re.escape(path.name) + r"\.\d{8}T\d{6}\.\d{6}Z")
    try:
        names = [file.name for file in path.parent.iterdir() if dated.fullmatch(file.name)]
    except OSError:
        return []
    return sorted(names, reverse=True)[:_LATEST]


def why_fixed(path: Path) -> str:
    """Return why this process cannot replace a file, or make it; empty when it can."""
    path = path.resolve()
    owner, us = owner_of(path), our_uid()
    if path.exists() and owner is not None and owner.path == path and us not in {0, owner.uid}:
        return f"{path} belongs to {owner.name}, and the node runs as {user_name(us or 0)}"
    if path.exists() and os.path.ismount(path):
        return f"{path} is mounted into a container by itself, and so cannot be replaced: mount its folder instead"
    if reason := why_closed(path.parent):
        return f"The node cannot write in {path.parent} ({reason})"
    return ""
