"""Find names by a substring (``*SMITH*``): trigrams narrow the rows, and the usual matching decides.

The database stores the trigrams of the folded names of each study.  SQLite has them in ``study_name``, a full-text
table that triggers update in the transaction that changes a name.  PostgreSQL has them in an index of its extension
pg_trgm, which serves LIKE directly.  A database with neither reads all names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import sqlalchemy as sa

from backup_scp.index.schema.dialect import Clause, Text, Value
from backup_scp.index.schema.search_keys import PATIENT_NAME_GROUPS
from backup_scp.index.schema.tables import study

NAME_TABLE = "study_name"
NAME_INDEX = "ix_study_name"
MOST_TRIGRAMS = 8

_COLUMNS = ", ".join(PATIENT_NAME_GROUPS)
_OLD = ", ".join(f"old.{name}" for name in PATIENT_NAME_GROUPS)
_NEW = ", ".join(f"new.{name}" for name in PATIENT_NAME_GROUPS)
_TRIGRAMS = ", ".join(f"{name} gin_trgm_ops" for name in PATIENT_NAME_GROUPS)
_BLANK = "('', '', '')"
_ENTER = f"INSERT INTO study_name(rowid, {_COLUMNS}) SELECT new.id, {_NEW} WHERE ({_NEW}) <> {_BLANK};"
_REMOVE = (
    f"INSERT INTO study_name(study_name, rowid, {_COLUMNS}) SELECT 'delete', old.id, {_OLD} WHERE ({_OLD}) <> {_BLANK};"
)
_TABLE = (
    f"CREATE VIRTUAL TABLE study_name USING fts5({_COLUMNS}, content='study', content_rowid='id',"
    " tokenize='trigram case_sensitive 1', detail='none', columnsize=0)"
)
_CHANGE = (
    f"CREATE TRIGGER study_name_change AFTER UPDATE OF {_COLUMNS} ON study"
    f" WHEN ({_OLD}) <> ({_NEW}) BEGIN {_REMOVE} {_ENTER} END"
)
_ON_SQLITE = (
    _TABLE,
    f"CREATE TRIGGER study_name_enter AFTER INSERT ON study BEGIN {_ENTER} END",
    f"CREATE TRIGGER study_name_remove AFTER DELETE ON study BEGIN {_REMOVE} END",
    _CHANGE,
)
_ON_POSTGRESQL = (
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    f"CREATE INDEX ix_study_name ON study USING gin ({_TRIGRAMS}) WITH (fastupdate = off)",
)
for _engine, _statements in (("sqlite", _ON_SQLITE), ("postgresql", _ON_POSTGRESQL)):
    for _statement in _statements:
        _ddl = sa.DDL(_statement)  # type: ignore[no-untyped-call]
        sa.event.listen(study, "after_create", _ddl.execute_if(dialect=_engine))


def trigrams(patterns: Iterable[str]) -> list[str]:
    """Return trigrams that every name has which matches all these folded patterns, each in any group.

    The list is empty when they would not help.  The database index on names serves a pattern that begins with three
    characters.  A pattern without three characters in a row has no trigram.  The text before the first wild card gives
    none, because ``DOE^*`` matches ``DOE`` too.  Trigrams do not overlap: overlapping ones would narrow little more.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        beginning, *runs = re.split(r"[*?]+", pattern)
        if len(beginning) > 2:
            return []
        for run in (run for run in runs if len(run) > 2):
            found |= dict.fromkeys(run[n : n + 3] for n in (*range(0, len(run) - 2, 3), len(run) - 3))
    return list(found)[:MOST_TRIGRAMS]


def match_of(wanted: list[str]) -> str:
    """Write trigrams as ``named_like`` takes them."""
    return " AND ".join('"' + trigram.replace('"', '""') + '"' for trigram in wanted)


def named_like(study_id: Text, every: Value) -> Clause:
    """Match study rows whose names have all trigrams of ``match_of``; SQLite only."""
    names: sa.ColumnClause[int] = sa.column("rowid", sa.Integer())
    matches = sa.literal_column(NAME_TABLE).op("MATCH", is_comparison=True)(every)
    return study_id.in_(sa.select(names).select_from(sa.table(NAME_TABLE)).where(matches))
