"""The tables, their search keys, and the SQL that differs between SQLite and PostgreSQL."""
