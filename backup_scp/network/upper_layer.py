"""The upper layer: PDUs on a socket, driven by the association's own thread (PS3.8 9).

pynetdicom runs two threads per association that poll; here there is one, and it blocks on its socket.  Negotiation,
release, abort and every malformed PDU go through pynetdicom's codecs and state machine.  Only P-DATA-TF in Sta6 is
read and written here, in place, so that memory is flat whatever the object's size (docs/adr/0007).
"""

from __future__ import annotations

import contextlib
import logging
import queue
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterable
from mmap import mmap
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AssociationSocket

if TYPE_CHECKING:
    from backup_scp.network.association import Association

log = logging.getLogger(__name__)

_BUFFER_BYTES = 1 << 20
_PDU_HEADER = struct.Struct(">BxI")  # type, reserved, length (PS3.8 9.3.1)
_PDV_HEADER = struct.Struct(">IBB")  # length, Presentation Context ID, Message Control Header (PS3.8 9.3.5, E.2)
_P_DATA_TF = 0x04
_KNOWN_PDU_TYPES = range(0x01, 0x08)
_LONGEST_CONTROL_PDU = 1 << 20  # an A-ASSOCIATE-RQ with 128 contexts of many syntaxes is about 100 KiB
_LONGEST_P_DATA = 1 << 26  # senders that do not heed what we offer still get through, but no PDU lasts for days
_ESTABLISHED = "Sta6"
_IDLE = "Sta1"
_CONNECTED = "Evt2"
_INVALID_PDU, _CONNECTION_CLOSED, _TIMER_EXPIRED = "Evt19", "Evt17", "Evt18"
_RECEIVED_PDU = frozenset(("Evt3", "Evt4", "Evt6", "Evt10", "Evt12", "Evt13", "Evt16"))
_AWAITING_CLOSE = "Sta13"
_SLOWEST_BYTES_PER_S = 10_000  # what a PDU or a write may take beyond the timeout
_COMMAND, _LAST = 0x01, 0x02
Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)  # select() stops at descriptor 1023
_WATCH_S = 0.2
_SENT_PDU_BYTES = 1 << 18  # what we put into one PDU when the peer sets no limit


class AssociationEnded(Exception):  # noqa: N818 - not an error: the usual end of reading
    """The peer released or aborted, or the connection is gone; the state machine has dealt with it."""


class Interrupted(Exception):  # noqa: N818 - not an error of this association
    """What is under way here is no longer wanted by somebody else."""


class PeerTimedOut(AssociationEnded):
    """The peer said nothing for longer than it may."""


class Fragment(NamedTuple):
    """A part of a message: bytes of one PDV, valid until the next read."""

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview


class Transport(AssociationSocket):
    """A socket that is closed when it is told to."""

    def _shutdown_socket(self) -> None:
        """Close it also where the peer was first: there pynetdicom's own leaves it open."""
        if self.socket is not None:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()


class UpperLayer(DULServiceProvider):
    """A DUL service provider with no thread of its own.

    Attributes
    ----------
    network_timeout_s
        How long the peer may pause in the middle of a PDU or a message.
    idle_timeout_s
        How long the peer may say nothing between messages.
    connected
        As requestor: whether the TCP connection came about.
    watch
        Called again and again while the peer is slow to send or to take something; may raise ``Interrupted``, and is
        forgotten then.
    """

    def __init__(self, assoc: Association) -> None:
        super().__init__(assoc)
        self.network_timeout_s = 60.0
        self.idle_timeout_s = 600.0
        self.connected = False
        self.watch: Callable[[], None] | None = None
        self._watched_at = 0.0
        self._buffer = memoryview(mmap(-1, _BUFFER_BYTES))  # costs memory as it is used, not for a silent peer
        self._start = self._end = 0  # what was received and not yet read
        self._pdu_left = self._pdv_left = 0  # what is still to come of the current PDU and PDV
        self._pdu_deadline = 0.0
        self._largest: int | None = None  # bytes of ours in one PDV, once it is negotiated
        self._pdv = (0, 0)  # context ID and Message Control Header of the current PDV

    # -- what pynetdicom calls -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Be ready at once: there is no thread to wait for."""
        self.assoc._dul_ready.set()

    def stop_dul(self) -> bool:
        """Say whether the state machine has come to rest."""
        return bool(self.state_machine.current_state == _IDLE)

    def send_pdu(self, primitive: Any) -> None:
        """Carry out a primitive of the local user before returning."""
        self.to_provider_queue.put(primitive)
        self._run_state_machine()

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002
        """Return the next primitive for the local user, reading PDUs until there is one, or none can come."""
        deadline = time.monotonic() + (timeout if timeout is not None else self.network_timeout_s)
        while wait and self.to_user_queue.empty() and self.is_open and not self.is_over:
            if time.monotonic() > deadline:  # a peer that never pauses is late, too
                return None
            try:
                self._read_control_pdu(deadline)
            except PeerTimedOut:
                return None
        try:
            return self.to_user_queue.get_nowait()
        except queue.Empty:
            return None

    # -- life --------------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the connection is still there."""
        return self.connection is not None and self.state_machine.current_state != _IDLE

    @property
    def is_over(self) -> bool:
        """Whether the association was released, rejected or aborted, and only the connection is still there."""
        return bool(self.state_machine.current_state == _AWAITING_CLOSE)

    @property
    def connection(self) -> socket.socket | None:
        """The bare socket, None once it is closed."""
        return self.socket.socket if self.socket is not None else None

    def begin(self) -> None:
        """Take up the connection of an acceptor (Evt5)."""
        self._run_state_machine()

    def linger(self, timeout_s: float) -> None:
        """Wait for the peer to close after a release, reject or abort, then close (Sta13, PS3.8 9.1.5).

        Closing at once could destroy our last PDU before the peer has read it.
        """
        deadline = time.monotonic() + timeout_s
        with contextlib.suppress(AssociationEnded):
            while self.is_over and time.monotonic() < deadline:
                self._start = self._end = 0  # PS3.8 AA-6: ignore what still comes
                self._receive(deadline)
        if self.is_over:
            self._event(_TIMER_EXPIRED)
        self._close()

    # -- reading ---------------------------------------------------------------------------------------------------

    def read_fragment(self, *, between_messages: bool = False) -> Fragment:
        """Read the next part of a message.

        Long PDVs come in several parts.  The bytes are only valid until the next read.

        Raises
        ------
        AssociationEnded
            There will be no more; a partial message is void.
        """
        if self._pdv_left == 0:
            if self._pdu_left == 0:
                self._next_p_data(self.idle_timeout_s if between_messages else self.network_timeout_s)
            self._next_pdv()
        if self._pdv_left and self._start == self._end:
            self._receive(self._pdu_deadline)
        data = self._take(min(self._pdv_left, self._end - self._start))  # an empty PDV is legal, and may be the last
        self._pdv_left -= len(data)
        self._pdu_left -= len(data)
        context_id, control = self._pdv
        return Fragment(context_id, bool(control & _COMMAND), bool(control & _LAST) and not self._pdv_left, data)

    def has_input(self, wait_s: float = 0.0) -> bool:
        """Whether something from the peer, or its end, waits to be read; wait for it at most so long."""
        connection = self.connection
        if self._start != self._end or connection is None or not self.is_open:
            return True
        pending = getattr(connection, "pending", None)  # TLS: decrypted bytes that select does not see
        if pending and pending():
            return True
        with Selector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            return bool(selector.select(wait_s))

    def _next_p_data(self, timeout_s: float) -> None:
        """Go to the body of the next P-DATA-TF; other PDUs go to the state machine."""
        while self._pdu_left == 0:
            self._read_control_pdu(time.monotonic() + timeout_s)
            if self.state_machine.current_state != _ESTABLISHED:
                raise AssociationEnded

    def _next_pdv(self) -> None:
        """Read the header of the next PDV; lengths that lie end the association (PS3.8 9.3.5.1)."""
        if self._pdu_left < _PDV_HEADER.size:
            self.reject_pdu("the last PDV of a PDU has no room for its header")
        self._require(_PDV_HEADER.size, self._pdu_deadline)
        length, context_id, control = _PDV_HEADER.unpack(self._take(_PDV_HEADER.size))
        self._pdu_left -= _PDV_HEADER.size
        self._pdv_left = length - 2
        self._pdv = (context_id, control)
        if length < 2 or self._pdv_left > self._pdu_left:
            self.reject_pdu(f"a PDV of {length} bytes, where {self._pdu_left} are left in its PDU")

    def _read_control_pdu(self, deadline: float) -> None:
        """Read one PDU and hand it to the state machine; of a P-DATA-TF in Sta6 only the header."""
        try:
            self._require(_PDU_HEADER.size, deadline)
            header = bytes(self._take(_PDU_HEADER.size))
            pdu_type, length = _PDU_HEADER.unpack(header)
            if pdu_type == _P_DATA_TF and self.state_machine.current_state == _ESTABLISHED:
                if not _PDV_HEADER.size <= length <= _LONGEST_P_DATA:  # one or more PDVs, PS3.8 9.3.5
                    self._refuse(f"a P-DATA-TF of {length} bytes")
                    return
                self._pdu_left = length
                # a deadline for the whole PDU: a peer that sends a byte a minute holds no association for ever
                self._pdu_deadline = time.monotonic() + self.network_timeout_s + length / _SLOWEST_BYTES_PER_S
                return
            if pdu_type not in _KNOWN_PDU_TYPES or length > _LONGEST_CONTROL_PDU:
                self._refuse(f"a PDU of type 0x{pdu_type:02X} with {length} bytes")
                return
            body = self._read_exactly(length, deadline)
        except PeerTimedOut:
            raise
        except AssociationEnded:
            return
        self._decode(header + body)

    def _decode(self, encoded: bytes) -> None:
        try:
            pdu, event = self._decode_pdu(bytearray(encoded))
        except Exception:  # noqa: BLE001 - whatever the codec makes of hostile bytes, PS3.8 knows one answer
            self._refuse(f"a PDU of type 0x{encoded[0]:02X} that cannot be decoded")
            return
        self._recv_pdu.put(pdu)
        self._event(event)

    def reject_pdu(self, what: str) -> NoReturn:
        """Answer an invalid PDU (A-P-ABORT) and stop reading; ``what`` ends a sentence in the log."""
        self._pdu_left = self._pdv_left = 0
        self._refuse(what)
        raise AssociationEnded

    def _refuse(self, what: str) -> None:
        """Take a PDU for invalid (Evt19, PS3.8 9.2.2); after the end of an association nothing is worth a line."""
        if not self.is_over:
            peer = self.assoc.requestor if self.assoc.is_acceptor else self.assoc.acceptor
            log.warning("Association with %s aborted: it sent %s", peer.address, what)
        self._event(_INVALID_PDU)

    def _read_exactly(self, length: int, deadline: float) -> bytes:
        body = bytearray()
        while len(body) < length:
            if self._start == self._end:
                self._receive(deadline)
            body += self._take(min(length - len(body), self._end - self._start))
        return bytes(body)

    def _require(self, size: int, deadline: float) -> None:
        """Have ``size`` bytes in one piece; ``size`` is at most a header."""
        while self._end - self._start < size:
            if self._start:
                rest = self._end - self._start
                self._buffer[:rest] = bytes(self._buffer[self._start : self._end])
                self._start, self._end = 0, rest
            self._receive(deadline)

    def _take(self, size: int) -> memoryview:
        data = self._buffer[self._start : self._start + size]
        self._start += size
        return data

    def _receive(self, deadline: float) -> None:
        """Receive what there is, at least one byte, into the buffer's free end."""
        if self._start == self._end:
            self._start = self._end = 0
        connection = self.connection
        if connection is None or not self.is_open:
            self._close()
            raise AssociationEnded
        count = self._receive_from(connection, deadline)
        if not count:
            self._event(_CONNECTION_CLOSED)
            raise AssociationEnded
        self._end += count

    def _receive_from(self, connection: socket.socket, deadline: float) -> int:
        """Receive as many bytes as there are; 0 when the connection is gone."""
        while True:
            try:
                connection.settimeout(self._patience_s(deadline))
                return connection.recv_into(self._buffer[self._end :])
            except TimeoutError:
                if time.monotonic() >= deadline:
                    raise PeerTimedOut from None
                self._look_up()
            except OSError:
                return 0

    def _patience_s(self, deadline: float) -> float:
        """Say how long a call on the socket may block: to the deadline, or until it is time to look up."""
        left_s = max(deadline - time.monotonic(), 0.001)
        return min(left_s, _WATCH_S) if self.watch is not None else left_s

    def _look_up(self) -> None:
        """Let ``watch`` see to what else goes on, if it has not done so just now."""
        if self.watch is None or time.monotonic() - self._watched_at < _WATCH_S:
            return
        watch, self.watch = self.watch, None
        watch()
        self.watch, self._watched_at = watch, time.monotonic()

    # -- writing --------------------------------------------------------------------------------------------------

    def send_message(self, context_id: int, command: bytes, data: bytes | None = None) -> None:
        """Send a Command Set, and a Data Set that fits in memory, in as few writes as there can be."""
        self._write(self.framed(context_id, command, data))

    def framed(self, context_id: int, command: bytes, data: bytes | None = None) -> bytearray:
        """Make the PDUs of one message, to be sent with others by ``send_framed``."""
        largest = self._largest_fragment()
        out = bytearray()
        _frame(out, context_id, command, largest, _COMMAND, last=True)
        if data is not None:
            _frame(out, context_id, data, largest, 0, last=True)
        return out

    def send_framed(self, messages: bytearray) -> None:
        """Send whole messages in one write."""
        self._write(messages)

    def send_data_set(self, context_id: int, command: bytes, parts: Iterable[bytes]) -> None:
        """Send a Command Set and a Data Set that comes in parts; memory is flat."""
        largest = self._largest_fragment()
        out = bytearray()
        _frame(out, context_id, command, largest, _COMMAND, last=True)
        rest = b""
        for part in parts:
            if rest:
                _frame(out, context_id, rest, largest, 0, last=False)
                self._write(out)
                out = bytearray()
            rest = part
        _frame(out, context_id, rest, largest, 0, last=True)
        self._write(out)

    def _largest_fragment(self) -> int:
        """Bytes that fit into one PDV of the peer's maximum length (PS3.8 D.1; 0 is no limit)."""
        if self._largest is None:
            peer = self.assoc.acceptor if self.assoc.is_requestor else self.assoc.requestor
            maximum = peer.maximum_length or _SENT_PDU_BYTES
            self._largest = max(min(maximum, _SENT_PDU_BYTES) - _PDV_HEADER.size, 2) & ~1  # even, PS3.8 Annex E.2
        return self._largest

    def _write(self, data: bytes | bytearray) -> None:
        """Write to the socket.

        Raises
        ------
        AssociationEnded
            It is no longer established, or the peer takes nothing more.
        """
        if self.state_machine.current_state != _ESTABLISHED:
            raise AssociationEnded
        try:
            self._put(data)
        except OSError:
            self._event(_CONNECTION_CLOSED)
            raise AssociationEnded from None

    def _put(self, data: bytes | bytearray) -> None:
        connection = self.connection
        if connection is None:
            raise ConnectionError
        deadline = time.monotonic() + self.network_timeout_s + len(data) / _SLOWEST_BYTES_PER_S
        rest = memoryview(data)
        while rest:
            connection.settimeout(self._patience_s(deadline))
            try:
                rest = rest[connection.send(rest) :]
            except TimeoutError:
                if time.monotonic() >= deadline:
                    raise
            self._look_up()

    def _send(self, pdu: Any) -> None:
        """Send a PDU for the state machine, in mid-action: that the peer is gone is for the next read to see."""
        watch, self.watch = self.watch, None
        try:
            self._put(pdu.encode())
        except OSError:
            if self.connection is not None:
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
        self.watch = watch

    # -- the state machine -----------------------------------------------------------------------------------------

    def _event(self, event: str) -> None:
        self.event_queue.put(event)
        self._run_state_machine()

    def _run_state_machine(self) -> None:
        """Act on events until none is left."""
        while not self.event_queue.empty() or self._process_recv_primitive():
            event = self.event_queue.get_nowait()
            self.connected = self.connected or event == _CONNECTED
            try:
                self.state_machine.do_action(event)
            except Exception:  # noqa: BLE001 - an event that the state does not know, or a PDU that makes no primitive
                if event not in _RECEIVED_PDU:
                    self._close()
                    return
                self._recv_pdu.queue.clear()
                self._refuse("a PDU with values that PS3.8 does not allow")

    def _close(self) -> None:
        """Close the connection whatever state it is in; nothing is left to be done."""
        if self.socket is not None and self.socket.socket is not None:
            self.socket.socket.close()
            self.socket.socket = None
        self.state_machine.current_state = _IDLE
        for pending in (self.event_queue, self.to_provider_queue, self._recv_pdu):
            pending.queue.clear()


def _frame(out: bytearray, context_id: int, data: bytes, largest: int, control: int, *, last: bool) -> None:
    """Append ``data`` to ``out`` as P-DATA-TF PDUs of one PDV each (PS3.8 9.3.5)."""
    size = len(data)
    for position in range(0, size, largest) if size else (0,):
        fragment = data[position : position + largest]
        flags = control | (_LAST if last and position + largest >= size else 0)
        length = len(fragment) + 2
        out += _PDU_HEADER.pack(_P_DATA_TF, length + 4)
        out += _PDV_HEADER.pack(length, context_id, flags)
        out += fragment
