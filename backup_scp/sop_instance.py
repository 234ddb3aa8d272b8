"""SOPInstance: identity and query attributes, from the only parse of a Data Set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from backup_scp import character_set, data_set
from backup_scp.attributes import BY_TAG, READ_FROM_DATA_SET
from backup_scp.errors import InvalidDataSet
from backup_scp.value_representation import to_text

VALUE_CHARACTERS = 1024
"""Longer values are cut, so that a row of the index stays small; the file keeps them as received."""

_SPECIFIC_CHARACTER_SET = 0x00080005
_WANTED = READ_FROM_DATA_SET | {_SPECIFIC_CHARACTER_SET}


@dataclass(frozen=True, slots=True)
class SOPInstance:
    """What the node knows of a Data Set.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid, study_instance_uid, series_instance_uid, transfer_syntax_uid
        As written, without padding (trailing NUL and blanks); empty where the Data Set has none.
    attributes
        Keyword to value for the attributes of the table in ``attributes.py`` that the Data Set has with a value:
        Unicode, several values joined by a backslash, padding removed.
    parsed
        False when the Data Set could not be read, or has nothing of the table: then everything comes from the
        Command Set.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    parsed: bool = True

    @classmethod
    def read(
        cls, stream: BinaryIO, transfer_syntax_uid: str, sop_class_uid: str = "", sop_instance_uid: str = ""
    ) -> SOPInstance:
        """Read a Data Set up to its Pixel Data; never raises because of what it holds.

        Parameters
        ----------
        stream
            At the Data Set's first byte; seekable.
        transfer_syntax_uid
            As negotiated, or of the File Meta Information.
        sop_class_uid, sop_instance_uid
            Of the Command Set: what the Data Set does not say comes from there.  Where both say something, the
            Data Set's is kept here.
        """
        try:
            elements = data_set.scan(stream, transfer_syntax_uid, _WANTED)
        except InvalidDataSet:
            elements = {}
        attributes = _attributes(elements)
        return cls(
            attributes.get("SOPClassUID", sop_class_uid),
            attributes.get("SOPInstanceUID", sop_instance_uid),
            transfer_syntax_uid,
            attributes.get("StudyInstanceUID", ""),
            attributes.get("SeriesInstanceUID", ""),
            attributes,
            parsed=bool(elements),
        )


def _attributes(elements: data_set.Elements) -> dict[str, str]:
    declared = character_set.parse(elements.pop(_SPECIFIC_CHARACTER_SET, ("CS", b""))[1])
    values = {}
    for tag, (vr, data) in elements.items():
        attribute = BY_TAG[tag]
        value = to_text(vr, attribute.vr, data, declared)[:VALUE_CHARACTERS] if data else ""
        if value:
            values[attribute.keyword] = value
    return values
