"""Open the places of further copies that the settings name."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from backup_scp.errors import InvalidSettings
from backup_scp.machine.addresses import is_loopback
from backup_scp.node.remote_aes import local_ae, remote_at
from backup_scp.node.settings import CopySettings, Settings, first_line
from backup_scp.ports import CopyPlace, Index

if TYPE_CHECKING:
    from backup_scp.copies.cloud.byte_store import ByteStore
    from backup_scp.copies.cloud.cloud_copy import CloudCopy
    from backup_scp.copies.cloud.object_store import BucketAccess
    from backup_scp.copies.dicomweb.dicomweb_session import Login

log = logging.getLogger(__name__)

Factory = Callable[[Settings, CopySettings, Index], CopyPlace]
_OWN_FOLDER = "backup-scp"  # in a bucket or remote whose url names none
_told: set[str] = set()  # copies whose missing TLS is in the log


def _pacs(settings: Settings, copy: CopySettings, index: Index) -> CopyPlace:
    from backup_scp.dimse.scu.pacs_copy import PACSCopy

    remote = remote_at(settings, copy.url.removeprefix("dicom://").rstrip("/"))
    if copy.is_off_site and not remote.tls and not is_loopback(remote.host) and copy.name not in _told:
        _told.add(copy.name)
        log.warning(
            "Copy %s goes out without TLS: add a [[remote]] with its AE title, host and port, tls = true", copy.name
        )
    return PACSCopy(
        copy.name,
        local_ae(settings),
        remote,
        index,
        is_off_site=copy.is_off_site,
        answer_s=settings.commitment.answer_s,
    )


def _dicomweb(settings: Settings, copy: CopySettings, index: Index) -> CopyPlace:
    access = dicomweb_access(settings, copy, f"[[copy]] {copy.name}")
    from backup_scp.copies.dicomweb.dicomweb_copy import DICOMwebCopy

    return DICOMwebCopy(
        copy.name,
        access.base_url,
        index,
        is_off_site=copy.is_off_site,
        credentials=access.login,
        ca=access.ca,
        timeouts_s=access.timeouts_s,
        brings_sites=copy.brings_sites,
    )


class DICOMwebAccess(NamedTuple):
    """How a DICOMweb server is reached; see ``DICOMwebSession``."""

    base_url: str
    login: Login
    ca: Path | None
    timeouts_s: tuple[float, float]


def dicomweb_access(settings: Settings, copy: CopySettings, who: str) -> DICOMwebAccess:
    """Return how a DICOMweb server is reached; ``who`` begins the sentences of errors.

    Raises
    ------
    InvalidSettings
    """
    try:
        from backup_scp.copies.dicomweb.dicomweb_session import Login
    except ImportError:
        raise InvalidSettings("the library requests is missing: run  pip install 'backup-scp[copies]'") from None

    url = copy.url.removeprefix("dicomweb+")
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise InvalidSettings(f"{who}, url: http is for this computer alone; write dicomweb+https://")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidSettings(f"{who}, url: write HOST and PATH alone; user and password_file log in")
    password, token = (_secret(settings, copy, key, who) for key in ("password_file", "token_file"))
    return DICOMwebAccess(
        url,
        Login(copy.user, password, token),
        settings.home / Path(copy.ca).expanduser() if copy.ca else None,
        (settings.node.connect_timeout_s, settings.node.network_timeout_s),
    )


def _secret(settings: Settings, copy: CopySettings, key: str, who: str = "") -> str:
    """Return the first line of the file that a setting names; empty without one."""
    said, who = getattr(copy, key), who or f"[[copy]] {copy.name}"
    return first_line(settings, said, f"{who}, {key}") if said else ""


def _drive(settings: Settings, copy: CopySettings, _: Index) -> CopyPlace:
    from backup_scp.archive.filesystem import FilesystemArchive
    from backup_scp.copies.drive.drive_connection import folder_of_url

    identity, folder = FilesystemArchive(settings.archive_path).identity, folder_of_url(copy.url)
    if not copy.encrypt:
        from backup_scp.copies.drive.drive_copy import DriveCopy

        return DriveCopy(copy.name, folder, identity, is_off_site=copy.is_off_site)
    from backup_scp.copies.sealed_drive import SealedDriveCopy

    work = settings.home / "copies"
    try:
        return SealedDriveCopy(copy.name, folder, identity, work, copy.encrypt, is_off_site=copy.is_off_site)
    except InvalidSettings as error:
        raise InvalidSettings(f"[[copy]] {copy.name}, {error}") from None


def _bucket(settings: Settings, copy: CopySettings, _: Index) -> CopyPlace:
    from backup_scp.copies.cloud.object_store import ObjectStore

    return cloud_copy(settings, copy, ObjectStore(bucket_access(settings, copy)))


def bucket_access(settings: Settings, copy: CopySettings) -> BucketAccess:
    """Return where the bucket of a copy is, and who reads and writes there.

    Raises
    ------
    InvalidSettings
    """
    from backup_scp.copies.cloud.object_store import BucketAccess

    bucket, _slash, prefix = copy.url.removeprefix("s3://").partition("/")
    if bool(copy.access_key) != bool(copy.secret_key_file):
        raise InvalidSettings(f"[[copy]] {copy.name}: access_key and secret_key_file belong together")
    return BucketAccess(
        bucket,
        _cloud_folder(copy, prefix),
        endpoint=copy.endpoint.rstrip("/"),
        region=copy.region,
        access_key=copy.access_key,
        secret_key=_secret(settings, copy, "secret_key_file"),
        ca=str(settings.home / Path(copy.ca).expanduser()) if copy.ca else "",
        checksum=copy.checksum,
    )


def _cloud_folder(copy: CopySettings, folder: str) -> str:
    """Return the folder for all names of a copy: ours alone, in whole segments."""
    segments = folder.strip("/").split("/") if folder.strip("/") else [_OWN_FOLDER]
    if not all(re.fullmatch(r"[\w-][\w. -]*", segment) for segment in segments):
        raise InvalidSettings(
            f"[[copy]] {copy.name}, url: each folder in it is of letters, digits, blanks, dots, hyphens and underscores"
        )
    return "/".join(segments)


def cloud_copy(settings: Settings, copy: CopySettings, store: ByteStore) -> CloudCopy:
    """Return a copy in a store.

    Raises
    ------
    InvalidSettings
    """
    from backup_scp.copies.cloud.cloud_copy import CloudCopy

    try:
        return CloudCopy(
            copy.name,
            store,
            settings.home / "copies",
            encrypt=copy.encrypt,
            is_off_site=copy.is_off_site,
            lock_days=copy.lock_days,
        )
    except InvalidSettings as error:
        raise InvalidSettings(f"[[copy]] {copy.name}, {error}") from None


def _rclone(settings: Settings, copy: CopySettings, _: Index) -> CopyPlace:
    return rclone_copy(settings, copy)


def rclone_copy(settings: Settings, copy: CopySettings) -> CloudCopy:
    """Return a copy at a remote of rclone.

    Raises
    ------
    InvalidSettings
    """
    from backup_scp.copies.cloud.rclone_store import RcloneStore

    if copy.lock_days:
        raise InvalidSettings(f"[[copy]] {copy.name}, lock_days: only a bucket of S3 locks objects; use s3://")
    remote, _colon, path = copy.url.removeprefix("rclone:").partition(":")
    if not re.fullmatch(r"[\w+.@][\w+.@ -]*", remote):
        raise InvalidSettings(
            f"[[copy]] {copy.name}, url: write rclone:REMOTE:PATH, with the name that REMOTE has in rclone's "
            "configuration; logins and options of it stay there"
        )
    root = "/" if path.startswith("/") else ""
    store = RcloneStore(
        remote,
        root + _cloud_folder(copy, path),
        settings.home / Path(copy.rclone_config).expanduser() if copy.rclone_config else None,
        str(settings.home / Path(copy.ca).expanduser()) if copy.ca else "",
    )
    return cloud_copy(settings, copy, store)


_PLACES: dict[str, Factory] = {"dicom": _pacs, "dicomweb": _dicomweb, "file": _drive, "s3": _bucket, "rclone": _rclone}
"""The places by the scheme of their URL; each factory imports its libraries when it is called."""


def open_place(settings: Settings, copy: CopySettings, index: Index) -> CopyPlace:
    """Return the place of a ``[[copy]]``; it is not reached before it is entered.

    Parameters
    ----------
    index
        Another PACS is asked for commitments, which the index records, and takes the version that answers.

    Raises
    ------
    InvalidSettings
        The URL cannot be used, or a library is missing; the text says which, and how to install it.
    """
    scheme = copy.url.partition(":")[0].partition("+")[0]
    if scheme not in _PLACES:
        raise InvalidSettings(f"[[copy]] {copy.name}, url: this version does not know {scheme}")
    return _PLACES[scheme](settings, copy, index)
