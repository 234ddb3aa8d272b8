"""Fill an index with synthetic studies, by bulk inserts of the rows that ``SQLIndex.add`` would make.

For measuring only: the rows speak of files that do not exist.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import sqlalchemy as sa

from backup_scp.index.connection.database import Database
from backup_scp.index.connection.migrate import upgrade
from backup_scp.index.schema.rows import Row
from backup_scp.index.schema.stored_text import patient_key
from backup_scp.index.schema.tables import SERIES_ATTRIBUTES, STUDY_ATTRIBUTES, instance, series, study, version
from backup_scp.index.writing.attribute_merge import blank, merge
from backup_scp.index.writing.version_rows import VersionRows
from backup_scp.index.writing.version_writer import instance_row, new_study_row
from backup_scp.ports import Version
from benchmarks import synthetic

BATCH = 5_000
"""Studies in one transaction."""

CACHE_KIB = 2 * 1024 * 1024

Rows = dict[str, list[tuple[Any, ...]]]
_TABLES = (study, series, instance, version)
_NAMES = {table.name: tuple(column.name for column in table.c) for table in _TABLES}


def fill(url: str, studies: int, first: int = 0) -> None:
    """Enter studies ``first`` to ``first + studies``; the index holds what this entered before, and no more."""
    upgrade(url)
    starts = range(first, first + studies, BATCH)
    with contextlib.closing(Database(url)) as database, ProcessPoolExecutor(2) as pool:
        batches = pool.map(rows_of_studies, starts, [min(first + studies, start + BATCH) for start in starts])
        if database.is_sqlite:
            _without_durability(database)
        for batch in batches:
            with database.writing() as connection:
                _insert(connection, batch, is_sqlite=database.is_sqlite)
        _finish(database)


def rows_of_studies(first: int, end: int) -> Rows:
    """Make the rows of synthetic studies; their numbers are in their ids."""
    rows: Rows = {table.name: [] for table in _TABLES}
    for number in range(first, end):
        for name, row in rows_of(synthetic.study(number), number):
            rows[name].append(tuple(row[column] for column in _NAMES[name]))
    return rows


def rows_of(versions: list[Version], number: int) -> Iterator[tuple[str, Row]]:
    """Make the rows of one study with one series, whose instances have one version each."""
    all_facts = [VersionRows.of(version) for version in versions]
    own = number + 1
    study_row = {**new_study_row(all_facts[0].study_key), "id": own}
    series_row = {**blank(SERIES_ATTRIBUTES), "id": own, "study_id": own}
    latest = all_facts[-1]  # they all say the same of study and series
    merge(study_row, STUDY_ATTRIBUTES, latest.study, latest.order)
    study_row["patient_key"] = patient_key(study_row)
    merge(series_row, SERIES_ATTRIBUTES, latest.series, latest.order)
    yield "study", study_row | _sums(all_facts)
    yield "series", series_row | {"number_of_series_related_instances": len(versions)}
    for place, facts in enumerate(all_facts, number * len(versions) + 1):
        yield "instance", {**instance_row(facts, own), "id": place}
        digest = bytes.fromhex(facts.version["sha256"])
        flags = ",".join(sorted(facts.flags))
        row = {**facts.version, "id": place, "instance_id": place, "answering": True, "patient_id": None}
        yield "version", row | {"sha256": digest, "flags": flags, "answered_until": ""}


def _sums(all_facts: list[VersionRows]) -> Row:
    return {
        "modalities_in_study": all_facts[0].series["modality"],
        "sop_classes_in_study": "\\".join(sorted({facts.instance["sop_class_uid"] for facts in all_facts})),
        "number_of_study_related_series": 1,
        "number_of_study_related_instances": len(all_facts),
        "version_count": len(all_facts),
        "size_bytes": sum(facts.version["size_bytes"] for facts in all_facts),
        "last_received_at": max(facts.order for facts in all_facts),
    }


def _without_durability(database: Database) -> None:
    """Let the one connection that writes wait for no disk, and keep the b-trees in memory."""
    with database.writing() as connection:
        driver: Any = connection.connection.driver_connection
    for pragma in ("synchronous=OFF", f"cache_size={-CACHE_KIB}"):
        driver.execute(f"PRAGMA {pragma}")


def _insert(connection: sa.Connection, batch: Rows, *, is_sqlite: bool) -> None:
    """Hand the rows to the driver, with no library between."""
    driver: Any = connection.connection.driver_connection
    with contextlib.closing(driver.cursor()) as cursor:
        for name, rows in batch.items():
            columns = ", ".join(f'"{column}"' for column in _NAMES[name])
            if is_sqlite:
                marks = ", ".join("?" * len(_NAMES[name]))
                cursor.executemany(f'INSERT INTO "{name}" ({columns}) VALUES ({marks})', rows)  # noqa: S608
                continue
            with cursor.copy(f'COPY "{name}" ({columns}) FROM STDIN') as copy:
                for row in rows:
                    copy.write_row(row)


def _finish(database: Database) -> None:
    """Leave the database as it is after years: ids go on from here, PostgreSQL knows what the columns hold."""
    if database.is_sqlite:
        return
    with database.writing() as connection:
        for name in _NAMES:
            connection.exec_driver_sql(f"SELECT setval('{name}_id_seq', (SELECT max(id) FROM \"{name}\"))")  # noqa: S608
            connection.exec_driver_sql(f'ANALYZE "{name}"')


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="sqlite:///path or postgresql://user@host/database")
    parser.add_argument("--studies", type=int, default=1_000_000)
    parser.add_argument("--first", type=int, default=0, help="how many an earlier run has entered")
    arguments = parser.parse_args()
    began = time.perf_counter()
    fill(arguments.url, arguments.studies, arguments.first)
    print(f"{arguments.studies} studies in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
