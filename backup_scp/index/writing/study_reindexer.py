"""Re-index whole studies from their files, in order of arrival, so that late files give the same rows.

Versions only affect each other within one Study Instance UID, except for a clash of SOP Instance UIDs.  So one study at
a time is enough, and a rebuild needs neither a second index nor the order of everything that was ever received.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from backup_scp.dicom.attributes import Attribute
from backup_scp.index.schema.dialect import Dialect
from backup_scp.index.schema.tables import (
    INSTANCE_ATTRIBUTES,
    SERIES_ATTRIBUTES,
    STUDY_ATTRIBUTES,
    instance,
    series,
    study,
    version,
)
from backup_scp.index.writing import copy_numbers
from backup_scp.index.writing.bulk_writer import BulkWriter
from backup_scp.index.writing.study_cache import StudyCache, StudyKey
from backup_scp.index.writing.version_rows import VersionRows
from backup_scp.index.writing.version_writer import VersionWriter
from backup_scp.ports import AddResult, Flag, InstanceKey, ReadVersion

_UID = study.c.study_instance_uid
_OF = sa.bindparam("uid") == _UID
_KNOWN = (
    sa.select(version.c.location, version.c.id, version.c.verified_at, version.c.damage)
    .select_from(version.join(instance).join(series).join(study))
    .where(_OF)
)
_STUDIES = sa.select(study.c.id).where(_OF)
_SERIES = sa.select(series.c.id).where(series.c.study_id.in_(_STUDIES))
_INSTANCES = sa.select(instance.c.id).where(instance.c.series_id.in_(_SERIES))
_FORGET = (
    sa.delete(version).where(version.c.instance_id.in_(_INSTANCES)),
    sa.delete(instance).where(instance.c.series_id.in_(_SERIES)),
    sa.delete(series).where(series.c.study_id.in_(_STUDIES)),
    sa.delete(study).where(_OF),
)
_TABLES = (study, series, instance, version)
_ROWS = (
    sa.select(*(column.label(f"{table.name}.{column.name}") for table in _TABLES for column in table.c))
    .select_from(version.join(instance).join(series).join(study))
    .where(version.c.location == sa.bindparam("at"))
)
_AS_VERIFIED = sa.update(version).where(version.c.location == sa.bindparam("at"))


def _as_known(rows: Mapping[str, Any]) -> VersionRows:
    """Restore from a version's rows the values that it was added with, as far as the rows have them.

    The instance row has the values of the answering version only, and the study row those merged from all instances.
    """

    def said(table: sa.Table, attributes: Iterable[Attribute]) -> dict[str, str]:
        return {attribute.column: rows[f"{table.name}.{attribute.column}"] for attribute in attributes}

    of_study = said(study, STUDY_ATTRIBUTES)
    of_version = {column.name: rows[f"version.{column.name}"] for column in version.c}
    flags = set(filter(None, of_version["flags"].split(","))) - {Flag.CLASH.value}
    for column in ("id", "instance_id", "answering", "answered_until", "flags"):
        del of_version[column]
    if (named := of_version.pop("patient_id")) is not None:
        of_study["patient_id"] = named
    uids = InstanceKey(
        *(
            rows[name]
            for name in ("study.study_instance_uid", "series.series_instance_uid", "instance.sop_instance_uid")
        )
    )
    return VersionRows(
        key=uids,
        study_key=StudyKey(
            uids.study_instance_uid, of_study["patient_id"], of_study["issuer_of_patient_id"], of_version["site"]
        ),
        study=of_study,
        series=said(series, SERIES_ATTRIBUTES),
        instance=said(instance, INSTANCE_ATTRIBUTES),
        version=of_version,
        flags=frozenset(flags),
    )


class StudyReindexer:
    """Re-indexes studies on one connection.

    Parameters
    ----------
    connection
        In a transaction that may write and excludes all other writers.
    dialect
        The engine's dialect.
    read
        Called for versions that the index lists and the caller has not read.
    """

    def __init__(self, connection: sa.Connection, dialect: Dialect, read: ReadVersion) -> None:
        self._connection = connection
        self._dialect = dialect
        self._read = read
        self._rows = BulkWriter(connection, dialect)
        self._writer = VersionWriter(self._rows, StudyCache())

    def enter(self, found: Iterable[VersionRows]) -> int:
        """Re-index the studies of these versions; return how many of the versions the index did not list."""
        by_study: dict[str, dict[str, VersionRows]] = {}
        files = {facts.version["location"]: facts for facts in found}
        known = {row.location: row.study_instance_uid for row in self._connection.execute(self._studies_of(files))}
        for location, facts in files.items():
            uid = facts.key.study_instance_uid
            if known.get(location, uid) == uid:  # otherwise its UID was decoded differently before: leave it
                by_study.setdefault(uid, {})[location] = facts
        self._rows.expect(facts.key.sop_instance_uid for facts in files.values())
        return sum(self.study(uid, files) for uid, files in by_study.items())

    def study(self, uid: str, files: dict[str, VersionRows]) -> int:
        """Re-index one Study Instance UID; ``files`` are the versions that were read, by location.

        A version keeps its number, by which further copies know it.
        """
        known = {row.location: row for row in self._connection.execute(_KNOWN, {"uid": uid})}
        if known:
            unread = {location: row for location, row in known.items() if row.damage or location not in files}
            files = files | {location: self._known(location, row) for location, row in unread.items()}
            for statement in _FORGET:
                self._connection.execute(statement, {"uid": uid})
        self._rows.keep({location: row.id for location, row in known.items()})
        entered = self._enter_all(list(files.values()))
        if lost := self._rows.left:
            copy_numbers.forget(self._connection, self._dialect, lost)
        self._remember_verifications(known.values())
        return entered - len(known)

    def _known(self, location: str, row: Any) -> VersionRows:
        """Read a version that the index lists; when its file is damaged or gone, use its rows."""
        read = None if row.damage else self._read(location)
        if read:
            facts = VersionRows.of(read)
        else:
            facts = _as_known(dict(self._connection.execute(_ROWS, {"at": location}).mappings().one()))
        self._rows.expect([facts.key.sop_instance_uid])
        return facts

    def _studies_of(self, locations: Iterable[str]) -> sa.Select[Any]:
        return (
            sa.select(version.c.location, _UID)
            .select_from(version.join(instance).join(series).join(study))
            .where(self._dialect.among(version.c.location, locations))
        )

    def _enter_all(self, found: Sequence[VersionRows]) -> int:
        """Add versions in the order of arrival; return how many were new."""
        admissions = []
        for facts in sorted(found, key=lambda facts: facts.candidate.place):
            admissions.append(self._writer.insert(facts))
            self._writer.remember()
        self._rows.flush()
        return sum(admission is not AddResult.HELD for admission in admissions)

    def _remember_verifications(self, known: Iterable[Any]) -> None:
        rows = [
            {"at": row.location, "verified_at": row.verified_at, "damage": row.damage}
            for row in known
            if row.verified_at or row.damage
        ]
        if rows:
            self._connection.execute(_AS_VERIFIED, rows)
