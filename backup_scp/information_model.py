"""Query/Retrieve Information Models: levels, keys, and an Identifier made into a Query (PS3.4 C.3, C.6)."""

from __future__ import annotations

from dataclasses import dataclass

from backup_scp.attributes import Attribute, Level

__all__ = ["Condition", "Level", "Query", "Range", "SingleValue", "UIDList", "WildCard"]


@dataclass(frozen=True, slots=True)
class SingleValue:
    """Single Value Matching, PS3.4 C.2.2.2.1."""

    value: str


@dataclass(frozen=True, slots=True)
class UIDList:
    """List of UID Matching, PS3.4 C.2.2.2.2; also a list of values where multiple value matching applies."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WildCard:
    """Wild Card Matching, PS3.4 C.2.2.2.4: ``*`` is any run, ``?`` one character, all else literal."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Range:
    """Range Matching, PS3.4 C.2.2.2.5, both ends included; None leaves an end open."""

    first: str | None
    last: str | None


Matching = SingleValue | UIDList | WildCard | Range


@dataclass(frozen=True, slots=True)
class Condition:
    """One key that narrows a query.  A key with no value is Universal Matching, and no condition."""

    attribute: Attribute
    matching: Matching


@dataclass(frozen=True, slots=True)
class Query:
    """A C-FIND, C-MOVE or C-GET Identifier, understood.

    Attributes
    ----------
    level
        Query/Retrieve Level.
    conditions
        Every condition must hold.
    return_keys
        Attributes asked for, in the order of the request; those not supported are not among them.
    """

    level: Level
    conditions: tuple[Condition, ...] = ()
    return_keys: tuple[Attribute, ...] = ()
