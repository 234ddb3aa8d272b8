"""Read a Data Set in the Native DICOM Model, from XML (PS3.19 A.1), as the objects of DICOM JSON (PS3.18 Annex F)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from backup_scp.errors import InvalidDataSet

__all__ = ["read_native_model"]

_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_CHILDREN: dict[str, frozenset[str]] = {
    "": frozenset({"NativeDicomModel"}),
    **dict.fromkeys(("NativeDicomModel", "Item"), frozenset({"DicomAttribute"})),
    "DicomAttribute": frozenset({"Value", "PersonName", "Item", "BulkData", "InlineBinary"}),
    "PersonName": frozenset(_GROUPS),
    **dict.fromkeys(_GROUPS, frozenset(_COMPONENTS)),
}
_WITH_TEXT = frozenset({"Value", "InlineBinary", *_COMPONENTS})
_MOST_DEPTH = 200  # of XML elements; a sequence needs two
_MOST_GAPS = 100_000  # values that the XML leaves out: a large number must not make a long list
_FIRST_BLOCK, _BLOCK_END = 0x10, 0x100

DataSetObject = dict[str, Any]
"""Elements by tag, in eight capital hexadecimal digits."""


def read_native_model(data: bytes) -> DataSetObject:
    """Read one XML document.

    ``privateCreator`` says the block of a private element; a Private Creator that is missing is added.

    Raises
    ------
    InvalidDataSet
        It is no Native DICOM Model.  A document with a DTD is none: entities could make it as large as they like.
    """
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    reader = _ModelReader()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse_dtd
    try:
        parser.Parse(data, True)  # noqa: FBT003 - its name is not part of the interface
    except (expat.ExpatError, ValueError, LookupError):
        raise _wrong("it is not well-formed") from None
    return reader.data_set


def _refuse_dtd(*_: object) -> None:
    raise _wrong("it has a DTD")


def _wrong(why: str) -> InvalidDataSet:
    return InvalidDataSet(f"The metadata is no Native DICOM Model (PS3.19 A.1): {why}")


@dataclass(slots=True)
class _OpenElement:
    """An element whose end has not come."""

    tag: str
    creator: str
    found: dict[str, Any]


@dataclass(slots=True)
class _OpenDataSet:
    """A Data Set or item whose end has not come."""

    number: int = 0
    elements: DataSetObject = field(default_factory=dict)
    private: list[_OpenElement] = field(default_factory=list)

    def add(self, element: _OpenElement) -> None:
        """Add an element; private ones wait until all Private Creators are known."""
        if element.creator:
            self.private.append(element)
        else:
            self.elements[element.tag] = element.found

    def finish(self) -> DataSetObject:
        """Return all elements."""
        blocks: dict[tuple[str, str], str] = {}
        for tag, element in self.elements.items():
            if int(tag[:4], 16) % 2 and tag[4:6] == "00" and element.get("Value"):
                blocks.setdefault((tag[:4], str(element["Value"][0]).strip()), tag[6:])
        for element in self.private:
            key = (element.tag[:4], element.creator)
            if key not in blocks:
                blocks[key] = self._reserve(element)
            self.elements[f"{key[0]}{blocks[key]}{element.tag[6:]}"] = element.found
        return self.elements

    def _reserve(self, element: _OpenElement) -> str:
        """Enter a Private Creator: in the block that the tag has, or else in the next free one (PS3.5 7.8.1)."""
        group, said = element.tag[:4], element.tag[4:6]
        free = (f"{block:02X}" for block in range(_FIRST_BLOCK, _BLOCK_END))
        block = next((b for b in (said, *free) if b >= "10" and f"{group}00{b}" not in self.elements), None)
        if block is None:
            raise _wrong(f"group {group} has too many private creators")
        self.elements[f"{group}00{block}"] = {"vr": "LO", "Value": [element.creator]}
        return block


class _ModelReader:
    """Takes what expat finds."""

    def __init__(self) -> None:
        self.data_set: DataSetObject = {}
        self._names = [""]
        self._sets: list[_OpenDataSet] = []
        self._elements: list[_OpenElement] = []
        self._text: list[str] = []
        self._number = 0
        self._person: dict[str, str] = {}
        self._components: dict[str, str] = {}
        self._gaps = 0

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        name = name.rpartition(" ")[2]
        if name not in _CHILDREN.get(self._names[-1], ()):
            raise _wrong("an XML element stands where it cannot stand")
        if len(self._names) > _MOST_DEPTH:
            raise _wrong("it is nested too deeply")
        self._names.append(name)
        self._text.clear()
        if name in ("Value", "PersonName", "Item"):
            self._number = _number_of(attributes)
        if name in ("NativeDicomModel", "Item"):
            self._sets.append(_OpenDataSet(self._number))
        elif name == "DicomAttribute":
            self._elements.append(_element_of(attributes))
        elif name == "BulkData":
            if not attributes.get("uri"):
                raise _wrong("bulk data are named by a uri")
            self._elements[-1].found["BulkDataURI"] = attributes["uri"]
        elif name == "PersonName":
            self._person = {}
        elif name in _GROUPS:
            self._components = {}

    def text(self, text: str) -> None:
        if self._names[-1] in _WITH_TEXT:
            self._text.append(text)

    def end(self, _name: str) -> None:
        name = self._names.pop()
        if name == "Value":
            self._add(self._number, "".join(self._text))
        elif name == "InlineBinary":
            self._elements[-1].found["InlineBinary"] = "".join("".join(self._text).split())
        elif name in _COMPONENTS:
            self._components[name] = "".join(self._text)
        elif name in _GROUPS:
            self._person[name] = "^".join(self._components.get(each, "") for each in _COMPONENTS).rstrip("^")
        elif name == "PersonName":
            self._add(self._number, self._person)
        elif name == "Item":
            item = self._sets.pop()
            self._add(item.number, item.finish())
        elif name == "DicomAttribute":
            self._sets[-1].add(self._elements.pop())
        elif name == "NativeDicomModel":
            self.data_set = self._sets.pop().finish()

    def _add(self, number: int, value: Any) -> None:
        """Add a value; what stands between it and the last one is empty."""
        values = self._elements[-1].found.setdefault("Value", [])
        missing = number - 1 - len(values)
        self._gaps += max(missing, 0)
        if missing < 0 or self._gaps > _MOST_GAPS:
            raise _wrong("the numbers of values are not in order")
        values += [None] * missing
        values.append(value)


def _number_of(attributes: Mapping[str, str]) -> int:
    text = attributes.get("number", "")
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise _wrong("a value has no number")
    return int(text)


def _element_of(attributes: Mapping[str, str]) -> _OpenElement:
    tag = attributes.get("tag", "").upper()
    if len(tag) != 8 or not set(tag) <= set("0123456789ABCDEF"):
        raise _wrong("an attribute has no tag")
    creator = attributes.get("privateCreator", "").strip()
    return _OpenElement(tag, creator, {"vr": attributes.get("vr", "")})
