"""The variable items of A-ASSOCIATE-RQ and A-ASSOCIATE-AC (PS3.8 9.3.2, 9.3.3)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_PDU_HEADER_BYTES, _FIXED_BYTES = 6, 74  # before them, in both
_ITEM = struct.Struct(">BxH")  # type, reserved, length
_APPLICATION_CONTEXT, _USER_INFORMATION = 0x10, 0x50
_PRESENTATION_CONTEXT = {0x01: 0x20, 0x02: 0x21}  # by PDU type, PS3.8 9.3.2.2, 9.3.3.2
_SUB_ITEMS = range(0x51, 0x5A)  # PS3.8 D.1, PS3.7 D.3.3


def without_unknown_items(encoded: bytes) -> bytes:
    """Leave out the items that PS3.8 and PS3.7 do not define: they are to be ignored (PS3.8 9.3.1).

    Raises
    ------
    ValueError, struct.error
        A length is not true.
    """
    items = bytearray()
    for kind, body in _items(encoded[_FIXED_BYTES:]):
        if kind == _USER_INFORMATION:
            known = b"".join(_item(each, sub_item) for each, sub_item in _items(body) if each in _SUB_ITEMS)
            items += _item(kind, known)
        elif kind in (_APPLICATION_CONTEXT, _PRESENTATION_CONTEXT[encoded[0]]):
            items += _item(kind, body)
    length = _FIXED_BYTES - _PDU_HEADER_BYTES + len(items)
    return encoded[:2] + length.to_bytes(4, "big") + encoded[_PDU_HEADER_BYTES:_FIXED_BYTES] + items


def _item(kind: int, body: bytes) -> bytes:
    return _ITEM.pack(kind, len(body)) + body


def _items(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(encoded):
        kind, length = _ITEM.unpack_from(encoded, position)
        position += _ITEM.size + length
        if position > len(encoded):
            raise ValueError
        yield kind, encoded[position - length : position]
