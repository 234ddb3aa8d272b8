"""Read what a drive says of itself, so that a node can be made again from it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from backup_scp.copies.contents_file import MOST_BYTES, SaidOfIndex, decode_contents
from backup_scp.copies.drive.drive_catalog import MANIFEST, decode
from backup_scp.copies.drive.drive_names import NO_DATE
from backup_scp.copies.drive.drive_writer import NEW_LISTS, OWN, month_of_new_list
from backup_scp.dicom.file_set import Entry
from backup_scp.errors import DigestMismatch
from backup_scp.machine.root_folder import READ, RootFolder
from backup_scp.ports import InstanceKey, ListedImage, StoredCopy

INDEX = f"{OWN}/INDEX.SQLITE"
SETTINGS = f"{OWN}/SETTINGS.TOML"
STATE = f"{OWN}/INDEX.TXT"

_MOST_SETTINGS_BYTES = 1 << 20
_STEM = MANIFEST.partition(".")[0]
_YEAR, _MONTH = re.compile(rf"\d{{4}}|{NO_DATE}"), re.compile(r"\d\d(\d{4})?")
_CLOCKS_DIFFER_BY = timedelta(days=2)  # and FAT keeps local times


def read_state(root: RootFolder) -> SaidOfIndex:
    """Return what is said of the index on the drive.

    Raises
    ------
    OSError
    """
    return decode_contents(root.read(STATE, MOST_BYTES) or b"")


def read_settings(root: RootFolder) -> str:
    """Return the settings on the drive; empty when there are none.

    Raises
    ------
    OSError
    DigestMismatch
    """
    try:
        return (root.read(SETTINGS, _MOST_SETTINGS_BYTES) or b"").decode()
    except UnicodeDecodeError:
        raise DigestMismatch(f"{SETTINGS} on the drive is damaged") from None


def listed_images(root: RootFolder, since: datetime | None) -> Iterator[ListedImage]:
    """Yield the images of all lists, newest months first; a damaged list up to its damage.

    Raises
    ------
    OSError
    """
    earliest = (since - _CLOCKS_DIFFER_BY).astimezone(UTC) if since else None
    for name in _lists(root):
        if earliest and (changed_at := root.changed_at(name)) and changed_at < earliest:
            continue
        for entry in _entries(root, name):  # all of them: an image may be copied long after it was received
            yield _listed(entry)


def _lists(root: RootFolder) -> Iterator[str]:
    """Yield the lists of what is new, then those of the months, latest first."""
    yield from (f"{NEW_LISTS}/{name}" for name in sorted(root.names(NEW_LISTS)) if month_of_new_list(name))
    for year in sorted(filter(_YEAR.fullmatch, root.names("")), reverse=True):
        for month in sorted(filter(_MONTH.fullmatch, root.names(year)), reverse=True):
            folder = f"{year}/{month}"
            names = sorted(root.names(folder))
            yield from (f"{folder}/{name}" for name in names if name.startswith(_STEM) and name.endswith(".TXT"))


def _entries(root: RootFolder, name: str) -> Iterator[Entry]:
    """Yield the images of a list; of a damaged one those before its damage."""
    with (
        suppress(FileNotFoundError, ValueError),
        open(root.open(name, READ), "rb") as lines,  # noqa: PTH123 - a descriptor
    ):
        yield from decode(lines)


def _listed(entry: Entry) -> ListedImage:
    key = InstanceKey(entry.study.uid, entry.series.uid, entry.image.sop_instance_uid)
    return ListedImage(entry.image.location, entry.image.version, 0, StoredCopy(entry.path, entry.sha256, 0), key)
