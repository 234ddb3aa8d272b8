"""Store a received Data Set in archive and index.  C-STORE and import both use this, and nothing else stores."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Self

from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.errors import ArchiveUnavailable, Damaged, InvalidDataSet, Unavailable
from backup_scp.ports import (
    AddResult,
    Archive,
    Arrival,
    Flag,
    Heading,
    Index,
    InstanceKey,
    SiteScope,
    StagedFile,
    VerificationResult,
    Version,
    flags_of,
)
from backup_scp.services.archive_guard import ArchiveGuard
from backup_scp.services.due_for_checkpoint import DueForCheckpoint
from backup_scp.services.read_back import intact_version, version_of
from backup_scp.services.same_content import find_same

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A stored Data Set: it survives a power cut, and queries find it.

    Attributes
    ----------
    flags
        What is unusual about the Data Set itself.
    instance
        What was read of it; None where nothing was.
    """

    admission: AddResult
    location: str
    repaired: bool = False
    flags: frozenset[Flag] = frozenset()
    instance: SOPInstance | None = field(default=None, compare=False)


class Ingest:
    """Stores Data Sets; safe to share between threads.  Use one for each process: it caches the archive's identity.

    Parameters
    ----------
    archive
        Stores the files.
    index
        Stores their rows.
    """

    def __init__(self, archive: Archive, index: Index) -> None:
        self._archive = archive
        self._index = index
        self._guard = ArchiveGuard(archive, index)
        self.due = DueForCheckpoint()
        self.on_accepted: Callable[[SOPInstance], None] | None = None  # called for each image, also one held already
        self.received_at = 0.0  # when the last image began to arrive, as time.monotonic

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Make durable in each place what was accepted.

        When that fails, the next start does it: nobody waits for this any more.
        """
        if self.due.any.is_set():
            with suppress(Unavailable):
                self.checkpoint()

    def begin(self, heading: Heading) -> StagedFile:
        """Open a staged file for a Data Set.  Write the bytes to it, then ``accept`` or ``discard`` it.

        Raises
        ------
        ArchiveFull, ArchiveUnavailable, IndexUnavailable
        """
        self.received_at = time.monotonic()
        try:
            self._guard.check()
            return self._archive.stage(heading)
        except ArchiveUnavailable:
            self._guard.invalidate()
            raise
        finally:
            self._guard.report_fault()

    def accept(self, staged: StagedFile, arrival: Arrival) -> Accepted:
        """Store a Data Set whose last byte was written.

        When it returns, its bytes are durable in the staging folder, and it is visible and in the index.
        ``checkpoint`` makes it durable in these places too; after a power cut before that, ``recover`` does.  It closes
        ``staged``, also when it raises.

        Raises
        ------
        InvalidDataSet
            Command Set and Data Set name different instances (PS3.4 B.2.3: A900).
        ArchiveFull, ArchiveUnavailable, IndexUnavailable
            Nothing was acknowledged; send it again later.
        """
        try:
            instance = _parse(staged)
            key = InstanceKey(instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid)
            met = self._index.look_up(key, staged.sha256, arrival.site)
            if met.held is not None:
                again = self._again(staged, key, *met.held)
                if self.on_accepted is not None:
                    self.on_accepted(instance)
                return replace(again, flags=flags_of(instance), instance=instance)
            if met.latest is not None:
                arrival = self._compared(staged, key, arrival.after(met.latest))
            location, arrival = self._archive.commit(staged, key, arrival, is_known=self._is_known)
        except BaseException:
            staged.discard()
            self._guard.report_fault()
            raise
        version = Version(instance, arrival, location, staged.sha256, staged.size_bytes)
        try:
            admission = self._index.add(version, self._read)
        except BaseException:
            staged.discard()  # a file that is visible already keeps its note, so that ``recover`` finds it
            raise
        self.due.append(staged, location)
        if self.on_accepted is not None:
            self.on_accepted(instance)
        return Accepted(admission, location, flags=version.flags, instance=instance)

    def checkpoint(self) -> None:
        """Make durable what was accepted before: the visible names of the files, and their rows.

        Raises
        ------
        ArchiveUnavailable, IndexUnavailable
            Their notes stay; the next call tries again.
        """
        try:
            with self.due.taken() as accepted:
                self._archive.settle([staged for staged, _ in accepted])
                self._flush_rows([location for _, location in accepted])
                self._archive.forget(*(staged for staged, _ in accepted))
        finally:
            self._guard.report_fault()

    def _flush_rows(self, locations: Sequence[str]) -> None:
        """Make rows durable; add those that a database server has lost when it stopped, since nobody had waited."""
        self._index.flush()
        if missing := list(self._index.unindexed(locations)):
            for location in missing:
                self._add(location)
            self._index.flush()

    def _compared(self, staged: StagedFile, key: InstanceKey, arrival: Arrival) -> Arrival:
        """Note the stored version with the same content in another encoding, if there is one."""
        of_clinic = self._index.seen_by(SiteScope.of([arrival.site]))
        return replace(arrival, same_as=find_same(self._archive, staged, of_clinic.versions_of(key)))

    def recover(self) -> int:
        """Add to the index the visible files that have no row; return their number.

        A crash left them, or the index could not be written when they came.

        Raises
        ------
        ArchiveUnavailable, IndexUnavailable
        """
        self._guard.invalidate()  # the drive may have been replaced since the last call
        self._guard.check()
        count = 0
        for locations in self._archive.sweep():
            count += self.add_rows(locations)
        return count

    def add_rows(self, locations: Sequence[str]) -> int:
        """Add the rows of visible files, durably; return how many were not there.  A damaged file is told.

        Raises
        ------
        ArchiveUnavailable, IndexUnavailable
        """
        added = {location: self._add(location) for location in locations}
        self._flush_rows([location for location, result in added.items() if result])
        return sum(result not in {AddResult.HELD, None} for result in added.values())

    def _add(self, location: str) -> AddResult | None:
        """Add the row of a visible file; None for a damaged one, which is told."""
        try:
            result = self._index.add(version_of(self._archive, location, verify=True), self._read)
        except Damaged as error:
            self._record_damage(location, error)
            return None
        if self._index.is_damaged(location):  # somebody has looked before the journal made it whole
            self._index.record_verification([VerificationResult(location)])
        return result

    def _record_damage(self, location: str, error: Damaged) -> None:
        """Record and log the damage; without a row nothing but the log tells of it."""
        if next(self._index.unindexed([location]), None) is None:
            self._index.record_verification([VerificationResult(location, str(error))])
        log.error("%s; send it again, from the console or another archive", error)

    def _again(self, staged: StagedFile, key: InstanceKey, location: str, arrival: Arrival) -> Accepted:
        """Answer a re-send of stored bytes: check the stored file, and repair a damaged one from the new bytes."""
        try:
            self._archive.verify(location, staged.sha256)
        except Damaged as error:
            log.warning("%s; repaired from a re-send", error)
            location, _ = self._archive.commit(staged, key, arrival, location)  # keeps its first arrival
            self._archive.settle([staged])
            self._index.record_verification([VerificationResult(location)])
            self._archive.forget(staged)
            return Accepted(AddResult.HELD, location, repaired=True)
        # A rebuild may have added the row of a file that was only just copied here, and is not durable yet.
        self._archive.flush(location)
        if self._index.is_damaged(location):  # the file is intact now: repaired by hand, or the disk recovered
            self._index.record_verification([VerificationResult(location)])
        staged.discard()
        return Accepted(AddResult.HELD, location)

    def _is_known(self, location: str) -> bool:
        return next(self._index.unindexed([location]), None) is None

    def _read(self, location: str) -> Version | None:
        return intact_version(self._archive, location)


def _parse(staged: StagedFile) -> SOPInstance:
    heading = staged.heading
    with staged.data_set() as stream:
        instance = SOPInstance.read(
            stream, heading.transfer_syntax_uid, heading.sop_class_uid, heading.sop_instance_uid
        )
    _require_agreement(heading, instance)
    return instance


def _require_agreement(heading: Heading, instance: SOPInstance) -> None:
    """Raise unless Command Set and Data Set have the same UIDs, without padding (PS3.4 B.2.3, PS3.7 9.1.1)."""
    if not instance.sop_instance_uid:
        raise InvalidDataSet("Neither the Command Set nor the Data Set names a SOP Instance UID")
    for what, commanded, found in (
        ("SOP Class UID", heading.sop_class_uid, instance.sop_class_uid),
        ("SOP Instance UID", heading.sop_instance_uid, instance.sop_instance_uid),
    ):
        if commanded and found and commanded != found:
            raise InvalidDataSet(f"{what}: Command Set {commanded}, Data Set {found}")
