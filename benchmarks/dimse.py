"""PDUs and Command Sets by hand (PS3.8 9.3, PS3.7 6.3): whoever measures a node must be faster than it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

A_ASSOCIATE_RQ, A_ASSOCIATE_AC, P_DATA_TF, A_RELEASE_RQ, A_RELEASE_RP = 1, 2, 4, 5, 6
AFFECTED_SOP_CLASS, COMMAND_FIELD, MESSAGE_ID, RESPONDED_TO = 0x0002, 0x0100, 0x0110, 0x0120
MOVE_DESTINATION, PRIORITY, DATA_SET_TYPE, STATUS = 0x0600, 0x0700, 0x0800, 0x0900
AFFECTED_SOP_INSTANCE, COMPLETED = 0x1000, 0x1021
NO_DATA_SET = 0x0101
RESPONSE = 0x8000
OFFERED_PDU = 131_072

_BUFFER_BYTES = 1 << 20
_PIECES = 1000
"""Fewer than the system takes in one sendmsg (IOV_MAX)."""

Command = Mapping[int, int | str | bytes]


class Message(NamedTuple):
    """One message received: its Command Set by element number, and how long its Data Set was."""

    command: dict[int, bytes]
    context: int
    data_bytes: int

    @property
    def status(self) -> int:
        """Return the Status of a response."""
        return number(self.command[STATUS])


def item(kind: int, body: bytes) -> bytes:
    """Encode an item of an A-ASSOCIATE PDU (PS3.8 9.3.2)."""
    return struct.pack(">BxH", kind, len(body)) + body


def pdu(kind: int, body: bytes) -> bytes:
    """Encode a PDU that is not P-DATA-TF."""
    return struct.pack(">BxI", kind, len(body)) + body


def number(value: bytes) -> int:
    """Read an element of VR US."""
    return int.from_bytes(value, "little")


def element(group: int, tag: int, value: int | str | bytes) -> bytes:
    """Encode one element in Implicit VR Little Endian."""
    if isinstance(value, int):
        value = struct.pack("<H", value)
    elif isinstance(value, str):
        value = value.encode("ascii")
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", group, tag, len(value)) + value


def command_pdu(context: int, elements: Command) -> bytes:
    """Encode a Command Set in one P-DATA-TF."""
    body = b"".join(element(0, tag, value) for tag, value in sorted(elements.items()))
    body = element(0, 0, struct.pack("<I", len(body))) + body
    return _p_data(context, 3, len(body)) + body


def data_pdus(context: int, parts: Sequence[memoryview], longest_pdu: int) -> Iterator[bytes | memoryview]:
    """Give what to write one after the other for a Data Set: headers, and pieces of its parts."""
    left, room = sum(map(len, parts)), 0
    for part in parts:
        at = 0
        while at < len(part):
            if not room:
                room = min(longest_pdu - 6, left)
                left -= room
                yield _p_data(context, 0 if left else 2, room)
            piece = part[at : at + room]
            yield piece
            at += len(piece)
            room -= len(piece)


def _p_data(context: int, control: int, size: int) -> bytes:
    return struct.pack(">BxIIBB", P_DATA_TF, size + 6, size + 2, context, control)


class Connection:
    """A socket, plain or with TLS, that is read message by message."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._at = self._end = 0

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Write all of it, from where it lies where the socket can."""
        for first in range(0, len(pieces), _PIECES):
            batch = pieces[first : first + _PIECES]
            if hasattr(self.socket, "context"):  # TLS encrypts one buffer at a time
                for some in range(0, len(batch), 8):
                    self.socket.sendall(b"".join(batch[some : some + 8]))
                continue
            sent = self.socket.sendmsg(batch)
            if sent < sum(map(len, batch)):
                self.socket.sendall(memoryview(b"".join(batch))[sent:])

    def message(self) -> Message:
        """Read one message; its Data Set is thrown away."""
        encoded, size = bytearray(), 0
        command: dict[int, bytes] = {}
        while True:
            kind, left = self._header()
            if kind != P_DATA_TF:
                raise ConnectionError(f"PDU type {kind} in place of a message")
            while left:
                self._need(6)
                length, context, control = struct.unpack_from(">IBB", self._buffer, self._at)
                self._at += 6
                left -= length + 4
                if control & 1:
                    encoded += self.exactly(length - 2)
                else:
                    self._skip(length - 2)
                    size += length - 2
                if control & 2:
                    command = command or parse(encoded)
                    if not control & 1 or number(command[DATA_SET_TYPE]) == NO_DATA_SET:
                        return Message(command, context, size)

    def pdu(self) -> tuple[int, bytes]:
        """Read one PDU: its type and its body."""
        kind, size = self._header()
        return kind, self.exactly(size)

    def peek(self) -> int:
        """Wait for the next PDU and give its type."""
        self._need(1)
        return self._buffer[self._at]

    def exactly(self, size: int) -> bytes:
        """Read so many bytes."""
        self._need(size)
        self._at += size
        return bytes(self._view[self._at - size : self._at])

    def received(self) -> memoryview:
        """Give whatever comes next, without looking at it; valid until the next call."""
        if self._at == self._end:
            self._receive()
        start, self._at = self._at, self._end
        return self._view[start : self._end]

    def _header(self) -> tuple[int, int]:
        return struct.unpack(">BxI", self.exactly(6))

    def _need(self, size: int) -> None:
        if self._at + size > _BUFFER_BYTES:
            kept = self._end - self._at
            self._buffer[:kept] = self._buffer[self._at : self._end]
            self._at, self._end = 0, kept
        while self._end - self._at < size:
            self._receive()

    def _skip(self, size: int) -> None:
        while (here := self._end - self._at) < size:
            size -= here
            self._at = self._end
            self._receive()
        self._at += size

    def _receive(self) -> None:
        if self._at == self._end:
            self._at = self._end = 0
        count = self.socket.recv_into(self._view[self._end :])
        if not count:
            raise ConnectionError("the peer closed the connection")
        self._end += count


def parse(encoded: bytes | bytearray) -> dict[int, bytes]:
    """Read a Command Set: values by element number."""
    elements, at = {}, 0
    while at < len(encoded):
        _, tag, size = struct.unpack_from("<HHI", encoded, at)
        elements[tag] = bytes(encoded[at + 8 : at + 8 + size])
        at += 8 + size
    return elements
