"""Failures to log in, which outlive the process that counted them."""

from __future__ import annotations

import sqlalchemy as sa

from backup_scp.accounts.accounts_tables import StoredMoment, failure
from backup_scp.accounts.connection import AccountsDatabase
from backup_scp.ports import Failures

MOST = 20_000
"""Limit of keys of each kind: whoever tries many names must not fill the disk."""

_ADD = sa.text(
    "INSERT INTO failure (key, kind, number, last_at) VALUES (:key, :kind, :number, :last_at) ON CONFLICT DO NOTHING"
).bindparams(sa.bindparam("last_at", type_=StoredMoment))


class SQLFailureRecords:
    """Implements ``ports.FailureRecords``."""

    def __init__(self, database: AccountsDatabase) -> None:
        self._database = database

    def failures(self, key: str) -> Failures | None:
        with self._database.reading() as connection:
            row = connection.execute(sa.select(failure).where(failure.c.key == key)).mappings().one_or_none()
        return Failures(row["number"], row["last_at"]) if row else None

    def count_failure(self, kind: str, key: str, before: Failures | None, after: Failures) -> bool:
        values = {"number": after.number, "last_at": after.last_at}
        with self._database.noting() as connection:
            if before is None:
                is_first = connection.execute(_ADD, values | {"key": key, "kind": kind}).rowcount == 1
                connection.execute(_beyond_the_limit(kind))
                return is_first
            same = failure.c.key == key, failure.c.number == before.number, failure.c.last_at == before.last_at
            return connection.execute(sa.update(failure).where(*same).values(**values)).rowcount == 1

    def forget_failures(self, key: str) -> None:
        with self._database.noting() as connection:
            connection.execute(sa.delete(failure).where(failure.c.key == key))


def _beyond_the_limit(kind: str) -> sa.Delete:
    of_kind = failure.c.kind == kind
    newest = sa.select(failure.c.last_at).where(of_kind).order_by(failure.c.last_at.desc())
    first_to_go = newest.offset(MOST).limit(1).scalar_subquery()
    return sa.delete(failure).where(of_kind, failure.c.last_at <= first_to_go)
