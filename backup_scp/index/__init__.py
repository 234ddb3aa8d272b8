"""The index: what is held, in SQLite or PostgreSQL.

It alone uses SQLAlchemy and alembic.  It imports ``ports``, ``dicom``, ``machine`` and ``errors`` only.
"""

from backup_scp.index.sql_index import SQLIndex

__all__ = ["SQLIndex"]
