"""``Query``, which an index answers, and the kinds of matching that the value of a key requests (PS3.4 C.2.2.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from backup_scp.dicom.attributes import Attribute, Level
from backup_scp.dicom.value_representation import split_values

__all__ = [
    "AllOf",
    "Condition",
    "DateTimeRange",
    "Empty",
    "FuzzyName",
    "Matching",
    "OneItem",
    "Query",
    "Range",
    "SingleValue",
    "UIDList",
    "WildCard",
    "list_of",
    "matching_of",
    "normalise",
]

_WILD_CARD_VRS = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
_NOTHING, _NAMES_NOTHING = "* ", "* ^="
_STARS = re.compile(r"\*+")
_WITH_SEPARATORS = re.compile(r"(\d{4})[./-](\d{2})[./-](\d{2})")
# PS3.5 6.2, DT: an offset from UTC is between -1200 and +1400, so a year after a hyphen is the end of a range.
_DATE_TIME = r"\d{4,14}(?:\.\d*)?(?:[+-](?:0\d|1[0-4])[0-5]\d)?"
_DATE_TIME_RANGE = re.compile(rf"(?!{_DATE_TIME}$)({_DATE_TIME})? *- *({_DATE_TIME})?")
_HAS_DATE_TIME = re.compile(r"(?<![\d.])\d{10,14}")  # longer than a date, and no fraction: a DT in a key of DA or TM


@dataclass(frozen=True, slots=True)
class SingleValue:
    """Single Value Matching, PS3.4 C.2.2.2.1."""

    value: str


@dataclass(frozen=True, slots=True)
class UIDList:
    """List of UID Matching, PS3.4 C.2.2.2.2; also a list of values for multiple value matching."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WildCard:
    """Wild Card Matching, PS3.4 C.2.2.2.4: ``*`` is any text, ``?`` one character, everything else literal."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Range:
    """Range Matching, PS3.4 C.2.2.2.5, both ends included; None is an open end."""

    first: str | None
    last: str | None


@dataclass(frozen=True, slots=True)
class DateTimeRange:
    """Combined Range Matching of a date and its time, if negotiated (PS3.4 C.2.2.2.5), both ends included.

    Attributes
    ----------
    time
        The attribute of the time; the condition's own attribute has the date.
    first, last
        Date and time; None is an open end.
    """

    time: Attribute
    first: tuple[str, str] | None
    last: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Empty:
    """Empty Value Matching, if negotiated, PS3.4 C.2.2.2.7."""


@dataclass(frozen=True, slots=True)
class AllOf:
    """Multiple Value Matching, if negotiated, PS3.4 C.2.2.2.8: the entity must have each of the values."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of several kinds of matching applies; not in PS3.4, but on the command line."""

    matchings: tuple[Matching, ...]


@dataclass(frozen=True, slots=True)
class FuzzyName:
    """Fuzzy semantic matching of a person name, if negotiated (PS3.4 C.2.2.2.1).

    Each word of the key, in any order, must be the beginning of a word of the name; case and accents are ignored.
    Spaces, commas, hyphens and ``^`` separate words; ``*`` and ``?`` in them are wild cards.
    """

    name: str


@dataclass(frozen=True, slots=True)
class OneItem:
    """Sequence Matching, PS3.4 C.2.2.2.6: one item must match every condition; only such items are returned."""

    conditions: tuple[Condition, ...]


Matching = SingleValue | UIDList | WildCard | Range | DateTimeRange | Empty | AllOf | AnyOf | FuzzyName | OneItem


@dataclass(frozen=True, slots=True)
class Condition:
    """One key that narrows a query.  A key without a value is Universal Matching, and no condition."""

    attribute: Attribute
    matching: Matching


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed C-FIND, C-MOVE or C-GET Identifier.

    Attributes
    ----------
    level
        Query/Retrieve Level.
    conditions
        All conditions must match.
    return_keys
        Requested attributes, in the order of the request, without unsupported ones.
    in_order
        Whether the order must be the same each time, so that an answer can be asked for in parts.
    """

    level: Level
    conditions: tuple[Condition, ...] = ()
    return_keys: tuple[Attribute, ...] = ()
    in_order: bool = False


def matching_of(value: str, vr: str, *, is_one: bool = False) -> Matching | None:
    """Return the kind of matching that a key's value requests; None is Universal Matching (PS3.4 C.2.2.2.3).

    Lenient: a value of only ``*`` is universal in every VR, and so is a name of only delimiters and ``*`` (``*^*``),
    since trailing delimiters may be omitted (PS3.5 6.2.1).  Several values are a list in every VR that allows several,
    also without negotiation, for which PS3.4 C.2.2.2.8 defines no meaning.  A list with wild cards is universal: the
    requester gets more than it requested, not less.

    Parameters
    ----------
    is_one
        Whether an entity has one value at most.  A backslash may then be part of it: the whole is one of the list.
    """
    values = split_values(value, vr)
    if not any(each.strip(_NAMES_NOTHING if vr == "PN" else _NOTHING) for each in values):
        return None
    if vr in ("DA", "TM", "DT"):
        return _temporal(value, vr)
    wild = vr in _WILD_CARD_VRS and ("*" in value or "?" in value)
    if wild and len(values) == 1:
        return WildCard(_STARS.sub("*", values[0]))
    return None if wild else list_of(value, vr, is_one=is_one)


def list_of(value: str, vr: str, *, is_one: bool = False) -> SingleValue | UIDList | None:
    """Return matching with literal values, see ``matching_of``; None without a value."""
    values = tuple(dict.fromkeys(split_values(value, vr)))
    if not values:
        return None
    if len(values) == 1:
        return SingleValue(values[0])
    return UIDList((value, *values)) if is_one else UIDList(values)


def _temporal(value: str, vr: str) -> Matching | None:
    """Return Range Matching of dates and times; a hyphen alone is universal."""
    value = normalise(value, vr)
    if vr == "DT" or _HAS_DATE_TIME.search(value):
        matched = _DATE_TIME_RANGE.fullmatch(value)
        ends = matched.groups() if matched else ()
    else:
        ends = tuple(end.strip() or None for end in value.split("-"))
    if len(ends) != 2:
        return list_of(value, vr)
    return Range(*ends) if any(ends) else None


def normalise(value: str, vr: str) -> str:
    """Write dates as YYYYMMDD and times as HHMMSS when they have the separators of ACR-NEMA or ISO 8601.

    So stored and requested values have the same form.  Other values stay as they are.
    """
    if vr == "DA":
        return _WITH_SEPARATORS.sub(r"\1\2\3", value)
    return value.replace(":", "") if vr == "TM" else value
