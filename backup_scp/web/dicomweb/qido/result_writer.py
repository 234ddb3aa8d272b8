"""Write the results of a search in DICOM JSON, or in multipart XML (PS3.18 10.6.3.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple
from urllib.parse import quote

from backup_scp.dicom import json_model, native_model
from backup_scp.dicom.attributes import Attribute, Level
from backup_scp.ports import Match
from backup_scp.web.dicomweb.qido.result_tables import IF_KNOWN, ITEM_KEYS
from backup_scp.web.media_types import DICOM_XML
from backup_scp.web.multipart_writer import MultipartWriter

OF_THE_NODE = (
    Attribute("SpecificCharacterSet", 0x00080005, "CS", Level.STUDY, ""),
    Attribute("InstanceAvailability", 0x00080056, "CS", Level.STUDY, ""),
    Attribute("RetrieveURL", 0x00081190, "UR", Level.STUDY, ""),
)
"""What each result has besides, which is not in the index."""

_OF_THE_NODE = {"SpecificCharacterSet": "ISO_IR 192", "InstanceAvailability": "ONLINE"}
_PATHS = {
    Level.STUDY: (("/studies/", "StudyInstanceUID"),),
    Level.SERIES: (("/studies/", "StudyInstanceUID"), ("/series/", "SeriesInstanceUID")),
    Level.IMAGE: (
        ("/studies/", "StudyInstanceUID"),
        ("/series/", "SeriesInstanceUID"),
        ("/instances/", "SOPInstanceUID"),
    ),
}


class _Column(NamedTuple):
    """One attribute of every result."""

    keyword: str
    write: Callable[[str], str]
    leaves_out: bool
    """Whether a result without its value leaves it out."""


class ResultWriter:
    """Writes results; computes what all of them have in common once.

    Parameters
    ----------
    level
        Level of the results.
    attributes
        What a result has.
    requested
        Tags that the request names: results have them also without a value.
    item_keys
        The item keys that were requested of a sequence, by its tag.
    """

    def __init__(
        self,
        level: Level,
        attributes: Iterable[Attribute],
        requested: frozenset[int],
        item_keys: Mapping[int, tuple[Attribute, ...]],
    ) -> None:
        self._level = level
        self._attributes = sorted({*attributes, *OF_THE_NODE}, key=lambda attribute: attribute.tag)
        self._requested = requested
        self._items = {
            a.tag: item_keys.get(a.tag) or (a.items if a.tag in requested else ITEM_KEYS.get(a.tag, a.items))
            for a in self._attributes
            if a.items
        }

    def json(self, matches: Iterable[Match], base: str) -> Iterator[str]:
        """Yield one JSON object for each result; ``base`` is the service's base URI."""
        for elements in self._elements(matches, self._json_columns, base):
            yield f"{{{','.join(elements)}}}"

    def xml(self, matches: Iterable[Match], base: str) -> Iterator[str]:
        """Yield the attributes of one Native DICOM Model for each result."""
        for elements in self._elements(matches, self._xml_columns, base):
            yield "".join(elements)

    @cached_property
    def _json_columns(self) -> list[_Column]:
        def writer(attribute: Attribute) -> Callable[[str], str]:
            if attribute.items:
                return json_model.sequence_text(attribute, self._items[attribute.tag])
            return json_model.text_element(attribute.tag, attribute.vr)

        return self._columns(writer)

    @cached_property
    def _xml_columns(self) -> list[_Column]:
        def writer(attribute: Attribute) -> Callable[[str], str]:
            if attribute.items:
                return native_model.xml_sequence(attribute, self._items[attribute.tag])
            return native_model.text_attribute(attribute.tag, attribute.vr, attribute.keyword)

        return self._columns(writer)

    def _columns(self, writer: Callable[[Attribute], Callable[[str], str]]) -> list[_Column]:
        return [
            _Column(a.keyword, writer(a), a.tag in IF_KNOWN and a.tag not in self._requested) for a in self._attributes
        ]

    def _elements(self, matches: Iterable[Match], columns: Iterable[_Column], base: str) -> Iterator[list[str]]:
        """Yield the elements of each result, in the order of their tags."""
        path = _PATHS[self._level]
        for match in matches:
            url = base + "".join([part + quote(match[keyword], "") for part, keyword in path])
            values = {**match, **_OF_THE_NODE, "RetrieveURL": url}
            elements = []
            for keyword, write, leaves_out in columns:
                text = values[keyword]
                if text or not leaves_out:
                    elements.append(write(text))
            yield elements


def json_body(results: Iterable[str]) -> Iterator[bytes]:
    """Yield one JSON array, a result at a time."""
    before = "["
    for result in results:
        yield (before + result).encode("utf-8", "replace")
        before = ","
    yield b"]"


def xml_body(results: Iterable[str], multipart: MultipartWriter) -> Iterator[bytes]:
    """Yield one part for each result."""
    for result in results:
        yield multipart.head(DICOM_XML) + native_model.document(result)
    yield multipart.end()
