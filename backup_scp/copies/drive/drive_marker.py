"""Recognise the drives of a copy by a file in their folder, so that no other folder is ever written."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from itertools import starmap
from pathlib import Path
from typing import NamedTuple

from backup_scp.errors import DestinationAway, DestinationForeign, DestinationUnavailable, InvalidSelection
from backup_scp.machine.folders import fsync, fsync_folder
from backup_scp.machine.root_folder import NEW

MARKER = "BACKUP-SCP.json"

_MOST_BYTES = 4096
_LONGEST_LABEL = 64
_OWN = "BACKUPSC"
_NOT_OTHERS = {"lost+found", "System Volume Information", "$RECYCLE.BIN"}
_ID = re.compile(r"[0-9a-f]{32}")


class DriveMarker(NamedTuple):
    """What the marker of a drive says.

    Attributes
    ----------
    drive
        The drive's own ID: 32 hex digits.
    label
        Its name for people.
    archive
        Identity of the archive whose images it takes.
    """

    drive: str
    label: str
    archive: str


def read_marker(folder: Path) -> DriveMarker | None:
    """Return the marker of a folder; None without one, or when it is damaged."""
    try:
        with (folder / MARKER).open("rb") as stream:
            return parse_marker(stream.read(_MOST_BYTES))
    except OSError:
        return None


def parse_marker(raw: bytes | None) -> DriveMarker | None:
    """Return what the bytes of a marker say; None when they are no marker."""
    with suppress(ValueError, KeyError, TypeError):
        content = json.loads(raw or b"")
        marker = DriveMarker(content["drive"], content["label"], content["archive"])
        if all(map(_ID.fullmatch, (marker.drive, marker.archive))):
            return marker
    return None


def find_drive(copy: str, pattern: Path, archive: str) -> tuple[Path, DriveMarker]:
    """Return the folder of the drive that is here.

    Parameters
    ----------
    copy
        The copy's name in the settings.
    pattern
        A folder; one component may have ``*``, which stands for any characters.
    archive
        Identity of our archive.

    Raises
    ------
    DestinationAway
        There is none; the text says what to do.
    DestinationForeign
        One is here, and it is another archive's.
    """
    others, folders = 0, 0
    for folder in _matching(pattern):
        marker = read_marker(folder)
        if marker is not None and marker.archive == archive:
            return folder, marker
        others += marker is not None
        folders += 1
    prepare = f"a new drive is prepared by: backup-scp copies init {copy}"
    if others:
        raise DestinationForeign(f"The drive at {pattern} holds copies of another archive: connect ours; {prepare}")
    if "*" not in str(pattern) and not os.access(pattern.parent, os.R_OK | os.X_OK) and pattern.parent.exists():
        raise DestinationAway(f"{pattern} cannot be read by the node's user: change its rights, or mount it otherwise")
    if folders:
        raise DestinationAway(f"No drive of ours is at {pattern}: connect it, or mount it; {prepare}")
    raise DestinationAway(f"There is no folder {pattern}: connect the drive; {prepare}")


def _matching(pattern: Path) -> Iterator[Path]:
    """Yield the folders of a pattern in order; where one component has ``*``, only the folders there are listed."""
    parts = pattern.parts
    starred = next((position for position, part in enumerate(parts) if "*" in part), None)
    if starred is None:
        if _is_folder(pattern):
            yield pattern
        return
    found: list[Path] = []
    with suppress(OSError):
        found = sorted(Path(*parts[:starred]).iterdir())
    for each in found:
        folder = Path(each, *parts[starred + 1 :])
        if fnmatch.fnmatchcase(each.name, parts[starred]) and _is_folder(folder):
            yield folder


def _is_folder(path: Path) -> bool:
    """Tell whether it is a folder; False when that cannot be seen: another user's drive hides no other one."""
    try:
        return path.is_dir()
    except OSError:
        return False


def fits(folder: Path, pattern: Path) -> bool:
    """Tell whether the node would find a folder by the pattern of the settings."""
    pairs = zip(folder.parts, pattern.parts, strict=False)
    return len(folder.parts) == len(pattern.parts) and all(starmap(fnmatch.fnmatchcase, pairs))


def prepare_drive(folder: Path, label: str, identity: str, own: Path, *, may_share_disk: bool = False) -> DriveMarker:
    """Make a drive one of our archive's: write its marker.  A drive that is ours already stays as it is.

    Parameters
    ----------
    folder
        On the drive; created when missing, its parent must exist.
    label
        The drive's name for people.
    identity
        Of the archive.
    own
        The archive's folder.
    may_share_disk
        Whether the folder may lie on the archive's own disk, or on the system's.

    Raises
    ------
    InvalidSelection
        The folder cannot be used; the text says why and what to do.
    DestinationUnavailable
        It cannot be written.
    """
    if not (label.isprintable() and 0 < len(label) <= _LONGEST_LABEL):
        raise InvalidSelection(f"The drive's label: 1 to {_LONGEST_LABEL} letters, digits and blanks")
    if not _is_folder(folder.parent):
        raise InvalidSelection(f"There is no folder {folder.parent} that we can read: connect the drive, or mount it")
    found = read_marker(folder)
    if found is not None and found.archive == identity:
        return found
    if found is not None:
        raise InvalidSelection(f"{folder} holds copies of another archive: use another folder or another drive")
    if (folder / MARKER).exists():
        raise InvalidSelection(f"{MARKER} in {folder} is damaged: if the drive is ours, remove that file and try again")
    if _holds_something(folder):
        raise InvalidSelection(f"{folder} holds other files, and we replace none: name a new folder on the drive")
    if not may_share_disk and (reason := shared_disk(folder, own)):
        raise InvalidSelection(
            f"{folder} is on {reason}: is the drive mounted there? A copy on it would be lost with it"
        )
    marker = DriveMarker(secrets.token_hex(16), label, identity)
    try:
        folder.mkdir(exist_ok=True)
        _write(folder, marker)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DestinationUnavailable(
            f"{folder} cannot be written ({reason}): check the drive and its rights"
        ) from error
    return marker


def _holds_something(folder: Path) -> bool:
    """Tell whether a folder has files or folders that are not ours."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return False  # it does not exist yet, or writing the marker tells why not
    was_ours = _OWN in names  # its marker is lost or damaged
    return not was_ours and any(not name.startswith(".") and name not in _NOT_OTHERS for name in names)


def shared_disk(folder: Path, own: Path) -> str:
    """Return the disk of this computer on which the folder lies; empty when it is on none of them."""
    device = (folder if folder.is_dir() else folder.parent).stat().st_dev
    with suppress(OSError):
        if own.stat().st_dev == device:
            return "the archive's own disk"
    return "this computer's own disk" if Path(folder.anchor).stat().st_dev == device else ""


def _write(folder: Path, marker: DriveMarker) -> None:
    fresh = folder / f"{MARKER}.{secrets.token_hex(4)}"
    content = {"format": 1, "drive": marker.drive, "label": marker.label, "archive": marker.archive}
    with os.fdopen(os.open(fresh, NEW, 0o644), "wb") as stream:
        stream.write(json.dumps(content, indent=1).encode() + b"\n")
        stream.flush()
        fsync(stream.fileno())
    fresh.rename(folder / MARKER)
    fsync_folder(folder)
    fsync_folder(folder.parent)
