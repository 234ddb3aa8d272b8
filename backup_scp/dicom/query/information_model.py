"""Check an Identifier against an Information Model and turn it into a ``Query`` (PS3.4 C.3, C.6)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backup_scp.dicom.attributes import BY_KEYWORD, BY_TAG, UNIQUE_KEY, Attribute, Level
from backup_scp.dicom.query.conditions import (
    AllOf,
    AnyOf,
    Condition,
    DateTimeRange,
    Empty,
    FuzzyName,
    Matching,
    OneItem,
    Query,
    Range,
    SingleValue,
    UIDList,
    WildCard,
    list_of,
    matching_of,
)
from backup_scp.dicom.query.identifier import Identifier, RequestedKey
from backup_scp.errors import InvalidIdentifier

__all__ = [
    "ANSWERED_BY_THE_NODE",
    "MODELS",
    "NOTHING",
    "PATIENT_ROOT",
    "PATIENT_STUDY_ONLY",
    "STUDY_ROOT",
    "AllOf",
    "AnyOf",
    "Condition",
    "DateTimeRange",
    "Empty",
    "FuzzyName",
    "Identifier",
    "InformationModel",
    "Level",
    "Matching",
    "Negotiated",
    "OneItem",
    "Query",
    "Range",
    "RequestedKey",
    "SingleValue",
    "UIDList",
    "WildCard",
    "read_query",
    "read_retrieve",
    "unsupported_keys",
]


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The result of SOP Class Extended Negotiation for one SOP Class (PS3.4 C.5.1.1, C.5.2.1, C.5.3.1).

    It lacks the Query/Retrieve View, because the node does not support it and answers so.

    Attributes
    ----------
    relational
        Whether unique keys above the level may be missing (C.4.1.2.2, C.4.2.2.2).
    date_time
        Whether a date and its time, both ranges, are one interval (C.2.2.2.5).
    fuzzy_names
        Whether person names match by their words, in any order (C.2.2.2.1).
    time_zone
        Whether times are in the zone of Timezone Offset From UTC (0008,0201) (C.2.2.2.1.3).
    empty_values
        Whether two quotation marks match an attribute without a value (C.2.2.2.7).
    multiple_values
        Whether the entity must have each of several values of a key (C.2.2.2.8).
    """

    relational: bool = False
    date_time: bool = False
    fuzzy_names: bool = False
    time_zone: bool = False
    empty_values: bool = False
    multiple_values: bool = False


NOTHING = Negotiated()


ANSWERED_BY_THE_NODE = frozenset((0x00080053, 0x00080054, 0x00080056))
"""Query/Retrieve View, Retrieve AE Title, Instance Availability: they describe the node, not its content."""


@dataclass(frozen=True, slots=True)
class InformationModel:
    """One Query/Retrieve Information Model.

    Attributes
    ----------
    name
        Its name in PS3.4.
    levels
        Its levels, the root first.
    find_uid, move_uid, get_uid
        Its SOP Classes.
    """

    name: str
    levels: tuple[Level, ...]
    find_uid: str
    move_uid: str
    get_uid: str

    def level_of(self, attribute: Attribute) -> Level:
        """Return the level of an attribute; in Study Root, patient attributes belong to the study (PS3.4 C.6.2.1)."""
        return max(attribute.level, self.levels[0], key=lambda level: level.depth)

    def supports(self, attribute: Attribute, level: Level) -> bool:
        """Tell whether a query at a level may match and return an attribute."""
        return max(attribute.level.depth, self.levels[0].depth) <= level.depth

    def unique_keys(self, level: Level) -> tuple[Attribute, ...]:
        """List the unique keys from the root down to a level."""
        return tuple(UNIQUE_KEY[each] for each in self.levels if each.depth <= level.depth)

    def require(self, level: Level) -> None:
        """Raise for a level that the model does not have.

        Raises
        ------
        InvalidIdentifier
        """
        if level not in self.levels:
            raise InvalidIdentifier(f"{self.name} has no {level} level; its levels are {', '.join(self.levels)}")


def _model(name: str, number: int, *levels: Level) -> InformationModel:
    return InformationModel(name, levels, *(f"1.2.840.10008.5.1.4.1.2.{number}.{service}" for service in (1, 2, 3)))


PATIENT_ROOT = _model("Patient Root", 1, Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE)
STUDY_ROOT = _model("Study Root", 2, Level.STUDY, Level.SERIES, Level.IMAGE)
PATIENT_STUDY_ONLY = _model("Patient/Study Only", 3, Level.PATIENT, Level.STUDY)  # retired

MODELS: dict[str, InformationModel] = {
    uid: model
    for model in (PATIENT_ROOT, STUDY_ROOT, PATIENT_STUDY_ONLY)
    for uid in (model.find_uid, model.move_uid, model.get_uid)
}
"""Information Models by the UID of each of their SOP Classes."""


def read_query(
    identifier: Identifier, model: InformationModel, negotiated: Negotiated = NOTHING, *, strict: bool = False
) -> Query:
    """Turn a C-FIND Identifier into a ``Query`` (PS3.4 C.4.1).

    It ignores keys below the level and those that are not in the table; ``unsupported_keys`` lists them.  It accepts
    other keys above the level for matching.

    Parameters
    ----------
    identifier, model
        The request, and the model to check it against.
    negotiated
        Result of the negotiation for the request's SOP Class.
    strict
        Apply PS3.4 C.4.1.2.1: without relational queries, each unique key above the level must have one value.

    Raises
    ------
    InvalidIdentifier
        The model does not have the Query/Retrieve Level, or a unique key is missing.
    """
    model.require(identifier.level)
    if strict and not negotiated.relational:
        _require_one_value_above(identifier, model)
    supported = [(key, BY_TAG[key.tag]) for key in identifier.keys if _is_supported(key, identifier, model)]
    conditions = _conditions(
        (attribute, _matching(key, attribute, negotiated))
        for key, attribute in supported
        if attribute is not _TIME_ZONE
    )
    return Query(
        identifier.level,
        _combined(conditions) if negotiated.date_time else conditions,
        tuple(attribute for _, attribute in supported),
    )


# Gives the time zone of the request, and is no matching key (PS3.4 C.4.1.1.3.1).
_TIME_ZONE = BY_KEYWORD["TimezoneOffsetFromUTC"]
_MULTIPLE_VALUE_VRS = frozenset({"AE", "AS", "AT", "CS", "LO", "PN", "SH", "UC"})  # PS3.4 C.2.2.2.8


def _matching(key: RequestedKey, attribute: Attribute, negotiated: Negotiated) -> Matching | None:
    value = key.value
    if attribute.items:
        return _one_item(key.items, attribute, negotiated)
    if negotiated.empty_values and value.strip() == '""':
        return Empty()
    matching = matching_of(value, attribute.vr, is_one=not attribute.may_be_listed)
    if negotiated.multiple_values and isinstance(matching, UIDList) and _has_several_values(attribute):
        return AllOf(matching.values)
    if negotiated.fuzzy_names and attribute.vr == "PN" and isinstance(matching, SingleValue | WildCard):
        return FuzzyName(matching.value if isinstance(matching, SingleValue) else matching.pattern)
    return matching


def _one_item(keys: tuple[RequestedKey, ...], sequence: Attribute, negotiated: Negotiated) -> Matching | None:
    """Return Sequence Matching; Universal Matching (None) when no item key has a value."""
    table = {attribute.tag: attribute for attribute in sequence.items}
    known = [(table[key.tag], key) for key in keys if key.tag in table]
    conditions = _conditions((attribute, _matching(key, attribute, negotiated)) for attribute, key in known)
    return OneItem(conditions) if conditions else None


def _has_several_values(attribute: Attribute) -> bool:
    from pydicom.datadict import dictionary_VM

    return attribute.vr in _MULTIPLE_VALUE_VRS and dictionary_VM(attribute.tag) != "1"


def _combined(conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
    """Combine a date and its time to one interval, when both are ranges of the same form (PS3.4 C.2.2.2.5)."""
    ranges = {c.attribute.keyword: c.matching for c in conditions if isinstance(c.matching, Range)}
    made: dict[str, DateTimeRange | None] = {}
    for keyword, date in ranges.items():
        time_keyword = f"{keyword.removesuffix('Date')}Time"
        time = ranges.get(time_keyword)
        if keyword.endswith("Date") and time and _form(date) == _form(time):
            first = (date.first, time.first) if date.first and time.first else None
            last = (date.last, time.last) if date.last and time.last else None
            made |= {keyword: DateTimeRange(BY_KEYWORD[time_keyword], first, last), time_keyword: None}
    return _conditions((c.attribute, made.get(c.attribute.keyword, c.matching)) for c in conditions)


def _form(interval: Range) -> tuple[bool, bool]:
    return interval.first is None, interval.last is None


def _require_one_value_above(identifier: Identifier, model: InformationModel) -> None:
    values = {key.tag: key.value for key in identifier.keys}
    for key in model.unique_keys(identifier.level)[:-1]:
        if not isinstance(matching_of(values.get(key.tag, ""), key.vr), SingleValue):
            raise InvalidIdentifier(f"a request at {identifier.level} level needs one value in {key.named}")


def unsupported_keys(identifier: Identifier, model: InformationModel) -> tuple[RequestedKey, ...]:
    """List the keys, also of items, that answers have with zero length; any of them makes the Pending Status FF01."""
    found = []
    for key in identifier.keys:
        if _is_supported(key, identifier, model):
            known = {attribute.tag for attribute in BY_TAG[key.tag].items}
            found += [inside for inside in key.items if inside.tag not in known]
        elif key.tag not in ANSWERED_BY_THE_NODE:
            found.append(key)
    return tuple(found)


def _is_supported(key: RequestedKey, identifier: Identifier, model: InformationModel) -> bool:
    attribute = BY_TAG.get(key.tag)
    return attribute is not None and model.supports(attribute, identifier.level)


def read_retrieve(
    identifier: Identifier, model: InformationModel, negotiated: Negotiated = NOTHING, *, strict: bool = False
) -> Query:
    """Turn a C-MOVE or C-GET Identifier into a ``Query`` (PS3.4 C.4.2.2.1).

    Only unique keys are used, with literal values; the one of the requested level may be a list.

    Parameters
    ----------
    identifier, model
        The request, and the model to check it against.
    negotiated
        Result of the negotiation for the request's SOP Class.
    strict
        Without relational retrieval, each unique key above the level must have one value; otherwise it may be missing
        or a list.

    Raises
    ------
    InvalidIdentifier
        The model does not have the Query/Retrieve Level, or a unique key has no value.
    """
    level = identifier.level
    model.require(level)
    values = {key.tag: key.value for key in identifier.keys}
    needed = UNIQUE_KEY[level]
    if not list_of(values.get(needed.tag, ""), needed.vr):
        raise InvalidIdentifier(f"a retrieve at {level} level needs a value in {needed.named}")
    if strict and not negotiated.relational:
        _require_one_value_above(identifier, model)
    keys = model.unique_keys(level)
    return Query(
        level,
        _conditions((key, list_of(values.get(key.tag, ""), key.vr, is_one=not key.may_be_listed)) for key in keys),
    )


def _conditions(keys: Iterable[tuple[Attribute, Matching | None]]) -> tuple[Condition, ...]:
    return tuple(Condition(attribute, matching) for attribute, matching in keys if matching is not None)
