"""Tell which images of a copy its own index and lists do not name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from backup_scp.machine.readable import count, moment
from backup_scp.ports import CopyItem, DrillKind, DrillProblem, Index, StandAloneCopy

_RENEWED_AFTER = timedelta(days=1, hours=1)
"""A copy gets a new index with the first image that comes after a day."""

_MOST_LOOKED_FOR = 100_000  # in the lists, so that memory stays small


@dataclass(slots=True)
class ListedByCopy:
    """What the index of a copy lacks.

    Attributes
    ----------
    index_taken_at
        When the index there was written.
    index_lacks
        How many images.
    unlisted
        Those of them that the lists there do not name either: their SOP Instance UIDs, by SHA-256.
    """

    index_taken_at: datetime | None
    index_lacks: int = 0
    unlisted: dict[str, str] = field(default_factory=dict)

    def problems(self, now: datetime, *, is_complete: bool) -> Iterator[DrillProblem]:
        """Tell what is wrong; an index that is behind by a day is as it should be while the lists name the rest."""
        for uid in self.unlisted.values():
            yield DrillProblem(DrillKind.NOT_LISTED, uid, "neither the index nor the lists there name it")
        taken_at = self.index_taken_at
        if self.index_lacks and is_complete and (taken_at is None or now - taken_at > _RENEWED_AFTER):
            age = f"is {_age(now - taken_at)} old, of {moment(taken_at)}," if taken_at else "does not say its age"
            lacks = count(self.index_lacks, "image")
            yield DrillProblem(DrillKind.STALE_INDEX, "", f"The index there {age} and lacks {lacks} that the copy has")


def check_lists(
    place: StandAloneCopy, taken_at: datetime | None, found: Index, batches: Iterable[list[CopyItem]]
) -> ListedByCopy:
    """Look for all images in the index of a copy, and for those that it lacks in the lists there.

    Raises
    ------
    IndexUnavailable
        The index there is damaged.
    DestinationUnavailable, DigestMismatch
    """
    lists = ListedByCopy(taken_at)
    for items in batches:
        lacking = set(found.unindexed(item.held.location for item in items))
        lists.index_lacks += len(lacking)
        for item in items:
            if item.held.location in lacking and len(lists.unlisted) < _MOST_LOOKED_FOR:
                lists.unlisted[item.held.sha256] = item.held.sop_instance_uid
    if lists.unlisted:
        for image in place.listed():
            lists.unlisted.pop(image.sha256, None)
    return lists


def _age(age: timedelta) -> str:
    hours = age / timedelta(hours=1)
    return count(round(hours), "hour") if hours < 48 else count(round(hours / 24), "day")
