"""C-FIND without a DICOM library, for thousands of queries: Identifiers and answers as bytes."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from typing import Self

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from tests.dimse import wire
from tests.system.node import Node

PENDING = (0xFF00, 0xFF01)
LEVEL = 0x00080052


class Finder:
    """An association for C-FIND in Implicit VR Little Endian; `negotiated` are the bytes of Extended Negotiation."""

    def __init__(self, node: Node, sop_class: str, negotiated: bytes = b"") -> None:
        self.sop_class = sop_class
        item = wire.item(0x56, struct.pack(">H", len(sop_class)) + sop_class.encode() + negotiated)
        contexts = ((sop_class, (wire.IMPLICIT,)),)
        self.peer = wire.Peer.associated(node.port, contexts, items=item if negotiated else b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self.peer:
            self.peer.release()

    def find(self, level: str, keys: Mapping[int, bytes]) -> tuple[set[int], list[Dataset]]:
        """Ask; return the pending Statuses and the answers."""
        statuses, answers = self.ask(level, keys)
        return statuses, [
            read_dataset(io.BytesIO(each), is_implicit_VR=True, is_little_endian=True) for each in answers
        ]

    def ask(self, level: str, keys: Mapping[int, bytes]) -> tuple[set[int], list[bytes]]:
        """Do the same, and return each answer undecoded."""
        request: wire.Elements = {0x0002: self.sop_class, 0x0100: wire.C_FIND_RQ, 0x0110: 1, 0x0700: 0, 0x0800: 1}
        self.peer.send(
            wire.p_data(wire.pdv(1, wire.COMMAND | wire.LAST, wire.command(request))),
            *wire.fragments(1, wire.DATA, data_set({LEVEL: level.encode(), **keys}), 65_536),
        )
        statuses, answers = set(), []
        while (message := self.peer.message()).status in PENDING:
            statuses.add(message.status)
            answers.append(message.data_set)
        assert message.status == 0, (level, keys, message)
        return statuses, answers


def tag_of(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return tag


def data_set(values: Mapping[int, bytes]) -> bytes:
    """Encode elements in Implicit VR Little Endian."""
    padded = ((tag, value + b" " * (len(value) % 2)) for tag, value in sorted(values.items()))
    return b"".join(struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value for tag, value in padded)


def elements(encoded: bytes) -> dict[int, bytes]:
    """Read the elements of an answer without sequences."""
    found, position = {}, 0
    while position < len(encoded):
        group, element, length = struct.unpack_from("<HHI", encoded, position)
        found[group << 16 | element] = encoded[position + 8 : position + 8 + length]
        position += 8 + length
    return found


def text(answer: Dataset, tag: int) -> str:
    """Return one value of an answer."""
    return str(answer[tag].value or "")
