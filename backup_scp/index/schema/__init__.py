"""The tables, their search keys, and what SQLite and PostgreSQL say differently."""
