"""Open the place of a copy from its URL alone, on a computer that has no settings yet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backup_scp.errors import InvalidSelection, InvalidSettings
from backup_scp.node.copy_places import bucket_access, cloud_copy, rclone_copy
from backup_scp.node.settings import CopySettings, Settings

if TYPE_CHECKING:
    from backup_scp.copies.cloud.cloud_copy import CloudCopy
    from backup_scp.copies.cloud.object_store import BucketAccess
    from backup_scp.copies.cloud.sealing import RecoveryKeys
    from backup_scp.ports import StandAloneCopy

_SECRET = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 - its name
_KEY = "AWS_ACCESS_KEY_ID"


@dataclass(frozen=True, slots=True)
class PlaceOptions:
    """What must be known besides the URL.

    Attributes
    ----------
    name
        Of the copy, for messages.
    recovery_key
        The key, or its file; empty for a copy that is not sealed.
    endpoint, region, access_key, secret_key_file, ca, rclone_config
        As in a ``[[copy]]``; files below the current folder.  Without a secret key's file, and without an access key,
        the environment has them (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``).
    as_of
        Show a bucket as it was at this time; None as it is.
    """

    name: str = "recovery"
    recovery_key: str = ""
    endpoint: str = ""
    region: str = ""
    access_key: str = ""
    secret_key_file: str = ""
    ca: str = ""
    rclone_config: str = ""
    as_of: datetime | None = None


def place_at(settings: Settings, url: str, options: PlaceOptions | None = None) -> StandAloneCopy:
    """Return the copy at a URL, to be read only; it is not reached before it is entered, but for a drive's marker.

    Parameters
    ----------
    settings
        Temporary files go below its home.
    url
        ``s3://BUCKET/PREFIX``, ``rclone:REMOTE:PATH``, ``file:///FOLDER``, or a folder: that of a copy on a drive, or
        the one above it.

    Raises
    ------
    InvalidSelection
        There is no copy of an archive, or no such place can be read alone.
    InvalidSettings
        The URL, a key or a file cannot be used, or a library is missing.
    """
    options = options or PlaceOptions()
    scheme = url.partition(":")[0].partition("+")[0]
    if options.as_of is not None and scheme != "s3":
        raise InvalidSelection("Only a bucket (s3://) can be read as it was at another time")
    if scheme in {"s3", "rclone"}:
        return _cloud(settings, url, options)
    if scheme in {"dicom", "dicomweb"}:
        raise InvalidSelection(
            f"{url} gives back images, but no index and no settings: start a new node, and fetch them into it"
        )
    return _drive(settings, _folder(url), options)


def is_other_folder(url: str) -> bool:
    """Tell whether a URL names a folder that is here, and has no copy of an archive: perhaps plain DICOM files."""
    if url.startswith(("s3:", "rclone:", "dicom")):
        return False
    folder = _folder(url)
    return folder.is_dir() and not list(_copies_at(folder))


def _cloud(settings: Settings, url: str, options: PlaceOptions) -> CloudCopy:
    keys = _keys(options)
    try:
        copy = CopySettings(
            name=options.name,
            url=url,
            endpoint=options.endpoint,
            region=options.region,
            access_key=options.access_key if options.secret_key_file else "",
            secret_key_file=_absolute(options.secret_key_file) if options.access_key else "",
            ca=_absolute(options.ca),
            rclone_config=_absolute(options.rclone_config),
        )
        place = rclone_copy(settings, copy) if url.startswith("rclone:") else _bucket(settings, copy, options)
    except (ValueError, InvalidSettings) as error:
        raise InvalidSettings(str(error).removeprefix(f"[[copy]] {options.name}, ")) from None
    place.recovery_keys = keys
    return place


def _bucket(settings: Settings, copy: CopySettings, options: PlaceOptions) -> CloudCopy:
    from backup_scp.copies.cloud.object_store import ObjectStore

    access = _with_secret(bucket_access(settings, copy), options)
    if options.as_of is None:
        return cloud_copy(settings, copy, ObjectStore(access))
    from backup_scp.copies.cloud.bucket_as_of import BucketAsOf

    return cloud_copy(settings, copy, BucketAsOf(access, options.as_of))


def _with_secret(access: BucketAccess, options: PlaceOptions) -> BucketAccess:
    """Take from the environment what the options do not say.

    Raises
    ------
    InvalidSettings
    """
    if access.secret_key:
        return access
    key, secret = options.access_key or os.environ.get(_KEY, ""), os.environ.get(_SECRET, "")
    if options.secret_key_file:
        raise InvalidSettings("secret_key_file needs the access key that belongs to it")
    if key and not secret:
        raise InvalidSettings(f"The access key {key} needs its secret key: name its file, or set {_SECRET}")
    if not key and options.endpoint:  # at AWS itself, the machine's role may do
        raise InvalidSettings(f"{access.bucket} needs an access key and its secret key, or {_KEY} and {_SECRET}")
    return replace(access, access_key=key, secret_key=secret)


def _drive(settings: Settings, named: Path, options: PlaceOptions) -> StandAloneCopy:
    from backup_scp.copies.drive.drive_copy import DriveCopy
    from backup_scp.copies.sealed_drive import SealedDriveCopy, is_sealed_drive

    copies = list(_copies_at(named))
    if not copies:
        raise InvalidSelection(
            f"There is no copy of an archive in {named}: name the folder that has BACKUP-SCP.json, or the one above it"
        )
    if len(copies) > 1:
        folders = ", ".join(str(folder) for folder, _ in copies)
        raise InvalidSelection(f"{named} has copies of several archives, or several copies: name one of {folders}")
    folder, archive = copies[0]
    try:
        if not is_sealed_drive(folder):
            return DriveCopy(options.name, folder, lambda: archive)
    except OSError as error:
        raise InvalidSelection(f"{folder} cannot be read ({error.strerror})") from None
    work, keys = settings.home / "copies", _keys(options)
    return SealedDriveCopy(options.name, folder, lambda: archive, work, (), recovery_keys=keys)


def _folder(url: str) -> Path:
    from backup_scp.copies.drive.drive_connection import folder_of_url

    return folder_of_url(url) if url.startswith("file:") else Path(url).expanduser().absolute()


def _copies_at(named: Path) -> Iterator[tuple[Path, str]]:
    """Yield folder and archive of the copies in a folder, or one folder below it.

    Raises
    ------
    InvalidSelection
        The folder cannot be read.
    """
    from backup_scp.copies.drive.drive_marker import read_marker

    if marker := read_marker(named):
        yield named, marker.archive
        return
    try:
        below = sorted(named.iterdir())
    except OSError as error:
        raise InvalidSelection(f"{named} cannot be read ({error.strerror})") from None
    for folder in below:
        if marker := read_marker(folder):
            yield folder, marker.archive


def _keys(options: PlaceOptions) -> RecoveryKeys | None:
    from backup_scp.copies.cloud.sealing import RecoveryKeys

    return RecoveryKeys.given(options.recovery_key) if options.recovery_key else None


def _absolute(file: str) -> str:
    return str(Path(file).expanduser().absolute()) if file else ""
