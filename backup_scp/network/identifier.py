"""Identifiers that the node writes: C-FIND answers and Failed SOP Instance UID Lists (PS3.4 C.4.1.1.3, C.4.2.1.9)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from backup_scp.attributes import BY_KEYWORD
from backup_scp.character_set import encode_all
from backup_scp.identifier import Identifier
from backup_scp.information_model import InformationModel
from backup_scp.ports import Match

SPECIFIC_CHARACTER_SET = 0x00080005
QUERY_RETRIEVE_LEVEL = 0x00080052
RETRIEVE_AE_TITLE = 0x00080054
INSTANCE_AVAILABILITY = 0x00080056
FAILED_SOP_INSTANCE_UID_LIST = 0x00080058

_LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})  # PS3.5 7.1.2
_ENCODED_IN_CHARACTER_SET = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})  # PS3.5 6.1.2.2
_BINARY = {"US": "H", "SS": "h"}

Element = tuple[int, str, bytes]


class AnswerEncoder:
    """Writes the answers to one C-FIND.

    Parameters
    ----------
    identifier
        The request: every key in it is answered, with zero length where nothing is known.
    model
        Its unique keys are answered, asked for or not.
    transfer_syntax
        Of the Presentation Context.
    ae_title
        Our own, for Retrieve AE Title.
    """

    def __init__(self, identifier: Identifier, model: InformationModel, transfer_syntax: str, ae_title: str) -> None:
        self._transfer_syntax = transfer_syntax
        self._character_set = identifier.specific_character_set
        self._requested = {key.tag: (key.vr, "") for key in identifier.keys}
        self._fixed = {QUERY_RETRIEVE_LEVEL: ("CS", identifier.level.value), RETRIEVE_AE_TITLE: ("AE", ae_title)}
        if INSTANCE_AVAILABILITY in self._requested:
            self._fixed[INSTANCE_AVAILABILITY] = ("CS", "ONLINE")
        always = {attribute.tag for attribute in model.unique_keys(identifier.level)}
        self._answered = self._requested.keys() | always

    def encode(self, match: Match) -> bytes:
        """Write one answer, with a Specific Character Set that is true for it."""
        known = ((BY_KEYWORD[keyword], value) for keyword, value in match.items())
        values = self._requested | {a.tag: (a.vr, value) for a, value in known if a.tag in self._answered} | self._fixed
        texts = [(tag, vr, text) for tag, (vr, text) in values.items() if vr in _ENCODED_IN_CHARACTER_SET]
        encoded, character_set = encode_all([text for _, _, text in texts], self._character_set)
        elements: list[Element] = [(tag, vr, value) for (tag, vr, _), value in zip(texts, encoded, strict=True)]
        if character_set:
            elements.append((SPECIFIC_CHARACTER_SET, "CS", character_set.encode("ascii")))
        for tag, (vr, text) in values.items():
            if vr not in _ENCODED_IN_CHARACTER_SET:
                elements.append((tag, vr, self._encode_value(vr, text)))
        return encode_elements(elements, self._transfer_syntax)

    def _encode_value(self, vr: str, text: str) -> bytes:
        if vr not in _BINARY:
            return text.encode("ascii", "replace")
        order = ">" if self._transfer_syntax == ExplicitVRBigEndian else "<"
        numbers = [int(part) for part in text.split("\\") if part]
        return struct.pack(f"{order}{len(numbers)}{_BINARY[vr]}", *numbers)


def encode_failed_list(uids: Sequence[str], transfer_syntax: str) -> bytes:
    """Write the Identifier of a retrieve that did not send everything.

    In Explicit VR a UI holds at most 65534 bytes (PS3.5 7.1.2); of a longer list the first that fit are named.
    """
    text = "\\".join(uids)
    if len(text) > _LONGEST_SHORT_VALUE and transfer_syntax != ImplicitVRLittleEndian:
        text = text[: _LONGEST_SHORT_VALUE + 1].rpartition("\\")[0]
    return encode_elements([(FAILED_SOP_INSTANCE_UID_LIST, "UI", text.encode("latin-1", "replace"))], transfer_syntax)


_LONGEST_SHORT_VALUE = 0xFFFE


def encode_elements(elements: Iterable[Element], transfer_syntax: str) -> bytes:
    """Write a Data Set of short values in a native Transfer Syntax (PS3.5 7.1)."""
    order = ">" if transfer_syntax == ExplicitVRBigEndian else "<"
    explicit = transfer_syntax != ImplicitVRLittleEndian
    out = bytearray()
    for tag, vr, value in sorted(elements):
        padded = value + (b"\0" if vr == "UI" else b" ") if len(value) % 2 else value
        out += struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
        if not explicit:
            out += struct.pack("<I", len(padded))
        elif vr in _LONG_VRS:
            out += vr.encode() + struct.pack(f"{order}HI", 0, len(padded))
        else:
            out += vr.encode() + struct.pack(f"{order}H", len(padded))
        out += padded
    return bytes(out)
