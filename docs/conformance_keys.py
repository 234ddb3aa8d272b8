"""Tables of the Query/Retrieve keys for the Conformance Statement: the code that reads queries is asked about each."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRLittleEndian

from backup_scp.dicom.attributes import ATTRIBUTES, Attribute, Level
from backup_scp.dicom.query.conditions import (
    AllOf,
    DateTimeRange,
    Empty,
    FuzzyName,
    Matching,
    Range,
    SingleValue,
    UIDList,
    WildCard,
    matching_of,
)
from backup_scp.dicom.query.identifier import Identifier, RequestedKey
from backup_scp.dicom.query.information_model import (
    ANSWERED_BY_THE_NODE,
    NOTHING,
    InformationModel,
    Negotiated,
    read_query,
)
from backup_scp.dimse.messages.response_identifier import AnswerEncoder
from docs.conformance_tables import INFORMATION_MODELS, NODE, table

_TERMS: dict[type[Matching], str] = {
    SingleValue: "SINGLE_VALUE",
    UIDList: "LIST",
    WildCard: "WILDCARD",
    Range: "RANGE",
    DateTimeRange: "DATE_TIME",
    FuzzyName: "FUZZY",
    Empty: "EMPTY",
    AllOf: "ALL_OF",
}
_PROBES = ("2020", "1\\2", "1*", "2020-2021", '""')
_PROBES_OF_BINARY_NUMBERS = _PROBES[:2]  # what a US can hold
_EVERYTHING = Negotiated(date_time=True, fuzzy_names=True, empty_values=True, multiple_values=True)


def keys(name: str) -> str:
    """Section 5.2.7: the keys of one Information Model, and how each matches."""
    model = next(model for model in INFORMATION_MODELS if model.name == name)
    header = ("Level", "Attribute", "Tag", "VR", "Type", "Matching", "If negotiated")
    known = (attribute for level in model.levels for attribute in ATTRIBUTES if model.level_of(attribute) is level)
    return table(header, (row for attribute in known for row in _rows(attribute, model)))


def _rows(attribute: Attribute, model: InformationModel) -> Iterator[Sequence[str]]:
    level = model.level_of(attribute)
    plain = _matching(attribute, level, model, NOTHING)
    more = [term for term in _matching(attribute, level, model, _EVERYTHING) if term not in plain]
    yield level, *_named(attribute), attribute.kind, ", ".join([*plain, "UNIVERSAL"]), ", ".join(more) or "-"
    for key in attribute.items:
        found = (matching_of(value, key.vr) for value in _PROBES)
        terms = dict.fromkeys(_TERMS[type(matching)] for matching in found if matching)
        yield level, *_named(key, "> "), key.kind, ", ".join([*terms, "UNIVERSAL"]), "-"


def _named(attribute: Attribute, mark: str = "") -> tuple[str, str, str]:
    tag = attribute.tag
    return mark + dictionary_description(tag), f"({tag >> 16:04X},{tag & 0xFFFF:04X})", attribute.vr


def _matching(attribute: Attribute, level: Level, model: InformationModel, negotiated: Negotiated) -> list[str]:
    """Ask the code that reads queries what it makes of values of each form."""
    if attribute.vr == "SQ":
        return ["SEQUENCE"]
    time = next((a for a in ATTRIBUTES if a.keyword == f"{attribute.keyword.removesuffix('Date')}Time"), None)
    terms: dict[str, None] = {}
    for value in _PROBES_OF_BINARY_NUMBERS if attribute.vr == "US" else _PROBES:
        asked = [RequestedKey(attribute.tag, attribute.vr, value)]
        if time and attribute.vr == "DA" and "-" in value:
            asked.append(RequestedKey(time.tag, time.vr, value))
        query = read_query(Identifier(level, tuple(asked)), model, negotiated)
        terms |= {_TERMS[type(c.matching)]: None for c in query.conditions if c.attribute is attribute}
    return list(terms)


def keys_of_the_node() -> str:
    """Section 5.2.7: what every answer says of the node."""
    model = INFORMATION_MODELS[0]
    asked = tuple(RequestedKey(tag, "CS") for tag in sorted(ANSWERED_BY_THE_NODE))
    answer = AnswerEncoder(Identifier(Level.STUDY, asked), model, ExplicitVRLittleEndian, NODE.ae_title).encode({})
    read: Dataset = read_dataset(io.BytesIO(answer), is_implicit_VR=False, is_little_endian=True)
    return table(
        ("Attribute", "Tag", "Answer"),
        (
            (dictionary_description(tag), f"({tag >> 16:04X},{tag & 0xFFFF:04X})", read[tag].value or "zero length")
            for tag in sorted(ANSWERED_BY_THE_NODE)
        ),
    )


_COMPARED = {
    "AS": "as text",
    "CS": "as text, without padding; case-sensitive",
    "DA": "as dates; `2020.01.01` and `2020-01-01` are `20200101`",
    "DS": "as numbers: `1.5`, `+1.50` and `15e-1` are one",
    "IS": "as numbers: `1`, `01` and `+1` are one",
    "LO": "as text, without padding; case-sensitive",
    "LT": "as text, without trailing blanks; case-sensitive",
    "PN": "without case, accents and width; see below",
    "SH": "as text, without padding; case-sensitive",
    "SQ": "item by item: one item has to match every key of the requested item",
    "TM": "as times: `10`, `1000`, `10:00:00` and `100000.000` are one; a range includes what its end leaves open",
    "UI": "as text, without padding",
    "US": "as numbers",
}


def value_representations() -> str:
    """Section 5.2.7: what is compared."""
    return table(("VR", "Compared"), ((vr, _COMPARED[vr]) for vr in sorted({a.vr for a in ATTRIBUTES})))
