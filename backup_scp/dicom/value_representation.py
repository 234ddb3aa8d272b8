"""Convert value bytes to text, by Value Representation (PS3.5 6.2, 6.4), and items of a sequence to text and back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from struct import Struct

from backup_scp.dicom import character_set
from backup_scp.dicom.character_set import CharacterSet

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
_TIME = re.compile(r"([0-9]{2})(?::?([0-9]{2})(?::?([0-9]{2})(?:\.([0-9]+))?)?)?")
# A DT in place of a DA or TM: date, time, and an offset that neither DA nor TM can have.
_DATE_AND_TIME = re.compile(r"([0-9]{8})((?:[0-9]{2}){1,3}(?:\.[0-9]*)?)(?:[+-][0-9]{4})?")
_FRACTION_DIGITS = 6  # PS3.5 6.2, TM


def to_text(vr: str, expected: str, value: bytes, specific_character_set: CharacterSet, *, is_one: bool = False) -> str:
    """Decode the values of an element to Unicode, several joined by backslashes, without padding; never raises.

    Leading spaces stay where they are significant (ST, LT, UT, UR).  A value ends at its first NUL, as in C: some
    writers leave old bytes behind it.  Binary numbers become decimal numbers.  A value that is no text, or that should
    be a number and is none, becomes empty.

    Parameters
    ----------
    vr
        The Value Representation in the Data Set.
    expected
        The one in the dictionary; it is used unless the Data Set has a binary number.
    value
        The bytes, binary numbers in Little Endian.
    specific_character_set
        The Data Set's; it does not apply to dates, codes, UIDs and the like.
    is_one
        Whether there is only one value, so that a backslash in old bytes behind it does not begin another.
    """
    is_one = is_one or expected in _ONE_TEXT
    if number := _NUMBERS.get(expected if vr in _NO_TEXT else vr):
        text = _numbers(number, value)
    elif vr in _NO_TEXT or expected in _NO_TEXT:
        return ""
    else:
        value = value.partition(b"\0")[0] if is_one else value
        is_coded = expected in _CHARACTER_SET
        text = character_set.decode(value, specific_character_set, expected) if is_coded else value.decode("latin_1")
    if expected in _ONE_TEXT:
        return text.rstrip()
    if "\\" not in text and expected != "US":
        return text.partition("\0")[0].strip()
    values = [part.partition("\0")[0].strip() for part in text.split("\\")]
    if expected == "US" and not all(part.isdecimal() and int(part) < 1 << 16 for part in values):
        return ""
    return "\\".join(values)


def split_values(text: str, vr: str) -> list[str]:
    """Split a text into its values, without empty ones."""
    if vr in _ONE_TEXT:
        return [text] if text else []
    return [value for value in text.split("\\") if value]


def items_text(items: Iterable[Mapping[str, str]]) -> str:
    """Write the items of a sequence, values by keyword, as one text (JSON); empty without items."""
    listed = [dict(item) for item in items]
    return json.dumps(listed, ensure_ascii=False, separators=(",", ":")) if listed else ""


def items_of(text: str) -> list[dict[str, str]]:
    """Read the text of ``items_text``."""
    items: list[dict[str, str]] = json.loads(text) if text else []
    return items


def date_key(text: str) -> str:
    """Return YYYYMMDD, or empty text; accept ``2020.01.01`` too, which is older than DICOM 3.0 (PS3.5 6.2, DA)."""
    if not text:
        return ""
    found = _DATE.fullmatch(text) or _DATE.fullmatch(text := text.strip().rstrip("."))
    if found is None and (found := _DATE_AND_TIME.fullmatch(text)):
        return str(found[1])
    return "".join(found.groups()) if found else ""


def time_key(text: str) -> str:
    """Return HHMMSS and the fraction, or empty text; missing components are zero (PS3.5 6.2, TM)."""
    if not (found := _time(text)):
        return ""
    hours, minutes, seconds, fraction = found.groups(default="")
    fraction = fraction[:_FRACTION_DIGITS].rstrip("0")
    return f"{hours}{minutes or '00'}{seconds or '00'}" + (f".{fraction}" if fraction else "")


def last_time_key(text: str) -> str:
    """Return the last moment of a TM value, or empty text: ``1159`` lasts until 11:59:59.999999."""
    if not (found := _time(text)):
        return ""
    hours, minutes, seconds, fraction = found.groups(default="")
    return f"{hours}{minutes or '59'}{seconds or '59'}.{fraction[:_FRACTION_DIGITS]:9<6}"


def _time(text: str) -> re.Match[str] | None:
    """Parse a time, also that of a DT, or one with a trailing dot."""
    if not text:
        return None
    found = _TIME.fullmatch(text) or _TIME.fullmatch(text := text.strip().rstrip("."))
    if found is None and (both := _DATE_AND_TIME.fullmatch(text)):
        return _TIME.fullmatch(both[2].rstrip("."))
    return found


def _numbers(number: Struct, value: bytes) -> str:
    whole = len(value) - len(value) % number.size
    numbers = (
        format(item, "g") if isinstance(item, float) else str(item) for (item,) in number.iter_unpack(value[:whole])
    )
    return "\\".join(numbers)
