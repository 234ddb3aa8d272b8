"""The Identifier of a C-FIND, C-MOVE or C-GET request (PS3.4 C.4.1.1.3, C.4.2.1.4), as it was written."""

from __future__ import annotations

from dataclasses import dataclass, field

from backup_scp import data_set
from backup_scp.attributes import BY_TAG, Level
from backup_scp.character_set import DEFAULT, CharacterSet, parse
from backup_scp.errors import InvalidDataSet, InvalidIdentifier
from backup_scp.value_representation import to_text

__all__ = ["IDENTIFIER_BYTES", "Identifier", "RequestedKey"]

IDENTIFIER_BYTES = 1 << 20
_SPECIFIC_CHARACTER_SET = 0x00080005
_LEVEL = 0x00080052
_FIRST_KEY = 0x00080000  # Command Set and File Meta Information are no keys


@dataclass(frozen=True, slots=True)
class RequestedKey:
    """One key of an Identifier.

    Attributes
    ----------
    tag
        Group and element as one number.
    vr
        As the Identifier has it; the dictionary's where it has none, ``UN`` where nobody knows.
    value
        Unicode, several values joined by backslashes; empty for a return key, and for what is no text.
    data
        The bytes behind it, for sequences: their items.
    """

    tag: int
    vr: str
    value: str = ""
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Identifier:
    """A request, read but not yet held against an Information Model.

    Attributes
    ----------
    level
        Query/Retrieve Level (0008,0052).
    keys
        Every key asked for, in the order of the request, known or not: each is to be in each answer.  Without the
        Query/Retrieve Level, Specific Character Set and group lengths.
    specific_character_set
        The requester's; answers use it if it can hold them.
    """

    level: Level
    keys: tuple[RequestedKey, ...] = ()
    specific_character_set: CharacterSet = DEFAULT

    @classmethod
    def read(cls, data: bytes, transfer_syntax_uid: str) -> Identifier:
        """Read an encoded Identifier.

        Raises
        ------
        InvalidIdentifier
            It is longer than 1 MiB, no Data Set, or without a Query/Retrieve Level that PS3.4 C.6 knows.
        """
        try:
            elements = data_set.read(data, transfer_syntax_uid, IDENTIFIER_BYTES)
        except InvalidDataSet as error:
            raise InvalidIdentifier(f"the Identifier cannot be read: {error}") from error
        declared = parse(elements.pop(_SPECIFIC_CHARACTER_SET, ("CS", b""))[1])
        level = to_text("CS", "CS", elements.pop(_LEVEL, ("CS", b""))[1], declared)
        keys = tuple(
            RequestedKey(tag, vr, to_text(vr, _expected(tag, vr), value, declared), value)
            for tag, (vr, value) in elements.items()
            if tag & 0xFFFF and tag >= _FIRST_KEY
        )
        return cls(_level(level.upper()), keys, declared)


def _expected(tag: int, vr: str) -> str:
    attribute = BY_TAG.get(tag)
    return attribute.vr if attribute else vr


def _level(name: str) -> Level:
    if not name:
        raise InvalidIdentifier("the Query/Retrieve Level (0008,0052) is missing")
    try:
        return Level(name)
    except ValueError:  # the value is not repeated: it may be anything
        known = ", ".join(Level)
        raise InvalidIdentifier(f"the Query/Retrieve Level (0008,0052) is none of {known}") from None
