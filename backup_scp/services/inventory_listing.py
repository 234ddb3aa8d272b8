"""List all that is held at a moment, a study at a time, with constant memory (docs/adr/0050)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import attrgetter

from backup_scp.dicom.attributes import ATTRIBUTES, BY_KEYWORD, Attribute, Level
from backup_scp.dicom.inventory import Count, InstanceRecord, SeriesRecord, StudyRecord
from backup_scp.dicom.query.conditions import Condition, Query, UIDList
from backup_scp.machine import clock
from backup_scp.ports import (
    SEES_ALL,
    Archive,
    Index,
    Match,
    ReadVersion,
    Selection,
    SiteScope,
    StoredVersion,
    StudyReader,
    Version,
)
from backup_scp.services.read_back import intact_version

SETTLING = timedelta(seconds=10)
"""How old a moment must be: an image that arrives is in the index much sooner."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_UID = "2.25."
_LEFT_OUT = frozenset({"RetrieveAETitle", "InstanceAvailability", "TimezoneOffsetFromUTC"})


def _listed(*levels: Level) -> tuple[Attribute, ...]:
    return tuple(a for a in ATTRIBUTES if a.level in levels and not a.items and a.keyword not in _LEFT_OUT)


_OF_STUDY = _listed(Level.STUDY)
_OF_PATIENT = tuple(a for a in _listed(Level.PATIENT) if not a.computed)
_OF_SERIES = _listed(Level.SERIES)
_STUDY_UID = BY_KEYWORD["StudyInstanceUID"]


def uid_of(identity: str, at: datetime) -> str:
    """Return the SOP Instance UID of an archive's Inventory at a moment: it names both (PS3.5 B.2, RFC 9562 5.8)."""
    digest = hashlib.sha256(identity.encode()).digest()
    node = int.from_bytes(digest[:6], "big") << 80 | 8 << 76 | (int.from_bytes(digest[6:8], "big") & 0xFFF) << 64
    return f"{_UID}{node | 2 << 62 | (at - _EPOCH) // _MICROSECOND}"


def moment_of(identity: str, uid: str) -> datetime | None:
    """Return the moment that a UID names; None when it is not the UID of an Inventory of this archive."""
    number = uid.removeprefix(_UID)
    if not uid.startswith(_UID) or not number.isdecimal() or int(number) >= 1 << 128:
        return None
    try:
        at = _EPOCH + (int(number) & (1 << 62) - 1) * _MICROSECOND
    except OverflowError:
        return None
    return at if uid_of(identity, at) == uid else None


class InventoryOfAll:
    """Lists what an archive held at a moment that a UID names.

    Parameters
    ----------
    archive, index
        Hold it.
    scope
        The sites that it lists.
    """

    def __init__(self, archive: Archive, index: Index, scope: SiteScope = SEES_ALL) -> None:
        self._archive = archive
        self._index = index
        self._scope = scope
        self._seen = index.seen_by(scope)

    def seen_by(self, scope: SiteScope) -> InventoryOfAll:
        """Return what lists these sites alone; its Inventories have UIDs of their own."""
        return InventoryOfAll(self._archive, self._index, self._scope & scope)

    def uid_now(self) -> str:
        """Return the UID of the Inventory of the present: it is some seconds old, so that it never changes."""
        return uid_of(self._identity, clock.now() - SETTLING)

    def moment_of(self, uid: str) -> datetime | None:
        """Return the moment that a UID names; None for a UID that was not returned here."""
        at = moment_of(self._identity, uid)
        return at if at is not None and at <= clock.now() - SETTLING else None

    @property
    def _identity(self) -> str:
        return f"{self._index.archive_identity() or ''}{self._scope}"

    def studies(self, at: datetime, count: Count) -> Iterator[StudyRecord]:
        """Yield what was held at a moment, which is included, and answered queries then.

        Parameters
        ----------
        at
            The moment.
        count
            Is told of instances that cannot be listed, since they name no study or series.

        Raises
        ------
        IndexUnavailable
        """
        for batch in self._batches(at):
            named = list(filter(_is_listed, batch))
            count.is_complete &= len(named) == len(batch)
            if named:
                yield from _batch(self._seen, self._read, at, named)

    def _batches(self, at: datetime) -> Iterator[list[StoredVersion]]:
        with closing(self._seen.select_in_batches(Selection(as_of=at))) as batches:
            yield from batches

    def _read(self, location: str) -> Version | None:
        return intact_version(self._archive, location)


def _is_listed(held: StoredVersion) -> bool:
    return bool(held.study_instance_uid and held.series_instance_uid)


def _batch(index: StudyReader, read: ReadVersion, at: datetime, held: list[StoredVersion]) -> Iterator[StudyRecord]:
    uids = tuple(dict.fromkeys(each.study_instance_uid for each in held))
    condition = (Condition(_STUDY_UID, UIDList(uids)),)
    of_study: dict[str, Match] = {}
    for match in _search(index, read, at, Query(Level.STUDY, condition, (*_OF_STUDY, *_OF_PATIENT)), held):
        of_study.setdefault(match["StudyInstanceUID"], match)  # of two patients with one UID, the first
    of_series: dict[tuple[str, str], Match] = {}
    for match in _search(index, read, at, Query(Level.SERIES, condition, _OF_SERIES), held):
        of_series.setdefault((match["StudyInstanceUID"], match["SeriesInstanceUID"]), match)
    by_study: dict[str, list[StoredVersion]] = {uid: [] for uid in uids}
    for each in held:
        by_study[each.study_instance_uid].append(each)
    for uid, versions in by_study.items():
        series = sorted(versions, key=attrgetter("series_instance_uid"))
        yield StudyRecord(
            _values(of_study.get(uid, {}), (*_OF_STUDY, *_OF_PATIENT)) | {"StudyInstanceUID": uid},
            max(each.received_at for each in versions),
            tuple(
                SeriesRecord(
                    _values(of_series.get((uid, series_uid), {}), _OF_SERIES) | {"SeriesInstanceUID": series_uid},
                    tuple(map(_instance, members)),
                )
                for series_uid, members in groupby(series, key=attrgetter("series_instance_uid"))
            ),
        )


def _search(
    index: StudyReader, read: ReadVersion, at: datetime, query: Query, held: list[StoredVersion]
) -> list[Match]:
    """Answer a query as of a moment; by the present answers where the same versions answer, which takes less time."""
    with closing(index.search(query)) as answers:
        found = list(answers)
    now = {each.location for each in index.select(Selection(query.conditions))}
    if now == {each.location for each in held}:
        return found
    with closing(index.search_as_of(query, at, read)) as answers:
        return list(answers)


def _values(match: Match, attributes: Iterable[Attribute]) -> dict[str, str]:
    return {attribute.keyword: str(match.get(attribute.keyword) or "") for attribute in attributes}


def _instance(held: StoredVersion) -> InstanceRecord:
    return InstanceRecord(held.sop_class_uid, held.sop_instance_uid, held.transfer_syntax_uid, held.sha256)
