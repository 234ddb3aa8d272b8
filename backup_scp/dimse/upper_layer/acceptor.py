"""The usual way of an Association: into Sta6, P-DATA-TF there, and out of it by a release (PS3.8 9.2 and 9.3).

P-DATA-TF in Sta6 is read and written in place, so that memory is flat whatever the object's size.  An A-ASSOCIATE-RQ
whose answer is known, and an A-RELEASE-RQ in Sta6, are answered here too: nothing can differ there.  Every other PDU
and event goes to pynetdicom's state machine, which is put together when it is first needed.
"""

from __future__ import annotations

import logging
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple, NoReturn

from backup_scp.dimse.upper_layer import p_data, state_machine
from backup_scp.dimse.upper_layer.buffered_socket import AssociationEnded, Connection, PeerTimedOut
from backup_scp.dimse.upper_layer.p_data import COMMAND, HEADERS, LAST, P_DATA_TF, PDU_HEADER, PDV_HEADER, Piece
from backup_scp.dimse.upper_layer.state_machine import (
    AWAITING_ACCEPTANCE,
    AWAITING_ANSWER,
    AWAITING_CLOSE,
    AWAITING_RELEASE,
    AWAITING_RELEASE_ANSWER,
    AWAITING_REQUEST,
    ESTABLISHED,
    IDLE,
    StateMachine,
)
from backup_scp.dimse.upper_layer.timing import Timing

log = logging.getLogger(__name__)

_REJECTION = struct.Struct(">BxIxBBB")  # A-ASSOCIATE-RJ: and result, source, reason (PS3.8 9.3.4)
_A_ASSOCIATE_RQ, _A_ASSOCIATE_RJ = 0x01, 0x03
_INVALID_PARAMETER = bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 6))  # A-ABORT of the service provider (PS3.8 9.3.8)
A_RELEASE_RQ = bytes((5, 0, 0, 0, 0, 4))  # its header: the four bytes of its body are not tested (PS3.8 9.3.6)
A_RELEASE_RP = bytes((6, 0, 0, 0, 0, 4, 0, 0, 0, 0))  # PS3.8 9.3.7
_KNOWN_PDU_TYPES = range(0x01, 0x08)
_TLS_HANDSHAKE = b"\x16\x03"  # type and major version of its record
_HTTP = (b"GET ", b"HEAD", b"POST", b"PUT ", b"OPTI", b"PRI ")
_LONGEST_CONTROL_PDU = 1 << 18  # an A-ASSOCIATE-RQ with 128 contexts of many syntaxes is about 100 KiB
_LONGEST_P_DATA = 1 << 26  # senders that do not heed what we offer still get through, but no PDU lasts for days
_LINGER_S = 5.0
_NOBODY_TO_TELL = (AWAITING_REQUEST, AWAITING_ACCEPTANCE, AWAITING_RELEASE_ANSWER, AWAITING_CLOSE)


class Fragment(NamedTuple):
    """A part of a message: bytes of one PDV, valid as ``UpperLayer.read_fragment`` says."""

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview


class UpperLayer(Connection):
    """An Association's connection and its state.

    Attributes
    ----------
    idle_timeout_s
        How long the peer may say nothing between messages.
    peer_address
        For the log.
    association_timeout_s
        How long the peer may take to answer a request to associate or to release.
    peer_maximum_length
        Bytes that the peer takes in one P-DATA-TF, 0 for any number (PS3.8 D.1).
    is_requestor
        Whether the Association is ours.
    violation
        What the peer has sent that PS3.8 forbids, if it was aborted for that; it ends the sentence "it sent".
    """

    is_requestor = False

    def __init__(self, connection: socket.socket | None, timing: Timing, peer_address: str) -> None:
        super().__init__(connection, timing.network_s)
        self.idle_timeout_s = timing.idle_s
        self.association_timeout_s = timing.association_s
        self.peer_address = peer_address
        self.peer_maximum_length = 0
        self.machine: StateMachine | None = None
        self.violation = ""
        self._state = AWAITING_REQUEST  # until there is a machine, which then knows it
        self._pdu_left = self._pdv_left = 0  # what is still to come of the current PDU and PDV
        self._pdu_deadline = 0.0
        self._largest: int | None = None  # bytes of ours in one PDV, once it is negotiated
        self._pdv = (0, 0)  # context ID and Message Control Header of the current PDV

    # -- state -------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """Sta1 to Sta13 of PS3.8 9.2."""
        return self._state if self.machine is None else self.machine.state

    @property
    def is_established(self) -> bool:
        """Whether messages can be sent (Sta6)."""
        return self.state == ESTABLISHED

    @property
    def is_open(self) -> bool:
        """Whether the connection is still there."""
        return self.connection is not None and self.state != IDLE

    @property
    def is_over(self) -> bool:
        """Whether the association was released, rejected or aborted, and only the connection is still there."""
        return self.state == AWAITING_CLOSE

    def _hand_over(self, pdu: bytes) -> None:
        """Let the state machine act on a PDU."""
        if not self._taken_over().take(pdu):
            self.refuse(f"a PDU of type 0x{pdu[0]:02X} that cannot be decoded")

    def _taken_over(self) -> StateMachine:
        """Give what deals with everything unusual."""
        if self.machine is None:
            self.machine = state_machine.take_over(self, self._state)
        return self.machine

    # -- establishing ------------------------------------------------------------------------------------------------

    def read_request(self, timeout_s: float) -> bytes | None:
        """Read an A-ASSOCIATE-RQ (PS3.8 9.3.2); what else comes the state machine answers, and then there is None."""
        try:
            pdu = self._read_pdu(time.monotonic() + timeout_s)
        except AssociationEnded:
            return None
        if pdu is not None and pdu[0] == _A_ASSOCIATE_RQ:
            self._state = AWAITING_ANSWER  # PS3.8 AE-6
            return pdu
        if pdu is not None:
            self._hand_over(pdu)
        return None

    def abort_request(self, what: str) -> None:
        """Answer an A-ASSOCIATE-RQ that is none: A-P-ABORT, invalid PDU parameter value (PS3.8 AA-8, 9.3.8)."""
        self._note_violation(what)
        self.put_blindly(_INVALID_PARAMETER)
        self._state = AWAITING_CLOSE

    def accept(self, answer: bytes, peer_maximum_length: int) -> None:
        """Answer an A-ASSOCIATE-RQ with this A-ASSOCIATE-AC (PS3.8 AE-6, AE-7)."""
        self.peer_maximum_length = peer_maximum_length
        self.put_blindly(answer)
        self._state = ESTABLISHED

    def part(self, result: int, source: int, reason: int) -> bytes:
        """Let go of a connection without a word; give the A-ASSOCIATE-RJ for whoever goes on with it (PS3.8 9.3.4)."""
        self.connection = None
        self.close()
        return _REJECTION.pack(_A_ASSOCIATE_RJ, 4, result, source, reason)

    # -- ending ------------------------------------------------------------------------------------------------------

    def finish(self) -> str:
        """End what reading has found to be ending, and say how."""
        how = "lost"
        if self.machine is not None:
            how = self.machine.answer_release()
        elif self._state == AWAITING_RELEASE:
            self.put_blindly(A_RELEASE_RP)  # PS3.8 AR-4
            self._state = AWAITING_CLOSE
            how = "released"
        self.linger(_LINGER_S)
        return how

    def release(self) -> None:
        """Release an Association of ours; if the peer does not answer, abort it."""
        self.watch = None
        if self.is_established:
            self._taken_over().assoc.acse.negotiate_release()
        self.linger(_LINGER_S)

    def abort(self, *, block: bool = True) -> None:
        """Abort: the peer is told, and the connection closed; ``block`` lets the peer close first, for a moment."""
        self.watch = None
        if self.is_open and not self.is_over:
            self._taken_over().assoc.acse.send_abort(0x00)
        self.linger(_LINGER_S if block else 0.0)

    def hang_up(self) -> None:
        """Let the peer close first, for a moment, then close."""
        self.linger(_LINGER_S)

    def linger(self, timeout_s: float) -> None:
        """Wait for the peer to close after a release, reject or abort, then close (Sta13, PS3.8 9.1.5).

        Closing at once could destroy our last PDU before the peer has read it.
        """
        deadline = time.monotonic() + timeout_s
        try:
            while self.is_over and time.monotonic() < deadline:
                self._start = self._end = 0  # PS3.8 AA-6: ignore what still comes
                self._receive(deadline)
        except AssociationEnded:
            pass
        self.close()

    def close(self) -> None:
        """Close the connection whatever state it is in; nothing is left to be done."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        self._give_back()
        self._state = IDLE
        if self.machine is not None:
            self.machine.come_to_rest()

    def _peer_is_gone(self) -> None:
        """Act on the end of the connection (Evt17): close it, and let the state machine tell whom it concerns."""
        if self.machine is None and self._state in _NOBODY_TO_TELL:
            self.close()
        else:
            self._taken_over().happen(state_machine.CONNECTION_CLOSED)
            self.close()

    # -- reading ---------------------------------------------------------------------------------------------------

    def read_fragment(self, *, between_messages: bool = False) -> Fragment:
        """Read the next part of a message.

        Long PDVs come in several parts.  The bytes are only valid until the next read; those of a Data Set until the
        next but one, so that there is time to digest them.

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
        if not self._pdu_left and self._end - self._start >= HEADERS.size and not self._pdv[1] & (COMMAND | LAST):
            data = self._with_what_follows(self._start - len(data))
        context_id, control = self._pdv
        self._is_lent = not control & COMMAND
        return Fragment(context_id, bool(control & COMMAND), bool(control & LAST) and not self._pdv_left, data)

    def _with_what_follows(self, begin: int) -> memoryview:
        """Move up the Data Set's further PDVs that were received already, over the headers between them.

        Most modalities send 16 KiB a PDU: taken one by one, each would cost a write and a turn of the digest.  What is
        not plainly the same Data Set going on, one PDV to a PDU, is left for the next read, which judges it.
        """
        buffer, (context_id, control) = self._buffer, self._pdv
        end = self._start
        while not (self._pdu_left or control & LAST) and self._end - self._start >= HEADERS.size:
            kind, pdu_length, length, its_context_id, its_control = HEADERS.unpack_from(buffer, self._start)
            if (kind, its_context_id, pdu_length) != (P_DATA_TF, context_id, length + 4) or its_control & COMMAND:
                break
            if not 2 <= length <= _LONGEST_P_DATA - 4:
                break
            control = its_control
            start = self._start + HEADERS.size
            size = min(length - 2, self._end - start)
            buffer[end : end + size] = buffer[start : start + size]
            end += size
            self._start = start + size
            self._pdv_left = self._pdu_left = length - 2 - size
        self._pdv = (context_id, control)
        if self._pdu_left:
            self._pdu_deadline = self._deadline(self._pdu_left)
        return buffer[begin:end]

    def has_input(self, wait_s: float = 0.0) -> bool:
        """Whether something from the peer, or its end, waits to be read; wait for it at most so long."""
        return not self.is_open or super().has_input(wait_s)

    def has_pdu(self) -> bool:
        """Whether the next PDU or the end, or the rest of this PDU, is read without a wait for the peer.

        Of a PDU that the buffer does not hold the beginning is enough.
        """
        while self.is_open and self._end - self._start < self._due() <= len(self._buffer):
            received = self._receive_now()
            if not received:
                return received == 0
        return True

    def _due(self) -> int:
        """Count the bytes of the rest of this PDU, or of the next one as far as it is known."""
        if self._pdu_left or self._end - self._start < PDU_HEADER.size:
            return self._pdu_left or PDU_HEADER.size
        _, length = PDU_HEADER.unpack_from(self._buffer, self._start)
        return PDU_HEADER.size + int(length)

    def _next_p_data(self, timeout_s: float) -> None:
        """Go to the body of the next P-DATA-TF; other PDUs go to the state machine."""
        while self._pdu_left == 0:
            self.read_control_pdu(time.monotonic() + timeout_s)
            if not self.is_established:
                raise AssociationEnded

    def _next_pdv(self) -> None:
        """Read the header of the next PDV; lengths that lie end the association (PS3.8 9.3.5.1)."""
        if self._pdu_left < PDV_HEADER.size:
            self.reject_pdu("the last PDV of a PDU has no room for its header")
        self._require(PDV_HEADER.size, self._pdu_deadline)
        length, context_id, control = PDV_HEADER.unpack(self._take(PDV_HEADER.size))
        self._pdu_left -= PDV_HEADER.size
        self._pdv_left = length - 2
        self._pdv = (context_id, control)
        if length < 2 or self._pdv_left > self._pdu_left:
            self.reject_pdu(f"a PDV of {length} bytes, where {self._pdu_left} are left in its PDU")

    def read_control_pdu(self, deadline: float) -> None:
        """Read one PDU and act on it; of a P-DATA-TF in Sta6 only its header."""
        try:
            pdu = self._read_pdu(deadline)
        except PeerTimedOut:
            raise
        except AssociationEnded:
            return
        if pdu is None:
            return
        if self.machine is None and self._state == ESTABLISHED and len(pdu) == 10 and pdu.startswith(A_RELEASE_RQ):
            self._state = AWAITING_RELEASE  # PS3.8 AR-2
        else:
            self._hand_over(pdu)

    def _read_pdu(self, deadline: float) -> bytes | None:
        """Read one PDU; None when it is a P-DATA-TF in Sta6, whose body is read on, or none at all."""
        self._require(PDU_HEADER.size, deadline)
        header = bytes(self._take(PDU_HEADER.size))
        pdu_type, length = PDU_HEADER.unpack(header)
        if pdu_type == P_DATA_TF and self.is_established:
            if not PDV_HEADER.size <= length <= _LONGEST_P_DATA:  # one or more PDVs, PS3.8 9.3.5
                self.refuse(f"a P-DATA-TF of {length} bytes")
                return None
            self._pdu_left = length
            self._pdu_deadline = self._deadline(length)
            return None
        if pdu_type not in _KNOWN_PDU_TYPES or length > _LONGEST_CONTROL_PDU:
            self.refuse(_named(header))
            return None
        return header + self._read_exactly(length, deadline)

    def reject_pdu(self, what: str) -> NoReturn:
        """Answer an invalid PDU (A-P-ABORT) and stop reading; ``what`` ends a sentence in the log."""
        self._pdu_left = self._pdv_left = 0
        self.refuse(what)
        raise AssociationEnded

    def refuse(self, what: str) -> None:
        """Take a PDU for invalid (Evt19, PS3.8 9.2.2); after the end of an association nothing is worth a line."""
        if not self.is_over:
            self._note_violation(what)
        self._taken_over().happen(state_machine.INVALID_PDU)

    def _note_violation(self, what: str) -> None:
        self.violation = self.violation or what
        log.warning("Association with %s aborted: it sent %s", self.peer_address, what)

    # -- writing --------------------------------------------------------------------------------------------------

    def send_message(self, context_id: int, command: bytes, data: bytes | None = None) -> None:
        """Send a Command Set, and a Data Set that fits in memory, in as few writes as there can be."""
        self._write(p_data.framed(context_id, command, data, self._largest_fragment()))

    def framed(self, context_id: int, command: bytes, data: bytes | None = None) -> bytes:
        """Make the PDUs of one message, to be sent with others by ``send_framed``."""
        return b"".join(p_data.framed(context_id, command, data, self._largest_fragment()))

    def send_framed(self, messages: bytearray) -> None:
        """Send whole messages in one write."""
        self._write([messages])

    def send_data_set(self, context_id: int, command: bytes, parts: Iterable[Piece]) -> None:
        """Send a Command Set and a Data Set that comes in parts; memory is flat."""
        for pieces in p_data.writes(context_id, command, parts, self._largest_fragment()):
            self._write(pieces)

    def _largest_fragment(self) -> int:
        if self._largest is None:
            self._largest = p_data.largest_fragment(self.peer_maximum_length)
        return self._largest

    def _write(self, pieces: Sequence[Piece]) -> None:
        """Write to the socket.

        Raises
        ------
        AssociationEnded
            It is no longer established, or the peer takes nothing more.
        """
        if not self.is_established:
            raise AssociationEnded
        try:
            self._put(pieces)
        except OSError:
            self._peer_is_gone()
            raise AssociationEnded from None


def _named(header: bytes) -> str:
    """Name what is no PDU, by its first bytes."""
    if header.startswith(_TLS_HANDSHAKE):
        return "TLS to a port without it"
    if header.startswith(_HTTP):
        return "HTTP, and this port speaks DICOM"
    pdu_type, length = PDU_HEADER.unpack(header)
    return f"a PDU of type 0x{pdu_type:02X} with {length} bytes"
