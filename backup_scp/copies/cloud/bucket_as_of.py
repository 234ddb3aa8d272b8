"""A bucket of S3 as it was at a moment, to be read: names that were deleted or overwritten since lead to the old bytes.

rclone finds the version that a name had then.  Images whose version ID is known are read by it, as usual.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from backup_scp.copies.cloud.byte_store import NameState
from backup_scp.copies.cloud.object_store import BucketAccess, ObjectStore
from backup_scp.copies.cloud.rclone_store import RcloneStore
from backup_scp.copies.cloud.streams import Writable
from backup_scp.errors import DestinationRefuses

_REMOTE = "bucket"


class BucketAsOf:
    """Shows a bucket that keeps versions as it was; see ``ByteStore``.

    Parameters
    ----------
    access
        The credential needs to list versions and to get them.
    moment
        What was stored later is not there.
    """

    keeps_versions = True

    def __init__(self, access: BucketAccess, moment: datetime) -> None:
        self.place = f"s3://{access.bucket} as of {moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        self._objects = ObjectStore(access)
        folder = f"{access.bucket}/{access.prefix}"
        self._names = RcloneStore(_REMOTE, folder, ca=access.ca, environment=_environment(access, moment))
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._objects)
            stack.enter_context(self._names)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def put(self, name: str, file: Path) -> str:
        raise DestinationRefuses(f"{self.place} can only be read: {name} is not stored ({file.stat().st_size} bytes)")

    def digest(self, name: str, object_version: str = "") -> str:
        return self._store_of(object_version).digest(name, object_version)

    def get(self, name: str, object_version: str, into: Writable) -> str:
        return self._store_of(object_version).get(name, object_version, into)

    def _store_of(self, object_version: str) -> ObjectStore | RcloneStore:
        return self._objects if object_version else self._names

    def head(self, name: str) -> NameState | None:
        return self._names.head(name)

    def list(self, folder: str) -> Iterator[str]:
        return self._names.list(folder)

    def try_to_delete(self, name: str) -> bool:  # noqa: ARG002 - nothing is deleted
        return False


def _environment(access: BucketAccess, moment: datetime) -> dict[str, str]:
    """Return variables that define the remote for rclone."""
    is_aws = not access.endpoint or ".amazonaws.com" in access.endpoint
    values = {
        "TYPE": "s3",
        "PROVIDER": "AWS" if is_aws else "Other",
        "ENDPOINT": access.endpoint,
        "REGION": access.region,
        "ACCESS_KEY_ID": access.access_key,
        "SECRET_ACCESS_KEY": access.secret_key,
        "ENV_AUTH": "" if access.access_key else "true",
        "NO_CHECK_BUCKET": "true",
        "VERSION_AT": moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    remote = {f"RCLONE_CONFIG_{_REMOTE.upper()}_{key}": value for key, value in values.items() if value}
    return {"RCLONE_CONFIG": os.devnull} | remote  # the user's own file may need a password
