"""Write many new instances at once: one INSERT for all new rows, and each changed row once, in its last state.

For each instance a ``VersionWriter`` inserts two rows and updates two that it has updated before.  While no other
transaction writes, these statements can be collected: a fifth of them remain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from backup_scp.index.schema.dialect import Dialect
from backup_scp.index.schema.rows import Row
from backup_scp.index.schema.tables import instance, version
from backup_scp.index.writing.row_writer import INSERT_INSTANCE, INSERT_VERSION, UPDATE_SERIES, UPDATE_STUDY, RowWriter

_IDS_AT_ONCE = 500


class BulkWriter(RowWriter):
    """Collects rows until ``flush``; any other statement flushes first.

    Parameters
    ----------
    connection
        In a transaction that excludes other writers; call ``flush`` before its end.
    dialect
        The engine's dialect.
    """

    def __init__(self, connection: sa.Connection, dialect: Dialect) -> None:
        super().__init__(connection, dialect)
        self._writer = connection
        self._ids: Iterator[int] = iter(())
        self._version_ids: Iterator[int] = iter(())
        self._kept: dict[str, int] = {}
        self._met: set[str] = set()
        self._instances: list[Row] = []
        self._versions: list[Row] = []
        self._series: dict[int, Row] = {}
        self._studies: dict[int, Row] = {}
        self._revisions: dict[int, int] = {}

    def expect(self, uids: Iterable[str]) -> None:
        """Read in one statement which of the SOP Instance UIDs exist; no others may follow."""
        known = sa.select(instance.c.sop_instance_uid)
        here = known.where(self._dialect.among(instance.c.sop_instance_uid, uids))
        self._met.update(self._writer.scalars(here))

    def keep(self, ids: Mapping[str, int]) -> None:
        """Let the versions at these locations have their ids again; others get new ones, above all of these."""
        self._kept = dict(ids)

    @property
    def left(self) -> list[int]:
        """The ids of ``keep`` that no version has got."""
        return list(self._kept.values())

    def flush(self) -> None:
        """Write the collected rows, in the order of the references between the tables."""
        for statement, changes in ((UPDATE_SERIES, self._series), (UPDATE_STUDY, self._studies)):
            for row in changes.values():
                self._writer.execute(statement, row)
        for insert, rows in ((INSERT_INSTANCE, self._instances), (INSERT_VERSION, self._versions)):
            if rows:
                self._writer.execute(insert, rows)
        self._series, self._studies, self._instances, self._versions = {}, {}, [], []

    def _read(self, statement: sa.Select[Any], row: Row) -> Any:
        self.flush()
        return super()._read(statement, row)

    def _write(self, statement: sa.UpdateBase, row: Row) -> Any:
        self.flush()
        self._revisions.clear()  # the other statement may have changed any study row
        return super()._write(statement, row)

    def lock(self, uid: str) -> None:
        """Do nothing: the transaction excludes every other one that would use the lock."""

    def find_instances(self, uid: str) -> Sequence[Row]:
        return super().find_instances(uid) if uid in self._met else ()

    def insert_instance(self, row: Row) -> int:
        self._met.add(row["sop_instance_uid"])
        number = next(self._ids, None) or self._draw_ids()
        self._instances.append({**row, "id": number})
        return number

    def insert_version(self, row: Row) -> None:
        number = self._kept.pop(row["location"], None) or next(self._version_ids, None) or self._draw_version_ids()
        self._versions.append({**row, "id": number})

    def update_series(self, series_id: int, row: Row) -> None:
        self._series.setdefault(series_id, {"of": series_id}).update(row)

    def update_study(self, study_id: int, known_revision: int, row: Row) -> bool:
        is_known = self._revisions.get(study_id) == known_revision
        if is_known:
            first = {"of": study_id, "known_revision": known_revision}
            self._studies.setdefault(study_id, first).update(row)
        elif not super().update_study(study_id, known_revision, row):
            return False
        self._revisions[study_id] = row["revision"]
        return True

    def _draw_version_ids(self) -> int:
        self.flush()
        above = max(self._kept.values(), default=0)
        self._version_ids = iter(self._dialect.new_ids(self._writer, version, _IDS_AT_ONCE, above))
        return next(self._version_ids)

    def _draw_ids(self) -> int:
        self.flush()
        self._ids = iter(self._dialect.new_ids(self._writer, instance, _IDS_AT_ONCE))
        return next(self._ids)
