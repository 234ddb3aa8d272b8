"""Versions to add, and queries to ask."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from backup_scp.dicom.attributes import BY_KEYWORD, Level
from backup_scp.dicom.query.information_model import Condition, Matching, OneItem, Query, SingleValue
from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.dicom.value_representation import items_text
from backup_scp.index.connection.database import Database
from backup_scp.index.schema.tables import METADATA
from backup_scp.index.sql_index import SQLIndex
from backup_scp.index.writing.row_writer import RowWriter
from backup_scp.index.writing.study_cache import StudyCache
from backup_scp.index.writing.version_rows import VersionRows
from backup_scp.index.writing.version_writer import VersionWriter
from backup_scp.ports import AddResult, Arrival, Match, Rejection, ServiceKind, Version

DX = "1.2.840.10008.5.1.4.1.1.1.1"
CR = "1.2.840.10008.5.1.4.1.1.1"
SR = "1.2.840.10008.5.1.4.1.1.88.67"
EXPLICIT = "1.2.840.10008.1.2.1"
MORNING = datetime(2024, 5, 1, 8, 0, 0, 250_000, tzinfo=UTC)


def at(minute: float) -> datetime:
    """Give the moment at which a version of this minute arrives."""
    return MORNING + timedelta(minutes=minute)


def version(
    sop: str = "1.2.3.4.5",
    series: str = "1.2.3.4",
    study: str = "1.2.3",
    *,
    content: str = "pixels",
    minute: float = 0,
    sender: str = "DR1",
    site: str = "",
    remote: str = "",
    same_as: str = "",
    sop_class: str = DX,
    service: str = "C-STORE",
    parsed: bool = True,
    is_whole: bool = True,
    **attributes: str,
) -> Version:
    """Make a version: `content` stands for its bytes, `minute` for when it arrived."""
    sha256 = hashlib.sha256(f"{study}/{series}/{sop}/{content}".encode("utf-8", "surrogatepass")).hexdigest()
    if parsed:
        attributes = {"PatientID": "P1", "PatientName": "DOE^JANE", "Modality": "DX"} | attributes
    return Version(
        SOPInstance(sop_class, sop, EXPLICIT, study, series, attributes, parsed=parsed, is_whole=is_whole),
        Arrival(at(minute), service, sender, "BACKUP_SCP", "192.0.2.7", site, remote, same_as=same_as),
        location=f"{sha256[:2]}/{sha256}.dcm",
        sha256=sha256,
        size_bytes=1000 + len(content),
    )


@contextlib.contextmanager
def filling(index: SQLIndex) -> Iterator[Callable[[Version], AddResult]]:
    """Empty an index, and enter versions in one transaction."""
    known, database = StudyCache(), index._database
    with database.writing() as connection:
        for name in reversed(_PARENTS):
            connection.execute(sa.delete(METADATA.tables[name]))

        def enter(version: Version) -> AddResult:
            writer = VersionWriter(RowWriter(connection, database.dialect), known)
            admission = writer.insert(VersionRows.of(version))
            writer.remember()
            return admission

        yield enter


def where(**wanted: str | Matching) -> tuple[Condition, ...]:
    """Make conditions; text is Single Value Matching."""
    return tuple(
        Condition(BY_KEYWORD[keyword], SingleValue(value) if isinstance(value, str) else value)
        for keyword, value in wanted.items()
    )


def requests(*items: dict[str, str]) -> dict[str, Any]:
    """Make the requests that a series answers, as a version has them."""
    return {"RequestAttributesSequence": items_text(items)}


def one_item(**wanted: str | Matching) -> OneItem:
    """Make the Sequence Matching of Request Attributes Sequence."""
    keys = {key.keyword: key for key in BY_KEYWORD["RequestAttributesSequence"].items}
    matchings = {k: SingleValue(value) if isinstance(value, str) else value for k, value in wanted.items()}
    return OneItem(tuple(Condition(keys[keyword], matching) for keyword, matching in matchings.items()))


def query(level: Level, *return_keys: str, **wanted: str | Matching) -> Query:
    return Query(level, where(**wanted), tuple(BY_KEYWORD[keyword] for keyword in return_keys))


def answers(index: SQLIndex, level: Level, *return_keys: str, **wanted: str | Matching) -> list[Match]:
    return list(index.search(query(level, *return_keys, **wanted)))


NOT_DERIVED_FROM_FILES = {"id", "study_id", "series_id", "instance_id", "revision", "verified_at", "damage"}
_PARENTS = {"study": "", "series": "study_id", "instance": "series_id", "version": "instance_id"}


def rows(url: str) -> dict[str, list[object]]:
    """Give every derived row, with its parents in place of numbers."""
    database = Database(url)
    seen: dict[str, dict[int, object]] = {"": {}}
    try:
        with database.reading() as connection:
            parent_table = ""
            for name, parent in _PARENTS.items():
                seen[name] = {}
                for row in connection.execute(sa.select(METADATA.tables[name])).mappings():
                    foreign = name != "study" and parent
                    own = {
                        k: v for k, v in row.items() if k not in NOT_DERIVED_FROM_FILES or k == "study_id" != foreign
                    }
                    above = seen[parent_table][row[parent]] if parent else None
                    seen[name][row["id"]] = (above, tuple(sorted(own.items(), key=lambda item: item[0])))
                parent_table = name
    finally:
        database.close()
    return {name: sorted(found.values(), key=repr) for name, found in seen.items() if name}


NOW = datetime.now(UTC)


def rejection(
    calling: str,
    second: float = 0,
    service: ServiceKind = ServiceKind.ASSOCIATION,
    *,
    address: str = "192.0.2.1",
    reason: str = "unknown",
    fix: str = "advice",
    count: int = 1,
) -> Rejection:
    """Make a rejection, `second` after now."""
    return Rejection(service, calling, "X", address, reason, fix, count, NOW + timedelta(seconds=second))
