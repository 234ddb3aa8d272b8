"""The index of stored images, in SQLite or PostgreSQL.

Only this room uses SQLAlchemy and alembic.  It imports ``ports``, ``dicom``, ``machine`` and ``errors`` only.
``SQLIndex`` is the index; ``QuietIndex`` answers without SQLAlchemy while nothing is due at a copy.
"""
