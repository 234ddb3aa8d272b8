"""Verification, holdings and remarks, for ``verify`` and ``status``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa

from backup_scp.index.connection.database import Database
from backup_scp.index.reading import select
from backup_scp.index.schema.dialect import Dialect
from backup_scp.index.schema.stored_text import moment, now, stored_long, timestamp
from backup_scp.index.schema.tables import REMARKABLE, Text, instance, named, order_of, series, study, version
from backup_scp.machine import clock
from backup_scp.ports import (
    SEES_ALL,
    ClockDoubt,
    FirstArrival,
    FlaggedVersion,
    Holdings,
    MassChange,
    RecentStudy,
    SiteScope,
    StoredVersion,
    VerificationResult,
)

BATCH = 1000
_AFTER = "~"  # appended to a timestamp, it sorts after every text that begins so

# Exactly the text of the partial index; otherwise the database would not use that index.
_IS_REMARKABLE = sa.text(f"({REMARKABLE.text})")


class Verifications:
    """Records when each version was verified, and with which result."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def versions(self, before: datetime | None = None) -> Iterator[StoredVersion]:
        """See ``Index.versions``: in batches, each in its own transaction, because reading all files takes days.

        A version that is verified meanwhile is not yielded again.  Versions with a time of verification in the future
        come last.
        """
        began = timestamp(before) if before else now()
        with self._database.reading() as connection:
            last = connection.scalar(sa.select(sa.func.max(version.c.verified_at))) or ""
        yield from self._between("", began)
        if last > _horizon():
            yield from self._between(_horizon(), last + _AFTER)

    def _between(self, verified_at: str, end: str) -> Iterator[StoredVersion]:
        """Yield the versions verified between two times."""
        last_id = 0
        place = sa.tuple_(version.c.verified_at, version.c.id)
        walk = select.held(version.c.verified_at, version.c.id).where(version.c.verified_at < end)
        while True:
            after = walk.where(place > sa.tuple_(sa.literal(verified_at), sa.literal(last_id)))
            with self._database.reading() as connection:
                batch = connection.execute(after.order_by(version.c.verified_at, version.c.id).limit(BATCH)).all()
            yield from map(select.held_row, batch)
            if len(batch) < BATCH:
                return
            *_, verified_at, last_id = batch[-1]

    def record(self, results: Iterable[VerificationResult], on_damage: Callable[[str, str], None]) -> None:
        """See ``Index.record_verification``: a file repaired while it was read is not damaged."""
        rest = iter(results)
        checked = sa.bindparam("checked", type_=Text)
        is_the_latest = sa.or_(version.c.verified_at <= checked, version.c.verified_at > _horizon())
        update = sa.update(version).where(version.c.location == sa.bindparam("where"), is_the_latest)
        update = update.values(verified_at=checked)
        while batch := list(islice(rest, BATCH)):
            rows = [
                {
                    "where": each.location,
                    "checked": timestamp(each.at) if each.at else now(),
                    "damage": each.damage and stored_long(each.damage),
                }
                for each in batch
            ]
            with self._database.writing("results of a verification") as connection:
                connection.execute(update, rows)
            for each in batch:
                if each.damage:
                    on_damage(each.location, each.damage)

    def record_return(self, locations: Sequence[str]) -> None:
        """See ``Index.record_return``."""
        is_told = sa.or_(version.c.verified_at != "", version.c.damage.is_not(None))
        these = self._database.dialect.among(version.c.location, locations)
        with self._database.writing("files that came back") as connection:
            connection.execute(sa.update(version).where(these, is_told).values(verified_at="", damage=None))

    def forget_future(self) -> None:
        """See ``Index.forget_future_verifications``: in batches, so that storing images need not wait."""
        some = sa.select(version.c.id).where(version.c.verified_at > _horizon()).limit(BATCH)
        forget = sa.update(version).where(version.c.id.in_(some)).values(verified_at="")
        with self._database.reading() as connection:
            is_needed = connection.scalar(some.limit(1)) is not None
        while is_needed:
            with self._database.writing() as connection:
                is_needed = connection.execute(forget).rowcount == BATCH

    def unindexed(self, locations: Iterable[str]) -> Iterator[str]:
        """See ``Index.unindexed``."""
        rest = iter(locations)
        while batch := list(islice(rest, BATCH)):
            known = sa.select(version.c.location).where(self._database.dialect.among(version.c.location, batch))
            with self._database.reading() as connection:
                found = set(connection.scalars(known))
            yield from (location for location in batch if location not in found)


def _horizon() -> str:
    """Return the latest plausible time; a later one counts as unknown."""
    return timestamp(clock.horizon())


def clock_doubt(connection: sa.Connection) -> ClockDoubt:
    """See ``Index.clock_doubt``: the study rows tell which studies to search."""
    horizon = _horizon()
    studies = sa.select(study.c.id).where(study.c.last_received_at > horizon)
    number, newest = connection.execute(
        sa.select(sa.func.count(), sa.func.max(version.c.received_at))
        .select_from(version.join(instance).join(series))
        .where(series.c.study_id.in_(studies), version.c.received_at > horizon)
    ).one()
    if not number:
        return ClockDoubt()
    last = connection.scalar(sa.select(version.c.received_at).order_by(version.c.id.desc()).limit(1))
    is_over = last is not None and last <= horizon
    return ClockDoubt(number, moment(newest), moment(newest) - clock.now(), is_over)


def is_damaged(connection: sa.Connection, location: str) -> bool:
    """See ``Index.is_damaged``."""
    damage = sa.select(version.c.damage).where(version.c.location == location)
    return connection.scalar(damage) is not None


def is_empty(connection: sa.Connection) -> bool:
    """See ``Index.is_empty``."""
    return connection.scalar(sa.select(version.c.id).limit(1)) is None


def holdings(connection: sa.Connection, scope: SiteScope = SEES_ALL) -> Holdings:
    """See ``Index.holdings``: it adds the sums in the study rows."""
    sums = connection.execute(
        sa.select(
            sa.func.count(),
            *(
                sa.func.coalesce(sa.func.sum(study.c[column]), 0)
                for column in (
                    "number_of_study_related_series",
                    "number_of_study_related_instances",
                    "version_count",
                    "size_bytes",
                )
            ),
            sa.func.max(study.c.last_received_at),
        ).where(*select.within(scope))
    ).one()
    *numbers, last_received_at = sums
    these = select.within(scope, version)
    last_verified_at = connection.scalar(sa.select(sa.func.max(version.c.verified_at)).where(*these))
    # On its own: an index of the database has them in order, and beside the sums it would not be used.
    patients = connection.scalar(
        sa.select(sa.func.count(sa.distinct(study.c.patient_key))).where(*select.within(scope))
    )
    studies, series, instances, versions, size_bytes = map(int, numbers)
    return Holdings(
        patients=patients or 0,
        studies=studies,
        series=series,
        instances=instances,
        versions=versions,
        size_bytes=size_bytes,
        flagged=_count(connection, _IS_REMARKABLE, version.c.flags != "", *these),
        damaged=_count(connection, _IS_REMARKABLE, version.c.damage.is_not(None), *these),
        last_received_at=moment(last_received_at) if last_received_at else None,
        last_verified_at=moment(last_verified_at) if last_verified_at else None,
        never_verified=_count(connection, version.c.verified_at == "", *these),
    )


def count_damaged(connection: sa.Connection) -> int:
    """See ``Index.count_damaged``."""
    return _count(connection, _IS_REMARKABLE, version.c.damage.is_not(None))


def _count(connection: sa.Connection, *clauses: Any) -> int:
    return int(connection.scalar(sa.select(sa.func.count()).select_from(version).where(*clauses)) or 0)


def remarks(connection: sa.Connection, limit: int) -> list[FlaggedVersion]:
    """See ``Index.remarks``."""
    rows = connection.execute(
        sa.select(
            *named(version, "location calling_ae_title address remote received_at flags damage"),
            instance.c.sop_instance_uid,
        )
        .select_from(version.join(instance))
        .where(_IS_REMARKABLE)
        .order_by(version.c.received_at.desc(), version.c.id.desc())
        .limit(limit)
    )
    return [
        FlaggedVersion(
            location=row.location,
            sop_instance_uid=row.sop_instance_uid,
            calling_ae_title=row.calling_ae_title,
            received_at=moment(row.received_at),
            flags=select.flags_of(row.flags, row.damage),
            address=row.address,
            remote=row.remote,
        )
        for row in rows
    ]


def verified_at(connection: sa.Connection, dialect: Dialect, locations: Sequence[str]) -> dict[str, datetime]:
    """See ``Index.verified_at``."""
    found: dict[str, datetime] = {}
    for first in range(0, len(locations), BATCH):
        these = dialect.among(version.c.location, locations[first : first + BATCH])
        rows = connection.execute(sa.select(version.c.location, version.c.verified_at).where(these))
        found |= {location: moment(at) for location, at in rows if at}
    return found


def first_arrivals(connection: sa.Connection, since: datetime) -> Iterator[FirstArrival]:
    """See ``Index.first_arrivals``: the study rows tell which studies to search; times in the future are left out."""
    began, latest = timestamp(since), _horizon()
    span = sa.func.min(version.c.received_at), sa.func.max(version.c.received_at)
    rows = connection.execute(
        sa.select(version.c.remote, version.c.calling_ae_title, *span)
        .select_from(study.join(series).join(instance).join(version))
        .where(
            study.c.last_received_at >= began,
            version.c.received_at >= began,
            version.c.received_at <= latest,
            version.c.calling_ae_title != "",
        )
        .group_by(series.c.study_id, version.c.remote, version.c.calling_ae_title)
    )
    for remote, calling_ae_title, first_at, last_at in rows:
        yield FirstArrival(remote or calling_ae_title, moment(first_at), moment(last_at))


def newest_studies(connection: sa.Connection, most: int, scope: SiteScope = SEES_ALL) -> list[RecentStudy]:
    """See ``Index.newest_studies``: by the primary key."""
    columns = study.c.id, study.c.study_instance_uid, study.c.last_received_at
    rows = connection.execute(sa.select(*columns).where(*select.within(scope)).order_by(study.c.id.desc()).limit(most))
    return [RecentStudy(number, uid, moment(received_at)) for number, uid, received_at in rows]


def storms(connection: sa.Connection, since: datetime, studies: int) -> list[MassChange]:
    """See ``Index.storms``: a changed instance has a version that does not answer, and there are few of those."""
    superseded, earlier = version.alias("superseded"), version.alias("earlier")
    number_of_studies = sa.func.count(sa.distinct(series.c.study_id))
    changed = (
        sa.select(
            version.c.site,
            version.c.calling_ae_title,
            number_of_studies,
            sa.func.count(sa.distinct(version.c.instance_id)),
            sa.func.min(version.c.received_at),
        )
        .select_from(version.join(instance).join(series))
        .where(
            version.c.received_at >= timestamp(since),
            version.c.received_at <= _horizon(),
            version.c.same_as == "",
            version.c.instance_id.in_(
                sa.select(superseded.c.instance_id).where(superseded.c.patient_id.is_not(None)).correlate(None)
            ),
            sa.exists().where(earlier.c.instance_id == version.c.instance_id, order_of(earlier) < order_of(version)),
        )
        .group_by(version.c.site, version.c.calling_ae_title)
        .having(number_of_studies >= studies)
        .order_by(sa.func.min(version.c.received_at))
    )
    return [
        MassChange(site, sender, studies_, instances, moment(began_at))
        for site, sender, studies_, instances, began_at in connection.execute(changed)
    ]
