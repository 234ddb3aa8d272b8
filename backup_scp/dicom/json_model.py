"""Write attributes in the DICOM JSON Model (PS3.18 F), from the text of their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from json.encoder import encode_basestring

from backup_scp.dicom.attributes import Attribute
from backup_scp.dicom.value_representation import items_of

__all__ = ["ElementText", "person_name", "sequence_text", "text_element"]

ElementText = Callable[[str], str]
"""Writes one element: its tag as a name, and its object."""

_ONE_TEXT = frozenset({"LT", "ST", "UR", "UT"})
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,17})(?:\.\d{1,40})?(?:[eE][+-]?\d{1,2})?")
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


def _number(text: str) -> str:
    """Write an IS or DS as a number with its own digits; one that is none stays a string (PS3.18 Table F.2.3-1)."""
    if _NUMBER.fullmatch(text):
        return text
    try:
        number = float(text)
    except ValueError:
        return encode_basestring(text)
    if number != number or number in (float("inf"), float("-inf")):  # noqa: PLR0124 - NaN
        return encode_basestring(text)
    return str(int(number)) if number.is_integer() and abs(number) < 1 << 53 else repr(number)


def person_name(text: str) -> str:
    """Write the component groups of one name that have a value (PS3.18 F.2.2); null without any."""
    if "=" not in text:
        return f'{{"Alphabetic":{encode_basestring(text)}}}'
    groups = zip(_GROUPS, text.split("=", 2), strict=False)
    written = ",".join(f'"{name}":{encode_basestring(group)}' for name, group in groups if group)
    return f"{{{written}}}" if written else "null"


_WRITERS: dict[str, Callable[[str], str]] = {
    "PN": person_name,
    **dict.fromkeys(("IS", "DS", "US", "SS", "UL", "SL", "FL", "FD", "SV", "UV"), _number),
}


@lru_cache(maxsize=1024)
def text_element(tag: int, vr: str) -> ElementText:
    """Return the writer of an attribute whose text has its values joined by backslashes.

    An attribute without a value has no ``Value``, and an empty one among others is null (PS3.18 F.2.5).
    """
    head = f'"{tag:08X}":{{"vr":"{vr}"'
    empty, start = head + "}", head + ',"Value":['
    one = _WRITERS.get(vr, encode_basestring)
    if vr in _ONE_TEXT:
        return lambda text: f"{start}{encode_basestring(text)}]}}" if text else empty

    def write(text: str) -> str:
        if not text:
            return empty
        if "\\" not in text:
            return f"{start}{one(text)}]}}"
        return f"{start}{','.join([one(value) if value else 'null' for value in text.split(chr(92))])}]}}"

    return write


def sequence_text(sequence: Attribute, keys: Iterable[Attribute]) -> ElementText:
    """Return the writer of a sequence whose text is that of ``items_text``, with these keys of its items."""
    head = f'"{sequence.tag:08X}":{{"vr":"SQ"'
    writers = [(key.keyword, text_element(key.tag, key.vr)) for key in sorted(keys, key=lambda key: key.tag)]

    def write(text: str) -> str:
        if not text:
            return head + "}"
        items = (",".join([one(item.get(keyword, "")) for keyword, one in writers]) for item in items_of(text))
        return f'{head},"Value":[{",".join(f"{{{item}}}" for item in items)}]}}'

    return write
