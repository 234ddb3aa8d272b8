"""PDUs made by hand, valid and invalid: a test knows exactly what it sends (PS3.8 9.3, PS3.7 6.3 and 9.3)."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Self

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

VERIFICATION = "1.2.840.10008.1.1"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA_TF, RELEASE_RQ, RELEASE_RP, ABORT = 1, 2, 3, 4, 5, 6, 7
DATA, COMMAND, LAST = 0, 1, 2
C_STORE_RQ, C_GET_RQ, C_FIND_RQ, C_MOVE_RQ, C_ECHO_RQ, C_CANCEL_RQ = 0x0001, 0x0010, 0x0020, 0x0021, 0x0030, 0x0FFF
NO_DATA_SET, DATA_SET = 0x0101, 0x0001

TIMEOUT_S = 30.0  # of a test that has failed; no test waits for it

Contexts = Sequence[tuple[str, Sequence[str]]]
Elements = dict[int, bytes | str | int]


class ClosedError(ConnectionError):
    """The other side has closed the connection."""


class Context(NamedTuple):
    """One Presentation Context as it was answered."""

    result: int
    transfer_syntax: str


def pdu(kind: int, body: bytes, *, length: int | None = None) -> bytes:
    return struct.pack(">BxI", kind, len(body) if length is None else length) + body


def pdv(context: int, control: int, data: bytes = b"", *, length: int | None = None) -> bytes:
    return struct.pack(">IBB", len(data) + 2 if length is None else length, context, control) + data


def p_data(*pdvs: bytes, length: int | None = None) -> bytes:
    return pdu(P_DATA_TF, b"".join(pdvs), length=length)


def release_rq() -> bytes:
    return pdu(RELEASE_RQ, bytes(4))


def abort() -> bytes:
    return pdu(ABORT, bytes(4))


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def role(sop_class: str, *, scu: int, scp: int) -> bytes:
    return item(0x54, struct.pack(">H", len(sop_class)) + sop_class.encode() + bytes((scu, scp)))


def context_item(context_id: int, abstract: str | None, transfers: Sequence[str]) -> bytes:
    syntaxes = item(0x30, abstract.encode()) if abstract is not None else b""
    return item(0x20, bytes((context_id, 0, 0, 0)) + syntaxes + b"".join(item(0x40, uid.encode()) for uid in transfers))


def associate_rq(
    contexts: Contexts,
    *,
    called: bytes = b"BACKUP_SCP",
    calling: bytes = b"TESTER",
    maximum_length: int | None = 131072,
    items: bytes = b"",
    version: int = 1,
    context_items: bytes | None = None,
) -> bytes:
    """Write an A-ASSOCIATE-RQ; ``items`` are more user information."""
    body = struct.pack(">Hxx16s16s32x", version, called.ljust(16), calling.ljust(16))
    body += item(0x10, APPLICATION_CONTEXT.encode())
    if context_items is None:
        context_items = b"".join(context_item(2 * n + 1, *context) for n, context in enumerate(contexts))
    maximum = b"" if maximum_length is None else item(0x51, struct.pack(">I", maximum_length))
    body += context_items + item(0x50, maximum + item(0x52, b"1.2.826.0.1.3680043.10.9999.1") + items)
    return pdu(ASSOCIATE_RQ, body)


def command(elements: Elements) -> bytes:
    """Write a Command Set; numbers are US, text is UI or AE."""
    body = b"".join(_element(element, value) for element, value in sorted(elements.items()))
    return _element(0, struct.pack("<I", len(body))) + body


def _element(element: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        value = struct.pack("<H", value)
    elif isinstance(value, str):
        value = value.encode("latin-1")
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, element, len(value)) + value


def echo_rq(message_id: int = 1) -> bytes:
    return command({0x0002: VERIFICATION, 0x0100: C_ECHO_RQ, 0x0110: message_id, 0x0800: NO_DATA_SET})


def store_rq(sop_instance: str = "1.2.3", *, sop_class: str = CT_IMAGE_STORAGE, message_id: int = 1) -> bytes:
    elements: Elements = {0x0100: C_STORE_RQ, 0x0110: message_id, 0x0700: 0, 0x0800: DATA_SET, 0x1000: sop_instance}
    return command({0x0002: sop_class, **elements})


def cancel_rq(message_id: int) -> bytes:
    return command({0x0100: C_CANCEL_RQ, 0x0120: message_id, 0x0800: NO_DATA_SET})


def encoded(dataset: Dataset, transfer_syntax: str) -> bytes:
    """Encode an Identifier with pydicom."""
    written = DicomBytesIO()
    written.is_little_endian = transfer_syntax != BIG_ENDIAN
    written.is_implicit_VR = transfer_syntax == IMPLICIT
    write_dataset(written, dataset)
    return written.getvalue()


def parse(message: bytes) -> dict[int, bytes]:
    """Read a Command Set."""
    elements, position = {}, 0
    while position < len(message):
        _, element, size = struct.unpack_from("<HHI", message, position)
        elements[element] = message[position + 8 : position + 8 + size]
        position += 8 + size
    return elements


def number(elements: dict[int, bytes], element: int) -> int:
    return int.from_bytes(elements[element], "little")


class Message(NamedTuple):
    """One DIMSE message as it was received."""

    context_id: int
    elements: dict[int, bytes]
    data_set: bytes
    fragments: int
    longest_pdu: int
    has_odd_fragments: bool = False

    @property
    def field(self) -> int:
        return number(self.elements, 0x0100)

    @property
    def status(self) -> int:
        return number(self.elements, 0x0900)

    @property
    def comment(self) -> str:
        return self.elements.get(0x0902, b"").decode("ascii").rstrip(" ")


class TLSSocket:
    """A socket with TLS whose records are at hand, to be sent whole or in parts."""

    def __init__(self, bare: socket.socket, context: ssl.SSLContext) -> None:
        self.bare = bare
        self._received, self._made = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._made)
        self._complete(self._tls.do_handshake)

    def records(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._made.read()

    def sendall(self, data: bytes) -> None:
        self.bare.sendall(self.records(data))

    def recv(self, size: int) -> bytes:
        return self._complete(lambda: self._tls.read(size)) or b""

    def close(self) -> None:
        self.bare.close()

    def _complete(self, step: Callable[[], bytes | None]) -> bytes | None:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._send_made()
                if not (received := self.bare.recv(1 << 16)):
                    return None
                self._received.write(received)
            finally:
                self._send_made()

    def _send_made(self) -> None:
        if self._made.pending:
            self.bare.sendall(self._made.read())


class Peer:
    """A socket that speaks in PDUs."""

    def __init__(self, port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, source: str = "") -> None:
        self.socket = socket.create_connection((host, port), TIMEOUT_S, (source, 0) if source else None)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = TLSSocket(self.socket, tls)  # type: ignore[assignment]
        self.contexts: dict[int, Context] = {}
        self.acceptance = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    @classmethod
    def associated(
        cls,
        port: int,
        contexts: Contexts = ((VERIFICATION, (IMPLICIT,)),),
        *,
        tls: ssl.SSLContext | None = None,
        source: str = "",
        **request: object,
    ) -> Self:
        """Open an association; the context IDs are 1, 3, 5 ..."""
        peer = cls(port, tls=tls, source=source)
        kind, body = peer.ask(associate_rq(contexts, **request))  # type: ignore[arg-type]
        assert kind == ASSOCIATE_AC, (kind, body)
        peer.accept(body)
        return peer

    def accept(self, body: bytes) -> None:
        self.acceptance = body
        for kind, content in items(body[68:]):
            if kind == 0x21:
                syntax = next((value for sub, value in items(content[4:]) if sub == 0x40), b"")
                self.contexts[content[0]] = Context(content[2], syntax.decode("latin-1"))

    def user_items(self) -> list[tuple[int, bytes]]:
        """Return the user information of the acceptance."""
        (information,) = [content for kind, content in items(self.acceptance[68:]) if kind == 0x50]
        return list(items(information))

    def send(self, *encoded: bytes) -> None:
        self.socket.sendall(b"".join(encoded))

    def ask(self, *encoded: bytes) -> tuple[int, bytes]:
        self.send(*encoded)
        return self.pdu()

    def pdu(self) -> tuple[int, bytes]:
        """Read one PDU: its type and its body."""
        kind, size = struct.unpack(">BxI", self._exactly(6))
        return kind, self._exactly(size)

    def message(self) -> Message:
        """Read one DIMSE message."""
        parts = {COMMAND: bytearray(), DATA: bytearray()}
        context, fragments, longest, odd, due = 0, 0, 0, False, COMMAND
        while True:
            kind, body = self.pdu()
            assert kind == P_DATA_TF, (kind, body)
            longest = max(longest, len(body))
            position = 0
            while position < len(body):
                size, context, control = struct.unpack_from(">IBB", body, position)
                assert control & COMMAND == due
                parts[due] += body[position + 6 : position + 4 + size]
                fragments += 1
                odd |= size % 2 == 1
                position += 4 + size
                if control & LAST:
                    elements = parse(bytes(parts[COMMAND]))
                    if due == DATA or number(elements, 0x0800) == NO_DATA_SET:
                        assert position == len(body)
                        return Message(context, elements, bytes(parts[DATA]), fragments, longest, odd)
                    due = DATA

    def echo(self, context: int = 1) -> int:
        """C-ECHO; return the Status."""
        self.send(p_data(pdv(context, COMMAND | LAST, echo_rq())))
        return self.message().status

    def release(self) -> None:
        assert self.ask(release_rq()) == (RELEASE_RP, bytes(4))
        self.socket.close()

    def reset(self) -> None:
        """End as a machine that lost its power does when it is back: a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RD)  # a thread that is reading would hold the connection open
        self.socket.close()

    def until_closed(self) -> list[tuple[int, bytes]]:
        """Read PDUs until the other side closes; it must."""
        return list(self._until_closed())

    def _until_closed(self) -> Iterator[tuple[int, bytes]]:
        while True:
            try:
                yield self.pdu()
            except ConnectionError:
                return

    def _exactly(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            part = self.socket.recv(size - len(received))
            if not part:
                raise ClosedError
            received += part
        return bytes(received)


def items(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(encoded):
        kind, size = struct.unpack_from(">BxH", encoded, position)
        yield kind, encoded[position + 4 : position + 4 + size]
        position += 4 + size


def fragments(context: int, control: int, data: bytes, size: int) -> Iterable[bytes]:
    """Cut into PDUs of one PDV with at most ``size`` bytes each."""
    for start in range(0, len(data), size):
        last = LAST if start + size >= len(data) else 0
        yield p_data(pdv(context, control | last, data[start : start + size]))
