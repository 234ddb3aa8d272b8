"""What the tests of cloud storage share: images in an archive, and a copy in a bucket."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from backup_scp.archive.filesystem import FilesystemArchive
from backup_scp.copies.cloud.cloud_copy import CloudCopy
from backup_scp.copies.cloud.object_store import BucketAccess, ObjectStore
from backup_scp.copies.cloud.sealing import RecoveryKeys, make_keys
from backup_scp.ports import Contents, CopyItem
from tests.ceph import REGION, Gateway
from tests.samples import dx, encode
from tests.stored import put_into_archive

PAIR = make_keys()


class Originals:
    """Images in a real archive, as items for a copy."""

    def __init__(self, folder: Path, count: int = 3) -> None:
        self.archive = FilesystemArchive(folder)
        samples = (encode(dx(StudyDescription=f"Number {number}")) for number in range(count))
        self.items = [
            CopyItem(number, put_into_archive(self.archive, sample)) for number, sample in enumerate(samples, 1)
        ]

    def read(self, held):
        return self.archive.read(held.location)

    def file(self, item: CopyItem) -> bytes:
        """The whole file, as archived."""
        return self.archive.read(item.held.location).path.read_bytes()


def node_access(gateway: Gateway, bucket: str, **more) -> BucketAccess:
    """What the settings of a node say of a bucket."""
    given = {"endpoint": gateway.endpoint, "region": REGION}
    keys = {"access_key": gateway.node_key, "secret_key": gateway.node_secret}
    return BucketAccess(bucket, "backup-scp", **given | keys | more)


def bucket_copy(
    gateway: Gateway, bucket: str, work: Path, *, is_sealed: bool = True, store: ObjectStore | None = None, **more
) -> CloudCopy:
    """A copy in a bucket, with the rights of the node."""
    return CloudCopy(
        "cloud",
        store or ObjectStore(node_access(gateway, bucket)),
        work,
        encrypt=[PAIR.public_key] if is_sealed else (),
        **{"recovery_keys": RecoveryKeys(PAIR.recovery_key)} | more,
    )


def put_all(copy: CloudCopy, originals: Originals, items: Sequence[CopyItem] | None = None):
    """Store items; return them with what the copy has of them, by number."""
    items = originals.items if items is None else items
    results = {result.number: result for result in copy.put(items, originals.read)}
    assert [result.error for result in results.values()] == [""] * len(items)
    return [item._replace(stored=results[item.number].stored) for item in items]


def fetched(copy: CloudCopy, item: CopyItem) -> bytes:
    into = io.BytesIO()
    copy.fetch(item, into)
    return into.getvalue()


class SnapshotOfFile:
    """A snapshot that consists of given bytes."""

    def __init__(self, index: bytes = b"SQLite format 3\0" + bytes(5000)) -> None:
        self.content = index
        self.taken = 0

    def index(self, path: Path) -> Contents:
        assert not path.exists()
        path.write_bytes(self.content)
        self.taken += 1
        return Contents()

    def settings(self) -> str:
        return '[node]\nae_title = "BACKUP_SCP"\n'


def empty_folder(folder: Path) -> bool:
    """Whether no file of a spool is left below a folder."""
    return not [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
