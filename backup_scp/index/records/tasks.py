"""Store the progress of long tasks, so that they continue after an interruption."""

from __future__ import annotations

import sqlalchemy as sa

from backup_scp.index.schema.dialect import Dialect
from backup_scp.index.schema.stored_text import moment, stored_long, timestamp
from backup_scp.index.schema.tables import task as table
from backup_scp.ports import Task

_ENDED = {"verify": "verified", "rebuild": "rebuilt", "recovery": "recovered"}
"""Name of a task after its end, so that the last result stays stored while the next task runs; others keep theirs."""


def record(connection: sa.Connection, dialect: Dialect, task: Task) -> None:
    """See ``Index.record_task``."""
    if task.ended_at:
        connection.execute(sa.delete(table).where(table.c.name == task.name))
    _enter(connection, dialect, task, None)


def begin(connection: sa.Connection, dialect: Dialect, task: Task) -> bool:
    """See ``Index.begin_task``."""
    return _enter(connection, dialect, task, table.c.ended_at != "")


def _enter(connection: sa.Connection, dialect: Dialect, task: Task, where: sa.ColumnElement[bool] | None) -> bool:
    """Write a row, in place of one for which a condition holds; tell whether it was written."""
    row = {
        "name": _ENDED.get(task.name, task.name) if task.ended_at else task.name,
        "began_at": timestamp(task.began_at),
        "ended_at": timestamp(task.ended_at) if task.ended_at else "",
        "position": stored_long(task.position),
        "done": task.done,
        "note": stored_long(task.note),
    }
    insert = dialect.insert(table).values(**row)
    rest = {column: insert.excluded[column] for column in row if column != "name"}
    upsert = insert.on_conflict_do_update(index_elements=["name"], set_=rest, where=where)
    return connection.execute(upsert.returning(table.c.name)).first() is not None


def known(connection: sa.Connection) -> dict[str, Task]:
    """See ``Index.tasks``."""
    return {
        row["name"]: Task(
            **{
                **row,
                "began_at": moment(row["began_at"]),
                "ended_at": moment(row["ended_at"]) if row["ended_at"] else None,
            }
        )
        for row in connection.execute(sa.select(table)).mappings()
    }
