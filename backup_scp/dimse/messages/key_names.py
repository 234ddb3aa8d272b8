"""Describe the keys of a request for the log: names without values."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from backup_scp.dicom.query.identifier import Identifier, RequestedKey
from backup_scp.dicom.query.information_model import Query

_MOST_NAMED = 40


def keys_in_words(identifier: Identifier, query: Query, unsupported: Iterable[RequestedKey]) -> str:
    """Name the keys of a C-FIND that are matched, those only requested, and those that make its Status FF01."""
    matched = list(dict.fromkeys(condition.attribute.tag for condition in query.conditions))
    asked_for = [key.tag for key in identifier.keys if key.tag not in matched]
    without = [key.tag for key in unsupported]
    words = f"matched on {_named(matched)}, asked for {_named(asked_for)}"
    return f"{words}, FF01 for {_named(without)}" if without else words


def _named(tags: list[int]) -> str:
    names = [_name(tag) for tag in tags[:_MOST_NAMED]]
    more = f" and {len(tags) - _MOST_NAMED} more" if len(tags) > _MOST_NAMED else ""
    return (", ".join(names) or "nothing") + more


@lru_cache(maxsize=1024)
def _name(tag: int) -> str:
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
