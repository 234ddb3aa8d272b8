"""Encode Identifiers: C-FIND answers and Failed SOP Instance UID Lists (PS3.4 C.4.1.1.3, C.4.2.1.9)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from backup_scp.dicom.attributes import BY_TAG
from backup_scp.dicom.character_set import DEFAULT, CharacterSet, choose, encode
from backup_scp.dicom.query.identifier import Identifier, RequestedKey
from backup_scp.dicom.query.information_model import InformationModel
from backup_scp.dicom.value_representation import items_of
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
ElementWriter = Callable[[bytes], bytes]


class _Slot(NamedTuple):
    """One element of every answer: a constant, or the match's value for a keyword."""

    tag: int
    vr: str
    keyword: str
    constant: str
    write: ElementWriter
    item_keys: tuple[_Slot, ...] = ()

    def texts(self, match: Match) -> list[str]:
        """List the values of a match whose encoding depends on the character set."""
        text = match.get(self.keyword, "")
        if self.item_keys:
            return [text for item in items_of(text) for key in self.item_keys for text in key.texts(item)]
        return [text] if self.vr in _ENCODED_IN_CHARACTER_SET else []


class AnswerEncoder:
    """Encodes the answers to one C-FIND; computes their common parts once.

    Parameters
    ----------
    identifier
        The request: an answer has every key of it, with zero length when the value is unknown.
    model
        An answer has its unique keys, requested or not.
    transfer_syntax
        Transfer Syntax of the Presentation Context.
    ae_title
        Our AE title, for Retrieve AE Title.
    """

    def __init__(self, identifier: Identifier, model: InformationModel, transfer_syntax: str, ae_title: str) -> None:
        self._order = ">" if transfer_syntax == ExplicitVRBigEndian else "<"
        self._preferred = identifier.specific_character_set
        constants = {QUERY_RETRIEVE_LEVEL: ("CS", identifier.level.value), RETRIEVE_AE_TITLE: ("AE", ae_title)}
        requested = {key.tag: key.vr for key in identifier.keys}
        if INSTANCE_AVAILABILITY in requested:
            constants[INSTANCE_AVAILABILITY] = ("CS", "ONLINE")
        vrs = requested | {attribute.tag: attribute.vr for attribute in model.unique_keys(identifier.level)}
        vrs |= {tag: BY_TAG[tag].vr for tag in vrs.keys() & BY_TAG.keys()}
        vrs |= {tag: vr for tag, (vr, _) in constants.items()} | {SPECIFIC_CHARACTER_SET: "CS"}
        item_keys = {key.tag: _item_slots(key, transfer_syntax) for key in identifier.keys if _is_sequence(key)}
        self._slots = [
            _Slot(
                tag,
                vr,
                BY_TAG[tag].keyword if tag in BY_TAG else "",
                constants.get(tag, ("", ""))[1],
                element_writer(tag, vr, transfer_syntax),
                item_keys.get(tag, ()),
            )
            for tag, vr in sorted(vrs.items())
        ]

    def encode(self, match: Match) -> bytes:
        """Encode one answer, with the Specific Character Set that it needs."""
        try:
            return self._encode(self._slots, match, DEFAULT)
        except UnicodeEncodeError:  # not plain ASCII: some text needs a character set
            texts = (text for slot in self._slots for text in slot.texts(match))
            return self._encode(self._slots, match, choose(texts, self._preferred))

    def _encode(self, slots: Iterable[_Slot], match: Match, character_set: CharacterSet) -> bytes:
        out = []
        for tag, vr, keyword, constant, write, item_keys in slots:
            text = match.get(keyword, "") or constant
            if tag == SPECIFIC_CHARACTER_SET:
                if not character_set.value:
                    continue
                text = character_set.value
            if item_keys:
                items = (self._encode(item_keys, item, character_set) for item in items_of(text))
                out.append(write(b"".join(self._item(item) for item in items)))
            elif vr in _BINARY:
                out.append(write(self._numbers(vr, text)))
            elif vr not in _ENCODED_IN_CHARACTER_SET:  # ASCII, by the standard; a sender may have written an umlaut
                out.append(write(text.encode("ascii", "replace")))
            elif not character_set.value:
                out.append(write(text.encode("ascii")))
            else:
                out.append(write(encode(text, character_set)[0]))
        return b"".join(out)

    def _item(self, elements: bytes) -> bytes:
        return struct.pack(f"{self._order}HHI", 0xFFFE, 0xE000, len(elements)) + elements

    def _numbers(self, vr: str, text: str) -> bytes:
        numbers = [int(part) for part in text.split("\\") if part]
        return struct.pack(f"{self._order}{len(numbers)}{_BINARY[vr]}", *numbers)


def _is_sequence(key: RequestedKey) -> bool:
    return key.tag in BY_TAG and bool(BY_TAG[key.tag].items)


def _item_slots(sequence: RequestedKey, transfer_syntax: str) -> tuple[_Slot, ...]:
    """Return the requested keys of an item; all supported ones when none is requested (PS3.4 C.2.2.2.6)."""
    known = {key.tag: key for key in BY_TAG[sequence.tag].items}
    vrs = {key.tag: key.vr for key in sequence.items} or dict.fromkeys(known, "")
    vrs |= {tag: known[tag].vr for tag in vrs.keys() & known.keys()}
    return tuple(
        _Slot(tag, vr, known[tag].keyword if tag in known else "", "", element_writer(tag, vr, transfer_syntax))
        for tag, vr in sorted(vrs.items())
    )


def encode_failed_list(uids: Sequence[str], transfer_syntax: str) -> bytes:
    """Encode the Identifier of a retrieve that did not send everything.

    In Explicit VR a UI holds at most 65534 bytes; a longer list is written as UN (PS3.5 6.2.2).
    """
    value = "\\".join(uids).encode("latin-1", "replace")
    value += b"\0" * (len(value) % 2)
    vr = "UI" if len(value) <= _LONGEST_SHORT_VALUE else "UN"
    return encode_elements([(FAILED_SOP_INSTANCE_UID_LIST, vr, value)], transfer_syntax)


_LONGEST_SHORT_VALUE = 0xFFFE


def encode_elements(elements: Iterable[Element], transfer_syntax: str) -> bytes:
    """Encode a Data Set of short values in a native Transfer Syntax (PS3.5 7.1)."""
    return b"".join(element_writer(tag, vr, transfer_syntax)(value) for tag, vr, value in sorted(elements))


@lru_cache(maxsize=1024)
def element_writer(tag: int, vr: str, transfer_syntax: str) -> ElementWriter:
    """Return a function that encodes the values of one element in a native Transfer Syntax (PS3.5 7.1.2, 7.1.3)."""
    order = ">" if transfer_syntax == ExplicitVRBigEndian else "<"
    head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    length = struct.Struct(f"{order}I")
    if transfer_syntax != ImplicitVRLittleEndian:
        head += vr.encode() + (b"\0\0" if vr in _LONG_VRS else b"")
        length = length if vr in _LONG_VRS else struct.Struct(f"{order}H")
    pack, padding = length.pack, b"\0" if vr == "UI" else b" "

    def write(value: bytes) -> bytes:
        padded = value + padding if len(value) % 2 else value
        return head + pack(len(padded)) + padded

    return write
