"""The index: what is held, in SQLite or PostgreSQL; the only user of SQLAlchemy and alembic."""

from backup_scp.index.sql_index import SQLIndex

__all__ = ["SQLIndex"]
