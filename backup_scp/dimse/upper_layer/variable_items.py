"""Read and write the variable items of A-ASSOCIATE-RQ and A-ASSOCIATE-AC (PS3.8 9.3.2, 9.3.3)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

FIXED_BYTES = 74  # fixed fields before the items, in both PDUs
PRESENTATION_CONTEXT_RQ, PRESENTATION_CONTEXT_AC = 0x20, 0x21  # PS3.8 9.3.2.2, 9.3.3.2
ABSTRACT_SYNTAX, USER_INFORMATION, ROLE_SELECTION = 0x30, 0x50, 0x54  # PS3.8 9.3.2.2.1, 9.3.2.3, PS3.7 D.3.3.4
USER_IDENTITY, USER_IDENTITY_ANSWER = 0x58, 0x59  # PS3.7 D.3.3.7

_PDU_HEADER_BYTES = 6
_ITEM = struct.Struct(">BxH")  # type, reserved, length
_APPLICATION_CONTEXT = 0x10
_PRESENTATION_CONTEXT = {0x01: PRESENTATION_CONTEXT_RQ, 0x02: PRESENTATION_CONTEXT_AC}  # by PDU type
_SUB_ITEMS = range(0x51, 0x5A)  # PS3.8 D.1, PS3.7 D.3.3


def without_unknown_items(encoded: bytes) -> bytes:
    """Remove the items that PS3.8 and PS3.7 do not define, since they must be ignored (PS3.8 9.3.1).

    Raises
    ------
    ValueError, struct.error
        A length is not true.
    """
    return with_items(encoded, _known(encoded))


def with_items(encoded: bytes, variable: Iterable[tuple[int, bytes]]) -> bytes:
    """Return the same PDU with these variable items."""
    joined = b"".join(item(kind, body) for kind, body in variable)
    length = FIXED_BYTES - _PDU_HEADER_BYTES + len(joined)
    return encoded[:2] + length.to_bytes(4, "big") + encoded[_PDU_HEADER_BYTES:FIXED_BYTES] + joined


def item(kind: int, body: bytes) -> bytes:
    """Encode an item or a sub-item."""
    return _ITEM.pack(kind, len(body)) + body


def items(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the body of each item.

    Raises
    ------
    ValueError, struct.error
        A length is not true.
    """
    position = 0
    while position < len(encoded):
        kind, length = _ITEM.unpack_from(encoded, position)
        position += _ITEM.size + length
        if position > len(encoded):
            raise ValueError
        yield kind, encoded[position - length : position]


def _known(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    for kind, body in items(encoded[FIXED_BYTES:]):
        if kind == USER_INFORMATION:
            yield kind, b"".join(item(each, sub_item) for each, sub_item in items(body) if each in _SUB_ITEMS)
        elif kind in (_APPLICATION_CONTEXT, _PRESENTATION_CONTEXT[encoded[0]]):
            yield kind, body
