"""Try what cloud storage really gives: locks, versions, and what our own credential can destroy."""

from __future__ import annotations

import hashlib
import secrets

from backup_scp.copies.cloud import cloud_names
from backup_scp.copies.cloud.byte_store import ByteStore, NameState
from backup_scp.copies.cloud.object_lock import days_locked
from backup_scp.copies.cloud.spool import Spool
from backup_scp.errors import DestinationRefuses, FileMissing
from backup_scp.machine import clock
from backup_scp.ports import PlaceAnswer


def check_storage(store: ByteStore, spool: Spool, *, is_sealed: bool, lock_days: int) -> list[PlaceAnswer]:
    """Store a probe of a hundred bytes, then try to overwrite and to delete it.  A locked probe stays until its end.

    Raises
    ------
    DestinationUnavailable
        The place is away, or takes no probe.
    """
    probe = _Probe(store, spool)
    state = store.head(probe.name)
    came_back = probe.comes_back()
    facts = [
        PlaceAnswer(
            "Does a file come back as it was stored?",
            "yes, compared by SHA-256, as each image is" if came_back else "no",
            came_back,
            "" if came_back else "do not use this storage; see what stands between it and this computer",
        ),
        _lock(store, state, lock_days),
    ]
    is_overwritten = probe.overwrite()
    is_kept = bool(probe.version) and probe.comes_back()
    facts.append(_overwriting(is_overwritten=is_overwritten, is_kept=is_kept))
    is_deleted = store.try_to_delete(probe.name)
    is_kept = bool(probe.version) and probe.comes_back()
    facts.append(_deleting(is_deleted=is_deleted, is_kept=is_kept))
    facts.append(_recovery(store, is_kept=is_kept))
    facts.append(
        PlaceAnswer(
            "Can the storage read the images?",
            "no: each file is sealed before it leaves" if is_sealed else "yes: files leave as they are",
            is_sealed,
            "" if is_sealed else "make keys by  backup-scp copies keys  and set encrypt",
        )
    )
    if is_sealed and not _is_all_sealed(store):
        older = "no: those from before encrypt was set are there as they were, and storage can read them"
        fix = "to have all of them sealed, make a new copy under another url (docs/cloud.md, 2)"
        facts.append(PlaceAnswer("Is each image there sealed?", older, is_well=False, fix=fix))
    if store.keeps_versions:  # nothing to find out: the credential need not list what is unfinished
        leaves = "parts that no list shows, and that are billed: a lifecycle rule must remove them (docs/cloud.md, 2)"
        facts.append(PlaceAnswer("What does an upload leave that was cut off?", leaves, is_well=True))
    return facts


def _is_all_sealed(store: ByteStore) -> bool:
    return all(name.endswith(cloud_names.SEALED) for name in store.list(cloud_names.IMAGES))


class _Probe:
    """An object of ours, of random bytes, under a name that never was."""

    def __init__(self, store: ByteStore, spool: Spool) -> None:
        self._store = store
        self._spool = spool
        content = secrets.token_hex(50).encode()
        self._sha256 = hashlib.sha256(content).hexdigest()
        self.name = cloud_names.stamped_name(cloud_names.CHECK, clock.now(), self._sha256, ".txt")
        self.version = self._put(content)

    def comes_back(self) -> bool:
        """Whether the first bytes can be read."""
        try:
            return self._store.digest(self.name, self.version) == self._sha256
        except FileMissing:
            return False

    def overwrite(self) -> bool:
        """Try to put other bytes under the name; tell whether the name leads to them now."""
        try:
            self._put(secrets.token_hex(50).encode())
            return self._store.digest(self.name) != self._sha256
        except (DestinationRefuses, FileMissing):
            return False

    def _put(self, content: bytes) -> str:
        with self._spool.file() as path:
            with self._spool.writing(path) as file:
                file.write(content)
            return self._store.put(self.name, path)


def _lock(store: ByteStore, state: NameState | None, lock_days: int) -> PlaceAnswer:
    question = "Is each object locked, and until when?"
    if not store.keeps_versions:
        answer = "no: this storage locks nothing that we could check"
        return PlaceAnswer(
            question, answer, is_well=False, fix="keep one more copy: a bucket with Object Lock, or drives"
        )
    if state is None or not state.lock or state.locked_until is None:
        fix = "make a bucket with Object Lock, and give it a default retention (docs/cloud.md)"
        return PlaceAnswer(question, "no", is_well=False, fix=fix)
    days = days_locked(state)
    answer = f"{state.lock}, {days} days, the probe until {state.locked_until:%Y-%m-%d}"
    if days < lock_days:
        return PlaceAnswer(question, answer, is_well=False, fix=f"lock_days is {lock_days}: set the same in the bucket")
    if not lock_days:
        return PlaceAnswer(
            question, answer, is_well=False, fix=f"set lock_days = {days}, so that each object is checked"
        )
    if state.lock != "COMPLIANCE":
        return PlaceAnswer(question, answer, is_well=False, fix="choose the mode COMPLIANCE: nobody can lift that")
    return PlaceAnswer(question, answer, is_well=True)


def _overwriting(*, is_overwritten: bool, is_kept: bool) -> PlaceAnswer:
    question = "Can this credential overwrite a file?"
    if not is_overwritten:
        return PlaceAnswer(question, "no, or not by our means", is_well=True)
    if is_kept:
        return PlaceAnswer(question, "the name, yes; the bytes are kept as an earlier version", is_well=True)
    return PlaceAnswer(question, "yes, and the bytes are gone", is_well=False, fix="turn on versions, or Object Lock")


def _deleting(*, is_deleted: bool, is_kept: bool) -> PlaceAnswer:
    question = "Can this credential delete a file?"
    if not is_deleted:
        return PlaceAnswer(question, "no", is_well=True)
    fix = "give the node a credential that may not delete (docs/cloud.md)"
    if is_kept:
        return PlaceAnswer(question, "the name, yes; the bytes are kept as an earlier version", is_well=False, fix=fix)
    return PlaceAnswer(question, "yes, and the bytes are gone", is_well=False, fix=fix)


def _recovery(store: ByteStore, *, is_kept: bool) -> PlaceAnswer:
    question = "How does a deleted name come back?"
    if is_kept:
        answer = "by its version, which our records and the manifests have; or rclone copy --s3-version-at"
        return PlaceAnswer(question, answer, is_well=True)
    if store.keeps_versions:
        return PlaceAnswer(question, "not at all", is_well=False, fix="turn on versions, or Object Lock")
    answer = "only by the storage's own means: its recycle bin, its snapshots"
    return PlaceAnswer(question, answer, is_well=False, fix="keep one more copy: a bucket with Object Lock, or drives")
