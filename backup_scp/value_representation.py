"""Value bytes to text, by Value Representation (PS3.5 6.2, 6.4); the items of a sequence as text, too."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from struct import Struct

from backup_scp import character_set
from backup_scp.character_set import CharacterSet

__all__ = ["date_key", "items_of", "items_text", "last_time_key", "split_values", "time_key", "to_text"]

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

_DATE = re.compile(r"([0-9]{4})[.\-/]?([0-9]{2})[.\-/]?([0-9]{2})")
_TIME = re.compile(r"([0-9]{2})(?::?([0-9]{2})(?::?([0-9]{2})(?:\.([0-9]{1,6}))?)?)?")


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


def date_key(text: str) -> str:
    """YYYYMMDD, or nothing; the form ``2020.01.01`` is older than DICOM 3.0 and still met (PS3.5 6.2, DA)."""
    found = _DATE.fullmatch(text.strip())
    return "".join(found.groups()) if found else ""


def time_key(text: str) -> str:
    """HHMMSS and the fraction, or nothing; components left out are zero (PS3.5 6.2, TM)."""
    found = _TIME.fullmatch(text.strip())
    if not found:
        return ""
    hours, minutes, seconds, fraction = found.groups(default="")
    fraction = fraction.rstrip("0")
    return f"{hours}{minutes or '00'}{seconds or '00'}" + (f".{fraction}" if fraction else "")


def last_time_key(text: str) -> str:
    """Give the last moment that a TM value stands for, or nothing: ``1159`` lasts until 11:59:59.999999."""
    found = _TIME.fullmatch(text.strip())
    if not found:
        return ""
    hours, minutes, seconds, fraction = found.groups(default="")
    return f"{hours}{minutes or '59'}{seconds or '59'}.{fraction:9<6}"


def _numbers(number: Struct, value: bytes) -> str:
    whole = len(value) - len(value) % number.size
    numbers = (
        format(item, "g") if isinstance(item, float) else str(item) for (item,) in number.iter_unpack(value[:whole])
    )
    return "\\".join(numbers)
