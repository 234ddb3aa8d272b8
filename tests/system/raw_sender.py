"""A Storage SCU without a DICOM library: it sends exactly the given bytes (PS3.8 9.3, PS3.7 9.3.1)."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from tests.dimse.wire import Elements, associate_rq
from tests.dimse.wire import command as encode
from tests.samples import Sample

PENDING = (0xFF00, 0xFF01)
VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"

A_ASSOCIATE_AC, P_DATA_TF, A_RELEASE_RQ, A_RELEASE_RP, A_ABORT = 2, 4, 5, 6, 7
C_STORE_RQ, C_FIND_RQ, C_ECHO_RQ, C_CANCEL_RQ, NO_DATA_SET = 0x0001, 0x0020, 0x0030, 0x0FFF, 0x0101
AFFECTED_SOP_CLASS, COMMAND_FIELD, MESSAGE_ID, PRIORITY = 0x0002, 0x0100, 0x0110, 0x0700
RESPONDED_TO, DATA_SET_TYPE, STATUS, ERROR_COMMENT, AFFECTED_SOP_INSTANCE = 0x0120, 0x0800, 0x0900, 0x0902, 0x1000


class Acceptor(Protocol):
    """Where an association goes."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def ae_title(self) -> str: ...


class AssociationRefusedError(ConnectionError):
    """A-ASSOCIATE-RJ or A-ABORT: PDU type, and its last three bytes (result, source, reason)."""

    def __init__(self, *said: object) -> None:
        super().__init__(*said)
        self.args = said  # an OSError keeps two of them


@dataclass(frozen=True)
class Answer:
    """A C-STORE-RSP."""

    status: int
    error_comment: str = ""
    elements: dict[int, bytes] = field(default_factory=dict, repr=False)


def _fragment(context: int, control: int, part: bytes | memoryview) -> bytes:
    return struct.pack(">BxIIBB", P_DATA_TF, len(part) + 6, len(part) + 2, context, control) + bytes(part)


def _parse(command: bytearray) -> dict[int, bytes]:
    elements, position = {}, 0
    while position < len(command):
        _, element, size = struct.unpack_from("<HHI", command, position)
        elements[element] = bytes(command[position + 8 : position + 8 + size])
        position += 8 + size
    return elements


class Association:
    """One association as requestor; a context is (Abstract Syntax, Transfer Syntaxes), its ID 2n + 1."""

    def __init__(
        self,
        acceptor: Acceptor,
        contexts: Sequence[tuple[str, Sequence[str]]] = ((VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,)),),
        *,
        calling: str = "RAW_SENDER",
        max_pdu: int = 16384,
        timeout_s: float = 60.0,
        tls: ssl.SSLContext | None = None,
        source: str = "",
    ) -> None:
        self.contexts = list(contexts)
        self.accepted: dict[int, str] = {}
        self._message_id = 0
        self.socket = socket.create_connection(
            (acceptor.host, acceptor.port), timeout_s, (source, 0) if source else None
        )
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                self.socket = tls.wrap_socket(self.socket)
            called = acceptor.ae_title.encode()
            self.socket.sendall(associate_rq(self.contexts, called=called, calling=calling.encode()))
            kind, body = self.pdu()
            if kind != A_ASSOCIATE_AC:
                raise AssociationRefusedError(kind, *body[1:4])
            peer_max = self._read_acceptance(body)
        except BaseException:
            self.socket.close()
            raise
        self.fragment = min(max_pdu, peer_max or max_pdu) - 6

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        self.abort() if failed else self.release()

    def echo(self) -> int:
        """C-ECHO; return the Status."""
        elements: Elements = {
            AFFECTED_SOP_CLASS: VERIFICATION,
            COMMAND_FIELD: C_ECHO_RQ,
            DATA_SET_TYPE: NO_DATA_SET,
        }
        self._send_command(self._context(VERIFICATION), elements)
        return self.answer().status

    def store(self, sample: Sample, data: Iterable[bytes] | None = None) -> Answer:
        """C-STORE the sample; `data` gives its bytes piece by piece instead, each piece of even length."""
        self.begin_store(sample)
        pieces = [sample.data_set] if data is None else data
        held = b""
        for piece in pieces:
            if held:
                self.send_data(sample, held)
            held = piece
        self.send_data(sample, held, last=True)
        return self.answer()

    def begin_store(self, sample: Sample) -> None:
        """Send the C-STORE-RQ alone; `send_data` follows, and `answer`."""
        elements: Elements = {
            AFFECTED_SOP_CLASS: sample.sop_class_uid,
            COMMAND_FIELD: C_STORE_RQ,
            PRIORITY: 0,
            DATA_SET_TYPE: 0x0001,
            AFFECTED_SOP_INSTANCE: sample.sop_instance_uid,
        }
        self._send_command(self._context(sample.sop_class_uid, sample.transfer_syntax_uid), elements)

    def send_data(self, sample: Sample, data: bytes, *, last: bool = False) -> None:
        """Send these bytes of the Data Set in as many P-DATA-TF as it takes."""
        context = self._context(sample.sop_class_uid, sample.transfer_syntax_uid)
        view = memoryview(data)
        for start in range(0, len(data) or 1, self.fragment):
            part = view[start : start + self.fragment]
            control = 2 if last and start + self.fragment >= len(data) else 0
            self._send_fragment(context, control, part)

    def find(self, abstract: str, identifier: bytes, *, cancel: bool = False) -> list[Answer]:
        """C-FIND with an encoded Identifier; `cancel` sends the C-CANCEL in the same breath. Return all answers."""
        context = self._context(abstract)
        elements: Elements = {
            AFFECTED_SOP_CLASS: abstract,
            COMMAND_FIELD: C_FIND_RQ,
            PRIORITY: 0,
            DATA_SET_TYPE: 1,
        }
        self._message_id += 1
        request = _fragment(context, 3, encode({**elements, MESSAGE_ID: self._message_id}))
        request += _fragment(context, 2, identifier)
        if cancel:
            elements = {COMMAND_FIELD: C_CANCEL_RQ, RESPONDED_TO: self._message_id, DATA_SET_TYPE: NO_DATA_SET}
            request += _fragment(context, 3, encode(elements))
        self.socket.sendall(request)
        answers = [self.answer()]
        while answers[-1].status in PENDING:
            answers.append(self.answer())
        return answers

    def answer(self) -> Answer:
        """Read the next response's Command Set; a Data Set before it is passed over."""
        command, complete = bytearray(), False
        while not complete:
            kind, body = self.pdu()
            if kind != P_DATA_TF:
                raise ConnectionError(f"PDU type {kind} in place of an answer")
            position = 0
            while position < len(body):
                size, _, control = struct.unpack_from(">IBB", body, position)
                if control & 1:
                    command += body[position + 6 : position + 4 + size]
                    complete = control & 3 == 3
                position += 4 + size
        elements = _parse(command)
        comment = elements.get(ERROR_COMMENT, b"").decode("ascii", "replace").strip(" \0")
        return Answer(struct.unpack("<H", elements[STATUS])[0], comment, elements)

    def release(self) -> None:
        """A-RELEASE, and the socket closed."""
        with self.socket, contextlib.suppress(ConnectionError):
            self.socket.sendall(struct.pack(">BxII", A_RELEASE_RQ, 4, 0))
            while self.pdu()[0] != A_RELEASE_RP:
                pass

    def abort(self) -> None:
        """A-ABORT, and the socket closed."""
        with self.socket, contextlib.suppress(OSError):
            self.socket.sendall(struct.pack(">BxII", A_ABORT, 4, 0))

    def reset(self) -> None:
        """End as a killed sender's machine does: a TCP reset and no word."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def pdu(self) -> tuple[int, bytes]:
        """Read one PDU: its type and its body."""
        kind, size = struct.unpack(">BxI", self._exactly(6))
        return kind, self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            part = self.socket.recv(size - len(received))
            if not part:
                raise ConnectionError("the peer closed the connection")
            received += part
        return bytes(received)

    def _read_acceptance(self, body: bytes) -> int:
        peer_max, position = 0, 68
        while position < len(body):
            kind, size = struct.unpack_from(">BxH", body, position)
            content = body[position + 4 : position + 4 + size]
            if kind == 0x21 and content[2] == 0:
                self.accepted[content[0]] = content[8:].decode()
            elif kind == 0x50 and content[:1] == b"\x51":
                peer_max = struct.unpack_from(">I", content, 4)[0]
            position += 4 + size
        return peer_max

    def _context(self, abstract: str, transfer: str | None = None) -> int:
        for number, (proposed, _) in enumerate(self.contexts):
            context = 2 * number + 1
            if proposed == abstract and context in self.accepted and transfer in {None, self.accepted[context]}:
                return context
        raise AssociationRefusedError(f"no accepted Presentation Context for {abstract} in {transfer}")

    def _send_command(self, context: int, elements: Elements) -> None:
        self._message_id += 1
        self._send_fragment(context, 3, encode({**elements, MESSAGE_ID: self._message_id}))

    def _send_fragment(self, context: int, control: int, part: bytes | memoryview) -> None:
        self.socket.sendall(_fragment(context, control, part))


def echo(acceptor: Acceptor, *, calling: str = "RAW_SENDER") -> bool:
    """Tell whether the acceptor answers C-ECHO with success."""
    try:
        with Association(acceptor, calling=calling) as association:
            return association.echo() == 0
    except OSError:
        return False


def contexts_of(*samples: Sample) -> list[tuple[str, tuple[str]]]:
    """Return the Presentation Contexts that these samples need."""
    needed = {(sample.sop_class_uid, sample.transfer_syntax_uid) for sample in samples}
    return [(abstract, (transfer,)) for abstract, transfer in sorted(needed)]


def send(acceptor: Acceptor, samples: Iterable[Sample], *, calling: str = "RAW_SENDER") -> list[Answer]:
    """C-STORE each sample under its own SOP Class and Transfer Syntax, up to 128 contexts an association."""
    answers: list[Answer] = []
    batch: list[Sample] = []
    contexts: dict[tuple[str, str], None] = {}
    for sample in samples:
        context = (sample.sop_class_uid, sample.transfer_syntax_uid)
        if context not in contexts and len(contexts) == 128:
            answers += _send_batch(acceptor, batch, contexts, calling)
            batch, contexts = [], {}
        contexts[context] = None
        batch.append(sample)
    return answers + (_send_batch(acceptor, batch, contexts, calling) if batch else [])


def _send_batch(
    acceptor: Acceptor, batch: list[Sample], contexts: Iterable[tuple[str, str]], calling: str
) -> list[Answer]:
    proposal = [(abstract, (transfer,)) for abstract, transfer in contexts]
    with Association(acceptor, proposal, calling=calling) as association:
        return [association.store(sample) for sample in batch]
