"""Names by what stands inside them: a trigram index, where the database can make one."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NAMES = ("patient_name_alphabetic", "patient_name_ideographic", "patient_name_phonetic")
COLUMNS = ", ".join(NAMES)
OLD = ", ".join(f"old.{name}" for name in NAMES)
NEW = ", ".join(f"new.{name}" for name in NAMES)
TRIGRAMS = ", ".join(f"{name} gin_trgm_ops" for name in NAMES)
BLANK = "('', '', '')"
ENTER = f"INSERT INTO study_name(rowid, {COLUMNS}) SELECT new.id, {NEW} WHERE ({NEW}) <> {BLANK};"
REMOVE = (
    f"INSERT INTO study_name(study_name, rowid, {COLUMNS}) SELECT 'delete', old.id, {OLD} WHERE ({OLD}) <> {BLANK};"
)

TABLE = (
    f"CREATE VIRTUAL TABLE study_name USING fts5({COLUMNS}, content='study', content_rowid='id',"
    " tokenize='trigram case_sensitive 1', detail='none', columnsize=0)"
)
CHANGE = (
    f"CREATE TRIGGER study_name_change AFTER UPDATE OF {COLUMNS} ON study"
    f" WHEN ({OLD}) <> ({NEW}) BEGIN {REMOVE} {ENTER} END"
)
SQLITE = (
    TABLE,
    f"CREATE TRIGGER study_name_enter AFTER INSERT ON study BEGIN {ENTER} END",
    f"CREATE TRIGGER study_name_remove AFTER DELETE ON study BEGIN {REMOVE} END",
    CHANGE,
)
POSTGRESQL = (
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    f"CREATE INDEX ix_study_name ON study USING gin ({TRIGRAMS}) WITH (fastupdate = off)",
)


def upgrade() -> None:
    """Where the database has no trigrams the tables stay as they are, and such a query reads all names."""
    connection = op.get_bind()
    on_sqlite = connection.dialect.name == "sqlite"
    try:
        with connection.begin_nested():
            for statement in SQLITE if on_sqlite else POSTGRESQL:
                connection.exec_driver_sql(statement)
    except sa.exc.DBAPIError as error:
        if not _is_missing(error):
            raise
        return
    if on_sqlite:
        connection.exec_driver_sql("INSERT INTO study_name(study_name) VALUES ('rebuild')")


def _is_missing(error: sa.exc.DBAPIError) -> bool:
    """Tell a database that has no trigrams, or may not have them, from one that is busy or broken."""
    # PostgreSQL: feature not supported, insufficient privilege, undefined file (the extension is not installed)
    state = getattr(error.orig, "sqlstate", None)
    return state in ("0A000", "42501", "58P01") if state else "no such" in str(error.orig)


def downgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql("DROP INDEX IF EXISTS ix_study_name")
        return
    for trigger in ("enter", "remove", "change"):
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS study_name_{trigger}")
    connection.exec_driver_sql("DROP TABLE IF EXISTS study_name")
