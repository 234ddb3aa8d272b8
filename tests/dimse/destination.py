"""A Storage SCP that does as it is told: accepts, refuses, warns, dies."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.dimse.wire import (
    ABORT,
    ASSOCIATE_RQ,
    COMMAND,
    LAST,
    RELEASE_RP,
    RELEASE_RQ,
    TIMEOUT_S,
    ClosedError,
    Elements,
    Message,
    Peer,
    command,
    item,
    items,
    number,
    p_data,
    pdu,
    pdv,
)


class ReleasedError(ConnectionError):
    """The other side has released the association, and was answered."""


@dataclass
class Stored:
    """One C-STORE that came."""

    message: Message
    transfer_syntax: str
    association: int

    @property
    def sop_instance_uid(self) -> str:
        return self.message.elements[0x1000].rstrip(b"\0").decode()


@dataclass
class Destination:
    """Where a C-MOVE goes.

    ``accepts`` judges Abstract and Transfer Syntax, ``status`` answers a SOP Instance UID, ``dies_from`` which
    message on each resets the connection, ``dies_at`` which one alone, ``dies_on`` those that it names.
    ``before_answer`` is called before each answer, and ``meddles`` may change what it says; ``before_release`` is
    called before it answers a release, ``before_close`` before it closes the connection after an error.
    ``rejects`` is the A-ASSOCIATE-RJ to each association, or to the first ``rejected`` ones; ``reads_on`` is called
    when one is accepted.
    """

    accepts: Callable[[str, str], bool] = lambda _abstract, _transfer: True
    status: Callable[[str], int] = lambda _uid: 0
    dies_from: int | None = None
    dies_at: int | None = None
    dies_on: Callable[[Stored], bool] = lambda _stored: False
    rejects: bytes | None = None
    rejected: int | None = None
    reads_on: Callable[[], None] = lambda: None
    before_answer: Callable[[], None] = lambda: None
    before_release: Callable[[], None] = lambda: None
    before_close: Callable[[socket.socket], None] = lambda _: None
    meddles: Callable[[Elements], None] = lambda _answer: None
    maximum_length: int = 16384
    stored: list[Stored] = field(default_factory=list)
    proposed: list[list[tuple[str, list[str]]]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    called: list[str] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()
        self._listener.close()

    def _run(self) -> None:
        while not self._stop:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    self._serve(_Acceptor(connection, self.before_release))
                except ConnectionError as error:
                    self.ended.append(type(error).__name__)
                    self.before_close(connection)

    def _serve(self, peer: _Acceptor) -> None:
        kind, body = peer.pdu()
        assert kind == ASSOCIATE_RQ
        self.called.append(body[4:20].decode().strip())
        self.callers.append(body[20:36].decode().strip())
        if self.rejects is not None and (self.rejected is None or len(self.called) <= self.rejected):
            peer.send(pdu(3, self.rejects))
            peer.pdu()
        contexts = {content[0]: list(items(content[4:])) for sub, content in items(body[68:]) if sub == 0x20}
        proposal = {
            context: (subs[0][1].decode("latin-1"), [value.decode("latin-1") for _, value in subs[1:]])
            for context, subs in contexts.items()
        }
        self.proposed.append(list(proposal.values()))
        answers = b""
        for context, (abstract, transfers) in proposal.items():
            chosen = next((transfer for transfer in transfers if self.accepts(abstract, transfer)), None)
            result = bytes((context, 0, 3 if chosen is None else 0, 0))
            answers += item(0x21, result + item(0x40, (chosen or transfers[0]).encode("latin-1")))
        user = item(0x50, item(0x51, struct.pack(">I", self.maximum_length)) + item(0x52, b"1.2.3"))
        peer.send(pdu(2, body[:68] + item(0x10, b"1.2.840.10008.3.1.1.1") + answers + user))
        number_of = len(self.proposed)
        self.reads_on()
        while True:
            message = peer.message()
            self.stored.append(Stored(message, proposal[message.context_id][1][0], number_of))
            if self._dies():
                peer.reset()
                raise ClosedError
            self.before_answer()
            peer.send(p_data(pdv(message.context_id, COMMAND | LAST, self._answer(message))))

    def _dies(self) -> bool:
        came = len(self.stored)
        return self.dies_on(self.stored[-1]) or came == self.dies_at or bool(self.dies_from and came >= self.dies_from)

    def _answer(self, message: Message) -> bytes:
        uid = message.elements[0x1000].rstrip(b"\0").decode()
        status = self.status(uid)
        answer: Elements = {
            0x0002: message.elements[0x0002],
            0x0100: 0x8001,
            0x0120: number(message.elements, 0x0110),
            0x0800: 0x0101,
            0x0900: status,
            0x1000: message.elements[0x1000],
        }
        if status:
            answer[0x0902] = "because"
        self.meddles(answer)
        return command(answer)


class _Acceptor(Peer):
    def __init__(self, connection: socket.socket, before_release: Callable[[], None]) -> None:
        self.socket = connection
        self.socket.settimeout(TIMEOUT_S)
        self._before_release = before_release

    def pdu(self) -> tuple[int, bytes]:
        kind, body = super().pdu()
        if kind == RELEASE_RQ:
            self._before_release()
            self.send(pdu(RELEASE_RP, bytes(4)))
            raise ReleasedError
        if kind == ABORT:
            raise ConnectionAbortedError
        return kind, body
