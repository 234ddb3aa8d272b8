"""Merge the attributes of instances into study and series rows, when the instances differ.

The rule: for each attribute, the latest answering arrival that has a value wins; an empty value never erases one.  The
result does not depend on the order in which arrivals are added: several Associations may send one study, and
``rebuild`` adds by time.  For this, a row stores the time of its latest arrival (``merged_at``) and the times of values
that are older than that (``merged_earlier``, JSON, mostly empty).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from operator import itemgetter

from backup_scp.dicom.attributes import Attribute
from backup_scp.index.schema.rows import Row
from backup_scp.index.schema.search_keys import key_values


def blank(attributes: tuple[Attribute, ...]) -> Row:
    """Return an empty row, for merging."""
    row: Row = {"merged_at": "", "merged_earlier": ""}
    for attribute in attributes:
        row |= {attribute.column: "", **key_values(attribute, "")}
    return row


def merge(row: Row, attributes: tuple[Attribute, ...], values: Mapping[str, str], at: str) -> bool:
    """Merge the values of one arrival into a row; True when its attributes have changed."""
    said = _saying(attributes)
    if at >= row["merged_at"] and not row["merged_earlier"] and said(row) == said(values):
        row["merged_at"] = at  # the usual case: the next image of a series
        return False
    earlier: dict[str, str] = json.loads(row["merged_earlier"]) if row["merged_earlier"] else {}
    latest = row["merged_at"]
    changed = []
    for attribute in attributes:
        column = attribute.column
        value, known = values[column], row[column]
        known_at = earlier.get(column, latest) if known else ""
        if value and (at, value) >= (known_at, known):
            if value != known:
                row[column] = value
                changed.append(attribute)
            known_at = at
        if known_at:
            earlier[column] = known_at
    _note_times(row, earlier, max(at, latest))
    for attribute in changed:
        row.update(key_values(attribute, row[attribute.column]))
    return bool(changed)


@cache
def _saying(attributes: tuple[Attribute, ...]) -> Callable[[Mapping[str, str]], tuple[str, ...]]:
    """Return a function that reads all attribute columns at once."""
    return itemgetter(*(attribute.column for attribute in attributes))


def _note_times(row: Row, times: dict[str, str], latest: str) -> None:
    row["merged_at"] = latest
    earlier = {column: time for column, time in sorted(times.items()) if time != latest}
    row["merged_earlier"] = json.dumps(earlier, separators=(",", ":")) if earlier else ""
