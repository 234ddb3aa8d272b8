"""Encode and decode the small file beside an index that says what the index lists, for all kinds of copies."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

from backup_scp.ports import Contents

MOST_BYTES = 4096


class SaidOfIndex(NamedTuple):
    """What such a file says.

    Attributes
    ----------
    contents
        What the index lists.
    is_complete
        Whether nothing was due at the copy when it was written.
    index_name
        Name of the index; empty where there is only one.
    """

    contents: Contents = Contents()
    is_complete: bool = False
    index_name: str = ""


def encode_contents(taken_at: datetime, contents: Contents, *, is_complete: bool, index_name: str = "") -> bytes:
    """Return the bytes of the file: one line of JSON."""
    newest = contents.newest_at.isoformat(timespec="seconds") if contents.newest_at else None
    state = {
        "taken": taken_at.isoformat(timespec="seconds"),
        "complete": is_complete,
        "patients": contents.patients,
        "studies": contents.studies,
        "images": contents.images,
        "bytes": contents.size_bytes,
        "newest": newest,
    }
    return json.dumps(state | ({"index": index_name} if index_name else {})).encode() + b"\n"


def decode_contents(raw: bytes) -> SaidOfIndex:
    """Return what the bytes say; what is damaged or missing is not known."""
    state: Any = None
    with suppress(ValueError):
        state = json.loads(raw)
    if not isinstance(state, dict):
        return SaidOfIndex()
    contents = Contents(
        _moment(state.get("taken")),
        _count(state.get("patients")),
        _count(state.get("studies")),
        _count(state.get("images")),
        _count(state.get("bytes")),
        _moment(state.get("newest")),
    )
    return SaidOfIndex(contents, bool(state.get("complete")), str(state.get("index", "")))


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _moment(text: object) -> datetime | None:
    with suppress(ValueError, TypeError):
        found = datetime.fromisoformat(text)  # type: ignore[arg-type]
        return found if found.tzinfo else None
    return None
