"""Cloud storage as a further copy: a bucket of S3, or any remote of rclone; see docs/adr/0040."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Self

from backup_scp.copies.cloud import cloud_names
from backup_scp.copies.cloud.byte_store import ByteStore
from backup_scp.copies.cloud.cloud_check import check_storage
from backup_scp.copies.cloud.cloud_contents import CloudContents
from backup_scp.copies.cloud.cloud_extras import CloudExtras
from backup_scp.copies.cloud.in_parallel import in_parallel
from backup_scp.copies.cloud.listed_names import ListedNames
from backup_scp.copies.cloud.manifests import listed
from backup_scp.copies.cloud.object_lock import NotLocked, ObjectLock
from backup_scp.copies.cloud.object_reader import ObjectReader
from backup_scp.copies.cloud.packing import pack_image
from backup_scp.copies.cloud.sealing import RecoveryKeys, Seal
from backup_scp.copies.cloud.spool import Spool
from backup_scp.errors import ArchiveUnavailable, Damaged, DestinationUnavailable, FileMissing
from backup_scp.ports import (
    Contents,
    CopyItem,
    CopyResult,
    ListedImage,
    PlaceAnswer,
    ReadOriginal,
    Snapshot,
    StoredCopy,
)

_log = logging.getLogger(__name__)

_LOGGED_NAMES = 10
_MOST_REFUSED = 3


class CloudCopy:
    """A place for copies in a store of bytes; see ``CopyPlace``.

    Parameters
    ----------
    name
        Of the copy.
    store
        Where the bytes go.
    work
        A folder of the node for temporary files: each image passes through it, and what a crash left is removed.
    encrypt
        Public keys that seal each file before it leaves; empty: the files leave as they are.
    lock_days
        Days for which each object must be locked; 0: it is not asked.
    recovery_keys
        Open what is sealed; whoever fills the copy has none.
    """

    medium = label = archive = ""
    is_removable = False
    fetches_at_once = 8

    def __init__(
        self,
        name: str,
        store: ByteStore,
        work: Path,
        *,
        encrypt: Sequence[str] = (),
        is_off_site: bool = True,
        lock_days: int = 0,
        recovery_keys: RecoveryKeys | None = None,
    ) -> None:
        self.name = name
        self.is_off_site = is_off_site
        self._odd_names: Counter[str] = Counter()
        self._has_noticed = False
        self._store = store
        self._spool = Spool(work)
        self._seal = Seal(encrypt) if encrypt else None
        self._lock_days = lock_days
        self._reader = ObjectReader(name, store, self._spool, recovery_keys)
        self._begin()
        self._lock = ObjectLock(store, self._spool, lock_days)
        self._names = ListedNames(store, self._spool)
        self._refused = 0  # images in a row
        self._stopped: DestinationUnavailable | None = None

    def _begin(self) -> None:
        """Forget what was learnt of the copy."""
        self._extras = CloudExtras(self._store, self._spool, self._seal)
        self._contents = CloudContents(self._store, self._reader)

    def __enter__(self) -> Self:
        self._refused, self._stopped = 0, None
        self._names.clear()
        self._spool.__enter__()
        try:
            self._store.__enter__()
        except BaseException:
            self._spool.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._names.clear()
        try:
            with suppress(DestinationUnavailable):  # names and files themselves say what is there
                self._extras.write_manifest()
            self._store.__exit__(*exc)
        finally:
            self._spool.__exit__(*exc)

    @property
    def alarms(self) -> list[str]:
        """What a person must look at: names that were deleted or overwritten, lists that cannot be read."""
        found = [
            f"{self._store.place}: {count} name{'s' if count > 1 else ''} {what} by somebody; the bytes are intact: "
            "see docs/cloud.md"
            for what, count in sorted(self._odd_names.items())
        ]
        if unread := len(self._contents.unread):
            found.append(
                f"{self._store.place}: {unread} list{'s' if unread > 1 else ''} of images cannot be read; images that "
                "the index does not know may be missing: see docs/cloud.md"
            )
        return found

    def noticed(self) -> str:
        if not self._has_noticed:
            return ""
        self._has_noticed = False
        what = " and ".join(sorted(self._odd_names))
        return f"{self._store.place}: names were {what} by somebody; the bytes are intact: see docs/cloud.md, part 4"

    def put(self, items: Sequence[CopyItem], read: ReadOriginal) -> Iterator[CopyResult]:
        by_number = {item.number: item for item in items}
        for result in in_parallel(items, lambda item: self._put_one(item, read)):
            if result.stored is not None:
                self._extras.note(listed(by_number[result.number], result.stored))
            yield result
        self._extras.write_manifest()

    def compare(self, items: Sequence[CopyItem]) -> Iterator[CopyResult]:
        return in_parallel(items, self._compare_one)

    def fetch(self, item: CopyItem, into: BinaryIO) -> None:
        self._reader.read(_require_stored(item), into)

    def conclude(self, snapshot: Snapshot, *, is_complete: bool) -> None:
        self._extras.write_manifest()
        self._extras.write_snapshot(snapshot, is_complete=is_complete)

    def check(self) -> list[PlaceAnswer]:
        """Try what the storage really gives, with a probe of our own.

        Raises
        ------
        DestinationUnavailable
        """
        is_sealed = self._seal is not None
        return check_storage(self._store, self._spool, is_sealed=is_sealed, lock_days=self._lock_days)

    @property
    def recovery_keys(self) -> RecoveryKeys | None:
        """What opens the sealed objects; it may be given at any time."""
        return self._reader.keys

    @recovery_keys.setter
    def recovery_keys(self, keys: RecoveryKeys | None) -> None:
        self._reader.keys = keys

    def is_sealed(self) -> bool:
        """Tell whether what is there is sealed, so that the recovery key is needed.

        Raises
        ------
        DestinationUnavailable
        """
        return self._contents.is_sealed()

    def proves(self, keys: RecoveryKeys) -> bool:
        """Tell whether these keys open what is there; quick, and True where nothing is sealed.

        Raises
        ------
        DestinationUnavailable
        DigestMismatch
            Nothing whole is there to try them on.
        """
        return self._contents.proves(keys)

    def contents(self) -> Contents:
        return self._contents.contents()

    def saved_settings(self) -> str:
        return self._contents.settings()

    def index_in_place(self) -> Path | None:
        return None

    def fetch_index(self, path: Path) -> bool:
        return self._contents.fetch_index(path)

    def listed(self, since: datetime | None = None) -> Iterator[ListedImage]:
        return self._contents.listed(since)

    def _put_one(self, item: CopyItem, read: ReadOriginal) -> CopyResult:
        if self._stopped is not None:
            raise self._stopped
        try:
            there = self._find(item)
            result = self._upload(item, read) if there is None else CopyResult(item.number, there)
        except ArchiveUnavailable as error:
            return CopyResult(item.number, None, str(error))
        except NotLocked:
            raise
        except DestinationUnavailable as error:
            return self._refusal(item, error)
        self._refused = 0
        return result

    def _refusal(self, item: CopyItem, error: DestinationUnavailable) -> CopyResult:
        """Return the failure of one image, as of one that is too large; others need not wait for it.

        Raises
        ------
        DestinationUnavailable
            The store is away.  After several images in a row the next one raises what the last one was told.
        """
        next(iter(self._store.list(cloud_names.CHECK)), None)
        self._refused += 1
        if self._refused >= _MOST_REFUSED:
            self._stopped = error
        return CopyResult(item.number, None, _of_image(item, str(error)))

    def _find(self, item: CopyItem) -> StoredCopy | None:
        """Return what the copy has of this version, read back and compared; None without an intact one."""
        if item.stored is not None and self._damage(item.stored) is None:
            return item.stored
        for name in self._names.of(item.held):
            digests = cloud_names.digests_of(name)
            state = self._store.head(name)
            if digests is None or state is None or not self._is_as_sealed(name) or not self._lock.is_locked(state):
                continue
            stored = StoredCopy(name, digests[1], state.size_bytes, state.object_version)
            if self._damage(stored) is None:
                return stored
        return None

    def _is_as_sealed(self, name: str) -> bool:
        """Whether an object is sealed as new ones are: after ``encrypt`` was set, a plain one does not count."""
        return name.endswith(cloud_names.SEALED) == (self._seal is not None)

    def _upload(self, item: CopyItem, read: ReadOriginal) -> CopyResult:
        self._lock.prove()
        with self._spool.file() as path:
            try:
                packed = pack_image(read(item.held), item.held, self._seal, path)
            except Damaged as error:
                return CopyResult(item.number, None, _of_image(item, str(error)), is_lost=True)
            except OSError as error:
                raise self._spool.unavailable(error) from error
            taken = self._names.of(item.held)
            name = cloud_names.image_name(item.held, packed.sha256, taken, is_sealed=self._seal is not None)
            try:
                version = self._store.put(name, path)
            except DestinationUnavailable:
                self._names.forget(item.held)  # a part of it may be there
                raise
        self._names.add(item.held, name)
        stored = StoredCopy(name, packed.sha256, packed.size_bytes, version)
        if damage := self._damage(stored):
            return CopyResult(item.number, None, _of_image(item, damage))
        self._lock.require(stored)
        return CopyResult(item.number, stored)

    def _damage(self, stored: StoredCopy) -> str | None:
        """Read an object back and compare it; None when it is intact."""
        try:
            found = self._store.digest(stored.name, stored.object_version)
        except Damaged as error:
            return str(error)
        if found == stored.sha256:
            return None
        return f"{stored.name} came back changed from {self._store.place}"

    def _compare_one(self, item: CopyItem) -> CopyResult:
        stored = _require_stored(item)
        damage = self._damage(stored)
        if damage is None:
            self._look_at_name(stored)
        return CopyResult(item.number, None if damage else stored, _of_image(item, damage) if damage else "")

    def _look_at_name(self, stored: StoredCopy) -> None:
        """Raise an alarm when a name leads to other bytes, or to nothing: the locked bytes are intact."""
        what = self.name_trouble(stored)
        if not what:
            return
        self._odd_names[what] += 1
        self._has_noticed = True
        if self._odd_names[what] <= _LOGGED_NAMES:
            _log.error(
                "Copy %s: the name %s was %s; its bytes are intact (docs/cloud.md)", self.name, stored.name, what
            )

    def name_trouble(self, stored: StoredCopy) -> str:
        if not (self._store.keeps_versions and stored.object_version):
            return ""
        state = self._store.head(stored.name)
        if state is not None and state.object_version == stored.object_version:
            return ""
        return "deleted" if state is None else "overwritten"


def _of_image(item: CopyItem, what: str) -> str:
    return f"Image {item.held.sop_instance_uid}: {what}"


def _require_stored(item: CopyItem) -> StoredCopy:
    if item.stored is None:
        raise FileMissing(f"Image {item.held.sop_instance_uid} is not in this copy")
    return item.stored
