"""Decode the Identifier of a C-FIND, C-MOVE or C-GET request (PS3.4 C.4.1.1.3, C.4.2.1.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from backup_scp.dicom import data_set
from backup_scp.dicom.attributes import BY_TAG, Attribute, Level
from backup_scp.dicom.character_set import DEFAULT, CharacterSet, parse
from backup_scp.dicom.value_representation import to_text
from backup_scp.errors import InvalidDataSet, InvalidIdentifier

__all__ = ["IDENTIFIER_BYTES", "Identifier", "RequestedKey"]

IDENTIFIER_BYTES = 1 << 20
_SPECIFIC_CHARACTER_SET = 0x00080005
_LEVEL = 0x00080052
_FIRST_KEY = 0x00080000  # elements of Command Set and File Meta Information are no keys
_ANY_KEY = range(_FIRST_KEY, 1 << 32)


@dataclass(frozen=True, slots=True)
class RequestedKey:
    """One key of an Identifier.

    Attributes
    ----------
    tag
        Group and element as one number.
    vr
        The VR of the Identifier, else that of the dictionary, else ``UN``.
    value
        Unicode, several values joined by backslashes; empty for a return key, and for values that are no text.
    items
        The keys in the only item of a sequence of the table; empty without an item.
    """

    tag: int
    vr: str
    value: str = ""
    items: tuple[RequestedKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Identifier:
    """A decoded request, not yet checked against an Information Model.

    Attributes
    ----------
    level
        Query/Retrieve Level (0008,0052).
    keys
        All requested keys, in the order of the request, known or not: each answer has all of them.  Without the
        Query/Retrieve Level, Specific Character Set and group lengths.
    specific_character_set
        The requester's; answers use it if it has their characters.
    """

    level: Level
    keys: tuple[RequestedKey, ...] = ()
    specific_character_set: CharacterSet = DEFAULT

    @classmethod
    def read(cls, data: bytes, transfer_syntax_uid: str) -> Identifier:
        """Decode an Identifier.

        Raises
        ------
        InvalidIdentifier
            The bytes are longer than 1 MiB or no Data Set; they have no Query/Retrieve Level of PS3.4 C.6; or a
            sequence of the table has more than one item.
        """
        try:
            elements = data_set.read(data, transfer_syntax_uid, IDENTIFIER_BYTES)
        except InvalidDataSet as error:
            raise InvalidIdentifier(f"the Identifier cannot be read: {error}") from error
        declared = parse(elements.pop(_SPECIFIC_CHARACTER_SET, ("CS", b""))[1])
        level = to_text("CS", "CS", elements.pop(_LEVEL, ("CS", b""))[1], declared)
        return cls(_level(level.upper()), _keys(elements, BY_TAG, declared), declared)


def _keys(
    elements: data_set.Elements, table: Mapping[int, Attribute], declared: CharacterSet
) -> tuple[RequestedKey, ...]:
    found = []
    for tag, (vr, value) in elements.items():
        attribute = table.get(tag)
        if attribute and attribute.items:
            found.append(RequestedKey(tag, "SQ", items=_item_keys(attribute, value, declared)))
        elif tag & 0xFFFF and tag >= _FIRST_KEY:
            expected = attribute.vr if attribute else vr
            is_one = attribute is not None and not attribute.may_be_listed
            found.append(RequestedKey(tag, vr, to_text(vr, expected, value, declared, is_one=is_one)))
    return tuple(found)


def _item_keys(attribute: Attribute, value: bytes, declared: CharacterSet) -> tuple[RequestedKey, ...]:
    """Read the keys in the item of a sequence, which has one item at most in a request (PS3.4 C.2.2.2.6)."""
    try:
        items = list(islice(data_set.items(value, _ANY_KEY), 2))
    except InvalidDataSet as error:
        raise InvalidIdentifier(f"{attribute.named} cannot be read: {error}") from error
    if len(items) > 1:
        raise InvalidIdentifier(f"{attribute.named} has more than one item")
    elements = items[0] if items else {}
    own = elements.pop(_SPECIFIC_CHARACTER_SET, None)
    return _keys(elements, {key.tag: key for key in attribute.items}, parse(own[1]) if own else declared)


def _level(name: str) -> Level:
    if not name:
        raise InvalidIdentifier("the Query/Retrieve Level (0008,0052) is missing")
    try:
        return Level(name)
    except ValueError:  # the error leaves the value out: it may be anything
        known = ", ".join(Level)
        raise InvalidIdentifier(f"the Query/Retrieve Level (0008,0052) is none of {known}") from None
