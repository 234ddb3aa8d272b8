"""A remote of rclone as a store of bytes: Google Drive, Dropbox, OneDrive, SFTP, WebDAV, SMB and many others.

rclone's success means at most "same size" where a remote has no hashes.  So each file is downloaded again and hashed,
by rclone itself, and an empty answer is no answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from backup_scp.copies.cloud.byte_store import NameState
from backup_scp.copies.cloud.rclone_process import RcloneFailed, RcloneProcess, refusal
from backup_scp.copies.cloud.streams import Writable
from backup_scp.errors import DestinationUnavailable, FileMissing

_ENOUGH = {"recurse": True, "filesOnly": True, "noModTime": True, "noMimeType": True}


class RcloneStore:
    """A folder at a remote of rclone; see ``ByteStore``.

    Parameters
    ----------
    remote
        Name of the remote in rclone's configuration, without the colon.
    folder
        Path there, in whole segments.
    config
        rclone's configuration file; None for that of this user.
    ca
        PEM file of a further CA; empty without one.
    environment
        As for ``RcloneProcess``.
    """

    keeps_versions = False

    def __init__(
        self,
        remote: str,
        folder: str,
        config: Path | None = None,
        ca: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.place = f"{remote}:{folder}"
        self._process = RcloneProcess(config, ca, environment)

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.stop()

    def put(self, name: str, file: Path) -> str:
        source = {"srcFs": str(file.parent), "srcRemote": file.name}
        target = {"dstFs": self.place, "dstRemote": name}
        self._call("operations/copyfile", **source, **target, _config={"IgnoreExisting": True})
        return ""

    def digest(self, name: str, object_version: str = "") -> str:  # noqa: ARG002 - there are no versions
        found = self._find("operations/hashsumfile", name, hashType="sha256", download=True)
        if not found.get("hash"):  # not known is not equal
            raise DestinationUnavailable(f"{self.place} returned no digest of {name}")
        return str(found["hash"])

    def get(self, name: str, object_version: str, into: Writable) -> str:  # noqa: ARG002 - there are no versions
        digest = hashlib.sha256()
        try:
            for part in self._process.read(self.place, name):
                digest.update(part)
                into.write(part)
        except RcloneFailed as error:
            if error.is_missing or self.head(name) is None:
                raise FileMissing(f"{name} is not in {self.place}") from None
            raise refusal(error, self.place) from None
        return digest.hexdigest()

    def head(self, name: str) -> NameState | None:
        item = self._call("operations/stat", fs=self.place, remote=name).get("item")
        return NameState(int(item["Size"])) if item else None

    def list(self, folder: str) -> Iterator[str]:
        try:
            found = self._call("operations/list", fs=self.place, remote=folder, opt=_ENOUGH)
        except RcloneMissing:
            return
        for each in found.get("list") or ():
            yield each["Path"]

    def try_to_delete(self, name: str) -> bool:
        try:
            self._call("operations/deletefile", fs=self.place, remote=name)
        except DestinationUnavailable:
            return False
        return self.head(name) is None

    def _find(self, function: str, name: str, **values: Any) -> dict[str, Any]:
        try:
            return self._call(function, fs=self.place, remote=name, **values)
        except RcloneMissing:
            raise FileMissing(f"{name} is not in {self.place}") from None

    def _call(self, function: str, **values: Any) -> dict[str, Any]:
        try:
            return self._process.call(function, **values)
        except RcloneFailed as error:
            if error.is_missing:
                raise RcloneMissing(str(error)) from None
            raise refusal(error, self.place) from None


class RcloneMissing(DestinationUnavailable):
    """A file or folder is not at the remote."""
