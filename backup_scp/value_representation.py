"""Value bytes to text, by Value Representation (PS3.5 6.2, 6.4); the items of a sequence as text, too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from struct import Struct

from backup_scp import character_set
from backup_scp.character_set import CharacterSet

__all__ = ["items_of", "items_text", "split_values", "to_text"]

_NUMBERS = {
    "US": Struct("<H"),
    "SS": Struct("<h"),
    "UL": Struct("<I"),
    "SL": Struct("<i"),
    "UV": Struct("<Q"),
    "SV": Struct("<q"),
    "FL": Struct("<f"),
    "FD": Struct("<d"),
}
_NO_TEXT = frozenset(("AT", "OB", "OD", "OF", "OL", "OV", "OW", "SQ"))
_CHARACTER_SET = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
_ONE_TEXT = frozenset(("LT", "ST", "UR", "UT"))


def to_text(vr: str, expected: str, value: bytes, specific_character_set: CharacterSet) -> str:
    """Read the values of an element as Unicode, several joined by backslashes, without padding; never raises.

    Leading blanks stay where they are significant (ST, LT, UT, UR); NUL characters are removed everywhere; binary
    numbers become decimal numbers; what is no text, or no number where one belongs, becomes empty.

    Parameters
    ----------
    vr
        As the Data Set has it.
    expected
        As the dictionary has it; it counts unless the Data Set holds a binary number.
    value
        The bytes, binary numbers in Little Endian.
    specific_character_set
        Of the Data Set; it does not apply to dates, codes, UIDs and the like.
    """
    if number := _NUMBERS.get(expected if vr in _NO_TEXT else vr):
        text = _numbers(number, value)
    elif vr in _NO_TEXT or expected in _NO_TEXT:
        return ""
    elif expected in _CHARACTER_SET:
        text = character_set.decode(value, specific_character_set, expected).replace("\0", "")
    else:
        text = value.decode("latin_1").replace("\0", "")
    if expected in _ONE_TEXT:
        return text.rstrip()
    values = [part.strip() for part in text.split("\\")]
    if expected == "US" and not all(part.isdecimal() and int(part) < 1 << 16 for part in values):
        return ""
    return "\\".join(values)


def split_values(text: str, vr: str) -> list[str]:
    """Separate the values of a text; those that are empty do not count."""
    if vr in _ONE_TEXT:
        return [text] if text else []
    return [value for value in text.split("\\") if value]


def items_text(items: Iterable[Mapping[str, str]]) -> str:
    """Write the items of a sequence, keyword to value, as one text (JSON); empty where there are none."""
    listed = [dict(item) for item in items]
    return json.dumps(listed, ensure_ascii=False, separators=(",", ":")) if listed else ""


def items_of(text: str) -> list[dict[str, str]]:
    """Read what ``items_text`` wrote."""
    items: list[dict[str, str]] = json.loads(text) if text else []
    return items


def _numbers(number: Struct, value: bytes) -> str:
    whole = len(value) - len(value) % number.size
    numbers = (
        format(item, "g") if isinstance(item, float) else str(item) for (item,) in number.iter_unpack(value[:whole])
    )
    return "\\".join(numbers)
