"""Execute the statements that add a version; each one is built once, so that SQLAlchemy compiles it once.

``VersionWriter`` has the rules and calls ``RowWriter``, which executes one statement after the other.  Subclasses
collect rows and write many at once (``BulkWriter``, ``OptimisticInsert``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BindParameter, bindparam, case, delete, insert, select, update

from backup_scp.index.schema.dialect import Dialect, Executes
from backup_scp.index.schema.rows import Row
from backup_scp.index.schema.tables import instance, named, series, study, version
from backup_scp.index.writing.study_cache import StudyKey

# The columns that an instance changes in its study and series rows when their attributes stay the same.
STUDY_COUNTS = (
    "modalities_in_study",
    "sop_classes_in_study",
    "number_of_study_related_series",
    "number_of_study_related_instances",
    "version_count",
    "size_bytes",
    "last_received_at",
    "merged_at",
    "merged_earlier",
    "revision",
)
SERIES_COUNTS = ("number_of_series_related_instances", "merged_at", "merged_earlier")
STUDY_ROW = tuple(column.name for column in study.c if column.name != "id")
SERIES_ROW = tuple(column.name for column in series.c if column.name not in {"id", "study_id"})

_OF: BindParameter[int] = bindparam("of")

FIND_INSTANCES = (
    select(
        instance.c.id.label("instance_id"),
        instance.c.series_id,
        instance.c.sop_class_uid,
        series.c.study_id,
        series.c.series_instance_uid,
        *(study.c[column] for column in StudyKey._fields),
    )
    .select_from(instance.join(series).join(study))
    .where(instance.c.sop_instance_uid == bindparam("uid"))
    .order_by(instance.c.id)
)

LOOK_AT_STUDY = select(study).where(*(study.c[column] == bindparam(column) for column in StudyKey._fields))
LOAD_STUDY = LOOK_AT_STUDY.with_for_update()
UPDATE_STUDY = update(study).where(study.c.id == _OF, study.c.revision == bindparam("known_revision"))
# A correction moves an instance between these rows; they are locked in one order, which prevents deadlocks.
LOCK_STUDIES = (
    select(study.c.id).where(study.c.study_instance_uid == bindparam("uid")).order_by(study.c.id).with_for_update()
)
LOAD_SERIES = select(series).where(series.c.study_id == _OF, series.c.series_instance_uid == bindparam("uid"))
INSERT_SERIES = insert(series)
UPDATE_SERIES = update(series).where(series.c.id == _OF)
INSERT_INSTANCE = insert(instance)
UPDATE_INSTANCE = update(instance).where(instance.c.id == _OF)

INSERT_VERSION = insert(version)
VERSIONS_OF = select(
    *named(
        version,
        "id sha256 location size_bytes received_at ordered_at service calling_ae_title site remote flags answering"
        " answered_until same_as",
    )
).where(version.c.instance_id == _OF)
SET_STANDING = update(version).where(version.c.id == _OF)

_AT: BindParameter[str] = bindparam("at")
_MORE_BYTES: BindParameter[int] = bindparam("more_bytes")
COUNT_VERSION = (
    update(study)
    .where(study.c.id == _OF)
    .values(
        version_count=study.c.version_count + 1,
        size_bytes=study.c.size_bytes + _MORE_BYTES,
        last_received_at=case((study.c.last_received_at < _AT, _AT), else_=study.c.last_received_at),
        revision=study.c.revision + 1,
    )
)

LEAVE_SERIES = (
    update(series)
    .where(series.c.id == _OF)
    .values(number_of_series_related_instances=series.c.number_of_series_related_instances - 1)
)
LEAVE_STUDY = (
    update(study)
    .where(study.c.id == _OF)
    .values(
        number_of_study_related_series=study.c.number_of_study_related_series - bindparam("less_series"),
        number_of_study_related_instances=study.c.number_of_study_related_instances - 1,
        version_count=study.c.version_count - bindparam("less_versions"),
        size_bytes=study.c.size_bytes - bindparam("less_bytes"),
        revision=study.c.revision + 1,
    )
)
DELETE_EMPTY_SERIES = delete(series).where(series.c.id == _OF, series.c.number_of_series_related_instances == 0)
DELETE_EMPTY_STUDY = delete(study).where(study.c.id == _OF, study.c.number_of_study_related_instances == 0)

MODALITIES_OF = select(series.c.modality).where(series.c.study_id == _OF).distinct()
SOP_CLASSES_OF = (
    select(instance.c.sop_class_uid).select_from(instance.join(series)).where(series.c.study_id == _OF).distinct()
)
SET_COLLECTED = (
    update(study)
    .where(study.c.id == _OF)
    .values(
        modalities_in_study=bindparam("modalities"),
        sop_classes_in_study=bindparam("classes"),
        revision=study.c.revision + 1,
    )
)


class RowWriter:
    """Reads and writes the rows of versions, one statement after the other.

    Every SELECT goes through ``_read`` and every other statement through ``_write``, so that a subclass can handle
    there all statements that it does not replace.

    Parameters
    ----------
    connection
        In a transaction that may write.
    dialect
        The engine's dialect.
    """

    def __init__(self, connection: Executes, dialect: Dialect) -> None:
        self._connection = connection
        self._dialect = dialect

    def _read(self, statement: sa.Select[Any], row: Row) -> Any:
        return self._connection.execute(statement, row)

    def _write(self, statement: sa.UpdateBase, row: Row) -> Any:
        return self._connection.execute(statement, row)

    def lock(self, uid: str) -> None:
        """Lock a SOP Instance UID, and wait for a transaction that re-indexes studies."""
        self._dialect.lock_name(self._connection, uid, waits=False)
        self._dialect.lock_entering(self._connection)

    # Instances and their versions

    def find_instances(self, uid: str) -> Sequence[Row]:
        """Find the instances with a SOP Instance UID, each with its series and study."""
        found: Sequence[Row] = self._read(FIND_INSTANCES, {"uid": uid}).mappings().all()
        return found

    def versions_of(self, instance_id: int) -> Sequence[Row]:
        """Read the versions of an instance, with the columns that the rule of versions needs."""
        found: Sequence[Row] = self._read(VERSIONS_OF, {"of": instance_id}).mappings().all()
        return found

    def insert_instance(self, row: Row) -> int:
        """Insert an instance row; return its id."""
        return _inserted_id(self._write(INSERT_INSTANCE, row))

    def update_instance(self, instance_id: int, row: Row) -> None:
        """Replace the attributes of an instance row."""
        self._write(UPDATE_INSTANCE, {**row, "of": instance_id})

    def insert_version(self, row: Row) -> None:
        """Insert a version row."""
        self._write(INSERT_VERSION, row)

    def update_version(self, version_id: int, row: Row) -> None:
        """Change the columns that the rule of versions sets."""
        self._write(SET_STANDING, {"of": version_id, **row})

    # The study row

    def load_study(self, key: StudyKey) -> Row | None:
        """Lock and read a study row; None when there is none."""
        found = self._read(LOAD_STUDY, key._asdict()).mappings().first()
        return dict(found) if found else None

    def insert_study(self, row: Row) -> None:
        """Insert a study row, unless it exists."""
        self._write(self._dialect.insert_if_new(study), row)

    def update_study(self, study_id: int, known_revision: int, row: Row) -> bool:
        """Change a study row; False without a change when its revision is not the known one."""
        changed = self._write(UPDATE_STUDY, {**row, "of": study_id, "known_revision": known_revision})
        return int(changed.rowcount) == 1

    def count_version(self, study_id: int, size_bytes: int, received_at: str) -> None:
        """Count a version that changes nothing else in its study."""
        self._write(COUNT_VERSION, {"of": study_id, "more_bytes": size_bytes, "at": received_at})

    def lock_studies(self, uid: str) -> None:
        """Lock all study rows of a Study Instance UID, in one order, which prevents deadlocks."""
        self._read(LOCK_STUDIES, {"uid": uid}).all()

    def leave_study(self, study_id: int, *, series: int, versions: int, size_bytes: int) -> bool:
        """Subtract an instance from its study's counts; True when the row was then empty and was deleted."""
        less = {"less_series": series, "less_versions": versions, "less_bytes": size_bytes}
        self._write(LEAVE_STUDY, {"of": study_id, **less})
        return bool(self._write(DELETE_EMPTY_STUDY, {"of": study_id}).rowcount)

    def collect(self, study_id: int, coming: Iterable[str]) -> None:
        """Set the study's Modalities and SOP Classes from its rows and ``coming``; a cached row is then outdated."""
        modalities = self._read(MODALITIES_OF, {"of": study_id}).scalars()
        classes = self._read(SOP_CLASSES_OF, {"of": study_id}).scalars()
        joined = {
            "modalities": "\\".join(sorted(filter(None, modalities))),
            "classes": "\\".join(sorted({*classes, *coming})),
        }
        self._write(SET_COLLECTED, {"of": study_id, **joined})

    # Series rows

    def load_series(self, study_id: int, uid: str) -> Row | None:
        """Read a series row; None when there is none."""
        found = self._read(LOAD_SERIES, {"of": study_id, "uid": uid}).mappings().first()
        return dict(found) if found else None

    def insert_series(self, row: Row) -> int:
        """Insert a series row; return its id."""
        return _inserted_id(self._write(INSERT_SERIES, row))

    def update_series(self, series_id: int, row: Row) -> None:
        """Change a series row, which the lock of its study row protects."""
        self._write(UPDATE_SERIES, {**row, "of": series_id})

    def leave_series(self, series_id: int) -> bool:
        """Subtract an instance from its series' count; True when the row was then empty and was deleted."""
        self._write(LEAVE_SERIES, {"of": series_id})
        return bool(self._write(DELETE_EMPTY_SERIES, {"of": series_id}).rowcount)


def _inserted_id(done: Any) -> int:
    key = done.inserted_primary_key
    return int(key[0]) if key else 0
