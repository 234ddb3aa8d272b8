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
    row = {
        "name": _ENDED.get(task.name, task.name) if task.ended_at else task.name,
        "began_at": timestamp(task.began_at),
        "ended_at": timestamp(task.ended_at) if task.ended_at else "",
        "position": stored_long(task.position),
        "done": task.done,
        "note": stored_long(task.note),
    }
    if task.ended_at:
        connection.execute(sa.delete(table).where(table.c.name == task.name))
    insert = dialect.insert(table).values(**row)
    rest = {column: insert.excluded[column] for column in row if column != "name"}
    connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_=rest))


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
