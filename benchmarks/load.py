"""Senders and requesters that cost less than the nodes they load, for C-STORE, C-FIND, C-MOVE and C-GET.

Each association is a process of its own, so that one sender does not wait for another.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from benchmarks import sink
from benchmarks.dimse import (
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RQ,
    A_RELEASE_RP,
    A_RELEASE_RQ,
    AFFECTED_SOP_CLASS,
    AFFECTED_SOP_INSTANCE,
    COMMAND_FIELD,
    COMPLETED,
    DATA_SET_TYPE,
    MESSAGE_ID,
    MOVE_DESTINATION,
    NO_DATA_SET,
    OFFERED_PDU,
    PRIORITY,
    STATUS,
    Connection,
    command_pdu,
    data_pdus,
    element,
    item,
    number,
    pdu,
)
from benchmarks.images import Instance

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
VERIFICATION = "1.2.840.10008.1.1"
FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{model}" for model in (1, 2, 3))
C_STORE_RQ, C_GET_RQ, C_FIND_RQ, C_MOVE_RQ, C_ECHO_RQ = 0x0001, 0x0010, 0x0020, 0x0021, 0x0030
PENDING = 0xFF00
_STATUS = struct.pack("<HHI", 0, STATUS, 2)

Context = tuple[str, str]
Elements = dict[int, int | str | bytes]


@dataclass(frozen=True)
class Address:
    """Where a node is reached, and with which certificates."""

    port: int
    ae_title: str
    host: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True)
class Sent:
    """What a load was: wall-clock seconds from the first byte to the last answer, and the senders' CPU."""

    instances: int
    seconds: float
    refused: int
    cpu_s: float

    @property
    def rate(self) -> float:
        """Return instances a second."""
        return self.instances / self.seconds


class Association:
    """One association as requestor; ``is_receiver`` asks for the SCP role too (C-GET)."""

    def __init__(
        self, called: Address, contexts: Sequence[Context], *, longest_pdu: int = 0, is_receiver: bool = False
    ) -> None:
        connected = socket.create_connection((called.host, called.port))
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if called.tls is not None:
            connected = called.tls.wrap_socket(connected)
        self._connection = Connection(connected)
        self._connection.write([_request(called.ae_title, contexts, is_receiver=is_receiver)])
        kind, body = self._connection.pdu()
        if kind != A_ASSOCIATE_AC:
            raise ConnectionError(f"no association: PDU type {kind}, {body[1:4]!r}")
        self._ids: dict[str, int] = {}
        self._longest_pdu = min(longest_pdu or 1 << 20, self._accepted(body, contexts) or 1 << 20)
        self._message_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._connection.socket:
            self._connection.write([pdu(A_RELEASE_RQ, bytes(4))])
            while self._connection.pdu()[0] != A_RELEASE_RP:
                pass

    def echo(self) -> int:
        """C-ECHO; give the Status."""
        self._send(VERIFICATION, C_ECHO_RQ)
        return self._connection.message().status

    def store(self, instance: Instance) -> int:
        """C-STORE; give the Status."""
        more: Elements = {PRIORITY: 0, AFFECTED_SOP_INSTANCE: instance.sop_instance}
        self._send(instance.sop_class, C_STORE_RQ, more, instance.parts)
        return self._connection.message().status

    def find(self, identifier: bytes) -> int:
        """C-FIND; give the number of answers.  They are counted in the stream, not looked at one by one."""
        self._send(FIND, C_FIND_RQ, {PRIORITY: 0}, [memoryview(identifier)])
        answers, kept = 0, b""
        while True:
            stream = kept + bytes(self._connection.received())
            answers += stream.count(_STATUS + b"\x00\xff") + stream.count(_STATUS + b"\x01\xff")
            if _STATUS + b"\0\0" in stream:
                return answers
            # A Status that is cut in two is counted with what follows; one that is whole is not counted again.
            kept = stream[-(len(_STATUS) + 1) :]

    def move(self, identifier: bytes) -> int:
        """C-MOVE to the sink; give the number of completed sub-operations."""
        self._send(MOVE, C_MOVE_RQ, {PRIORITY: 0, MOVE_DESTINATION: sink.AE_TITLE}, [memoryview(identifier)])
        while (answer := self._connection.message()).status == PENDING:
            pass
        if answer.status:
            raise ConnectionError(f"C-MOVE ended with 0x{answer.status:04X}")
        return number(answer.command[COMPLETED])

    def get(self, identifier: bytes) -> int:
        """C-GET; give the number of instances that came."""
        self._send(GET, C_GET_RQ, {PRIORITY: 0}, [memoryview(identifier)])
        came = 0
        while True:
            message = self._connection.message()
            if number(message.command[COMMAND_FIELD]) == C_STORE_RQ:
                came += 1
                self._connection.write([sink.success(message)])
            elif message.status not in {PENDING, 0}:
                raise ConnectionError(f"C-GET ended with 0x{message.status:04X}")
            elif not message.status:
                return came

    def _send(
        self, abstract: str, field: int, more: Elements | None = None, parts: Sequence[memoryview] | None = None
    ) -> None:
        self._message_id = self._message_id % 60_000 + 1
        context = self._ids[abstract]
        elements: Elements = {AFFECTED_SOP_CLASS: abstract, COMMAND_FIELD: field, MESSAGE_ID: self._message_id}
        elements |= {DATA_SET_TYPE: NO_DATA_SET if parts is None else 1, **(more or {})}
        pieces = [command_pdu(context, elements)]
        self._connection.write([*pieces, *data_pdus(context, parts or (), self._longest_pdu)])

    def _accepted(self, body: bytes, contexts: Sequence[Context]) -> int:
        """Note the Presentation Contexts that were accepted; give the longest PDU that the peer takes."""
        longest, at = 0, 68
        while at < len(body):
            kind, size = struct.unpack_from(">BxH", body, at)
            if kind == 0x21 and body[at + 6] == 0:
                self._ids[contexts[body[at + 4] // 2][0]] = body[at + 4]
            elif kind == 0x50 and body[at + 4] == 0x51:
                (longest,) = struct.unpack_from(">I", body, at + 8)
            at += 4 + size
        return longest


def _request(called: str, contexts: Sequence[Context], *, is_receiver: bool) -> bytes:
    body = struct.pack(">Hxx16s16s32x", 1, called.ljust(16).encode(), b"BENCHMARK".ljust(16))
    body += item(0x10, b"1.2.840.10008.3.1.1.1")
    user = item(0x51, struct.pack(">I", OFFERED_PDU)) + item(0x52, b"1.2.826.0.1.3680043.10.1337.9")
    for place, (abstract, transfer) in enumerate(contexts):
        syntaxes = item(0x30, abstract.encode()) + item(0x40, transfer.encode())
        body += item(0x20, bytes((2 * place + 1, 0, 0, 0)) + syntaxes)
        if is_receiver and abstract != GET:
            user += item(0x54, struct.pack(">H", len(abstract)) + abstract.encode() + b"\0\1")
    return pdu(A_ASSOCIATE_RQ, body + item(0x50, user))


def study_keys(study: str = "") -> bytes:
    """Encode a query at STUDY level, for all studies or to retrieve one (Implicit VR Little Endian)."""
    if study:
        return element(0x0008, 0x0052, "STUDY") + element(0x0020, 0x000D, study)
    asked = ((8, 0x20), (8, 0x30), (8, 0x50), (8, 0x61), (8, 0x90), (8, 0x1030), (0x10, 0x10), (0x10, 0x20))
    keys = dict.fromkeys((*asked, (0x10, 0x30), (0x20, 0x0D), (0x20, 0x10)), "") | {(8, 0x52): "STUDY"}
    return b"".join(element(*tag, value) for tag, value in sorted(keys.items()))


def echoes(called: Address) -> bool:
    """Tell whether the node answers C-ECHO."""
    try:
        with Association(called, [(VERIFICATION, IMPLICIT)]) as association:
            return association.echo() == 0
    except OSError:
        return False


def associate(called: Address, count: int) -> float:
    """Associate, C-ECHO and release, over and over; give how many a second."""
    began = time.perf_counter()
    for _ in range(count):
        with Association(called, [(VERIFICATION, IMPLICIT)]) as association:
            association.echo()
    return count / (time.perf_counter() - began)


def store(
    called: Address,
    instances: Sequence[Instance],
    associations: int = 1,
    *,
    longest_pdu: int = 0,
    one_each: bool = False,
    transfer_syntax: str = EXPLICIT,
) -> Sent:
    """Send the instances, shared out over so many associations at once; ``one_each``: an association per instance."""
    contexts = [(abstract, transfer_syntax) for abstract in sorted({instance.sop_class for instance in instances})]

    def send(share: Sequence[Instance]) -> int:
        refused = 0
        for batch in [[instance] for instance in share] if one_each else [share]:
            with Association(called, contexts, longest_pdu=longest_pdu) as association:
                refused += sum(association.store(instance) != 0 for instance in batch)
        return refused

    ended = _at_once(send, [instances[first::associations] for first in range(associations)])
    began, until = min(one[0] for one in ended), max(one[1] for one in ended)
    if refused := sum(one[2] for one in ended):
        print(f"    !! {called.ae_title} refused {refused} of {len(instances)}: no figure", flush=True)
    return Sent(len(instances), until - began, refused, sum(one[3] for one in ended))


def retrieve(called: Address, verb: str, sop_class: str, studies: Iterable[str]) -> tuple[int, float]:
    """Retrieve the studies one after another by C-MOVE or C-GET; give instances, and seconds."""
    contexts = [(MOVE, IMPLICIT)] if verb == "C-MOVE" else [(GET, IMPLICIT), (sop_class, EXPLICIT)]
    with Association(called, contexts, is_receiver=verb == "C-GET") as association:
        ask = association.move if verb == "C-MOVE" else association.get
        began = time.perf_counter()
        came = sum(ask(study_keys(study)) for study in studies)
        return came, time.perf_counter() - began


def find_all(called: Address) -> tuple[int, float]:
    """C-FIND of all studies; give the answers, and seconds."""
    with Association(called, [(FIND, IMPLICIT)]) as association:
        began = time.perf_counter()
        answers = association.find(study_keys())
        return answers, time.perf_counter() - began


def _at_once(
    send: Callable[[Sequence[Instance]], int], shares: Sequence[Sequence[Instance]]
) -> list[tuple[float, float, int, float]]:
    """Run one process a share; give of each when it began and ended, what was refused, and its CPU seconds."""
    fork = multiprocessing.get_context("fork")  # what is sent is in memory already
    barrier, queue = fork.Barrier(len(shares)), fork.SimpleQueue()

    def run(share: Sequence[Instance]) -> None:
        said: Any
        try:
            barrier.wait()
            began, before = time.perf_counter(), time.process_time()
            refused = send(share)
            said = (began, time.perf_counter(), refused, time.process_time() - before)
        except (OSError, KeyError) as error:
            said = f"{type(error).__name__}: {error}"
        queue.put(said)
        os._exit(0)

    processes = [fork.Process(target=run, args=(share,)) for share in shares]
    for process in processes:
        process.start()
    ended = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    if failed := [said for said in ended if isinstance(said, str)]:
        raise ConnectionError(failed[0])
    return ended
