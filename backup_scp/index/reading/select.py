"""Build the SELECT statements of query, retrieve and restore (PS3.4 C.4.1 and C.4.2)."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from backup_scp.dicom.attributes import (
    ATTRIBUTES,
    AVAILABLE_TRANSFER_SYNTAX_UID,
    BY_KEYWORD,
    UNIQUE_KEY,
    Attribute,
    Level,
)
from backup_scp.dicom.query.information_model import Condition, OneItem, Query
from backup_scp.index.reading.deferred import Expression, column, defer, given, value_of
from backup_scp.index.reading.matching import ROW, ColumnOf, Matcher, as_text
from backup_scp.index.schema.dialect import Clause, Dialect, Text
from backup_scp.index.schema.rows import Row
from backup_scp.index.schema.search_keys import key_columns
from backup_scp.index.schema.stored_text import moment, stored_key, timestamp
from backup_scp.index.schema.tables import instance, named, order_of, series, study, version
from backup_scp.ports import SEES_ALL, Arrival, InstanceKey, Lookup, Selection, SiteScope, StoredVersion, VersionMatch

_TABLES = {Level.PATIENT: study, Level.STUDY: study, Level.SERIES: series, Level.IMAGE: instance}
_LEVELS = tuple(Level)
_LATER = study.alias("later")
_THEIRS = study.alias("theirs")
_THEN = version.alias("then")
_PATIENT_ID = BY_KEYWORD["PatientID"]
_PATIENT_SUMS = {
    "number_of_patient_related_studies": "1",
    "number_of_patient_related_series": "number_of_study_related_series",
    "number_of_patient_related_instances": "number_of_study_related_instances",
}


def _tables_by_column() -> dict[str, sa.Table]:
    return {ROW: study} | {name: _TABLES[a.level] for a in ATTRIBUTES for name in (a.column, *key_columns(a))}


_TABLE_OF = _tables_by_column()


def columns_of(study_rows: sa.FromClause) -> ColumnOf:
    """Return a ``ColumnOf`` that takes study (and patient) columns from ``study_rows``."""
    return lambda name: column((study_rows, name), _column(study_rows, name))


def _column(study_rows: sa.FromClause, name: str) -> Text:
    if name in _PATIENT_SUMS:
        return _patient_sum(study_rows, _PATIENT_SUMS[name])
    if name == AVAILABLE_TRANSFER_SYNTAX_UID.column:
        return _transfer_syntax()
    table = _TABLE_OF[name]
    return study_rows.c[name] if table is study else table.c[name]


def _patient_sum(study_rows: sa.FromClause, column: str) -> Text:
    """Return the sum over the patient's studies; a query computes it only when it returns it."""
    summed = sa.func.count() if column == "1" else sa.func.sum(_THEIRS.c[column])
    return (
        sa.select(summed)
        .select_from(_THEIRS)
        .where(_THEIRS.c.patient_key == study_rows.c.patient_key)
        .scalar_subquery()
    )


def returned_keys(query: Query) -> tuple[Attribute, ...]:
    """Return the keys of an answer: the unique keys down to its level, and requested keys at its level or above."""
    return _returned_keys(query.level, query.return_keys)


@lru_cache(maxsize=256)  # a viewer's searches name the same keys again and again
def _returned_keys(of: Level, requested: tuple[Attribute, ...]) -> tuple[Attribute, ...]:
    unique = [UNIQUE_KEY[level] for level in _LEVELS if level.depth <= of.depth]
    asked = [attribute for attribute in requested if attribute.level.depth <= of.depth]
    return tuple(dict.fromkeys([*unique, *asked]))


def _transfer_syntax() -> Text:
    """Return the Transfer Syntax of the version that answers for an instance."""
    of_instance = (_THEN.c.instance_id == instance.c.id, _THEN.c.answering)
    return sa.select(_THEN.c.transfer_syntax_uid).where(*of_instance).limit(1).scalar_subquery()


class Search(NamedTuple):
    """A statement that selects answers, and its values by the names of its bind parameters.

    ``values`` is None when they are part of the statement, which then serves one query only.
    """

    statement: sa.Select[Any]
    values: Row | None


_MOST_STATEMENTS = 256
_statements: dict[Hashable, sa.Select[Any]] = {}


def prepare(query: Query, dialect: Dialect, scope: SiteScope = SEES_ALL) -> Search:
    """Return what ``search`` selects; queries that differ in the values of their keys share one statement."""
    matching, later = _expressions(query, dialect)
    within = _within(scope, study)
    shape = (
        query.level,
        query.in_order,
        returned_keys(query),
        *((c.attribute.column, e.shape) for c, e in zip(query.conditions, matching, strict=True)),
        *(expression.shape for expression in (*within, *later)),
    )
    matching = [*matching, *within]
    return _shared(shape, [*matching, *later], lambda binds: _search(query, dialect, matching, later, binds))


def _shared(
    shape: Hashable, expressions: Sequence[Expression], build: Callable[[Iterator[Any] | None], sa.Select[Any]]
) -> Search:
    """Return the statement that was built for this shape, with the values of these expressions.

    Parameters
    ----------
    build
        Builds it with bind parameters, or with the values when they are part of an expression.
    """
    if any(expression.shape is None for expression in expressions):
        return Search(build(None), None)
    values = {f"v{n}": value for n, value in enumerate(v for expression in expressions for v in expression.values)}
    statement = _statements.get(shape)
    if statement is None:
        if len(_statements) >= _MOST_STATEMENTS:
            _statements.clear()
        statement = _statements[shape] = build(map(sa.bindparam, values))
    return Search(statement, values)


def search(query: Query, dialect: Dialect, scope: SiteScope = SEES_ALL) -> sa.Select[Any]:
    """Select the answers of a query, one row for each entity: the values of ``returned_keys`` as text."""
    matching, later = _expressions(query, dialect)
    return _search(query, dialect, [*matching, *_within(scope, study)], later)


def _within(scope: SiteScope, rows: sa.FromClause) -> list[Expression]:
    """Match study or version rows of these sites; without a condition when all are seen.

    Neither a patient's later studies nor the sums over a patient need it: ``patient_key`` has the site.
    """
    if scope.sites is None:
        return []
    site = column((rows, "site"), rows.c.site)
    each = [value_of(operator.eq, site, stored_key(name)) for name in sorted(scope.sites)]
    return [defer(sa.or_, *each) if each else defer(sa.false)]


def within(scope: SiteScope, rows: sa.FromClause = study) -> list[Clause]:
    """Return the condition that keeps study or version rows within these sites, if one is needed."""
    return [expression.with_values() for expression in _within(scope, rows)]


def _expressions(query: Query, dialect: Dialect) -> tuple[list[Expression], list[Expression]]:
    """Translate the conditions; at PATIENT level also for the patient's later studies."""
    later = _translated(query.conditions, dialect, _LATER) if query.level is Level.PATIENT else []
    return _translated(query.conditions, dialect, study), later


def _search(
    query: Query,
    dialect: Dialect,
    matching: Iterable[Expression],
    later: Iterable[Expression],
    binds: Iterator[Any] | None = None,
) -> sa.Select[Any]:
    """Build the statement, with bind parameters if given, otherwise with the values of the expressions."""
    clauses, of_later = (_built(each, binds) for each in (matching, later))
    statement = _joined(sa.select(*shown(query, dialect)), query.level).where(*clauses)
    # An entity without a Unique Key is not answered; its instances are.
    if query.level is Level.PATIENT:
        return statement.where(_is_known(study), ~_later_study(of_later))
    if query.level is not Level.IMAGE:
        statement = statement.where(_column(study, UNIQUE_KEY[query.level].column) != "")
    return statement.order_by(*_order(query))


def shown(query: Query, dialect: Dialect) -> list[Text]:
    """Return what an answer shows: the values of ``returned_keys`` as text."""
    matcher = Matcher(dialect, columns_of(study))
    narrowed = {c.attribute: matcher.items_that_match(c) for c in query.conditions if isinstance(c.matching, OneItem)}
    return [as_text(narrowed.get(a, _column(study, a.column))) for a in returned_keys(query)]


def _built(expressions: Iterable[Expression], binds: Iterator[Any] | None) -> list[Clause]:
    return [expression.build(binds) if binds else expression.with_values() for expression in expressions]


_FACTS = named(version, "sha256 size_bytes sop_class_uid transfer_syntax_uid location answering flags damage")
_CAME = named(version, "received_at service calling_ae_title called_ae_title address site remote ordered_at same_as")


def search_versions(query: Query, dialect: Dialect, scope: SiteScope = SEES_ALL) -> sa.Select[Any]:
    """Select the answers of a query at IMAGE level, one row for each version, for ``version_match``."""
    in_order = (instance.c.id, order_of(version), version.c.location)
    statement = search(query, dialect, scope).join(version, version.c.instance_id == instance.c.id)
    statement = statement.where(*within(scope, version))
    return statement.add_columns(*_CAME, *_FACTS).order_by(*in_order)


def version_match(query: Query, row: Iterable[Any]) -> VersionMatch:
    """Convert a row of ``search_versions``."""
    values = iter(row)
    match = {attribute.keyword: next(values) for attribute in returned_keys(query)}
    came = arrival(itertools.islice(values, len(_CAME)))
    *facts, flags, damage = values
    return VersionMatch._make([match, came, *facts, flags_of(flags, damage)])


def arrival(columns: Iterable[str]) -> Arrival:
    """Convert the columns of ``_CAME``."""
    received_at, service, calling, called, address, site, remote, ordered_at, same_as = columns
    at = moment(ordered_at) if ordered_at else None
    return Arrival(moment(received_at), service, calling, called, address, site, remote, at, same_as)


def flags_of(flags: str, damage: str | None) -> tuple[str, ...]:
    """Return the flags of a version row, with ``damaged`` when its file is."""
    return (*filter(None, flags.split(",")), *(["damaged"] if damage is not None else []))


def _joined(statement: sa.Select[Any], level: Level) -> sa.Select[Any]:
    if level is Level.IMAGE:
        return statement.select_from(instance.join(series).join(study))
    return statement.select_from(series.join(study) if level is Level.SERIES else study)


def clauses(conditions: Iterable[Condition], dialect: Dialect, study_rows: sa.FromClause = study) -> list[Clause]:
    """Translate conditions to SQL; study (and patient) columns come from ``study_rows``."""
    return [expression.with_values() for expression in _translated(conditions, dialect, study_rows)]


def _translated(conditions: Iterable[Condition], dialect: Dialect, study_rows: sa.FromClause) -> list[Expression]:
    matcher = Matcher(dialect, columns_of(study_rows))
    return [matcher.clause(condition) for condition in conditions]


def _later_study(matching: Iterable[Clause]) -> Clause:
    """Match when the patient has a later study that matches too: the latest matching study answers for a patient."""
    after = sa.tuple_(_LATER.c.study_date_key, _LATER.c.id) > sa.tuple_(study.c.study_date_key, study.c.id)
    theirs = sa.select(sa.literal(1)).where(_LATER.c.patient_key == study.c.patient_key, after, _is_known(_LATER))
    return sa.exists(theirs.where(*matching))


def _is_known(study_rows: sa.FromClause) -> Clause:
    return sa.or_(study_rows.c.patient_id != "", study_rows.c.study_instance_uid != "")


def _order(query: Query) -> list[Any]:
    """Order studies newest first; order lower levels by number only below one parent, since sorting needs memory."""
    if query.level is Level.STUDY:
        return [study.c.study_date_key.desc(), study.c.id.desc()]
    named = {condition.attribute.keyword for condition in query.conditions}
    if not named & {"StudyInstanceUID", "SeriesInstanceUID"}:
        return [_TABLES[query.level].c.id] if query.in_order else []
    by_series = [series.c.series_number_key.nulls_last(), series.c.series_instance_uid, series.c.id]
    by_instance = [instance.c.instance_number_key.nulls_last(), instance.c.sop_instance_uid]
    return by_series + (by_instance if query.level is Level.IMAGE else [])


_VERSIONS = version.join(instance).join(series).join(study)
_HELD = (
    study.c.study_instance_uid,
    series.c.series_instance_uid,
    instance.c.sop_instance_uid,
    *named(version, "sop_class_uid transfer_syntax_uid location sha256 size_bytes received_at site"),
)
_IN_STUDY = (
    series.c.series_number_key.nulls_last(),
    series.c.series_instance_uid,
    series.c.id,
    instance.c.instance_number_key.nulls_last(),
    instance.c.sop_instance_uid,
    order_of(version),
    version.c.id,
)


def held(*more: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Select versions for ``held_row``, followed by more columns."""
    return sa.select(*_HELD, *more).select_from(_VERSIONS)


def held_row(row: Iterable[Any]) -> StoredVersion:
    """Convert a row of ``held``."""
    *values, received_at, site = list(row)[: len(_HELD)]
    return StoredVersion._make([*values, moment(received_at), site])


_IS_IT = sa.case(
    (
        sa.and_(
            study.c.study_instance_uid == sa.bindparam("study_uid"),
            series.c.series_instance_uid == sa.bindparam("series_uid"),
            version.c.sha256 == sa.bindparam("digest"),
            version.c.site == sa.bindparam("site"),
        ),
        1,
    ),
    else_=0,
)
MEET = (
    sa.select(_IS_IT.label("is_it"), version.c.location, order_of(version).label("latest"), study.c.merged_at, *_CAME)
    .select_from(_VERSIONS)
    .where(
        instance.c.sop_instance_uid == sa.bindparam("sop_uid"),
        sa.or_(study.c.site == sa.bindparam("site"), version.c.site == sa.bindparam("site")),
    )
    .order_by(sa.desc("is_it"), sa.desc("latest"))
    .limit(1)
)
"""Selects, of all versions of a site with a SOP Instance UID, the one with these bytes, else the latest."""


def to_meet(key: InstanceKey, sha256: str, site: str) -> dict[str, str]:
    """Return the parameters of ``MEET``."""
    return {
        "study_uid": key.study_instance_uid,
        "series_uid": key.series_instance_uid,
        "sop_uid": key.sop_instance_uid,
        "digest": sha256,
        "site": site,
    }


def met(row: Any) -> Lookup:
    """Convert the row of ``MEET``, which may be None."""
    if row is None:
        return Lookup()
    is_it, location, latest, merged_at, *came = row
    return Lookup((location, arrival(came)) if is_it else None, moment(max(latest, merged_at)))


def versions_of(key: InstanceKey, scope: SiteScope = SEES_ALL) -> sa.Select[Any]:
    """Select the versions of an instance: first the answering one, then the others, latest first."""
    is_it = (
        study.c.study_instance_uid == key.study_instance_uid,
        series.c.series_instance_uid == key.series_instance_uid,
        instance.c.sop_instance_uid == key.sop_instance_uid,
        *within(scope),
        *within(scope, version),
    )
    return held().where(*is_it).order_by(version.c.answering.desc(), order_of(version).desc())


def retrieve(query: Query, dialect: Dialect, scope: SiteScope = SEES_ALL) -> Search:
    """Select the answering versions below all matching entities, for ``held_row``; see ``prepare``."""
    matching = _translated(query.conditions, dialect, study)
    within = _within(scope, study)
    shape = (
        "retrieve",
        *((c.attribute.column, e.shape) for c, e in zip(query.conditions, matching, strict=True)),
        *(expression.shape for expression in within),
    )
    matching = [*matching, *within]
    return _shared(shape, matching, lambda binds: _retrieve(_built(matching, binds)))


def _retrieve(matching: Iterable[Clause]) -> sa.Select[Any]:
    return held().where(version.c.answering, *matching).order_by(study.c.id, *_IN_STUDY)


_NEWEST = (study.c.study_date_key.desc(), study.c.study_time_key.desc(), study.c.id.desc())


def select(
    selection: Selection, dialect: Dialect, studies: Sequence[int] | None = None, scope: SiteScope = SEES_ALL
) -> sa.Select[Any]:
    """Select the versions of a restore; with ``studies`` only below these study rows."""
    statement = held().where(*_narrowed(selection, dialect, scope))
    if studies is not None:
        statement = statement.where(study.c.id.in_(studies))
    return statement.order_by(*_NEWEST, *_IN_STUDY)


def selected_studies(selection: Selection, dialect: Dialect, scope: SiteScope = SEES_ALL) -> sa.Select[Any]:
    """Select the study rows of a restore, newest first, with the number of selected versions of each."""
    statement = sa.select(study.c.id, sa.func.count()).select_from(_VERSIONS)
    statement = statement.where(*_narrowed(selection, dialect, scope))
    return statement.group_by(study.c.id).order_by(*_NEWEST)


def _narrowed(selection: Selection, dialect: Dialect, scope: SiteScope) -> list[Clause]:
    then: list[Condition] = []
    now: list[Condition] = []
    for condition in selection.conditions:
        is_of_then = selection.as_of is not None and condition.attribute is _PATIENT_ID
        (then if is_of_then else now).append(condition)
    narrowed = [*within(scope), *within(scope, version), *_which_versions(selection), *clauses(now, dialect)]
    if selection.as_of is not None:
        narrowed += [_of_patient(condition, dialect, selection.as_of) for condition in then]
    return narrowed


def _which_versions(selection: Selection) -> list[Clause]:
    """Return the conditions that choose among the versions of an instance."""
    if selection.digests:  # without a database index, which would slow down every store for a rare query
        return [sa.or_(*(version.c.sha256.between(d.ljust(64, "0"), d.ljust(64, "f")) for d in selection.digests))]
    if selection.as_of is not None:
        of_instance = version.c.received_at <= timestamp(selection.as_of)
        return [of_instance] if selection.all_versions else [_answered(version, selection.as_of)]
    return [] if selection.all_versions else [version.c.answering]


def _answered(one: sa.FromClause, as_of: datetime) -> Clause:
    """Match the version that answered at a moment."""
    at = timestamp(as_of)
    return sa.and_(one.c.received_at <= at, sa.or_(one.c.answering, one.c.answered_until > at))


def _of_patient(condition: Condition, dialect: Dialect, as_of: datetime) -> Clause:
    """Match instances whose answering version at a moment named such a patient."""
    then = sa.select(_THEN.c.instance_id).where(_answered(_THEN, as_of))
    superseded = then.where(Matcher(dialect, lambda name: given(_THEN.c[name])).clause(condition).with_values())
    # NULL for an answering version; also for one superseded before migration 0006, until a rebuild.
    still = then.join_from(_THEN, instance).join(series).join(study).where(_THEN.c.patient_id.is_(None))
    still = still.where(*clauses([condition], dialect)).correlate(None)
    return instance.c.id.in_(superseded.union_all(still))
