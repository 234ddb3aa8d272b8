"""Restores that a person ordered on the page: rows of the index, so that they survive the page, a crash and a restart.

There are ``MOST`` places for each scope.  An order takes a free one, or that of the restore that ended first.  So
neither the number of a place nor a refusal tells a clinic that another one restores something.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256

from backup_scp.errors import InvalidSelection, ResourceLimitation
from backup_scp.ports import SEES_ALL, IndexRecords, SiteScope, Task

MOST = 20
MOST_STUDIES = 100
"""Studies of one order."""

_MOST_CHARACTERS = 7000  # of their UIDs: the index cuts longer texts
_NAME = "restore-"


@dataclass(frozen=True, slots=True)
class RestoreJob:
    """One order.

    Attributes
    ----------
    place
        Name of its place; another order may take it when this one has ended.
    node
        Which node it is for: several may share an index.
    to
        Name of a ``[[remote]]``.
    studies
        Study Instance UIDs.
    began_at, ended_at
        When it was ordered, and when it ended; None while it is not.
    done, total
        Images; 0 while the number is not known.
    note
        How it goes, or what came of it, in one sentence.
    receipt
        Name of the file of its receipt; empty while there is none.
    is_complete
        Whether all images have arrived.
    scope
        The clinics that the person sees who ordered it: it sends nothing of others, and others do not see it.
    """

    place: str
    node: str
    to: str
    studies: tuple[str, ...]
    began_at: datetime
    ended_at: datetime | None = None
    done: int = 0
    total: int = 0
    note: str = ""
    receipt: str = ""
    is_complete: bool = False
    scope: SiteScope = SEES_ALL

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.ended_at is None


def jobs(records: IndexRecords, scope: SiteScope = SEES_ALL) -> list[RestoreJob]:
    """List the orders of those who see no more than these clinics, the latest first.

    Raises
    ------
    IndexUnavailable
    """
    tasks = records.tasks()
    found = [_job(task) for name, task in tasks.items() if name.startswith(_NAME)]
    found = [job for job in found if scope.covers(job.scope)]
    return sorted(found, key=lambda job: job.began_at, reverse=True)


def order(
    records: IndexRecords,
    node: str,
    to: str,
    studies: Iterable[str],
    now: datetime,
    scope: SiteScope = SEES_ALL,
) -> RestoreJob:
    """Record an order; the node carries it out.

    Raises
    ------
    InvalidSelection
        No study, or too many.
    ResourceLimitation
        All places of this scope have a restore that has not ended.
    IndexUnavailable
    """
    wanted = tuple(dict.fromkeys(studies))
    if not wanted:
        raise InvalidSelection("No study is picked")
    if len(wanted) > MOST_STUDIES or sum(map(len, wanted)) > _MOST_CHARACTERS:
        raise InvalidSelection(f"Pick at most {MOST_STUDIES} studies at once")
    taken = {job.place: job for job in jobs(records)}
    places = [f"{_NAME}{_of(scope)}{number}" for number in range(MOST)]
    free = [place for place in places if place not in taken or not taken[place].is_running]
    for place in sorted(free, key=lambda name: (taken[name].ended_at or now).isoformat() if name in taken else ""):
        job = RestoreJob(place, node, to, wanted, now, scope=scope)
        if records.begin_task(_task(job)):  # else another page took the place meanwhile
            return job
    raise ResourceLimitation(f"{MOST} restores are running: wait until one has ended")


def _of(scope: SiteScope) -> str:
    """Return what the names of a scope's places have; empty for all sites."""
    return "" if scope.is_all else f"{sha256(str(scope).encode('utf-8', 'surrogatepass')).hexdigest()[:8]}-"


def record(records: IndexRecords, job: RestoreJob) -> None:
    """Record how a restore goes.

    Raises
    ------
    IndexUnavailable
    """
    records.record_task(_task(job))


def _task(job: RestoreJob) -> Task:
    known = {
        "node": job.node,
        "to": job.to,
        "studies": job.studies,
        "total": job.total,
        "receipt": job.receipt,
        "is_complete": job.is_complete,
        "scope": str(job.scope),
    }
    return Task(job.place, job.began_at, job.ended_at, json.dumps(known), job.done, job.note)


def ended(job: RestoreJob, note: str, now: datetime, *, is_complete: bool = False) -> RestoreJob:
    """Return a restore that has ended now."""
    return replace(job, ended_at=now, note=note, is_complete=is_complete)


def _job(task: Task) -> RestoreJob:
    known = json.loads(task.position)
    return RestoreJob(
        place=task.name,
        node=known["node"],
        to=known["to"],
        studies=tuple(known["studies"]),
        began_at=task.began_at,
        ended_at=task.ended_at,
        done=task.done,
        total=known["total"],
        note=task.note,
        receipt=known["receipt"],
        is_complete=known["is_complete"],
        scope=SiteScope.read(known.get("scope", "")),
    )
