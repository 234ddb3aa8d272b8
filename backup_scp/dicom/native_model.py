"""Write attributes in the Native DICOM Model, as XML (PS3.19 A.1), from the text of their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from xml.sax.saxutils import escape

from backup_scp.dicom.attributes import Attribute
from backup_scp.dicom.value_representation import items_of

__all__ = ["document", "text_attribute", "xml_sequence"]

_ONE_TEXT = frozenset({"LT", "ST", "UR", "UT"})
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_LINE_ENDS = {"\r": "&#13;"}  # a parser would turn CR LF into LF
_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # characters that XML 1.0 cannot have


def document(attributes: str) -> bytes:
    """Return a whole Data Set."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/'
        f'NativeDICOM" xml:space="preserve">{attributes}</NativeDicomModel>'
    ).encode("utf-8", "replace")


def _text(value: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", value), _LINE_ENDS)


def _person(number: int, name: str) -> str:
    groups = []
    for group, text in zip(_GROUPS, name.split("=", 2), strict=False):
        if text:
            parts = zip(_COMPONENTS, text.split("^", 4), strict=False)
            written = "".join(f"<{part}>{_text(value)}</{part}>" for part, value in parts if value)
            groups.append(f"<{group}>{written}</{group}>")
    return f'<PersonName number="{number}">{"".join(groups)}</PersonName>'


def _value(number: int, value: str) -> str:
    return f'<Value number="{number}">{_text(value)}</Value>'


@lru_cache(maxsize=1024)
def text_attribute(tag: int, vr: str, keyword: str) -> Callable[[str], str]:
    """Return the writer of an attribute whose text has its values joined by backslashes; empty values are left out."""
    head = f'<DicomAttribute tag="{tag:08X}" vr="{vr}" keyword="{keyword}">'
    one = _person if vr == "PN" else _value

    def write(text: str) -> str:
        values = [text] if vr in _ONE_TEXT else text.split("\\")
        written = "".join(one(number, value) for number, value in enumerate(values, 1) if value)
        return f"{head}{written}</DicomAttribute>"

    return write


def xml_sequence(sequence: Attribute, keys: Iterable[Attribute]) -> Callable[[str], str]:
    """Return the writer of a sequence whose text is that of ``items_text``, with these keys of its items."""
    writers = [
        (key.keyword, text_attribute(key.tag, key.vr, key.keyword)) for key in sorted(keys, key=lambda key: key.tag)
    ]

    def write(text: str) -> str:
        items = (
            f'<Item number="{number}">{"".join(one(item.get(keyword, "")) for keyword, one in writers)}</Item>'
            for number, item in enumerate(items_of(text), 1)
        )
        return (
            f'<DicomAttribute tag="{sequence.tag:08X}" vr="SQ" keyword="{sequence.keyword}">{"".join(items)}'
            "</DicomAttribute>"
        )

    return write
