"""Find the newest studies that match, for one page of them; quick with a million studies (docs/adr/0061).

A condition that a database index serves gives candidates.  A few candidates are sorted here.  Where there are many,
the newest studies are tested one after the other: enough of them match soon.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from backup_scp.dicom.query.information_model import Condition, FuzzyName, Query, SingleValue, WildCard
from backup_scp.index.connection.database import Database
from backup_scp.index.reading import select
from backup_scp.index.reading.matching import Matcher
from backup_scp.index.schema.dialect import Clause, Dialect
from backup_scp.index.schema.stored_text import timestamp
from backup_scp.index.schema.tables import study
from backup_scp.ports import SEES_ALL, NewestStudies, SiteScope

FEW = 4_000
"""So many candidates are sorted."""

TESTED = 10_000
"""So many of the newest studies are tested, unless all are asked for."""

_SERVED = frozenset({"PatientID", "AccessionNumber", "PatientBirthDate", "StudyInstanceUID"})
_TRIGRAM = 3
_ORDERED_BY = ("study_date", "study_time")  # columns that narrow a walk by the date

_Place = tuple[str, int]
"""Where a study stands: the key of its date, or nothing, and the number of its row."""


def newest(
    database: Database,
    queries: Sequence[Query],
    most: int,
    skip: int,
    arrived_since: datetime | None,
    scope: SiteScope = SEES_ALL,
    *,
    in_all: bool,
) -> NewestStudies:
    """See ``StudyReader.newest_matches``."""
    found: set[_Place] = set()
    is_cut = False
    with database.reading() as connection:
        for query in queries:
            search = _NewestSearch(
                connection, database.dialect, query, arrived_since, scope, is_sqlite=database.is_sqlite
            )
            places = search.candidates()
            if places is None:
                places, is_limited = search.tested(skip + most, in_all=in_all)
                is_cut |= is_limited
            found.update(places)
        numbers = [number for _, number in heapq.nlargest(skip + most, found)][skip:]
        if not numbers:
            return NewestStudies([], is_cut)
        rows = {row[0]: row[1:] for row in connection.execute(_shown(queries[0], numbers, database.dialect))}
    keywords = [attribute.keyword for attribute in select.returned_keys(queries[0])]
    matches = [dict(zip(keywords, rows[number], strict=True)) for number in numbers if number in rows]
    return NewestStudies(matches, is_cut and len(found) < skip + most)


def _shown(query: Query, numbers: Iterable[int], dialect: Dialect) -> sa.Select[Any]:
    these = dialect.among(study.c.id, numbers)
    return sa.select(study.c.id, *select.shown(query, dialect)).where(these)


@dataclass(frozen=True, slots=True)
class _NewestSearch:
    """One query."""

    connection: sa.Connection
    dialect: Dialect
    query: Query
    arrived_since: datetime | None
    scope: SiteScope
    is_sqlite: bool

    def candidates(self) -> list[_Place] | None:
        """Return all places, when a database index finds them and they are few; else None."""
        if not any(map(self._is_served, self.query.conditions)):
            return None
        clauses = select.clauses(self.query.conditions, self.dialect)
        statement = sa.select(*self._place).where(*self._common, *clauses).limit(FEW + 1)
        found = self._places(statement)
        return found if len(found) <= FEW else None

    def tested(self, most: int, *, in_all: bool) -> tuple[list[_Place], bool]:
        """Return the newest places, and whether older studies were not tested."""
        last = None if in_all else self._last_tested()
        until = [] if last is None else [sa.tuple_(*self._place) >= sa.tuple_(*map(sa.literal, last))]
        places = self._places(self.test_in_order(until, most))
        return places, last is not None and len(places) < most

    def test_in_order(self, until: Iterable[Clause], most: int) -> sa.Select[Any]:
        """Select the newest places that match, by a walk along the database index of their order."""
        clauses = *until, *self._common, *self._tests()
        return sa.select(*self._place).where(*clauses).order_by(*self._newest_first).limit(most)

    def _last_tested(self) -> _Place | None:
        """Return the place where the testing ends; None when it comes to all studies."""
        if self.arrived_since is not None and self.scope.is_all:  # to count them would read them
            last = self.connection.scalar(sa.select(sa.func.max(study.c.id))) or 0
            first = self.connection.scalar(sa.select(sa.func.min(study.c.id))) or 0
            return ("", last - TESTED + 1) if last - first >= TESTED else None
        dated = [one for one in self.query.conditions if one.attribute.keyword == "StudyDate"]
        clauses = *select.within(self.scope), *select.clauses(dated, self.dialect)
        among = sa.select(*self._place).where(*clauses).order_by(*self._newest_first)
        row = self.connection.execute(among.limit(1).offset(TESTED)).first()
        return None if row is None else (row[0], row[1])

    @property
    def _place(self) -> tuple[sa.ColumnElement[Any], ...]:
        first = sa.literal("") if self.arrived_since is not None else study.c.study_date_key
        return first, study.c.id

    @property
    def _newest_first(self) -> tuple[sa.ColumnElement[Any], ...]:
        if self.arrived_since is not None:
            return (study.c.id.desc(),)
        return study.c.study_date_key.desc(), study.c.id.desc()

    @property
    def _common(self) -> list[Clause]:
        known = [study.c.study_instance_uid != "", *select.within(self.scope)]
        if self.arrived_since is not None:
            known.append(study.c.last_received_at >= timestamp(self.arrived_since))
        return known

    def _places(self, statement: sa.Select[Any]) -> list[_Place]:
        return [(key, number) for key, number in self.connection.execute(statement)]

    def _tests(self) -> list[Clause]:
        """Return the conditions in a form that no database index serves: SQLite would take one, and sort all."""
        usual = select.columns_of(study)
        if not self.is_sqlite:
            return select.clauses(self.query.conditions, self.dialect)
        matcher = Matcher(
            self.dialect,
            lambda name: usual(name) if name.startswith(_ORDERED_BY) else usual(name).unserved(),
            narrows=False,
        )
        return [matcher.clause(condition).with_values() for condition in self.query.conditions]

    def _is_served(self, condition: Condition) -> bool:
        """Tell whether a database index finds what matches."""
        keyword, matching = condition.attribute.keyword, condition.matching
        if isinstance(matching, FuzzyName) and keyword == "PatientName":
            has_index = self.dialect.has_trigrams or not self.is_sqlite
            return has_index and any(len(word) >= _TRIGRAM for word in matching.name.split())
        return keyword in _SERVED and isinstance(matching, SingleValue | WildCard)
