"""Compare all stored files with their digests, and the index with the stored files; repair the index."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from backup_scp.errors import Damaged, FileMissing
from backup_scp.machine import clock
from backup_scp.ports import Archive, Index, Progress, StoredVersion, Task, VerificationResult, Version
from backup_scp.services.read_back import intact_version, version_of

log = logging.getLogger(__name__)

NAME = "verify"
DONE = "verified"

BATCH = 256
"""How many results to record in one transaction."""

RECORD_EVERY = timedelta(seconds=10)
"""The longest time between two such transactions, in seconds."""

MOST_FOREIGN = 1000
"""How many foreign files to list; further ones are only counted."""

_ON_ITS_WAY = timedelta(minutes=5)
"""How long a visible file may have a note and no row; an older one was left by a crash."""

OnProgress = Callable[[Progress], None]
Pause = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One stored file that is damaged, missing or not in the index.

    Attributes
    ----------
    location
        Path of the file in the archive, even if the file is gone.
    sop_instance_uid
        UID of its image; empty when it cannot be read.
    reason
        What is wrong with it.
    """

    location: str
    sop_instance_uid: str
    reason: str


@dataclass(slots=True)
class Verification:
    """The result of a verify.

    Attributes
    ----------
    intact
        Number of versions whose every byte matched its digest.
    size_bytes
        Total size of the Data Sets that were read.
    damaged, missing
        Versions of the index whose file changed or is gone; send the image again to repair it.
    unindexed
        Locations of intact files that are missing in the index.
    unindexed_damaged
        Damaged files that are missing in the index, and folders that cannot be read.
    repaired
        How many of the unindexed files were added to the index.
    foreign
        Names of files that are not ours; they are never touched.
    foreign_count
        How many there are.
    stopped
        Why the pass ended early; empty when all files were read.
    """

    intact: int = 0
    size_bytes: int = 0
    damaged: list[Discrepancy] = field(default_factory=list)
    missing: list[Discrepancy] = field(default_factory=list)
    unindexed: list[str] = field(default_factory=list)
    unindexed_damaged: list[Discrepancy] = field(default_factory=list)
    repaired: int = 0
    foreign: list[str] = field(default_factory=list)
    foreign_count: int = 0
    stopped: str = ""

    @property
    def needs_a_person(self) -> bool:
        """Whether something is left that only a person can repair."""
        return bool(self.damaged or self.missing or self.unindexed_damaged or len(self.unindexed) > self.repaired)

    @property
    def summary(self) -> str:
        """Describe the result in one sentence."""
        found = {
            "intact": self.intact,
            "damaged": len(self.damaged),
            "missing": len(self.missing),
            "not in the index": len(self.unindexed),
            "damaged and not in the index": len(self.unindexed_damaged),
            "not ours": self.foreign_count,
        }
        return ", ".join(f"{number} {what}" for what, number in found.items() if number or what == "intact")

    def add_foreign(self, name: str) -> None:
        """Count a foreign file, and list its name while there is room."""
        self.foreign_count += 1
        if len(self.foreign) < MOST_FOREIGN:
            self.foreign.append(name)


def verify(
    archive: Archive,
    index: Index,
    on_progress: OnProgress = lambda _: None,
    *,
    repair: bool = False,
    resume: bool = False,
    wait: Pause = lambda _: None,
    found: Verification | None = None,
) -> Verification:
    """Compare every version with its digest, and look for files that are missing in the index.

    The index stores every result, also those of an interrupted run.  ``repair`` adds a row for each intact file that
    has none.  Damaged files stay as they are: only a copy can repair them.

    Parameters
    ----------
    resume
        Skip what an interrupted pass has read, if there is one.
    wait
        Called with the size of each file, in bytes; limits the rate.
    found
        Filled and returned, so that the caller also has the result of an interrupted run.

    Raises
    ------
    ArchiveUnavailable, IndexUnavailable
    """
    found = Verification() if found is None else found
    index.forget_future_verifications()
    task = _to_go_on_with(index) if resume else None
    task = task or _a_new_one(index)
    index.record_task(task)
    _verify_indexed(archive, index, task, found, on_progress, wait)
    for location in index.unindexed(_listed(archive.locations(), found)):
        _look_at_unindexed(archive, index, location, found, repair=repair)
    for name in _listed(archive.foreign(), Verification()):
        found.add_foreign(name)
    done = task.done + found.intact + len(found.damaged) + len(found.missing)
    before = f", and {task.done} checked before it was interrupted" if task.done else ""
    index.record_task(Task(NAME, task.began_at, clock.now(), "", done, found.summary + before))
    return found


def _to_go_on_with(index: Index) -> Task | None:
    """Return the interrupted pass; None when its start lies in the future, since then its progress is unknown."""
    under_way = index.tasks().get(NAME)
    return None if under_way and clock.is_future(under_way.began_at) else under_way


def _a_new_one(index: Index) -> Task:
    """Begin a pass, dated later than every earlier result, also when the clock was set back a little."""
    last = index.holdings().last_verified_at
    return Task(NAME, clock.Steady(last and last + timedelta(microseconds=1)).now())


def _verify_indexed(
    archive: Archive, index: Index, task: Task, found: Verification, on_progress: OnProgress, wait: Pause
) -> None:
    """Check every version that was not checked since the pass began."""
    holdings = index.holdings()
    results: list[VerificationResult] = []
    time = clock.Steady(task.began_at)  # no file is read twice in this pass, also when the clock is set back
    recorded = time.now()
    count = task.done

    def record() -> None:
        index.record_verification(results)
        index.record_task(Task(NAME, task.began_at, None, "", count))
        results.clear()

    try:
        for held in index.versions(task.began_at):
            results.append(checked := _check(archive, held, found, time.now()))
            count += 1
            on_progress(Progress(count, holdings.versions, found.size_bytes, 0 if task.done else holdings.size_bytes))
            wait(held.size_bytes)
            now = time.now()
            if checked.damage or len(results) >= BATCH or now - recorded > RECORD_EVERY:
                record()
                recorded = now
    finally:
        record()


def _check(archive: Archive, held: StoredVersion, found: Verification, began: datetime) -> VerificationResult:
    damage = _damage(archive, held) and _damage(archive, held)  # read it twice: the first read may have met a repair
    found.size_bytes += held.size_bytes
    if damage:
        finding = Discrepancy(held.location, held.sop_instance_uid, str(damage))
        (found.missing if isinstance(damage, FileMissing) else found.damaged).append(finding)
        log.error("%s; send the image again (SOP Instance UID %s)", damage, held.sop_instance_uid)
    else:
        found.intact += 1
    return VerificationResult(held.location, str(damage) if damage else None, began)


def _damage(archive: Archive, held: StoredVersion) -> Damaged | None:
    try:
        archive.verify(held.location, held.sha256)
    except Damaged as error:
        return error
    return None


def _listed(names: Iterator[str], found: Verification) -> Iterator[str]:
    """Yield the names, and record folders that cannot be read instead of raising."""
    try:
        yield from names
    except Damaged as error:
        log.error("%s", error)
        found.unindexed_damaged.append(Discrepancy("", "", str(error)))


def _look_at_unindexed(archive: Archive, index: Index, location: str, found: Verification, *, repair: bool) -> None:
    try:
        version = version_of(archive, location, verify=True)
        # Ask for the note before the row: a file that arrives now loses its note when it gets its row.
        is_on_its_way = archive.has_note(location) and _is_young(version)
    except FileMissing:
        return  # removed since it was listed
    except Damaged as error:
        found.unindexed_damaged.append(Discrepancy(location, "", str(error)))
        return
    if index.held(version.key, version.sha256, version.arrival.site) is not None or is_on_its_way:
        return  # it arrived while this file was read
    found.unindexed.append(location)
    if repair:
        index.add(version, lambda known: intact_version(archive, known))
        index.flush()
        found.repaired += 1


def _is_young(version: Version) -> bool:
    age = clock.now() - version.arrival.received_at
    return abs(age) < _ON_ITS_WAY  # the clock may have been set back a little since
