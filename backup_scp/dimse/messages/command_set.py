"""Encode and decode Command Sets: Implicit VR Little Endian, no sequences, group 0000 (PS3.7 6.3, Annex E)."""

from __future__ import annotations

import re
import struct
from enum import IntEnum
from functools import lru_cache

from backup_scp.dicom.character_set import DEFAULT
from backup_scp.dicom.value_representation import to_text
from backup_scp.errors import InvalidDataSet

NO_DATA_SET = 0x0101  # Command Data Set Type (0000,0800), PS3.7 E.1
_DATA_SET_FOLLOWS = 0x0001
_HEADER = struct.Struct("<HHI")  # of an element: group, element, length
_NOT_IN_LO = re.compile(r"[^ -\[\]-~]")  # LO in the default repertoire: no control characters, no backslash, PS3.5 6.2


class Field(IntEnum):
    """Command Field (0000,0100), PS3.7 E.1."""

    C_STORE_RQ = 0x0001
    C_STORE_RSP = 0x8001
    C_GET_RQ = 0x0010
    C_GET_RSP = 0x8010
    C_FIND_RQ = 0x0020
    C_FIND_RSP = 0x8020
    C_MOVE_RQ = 0x0021
    C_MOVE_RSP = 0x8021
    C_ECHO_RQ = 0x0030
    C_ECHO_RSP = 0x8030
    C_CANCEL_RQ = 0x0FFF
    N_EVENT_REPORT_RQ = 0x0100
    N_EVENT_REPORT_RSP = 0x8100
    N_ACTION_RQ = 0x0130
    N_ACTION_RSP = 0x8130


class Element(IntEnum):
    """Element numbers of group 0000 that the node reads or writes, PS3.7 E.1."""

    AFFECTED_SOP_CLASS_UID = 0x0002
    REQUESTED_SOP_CLASS_UID = 0x0003
    COMMAND_FIELD = 0x0100
    MESSAGE_ID = 0x0110
    MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
    MOVE_DESTINATION = 0x0600
    PRIORITY = 0x0700
    COMMAND_DATA_SET_TYPE = 0x0800
    STATUS = 0x0900
    OFFENDING_ELEMENT = 0x0901
    ERROR_COMMENT = 0x0902
    AFFECTED_SOP_INSTANCE_UID = 0x1000
    REQUESTED_SOP_INSTANCE_UID = 0x1001
    EVENT_TYPE_ID = 0x1002
    ACTION_TYPE_ID = 0x1008
    REMAINING = 0x1020
    COMPLETED = 0x1021
    FAILED = 0x1022
    WARNING = 0x1023
    MOVE_ORIGINATOR_AE_TITLE = 0x1030
    MOVE_ORIGINATOR_MESSAGE_ID = 0x1031


_UIDS = {
    Element.AFFECTED_SOP_CLASS_UID,
    Element.REQUESTED_SOP_CLASS_UID,
    Element.AFFECTED_SOP_INSTANCE_UID,
    Element.REQUESTED_SOP_INSTANCE_UID,
}
_ANSWERED_AS = {
    Element.REQUESTED_SOP_CLASS_UID: Element.AFFECTED_SOP_CLASS_UID,  # of the N services, PS3.7 10.3
    Element.AFFECTED_SOP_CLASS_UID: Element.AFFECTED_SOP_CLASS_UID,
    Element.REQUESTED_SOP_INSTANCE_UID: Element.AFFECTED_SOP_INSTANCE_UID,
    Element.AFFECTED_SOP_INSTANCE_UID: Element.AFFECTED_SOP_INSTANCE_UID,
}
"""The elements that a response repeats of its request, and their names there."""


class CommandSet:
    """The elements of one Command Set, as received; an absent one reads as 0 or empty."""

    __slots__ = ("elements",)

    def __init__(self, elements: dict[int, bytes]) -> None:
        self.elements = elements

    @classmethod
    def decode(cls, encoded: bytes | bytearray) -> CommandSet:
        """Read a Command Set.

        Raises
        ------
        InvalidDataSet
            An element is longer than the Command Set, or belongs to another group.
        """
        elements: dict[int, bytes] = {}
        encoded, unpack = bytes(encoded), _HEADER.unpack_from
        position, end = 0, len(encoded)
        while position < end:
            if end - position < 8:
                raise InvalidDataSet("The Command Set ends in the middle of an element")
            group, element, length = unpack(encoded, position)
            position += 8
            if group != 0 or length > end - position:
                raise InvalidDataSet("The Command Set is malformed")
            elements[element] = encoded[position : position + length]
            position += length
        return cls(elements)

    def number(self, element: Element) -> int:
        """Return the value of a US element; 0 when it is absent or malformed."""
        value = self.elements.get(element, b"")
        return int.from_bytes(value, "little") if len(value) == 2 else 0

    def text(self, element: Element) -> str:
        """Return the value of a UI, AE or LO element without padding, decoded as in a Data Set."""
        vr = "UI" if element in _UIDS else "AE"
        return to_text(vr, vr, self.elements.get(element, b""), DEFAULT)

    @property
    def field(self) -> int:
        """Command Field."""
        return self.number(Element.COMMAND_FIELD)

    @property
    def is_response(self) -> bool:
        """Whether it answers a request (PS3.7 E.1: the highest bit of the Command Field)."""
        return self.field >= 0x8000

    @property
    def message_id(self) -> int:
        """Message ID."""
        return self.number(Element.MESSAGE_ID)

    @property
    def status(self) -> int:
        """Status of a response.

        Raises
        ------
        InvalidDataSet
            There is none, or it is no US: then the result of the request is unknown (PS3.7 9.3.1.2, E.1).
        """
        value = self.elements.get(Element.STATUS)
        if value is None:
            raise InvalidDataSet("an answer without a Status")
        if len(value) != 2:
            raise InvalidDataSet(f"a Status of {len(value)} bytes, where 2 are due")
        return int.from_bytes(value, "little")

    def require_answer(self, message_id: int, sop_instance_uid: str = "") -> None:
        """Check that a response answers our request ``message_id``; otherwise its Status is ignored (PS3.7 9.1.1.1).

        Parameters
        ----------
        message_id
            Message ID of the request.
        sop_instance_uid
            The instance of the request.  A response may leave it out, but may not name another one.

        Raises
        ------
        InvalidDataSet
            The text describes the response, and ends a sentence that begins with "it sent".
        """
        answered = self.number(Element.MESSAGE_ID_BEING_RESPONDED_TO)
        if answered != message_id:
            raise InvalidDataSet(f"an answer to message {answered}, where one to message {message_id} is due")
        named = self.elements.get(Element.AFFECTED_SOP_INSTANCE_UID, b"")
        if sop_instance_uid and named and not self._is_about(sop_instance_uid, named):
            raise InvalidDataSet("an answer about another SOP Instance")
        _ = self.status

    def _is_about(self, sop_instance_uid: str, named: bytes) -> bool:
        """Tell whether the response names the instance; a peer may repeat a UID with other padding, or without text."""
        if named.rstrip(b"\0 ") == sop_instance_uid.encode("latin-1", "replace"):
            return True
        return self.text(Element.AFFECTED_SOP_INSTANCE_UID) in {"", _as_read(sop_instance_uid)}

    @property
    def has_data_set(self) -> bool:
        """Whether a Data Set follows."""
        return self.number(Element.COMMAND_DATA_SET_TYPE) != NO_DATA_SET


def _as_read(uid: str) -> str:
    """Return a UID as ``CommandSet.text`` reads it: a peer may repeat it with other padding."""
    return to_text("UI", "UI", uid.encode("latin-1", "replace"), DEFAULT)


def encode(values: dict[Element, str | int], *, data_set: bool = False) -> bytes:
    """Encode a Command Set: text for UI, AE and LO elements, numbers for US elements, in ascending order."""
    values = {**values, Element.COMMAND_DATA_SET_TYPE: _DATA_SET_FOLLOWS if data_set else NO_DATA_SET}
    body = b"".join([_encode_element(element, values[element]) for element in sorted(values)])
    return _HEADER.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body


def _encode_element(element: Element, value: str | int) -> bytes:
    if isinstance(value, int):
        return _encode_number(element, value)
    encoded = value.encode("latin-1", "replace")
    if len(encoded) % 2:
        encoded += b"\0" if element in _UIDS else b" "
    return _HEADER.pack(0, element, len(encoded)) + encoded


@lru_cache(maxsize=1024)  # a response mostly has the numbers of the one before
def _encode_number(element: Element, value: int) -> bytes:
    if element == Element.OFFENDING_ELEMENT:  # an AT
        return _HEADER.pack(0, element, 4) + struct.pack("<HH", value >> 16, value & 0xFFFF)
    return _HEADER.pack(0, element, 2) + struct.pack("<H", value)


def response(request: CommandSet, status: int, *, comment: str = "", data_set: bool = False, **counts: int) -> bytes:
    """Encode the response to ``request``.

    Parameters
    ----------
    status
        PS3.7 Annex C.
    comment
        Error Comment, cut to the 64 characters of an LO; other characters become question marks.
    data_set
        Whether an Identifier follows.
    counts
        ``remaining``, ``completed``, ``failed``, ``warning`` sub-operations.
    """
    if not (comment or data_set or counts) and request.elements.keys() <= _OF_C_STORE:
        return _plain_response(request, status)
    values: dict[Element, str | int] = {
        Element.COMMAND_FIELD: request.field | 0x8000,
        Element.MESSAGE_ID_BEING_RESPONDED_TO: request.message_id,
        Element.STATUS: status,
    }
    for asked, answered in _ANSWERED_AS.items():
        if asked in request.elements:
            values[answered] = request.elements[asked].decode("latin-1")  # as received, even when invalid
    for element in (Element.EVENT_TYPE_ID, Element.ACTION_TYPE_ID):
        if element in request.elements:
            values[element] = request.number(element)
    if comment:
        values[Element.ERROR_COMMENT] = _NOT_IN_LO.sub("?", comment)[:64]
    for name, count in counts.items():
        values[Element[name.upper()]] = min(count, 0xFFFF)
    return encode(values, data_set=data_set)


_OF_C_STORE = frozenset(
    {0, Element.AFFECTED_SOP_CLASS_UID, Element.COMMAND_FIELD, Element.MESSAGE_ID, Element.PRIORITY}
    | {Element.COMMAND_DATA_SET_TYPE, Element.AFFECTED_SOP_INSTANCE_UID}
    | {Element.MOVE_ORIGINATOR_AE_TITLE, Element.MOVE_ORIGINATOR_MESSAGE_ID}
)


def _plain_response(request: CommandSet, status: int) -> bytes:
    """Encode a response like that to a C-STORE, of parts that the ones before had, too."""
    elements = request.elements
    uid = elements.get(Element.AFFECTED_SOP_INSTANCE_UID)
    named = b"" if uid is None else _uid_element(Element.AFFECTED_SOP_INSTANCE_UID, uid)
    begin, end = _around_message_id(elements.get(Element.AFFECTED_SOP_CLASS_UID), request.field | 0x8000, status)
    message_id = _US.pack(0, Element.MESSAGE_ID_BEING_RESPONDED_TO, 2, request.message_id)
    body = begin + message_id + end + named
    return _GROUP_LENGTH + len(body).to_bytes(4, "little") + body


@lru_cache(maxsize=256)
def _around_message_id(sop_class: bytes | None, field: int, status: int) -> tuple[bytes, bytes]:
    begin = b"" if sop_class is None else _uid_element(Element.AFFECTED_SOP_CLASS_UID, sop_class)
    data_set_type = _encode_number(Element.COMMAND_DATA_SET_TYPE, NO_DATA_SET)
    return begin + _encode_number(Element.COMMAND_FIELD, field), data_set_type + _encode_number(Element.STATUS, status)


def _uid_element(element: Element, uid: bytes) -> bytes:
    """Encode a UID as received, even when it is invalid."""
    return _HEADER.pack(0, element, len(uid) + len(uid) % 2) + uid + b"\0" * (len(uid) % 2)


_GROUP_LENGTH = _HEADER.pack(0, 0, 4)
_US = struct.Struct("<HHIH")
