"""Connects to SQLite and PostgreSQL: sessions, the driver's cursor, errors in plain words, migrations.

It imports ``schema`` only.
"""
