"""Scrub, repair, rebuild: what is stored against its digests, and the index against what is stored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from backup_scp.errors import ArchiveUnavailable, Damaged, FileMissing, IndexUnavailable
from backup_scp.ports import Admission, Archive, Held, Index, Progress, Version
from backup_scp.stored import version_of

log = logging.getLogger(__name__)

BATCH = 256
"""Results recorded in one transaction."""

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """One stored file that is not as it should be."""

    location: str
    sop_instance_uid: str
    reason: str


@dataclass(slots=True)
class Verification:
    """What a verify found.

    Attributes
    ----------
    intact
        Versions whose every byte was read and matched.
    size_bytes
        Length of the Data Sets that were looked at.
    damaged, missing
        Versions of the index whose file changed or is gone; sending the instance again repairs it.
    unindexed
        Locations of intact files with no row in the index.
    unindexed_damaged
        Files with no row in the index that are damaged as well.
    repaired
        How many of the unindexed were entered into the index.
    """

    intact: int = 0
    size_bytes: int = 0
    damaged: list[Finding] = field(default_factory=list)
    missing: list[Finding] = field(default_factory=list)
    unindexed: list[str] = field(default_factory=list)
    unindexed_damaged: list[Finding] = field(default_factory=list)
    repaired: int = 0

    @property
    def needs_a_person(self) -> bool:
        """Something is left that only a person can put right."""
        return bool(self.damaged or self.missing or self.unindexed_damaged or len(self.unindexed) > self.repaired)


@dataclass(slots=True)
class Rebuild:
    """What a rebuild entered, and what it had to leave out."""

    entered: int = 0
    left_out: list[Finding] = field(default_factory=list)


def verify(
    archive: Archive, index: Index, on_progress: OnProgress = lambda _: None, *, repair: bool = False
) -> Verification:
    """Read every version against its digest, and look for files that the index does not know.

    On return every result is recorded in the index.  With ``repair`` the intact files without a row have one; damaged
    files stay as they are, for only a copy can repair them.

    Raises
    ------
    ArchiveUnavailable, IndexUnavailable
    """
    found = Verification()
    known = _verify_indexed(archive, index, found, on_progress)
    for location in archive.locations():
        if hash(location) not in known:
            _look_at_unindexed(archive, index, location, found, repair=repair)
    return found


def _verify_indexed(archive: Archive, index: Index, found: Verification, on_progress: OnProgress) -> set[int]:
    """Check every version of the index; return the hashes of their locations (a tenth of their memory)."""
    holdings = index.holdings()
    known: set[int] = set()
    results: list[tuple[str, str | None]] = []
    try:
        for held in index.versions():
            known.add(hash(held.location))
            results.append((held.location, _check(archive, held, found)))
            on_progress(Progress(len(known), holdings.versions, found.size_bytes, holdings.size_bytes))
            if len(results) >= BATCH:
                index.record_verification(results)
                results = []
    finally:
        index.record_verification(results)  # also of a run that is interrupted
    return known


def _check(archive: Archive, held: Held, found: Verification) -> str | None:
    try:
        archive.verify(held.location, held.sha256)
    except Damaged as error:
        finding = Finding(held.location, held.sop_instance_uid, str(error))
        (found.missing if isinstance(error, FileMissing) else found.damaged).append(finding)
        log.error("%s", error)
        return str(error)
    finally:
        found.size_bytes += held.size_bytes
    found.intact += 1
    return None


def _look_at_unindexed(archive: Archive, index: Index, location: str, found: Verification, *, repair: bool) -> None:
    try:
        version = version_of(archive, location, verify=True)
    except Damaged as error:
        found.unindexed_damaged.append(Finding(location, "", str(error)))
        return
    if index.held(version.key, version.sha256) is not None:
        return  # it arrived while we were reading
    found.unindexed.append(location)
    if repair:
        index.add(version)
        found.repaired += 1


def rebuild(archive: Archive, index: Index, on_progress: OnProgress = lambda _: None) -> Rebuild:
    """Make the index anew from the files alone, in the order in which they arrived.

    On return the new index has taken the old one's place, and knows also what arrived meanwhile; damaged files are
    left out of it, and stay where they are.  Only headers are read: ``verify`` reads the rest.

    Raises
    ------
    ArchiveUnavailable, IndexUnavailable
        The old index is as it was.
    """
    done = Rebuild()
    order = sorted(_arrivals(archive, archive.locations(), done, on_progress))
    if not order:
        _require_nothing_held(index)
    known = {hash(location) for _, location in order} | {hash(finding.location) for finding in done.left_out}
    with index.rebuilding() as enter:
        for _, location in order:
            _enter(archive, location, enter, done)
            on_progress(Progress(done.entered, len(order)))
        # Whoever arrived since the first listing has a row in the old index only; from now on nobody gets one.
        late = (location for location in archive.locations() if hash(location) not in known)
        for _, location in sorted(_arrivals(archive, late, done, on_progress)):
            _enter(archive, location, enter, done)
    return done


def _enter(archive: Archive, location: str, enter: Callable[[Version], Admission], done: Rebuild) -> None:
    try:
        enter(version_of(archive, location, verify=False))
    except Damaged as error:
        done.left_out.append(Finding(location, "", str(error)))
    else:
        done.entered += 1


def _require_nothing_held(index: Index) -> None:
    """Keep an index that knows files when the archive shows none: that is a drive that is not connected."""
    try:
        versions = index.holdings().versions
    except IndexUnavailable:
        return  # a broken index has nothing to lose
    if versions:
        raise ArchiveUnavailable(
            f"The archive shows no intact file, and the index knows {versions}: is the archive's drive connected? "
            "The index was left as it is"
        )


def _arrivals(
    archive: Archive, locations: Iterable[str], done: Rebuild, on_progress: OnProgress
) -> Iterator[tuple[datetime, str]]:
    """Yield when each file arrived, and its location: what the sort has to hold in memory."""
    for count, location in enumerate(locations, 1):
        on_progress(Progress(count, 0))
        try:
            yield archive.read(location).arrival.received_at, location
        except Damaged as error:
            done.left_out.append(Finding(location, "", str(error)))
