"""The statements that entering a version executes; made once, so that SQLAlchemy compiles them once."""

from __future__ import annotations

from sqlalchemy import BindParameter, bindparam, case, delete, insert, select, update

from backup_scp.index.schema.tables import instance, named, series, study, version
from backup_scp.index.writing.study_cache import StudyKey

# What an instance changes in its study row and series row when they say already what it says.
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
# Rows between which a correction moves an instance, always in the same order: no deadlocks.
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
