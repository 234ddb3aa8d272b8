"""Decode the values of one element for the DICOM JSON Model and the Native DICOM Model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from struct import Struct
from typing import Protocol

from backup_scp.dicom import character_set
from backup_scp.dicom.character_set import CharacterSet

BINARY = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
"""Value Representations whose values are bytes: inline in Base64, or behind a URI (PS3.18 F.2.2)."""

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
_TAGS = Struct("<HH")
_ONE_TEXT = frozenset(("LT", "ST", "UR", "UT"))
_CODED = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
_KEEPS_LEADING_SPACES = frozenset(("LT", "ST", "UT"))


class ModelText(Protocol):
    """Writes elements as text in one of the two models."""

    name: str

    def values(self, tag: int, vr: str, text: str) -> str:
        """Write an element with these values, joined by backslashes."""

    def binary(self, tag: int, vr: str, value: bytes) -> str:
        """Write an element of bytes, in Base64."""

    def bulk(self, tag: int, vr: str, uri: str) -> str:
        """Write an element whose value is at a URI."""

    def sequence(self, tag: int, items: Iterable[str]) -> str:
        """Write a sequence; each item is the text of ``item``."""

    def item(self, elements: Iterable[str]) -> str:
        """Join the texts of the elements of an item."""


def value_text(vr: str, value: bytes, declared: CharacterSet) -> str:
    """Decode the values of an element that is neither binary nor a sequence; several are joined by backslashes.

    Unlike ``value_representation.to_text``, which the index uses, it keeps every digit, and values of any length.

    Parameters
    ----------
    vr
        Its Value Representation.
    value
        Binary numbers in Little Endian.
    declared
        The Data Set's Specific Character Set.
    """
    if number := _NUMBERS.get(vr):
        whole = len(value) - len(value) % number.size
        return "\\".join([_digits(each) for (each,) in number.iter_unpack(value[:whole])])
    if vr == "AT":
        whole = len(value) - len(value) % _TAGS.size
        return "\\".join([f"{group:04X}{element:04X}" for group, element in _TAGS.iter_unpack(value[:whole])])
    text = character_set.decode(value, declared, vr) if vr in _CODED else value.decode("latin-1")
    if vr in _KEEPS_LEADING_SPACES:
        return text.rstrip(" \0")
    if vr in _ONE_TEXT or "\\" not in text:
        return text.strip(" \0")
    return "\\".join([part.strip(" \0") for part in text.split("\\")])


def _digits(value: float) -> str:
    if isinstance(value, int) or math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"  # PS3.18 F.2.3


@lru_cache(maxsize=4096)
def dictionary_vr(tag: int) -> str:
    """Return the Value Representation of an element that names none (PS3.5 6.2.2); ``US or SS`` stays a choice."""
    from pydicom.datadict import dictionary_VR

    if tag >> 16 & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"  # PS3.5 7.8.1
    if not tag & 0xFFFF:
        return "UL"
    try:
        vr = str(dictionary_VR(tag))
    except KeyError:
        return "UN"
    return "OW" if vr in {"OB or OW", "US or OW", "US or SS or OW"} else vr
