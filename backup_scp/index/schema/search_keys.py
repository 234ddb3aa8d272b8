r"""Search keys: the values to compare instead of the text, when PS3.4 C.2.2.2 compares by value.

======  ==========================================================  ===============================================
VR      key                                                         compares equal
======  ==========================================================  ===============================================
DA      ``YYYYMMDD``                                                ``20200101``, ``2020.01.01``
TM      ``HHMMSS`` and a fraction without trailing zeros            ``10``, ``1000``, ``10:00:00``, ``100000.000``
IS      whole number                                                ``1``, ``01``, ``+1``
DS      number                                                      ``1.5``, ``+1.50``, ``15e-1``
PN      folded component groups                                     ``MÜLLER^JÖRG``, ``Muller^Jorg^^``
======  ==========================================================  ===============================================

An invalid value has no key (empty text, or NULL for numbers); its text is compared as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cache, lru_cache

from backup_scp.dicom.attributes import BY_KEYWORD, Attribute
from backup_scp.dicom.value_representation import date_key, items_of, items_text, time_key
from backup_scp.index.schema.stored_text import stored_key, stored_long

Key = str | int | float | None

PATIENT_NAME = BY_KEYWORD["PatientName"]
PATIENT_NAME_GROUPS = ("patient_name_alphabetic", "patient_name_ideographic", "patient_name_phonetic")

IN_DATABASE_INDEXES = frozenset(
    {"patient_id", "issuer_of_patient_id", "accession_number", "study_id"}
    | {"study_instance_uid", "series_instance_uid", "sop_instance_uid"}
)

_PADDED_ON_BOTH_SIDES = frozenset({"AE", "CS", "DS", "IS", "LO", "SH"})  # PS3.5 Table 6.2-1

_SIGNS = "\\^=*?"

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?")


def integer_key(text: str) -> int | None:
    """Return the number of an IS value (PS3.5 6.2)."""
    text = text.strip()
    return int(text) if _INTEGER.fullmatch(text) else None


def decimal_key(text: str) -> float | None:
    """Return the number of a DS value (PS3.5 6.2)."""
    text = text.strip()
    return float(text) if len(text) <= 64 and _DECIMAL.fullmatch(text) else None


def folded(text: str) -> str:
    """Remove case, accents and width from a person name; components keep their positions."""
    if text.isascii():
        return text.casefold()
    marked = unicodedata.normalize("NFKD", text)
    if any(marked.count(sign) != text.count(sign) for sign in _SIGNS):
        marked = "".join(c if _is_like_a_sign(c) else unicodedata.normalize("NFKD", c) for c in text)
    bare = "".join(c for c in marked if not unicodedata.combining(c))
    return unicodedata.normalize("NFC", bare.casefold())


def _is_like_a_sign(character: str) -> bool:
    """Tell whether a character would become a delimiter or wild card without its width, like U+FF3C and U+FF0A."""
    return not character.isascii() and any(sign in unicodedata.normalize("NFKD", character) for sign in _SIGNS)


def folded_group(text: str) -> str:
    """Fold one component group, without trailing ``^`` and spaces (PS3.5 6.2.1)."""
    return stored_key(folded(text).rstrip("^ ").lstrip(" "))


def name_groups(text: str) -> tuple[str, str, str]:
    """Fold the alphabetic, ideographic and phonetic component group of one person name (PS3.5 6.2.1)."""
    groups = [folded_group(group) for group in text.split("=", 2)]
    return groups[0], groups[1] if len(groups) > 1 else "", groups[2] if len(groups) > 2 else ""


def names_key(text: str) -> str:
    r"""Fold every component group of every name, joined by a backslash."""
    return "\\".join(group for name in text.split("\\") for group in name_groups(name) if group)


@lru_cache(maxsize=2048)  # the images of a series repeat most values
def stored_value(attribute: Attribute, text: str) -> str:
    """Return an attribute's value as the index stores and compares it, without padding."""
    if attribute.items:
        return _stored_items(attribute, text)
    if attribute.vr in _PADDED_ON_BOTH_SIDES and " " in text:
        text = "\\".join(value.strip(" ") for value in text.split("\\"))
    return stored_key(text) if attribute.column in IN_DATABASE_INDEXES else stored_long(text)


def _stored_items(attribute: Attribute, text: str) -> str:
    keys = {key.keyword: key for key in attribute.items}
    return items_text({k: stored_value(keys[k], value) for k, value in item.items()} for item in items_of(text))


_BY_VR = {"DA": date_key, "TM": time_key, "IS": integer_key, "DS": decimal_key, "PN": names_key}


@cache
def key_columns(attribute: Attribute) -> tuple[str, ...]:
    """Return the names of an attribute's key columns; empty when its text is compared."""
    if attribute.vr not in _BY_VR or attribute.computed:
        return ()
    return PATIENT_NAME_GROUPS if attribute is PATIENT_NAME else (f"{attribute.column}_key",)


def key_of(attribute: Attribute, text: str) -> Key:
    """Return the search key of a value, for an attribute with one key column."""
    return _BY_VR[attribute.vr](text)


@lru_cache(maxsize=2048)
def key_values(attribute: Attribute, text: str) -> Mapping[str, Key]:
    """Return the search key of a value, by column name; do not modify the result."""
    columns = key_columns(attribute)
    if attribute is PATIENT_NAME:
        return dict(zip(columns, name_groups(text), strict=True))
    return {columns[0]: key_of(attribute, text)} if columns else {}
