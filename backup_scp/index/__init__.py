"""The index of stored images, in SQLite or PostgreSQL.

Only this room uses SQLAlchemy and alembic.  It imports ``ports``, ``dicom``, ``machine`` and ``errors`` only.
"""

from backup_scp.index.sql_index import SQLIndex

__all__ = ["SQLIndex"]
