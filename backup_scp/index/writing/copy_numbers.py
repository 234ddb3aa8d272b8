"""Forget numbers of versions in the records of further copies: SQLite gives the highest one to another version."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from backup_scp.index.schema.dialect import Dialect
from backup_scp.index.schema.tables import copy, copy_due, copy_object, version


def forget(connection: sa.Connection, dialect: Dialect, numbers: Collection[int]) -> None:
    """Forget what copies have of versions that a re-index has left out: another one in the archive has the same bytes.

    Parameters
    ----------
    connection
        In the transaction that has deleted the versions.
    """
    copies = connection.scalars(sa.select(copy.c.id).order_by(copy.c.id).with_for_update()).all()
    highest = connection.scalar(sa.select(sa.func.max(version.c.id))) or 0  # after the lock: nothing is drawn now
    for number in copies:
        gone = copy_object.c.copy_id == number, dialect.among(copy_object.c.version_id, numbers)
        intact = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(copy_object.c.size_bytes), 0))
        count, size_bytes = connection.execute(intact.where(*gone, copy_object.c.is_damaged == 0)).one()
        connection.execute(sa.delete(copy_object).where(*gone))
        connection.execute(
            sa.update(copy)
            .where(copy.c.id == number)
            .values(
                held_count=copy.c.held_count - count,
                held_bytes=copy.c.held_bytes - size_bytes,
                first_version=_at_most(copy.c.first_version, highest + 1),
                last_version=_at_most(copy.c.last_version, highest),
            )
        )
    connection.execute(sa.delete(copy_due).where(copy_due.c.first_version > highest))
    beyond = sa.update(copy_due).where(copy_due.c.last_version > highest)
    connection.execute(beyond.values(last_version=highest))


def _at_most(column: sa.Column[int], limit: int) -> sa.ColumnElement[int]:
    return sa.case((column > limit, limit), else_=column)
