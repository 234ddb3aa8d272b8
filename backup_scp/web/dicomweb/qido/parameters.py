"""Read the query parameters of a search (PS3.18 8.3.4).

Whatever is not understood is 400: a key that was ignored would find everyone, and the caller would not notice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from pydicom.datadict import tag_for_keyword

from backup_scp.dicom.attributes import AVAILABLE_TRANSFER_SYNTAX_UID, BY_KEYWORD, BY_TAG, Attribute, Level
from backup_scp.dicom.query.identifier import Identifier, RequestedKey
from backup_scp.dicom.query.information_model import NOTHING, STUDY_ROOT, Negotiated
from backup_scp.web.dicomweb.qido.result_tables import every
from backup_scp.web.problems import Problem

NAMES = ("fuzzymatching", "emptyvaluematching", "multiplevaluematching", "includefield", "limit", "offset", "accept")
"""The query parameters that are no attribute."""

LONGEST_QUERY_BYTES = 1 << 18

# They describe the node, not its content: each result has those that apply.
_CONSTANT = {0x00080005, 0x00080052, 0x00080054, 0x00080056, 0x00081190}
_FLAGS = NAMES[:3]
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_OFFSET_WITHOUT_SIGN = re.compile(r" ?[0-9]{4}")  # a plus sign that was not encoded arrives as a blank
_RETURNED = BY_TAG | {AVAILABLE_TRANSFER_SYNTAX_UID.tag: AVAILABLE_TRANSFER_SYNTAX_UID}


@dataclass(slots=True)
class SearchRequest:
    """A search, as it was asked for.

    Attributes
    ----------
    level
        The level of the results.
    keys
        The matching keys by tag.
    include
        Further attributes that results have.
    limit, offset
        Which results are sent; limit None is all of them.
    negotiated
        The kinds of matching that were asked for.
    """

    level: Level
    keys: dict[int, RequestedKey] = field(default_factory=dict)
    include: list[Attribute] = field(default_factory=list)
    limit: int | None = None
    offset: int = 0
    negotiated: Negotiated = NOTHING

    @property
    def identifier(self) -> Identifier:
        """The same search as a C-FIND Identifier."""
        returned = (RequestedKey(a.tag, a.vr) for a in self.include if a.tag not in self.keys)
        return Identifier(self.level, (*self.keys.values(), *returned))


def read_search(query_string: bytes, level: Level, path: Mapping[str, str]) -> SearchRequest:
    """Read a search.

    Parameters
    ----------
    query_string
        The query component of the request, as it was sent.
    level
        The level of the resource.
    path
        The UIDs in the path of the resource, by keyword.

    Raises
    ------
    Problem
        400; 414 for a query that is too long.
    """
    search = SearchRequest(level)
    own: dict[str, str] = {}
    for name, value in _pairs(query_string):
        if name == "includefield":
            search.include += _included(value, level)
        elif name in NAMES:
            if own.setdefault(name, value) is not value:
                raise Problem(400, f"{name} stands twice in the query: write it once")
        else:
            _add_key(search.keys, name, value, level)
    for keyword, uid in path.items():
        _add_path(search.keys, BY_KEYWORD[keyword], uid)
    flags = {name: _flag(own, name) for name in _FLAGS}
    search.negotiated = Negotiated(
        fuzzy_names=flags["fuzzymatching"],
        empty_values=flags["emptyvaluematching"],
        multiple_values=flags["multiplevaluematching"],
        time_zone=True,
    )
    search.limit, search.offset = _number(own, "limit"), _number(own, "offset") or 0
    search.include = list(dict.fromkeys(search.include))
    return search


def _pairs(query_string: bytes) -> Iterator[tuple[str, str]]:
    """Split and decode the query: UTF-8, percent-encoded."""
    if len(query_string) > LONGEST_QUERY_BYTES:
        raise Problem(414, f"The query is longer than {LONGEST_QUERY_BYTES} bytes: ask in several requests")
    if not query_string:
        return
    for number, part in enumerate(query_string.decode("latin-1").split("&"), 1):
        name, separator, value = part.partition("=")
        if not part:
            continue  # && and a trailing & are harmless
        if not separator or not name:
            raise Problem(400, f"Parameter {number} of the query is no NAME=VALUE")
        try:
            name, value = (unquote_plus(text, errors="strict") for text in (name, value))
            value.encode()
        except UnicodeError:
            raise Problem(400, f"Parameter {number} of the query is not UTF-8 in percent-encoding") from None
        if _CONTROL.search(value):
            raise Problem(400, f"Parameter {number} of the query has a control character")
        yield name, value


def _flag(own: Mapping[str, str], name: str) -> bool:
    value = own.get(name, "false").lower()
    if value not in {"true", "false"}:
        raise Problem(400, f"{name} is true or false")
    return value == "true"


def _number(own: Mapping[str, str], name: str) -> int | None:
    value = own.get(name)
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise Problem(400, f"{name} is a whole number, 0 or more")
    return int(value)


# -- attributes --------------------------------------------------------------------------------------------------------


def _tag_of(name: str) -> int:
    """Return the tag of a keyword, or of eight hexadecimal digits (PS3.18 8.3.4.1)."""
    if _TAG.fullmatch(name):
        return int(name, 16)
    attribute = BY_KEYWORD.get(name)
    tag = attribute.tag if attribute else tag_for_keyword(name) if name else None  # some elements have no keyword
    if tag is None:
        shown = name if re.fullmatch(r"[A-Za-z0-9]{1,64}", name) else "This parameter"
        raise Problem(400, f"{shown} is neither a keyword nor a tag of PS3.6, nor a parameter of a search")
    return int(tag)


def _key_attribute(name: str, level: Level) -> Attribute:
    """Return the attribute of a matching key."""
    tag = _tag_of(name)
    attribute = BY_TAG.get(tag)
    if attribute is None:
        why = "only returned" if tag in _CONSTANT or tag == AVAILABLE_TRANSFER_SYNTAX_UID.tag else "not searched by"
        raise Problem(400, f"{name} is {why} here; docs/conformance-statement.md lists the matching keys")
    if not STUDY_ROOT.supports(attribute, level):
        instead = "; ModalitiesInStudy is the key for studies" if attribute.keyword == "Modality" else ""
        below = {Level.SERIES: "series", Level.IMAGE: "instances"}[attribute.level]
        raise Problem(400, f"{attribute.named} describes {below}: search for those{instead}")
    return attribute


def _add_key(keys: dict[int, RequestedKey], name: str, value: str, level: Level) -> None:
    first, *rest = name.split(".")
    attribute = _key_attribute(first, level)
    if not rest:
        if attribute.items and value:
            raise Problem(400, f"{attribute.named} is a sequence: write {attribute.keyword}.KEYWORD=VALUE")
        if attribute.tag in keys:
            raise _twice(attribute)
        keys[attribute.tag] = RequestedKey(attribute.tag, attribute.vr, _value(attribute, value))
        return
    items = {key.tag: key for key in attribute.items}
    if len(rest) > 1 or (tag := _tag_of(rest[0])) not in items:
        known = ", ".join(key.keyword for key in attribute.items)
        raise Problem(400, f"{attribute.named} has these keys here: {known}" if known else f"{first} is no sequence")
    inside = RequestedKey(tag, items[tag].vr, _value(items[tag], value))
    before = keys.get(attribute.tag, RequestedKey(attribute.tag, "SQ")).items
    if any(key.tag == tag for key in before):
        raise _twice(items[tag])
    keys[attribute.tag] = RequestedKey(attribute.tag, "SQ", items=(*before, inside))


def _twice(attribute: Attribute) -> Problem:
    several = "; several UIDs stand in one, with commas" if attribute.vr == "UI" else ""
    return Problem(400, f"{attribute.named} stands twice in the query: write it once{several}")


def _value(attribute: Attribute, value: str) -> str:
    """Return the value as an Identifier has it: several UIDs are separated by backslashes there, here by commas."""
    if attribute.vr == "UI":
        return "\\".join(filter(None, (each.strip() for each in value.replace("\\", ",").split(","))))
    if attribute.vr == "US" and value.strip() and not all(each.strip().isdecimal() for each in value.split("\\")):
        raise Problem(400, f"{attribute.named} is a whole number")
    if attribute.keyword == "TimezoneOffsetFromUTC" and _OFFSET_WITHOUT_SIGN.fullmatch(value):
        return f"+{value.strip()}"
    if attribute.vr in {"LT", "ST", "UT", "UR"}:
        return value.rstrip()
    return "\\".join([each.strip() for each in value.split("\\")])


def _add_path(keys: dict[int, RequestedKey], attribute: Attribute, uid: str) -> None:
    if "\\" in uid or "," in uid or _CONTROL.search(uid) or not uid.strip(" *"):
        raise Problem(400, f"The path has no {attribute.named} where it should have one")
    if attribute.tag in keys and keys[attribute.tag].value not in ("", uid):
        raise Problem(400, f"{attribute.named} stands in the path, and another one in the query")
    keys[attribute.tag] = RequestedKey(attribute.tag, attribute.vr, uid)


def _included(value: str, level: Level) -> Iterable[Attribute]:
    """Return the attributes of one ``includefield``; those that are not held or stand below the level are left out."""
    for name in value.split(","):
        if name.lower() == "all":
            yield from every(level)
            continue
        tags = [_tag_of(part) for part in name.split(".")]
        attribute = _RETURNED.get(tags[0])
        if attribute is not None and STUDY_ROOT.supports(attribute, level):
            yield attribute
