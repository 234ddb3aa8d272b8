"""Connect to SQLite and PostgreSQL: transactions, the driver's cursor, plain error messages, migrations.

It imports ``schema`` only.
"""
