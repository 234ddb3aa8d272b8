"""Read and write P-DATA-TF in Sta6, in place, so that memory use is constant (PS3.8 9.3.5)."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple, NoReturn

from backup_scp.dimse.upper_layer import p_data
from backup_scp.dimse.upper_layer.association_control import LONGEST_P_DATA, AssociationControl
from backup_scp.dimse.upper_layer.buffered_socket import AssociationEnded
from backup_scp.dimse.upper_layer.p_data import COMMAND, HEADERS, LAST, P_DATA_TF, PDU_HEADER, PDV_HEADER, Piece
from backup_scp.dimse.upper_layer.state_table import ASSOCIATE_ACCEPT, ESTABLISHED
from backup_scp.dimse.upper_layer.timing import Timing


class MessageFragment(NamedTuple):
    """A part of a message; ``UpperLayer.read_fragment`` says how long its bytes are valid."""

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview


class UpperLayer(AssociationControl):
    """The connection, state and messages of an Association.

    Attributes
    ----------
    peer_maximum_length
        Maximum bytes of a P-DATA-TF to the peer, 0 for no limit (PS3.8 D.1).
    """

    def __init__(self, connection: socket.socket | None, timing: Timing, peer_address: str) -> None:
        super().__init__(connection, timing, peer_address)
        self.peer_maximum_length = 0
        self._pdv_left = 0  # bytes of the current PDV that have not been read
        self._pdv = (0, 0)  # context ID and Message Control Header of the current PDV
        self._largest: int | None = None  # maximum bytes in a PDV of ours, after the negotiation

    def accept(self, answer: bytes, peer_maximum_length: int) -> None:
        """Answer an A-ASSOCIATE-RQ with this A-ASSOCIATE-AC."""
        self.peer_maximum_length = peer_maximum_length
        self.happen(ASSOCIATE_ACCEPT, answer)

    # -- reading ---------------------------------------------------------------------------------------------------

    def read_fragment(self, *, between_messages: bool = False) -> MessageFragment:
        """Read the next part of a message.

        Long PDVs come in several parts.  The bytes are valid until the next read; those of a Data Set until the second
        next one, so that a thread can hash them.

        Raises
        ------
        AssociationEnded
            No more can come; drop a partial message.
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
        return MessageFragment(context_id, bool(control & COMMAND), bool(control & LAST) and not self._pdv_left, data)

    def _with_what_follows(self, begin: int) -> memoryview:
        """Join further PDVs of this Data Set that are in the buffer already, by moving them over their headers.

        Most modalities send PDUs of 16 KiB: one by one, each would cost a write and a call of the digest.  Only plain
        continuations are joined, with one PDV in a PDU; the next read handles and checks everything else.
        """
        buffer, (context_id, control) = self._buffer, self._pdv
        end = self._start
        while not (self._pdu_left or control & LAST) and self._end - self._start >= HEADERS.size:
            kind, pdu_length, length, its_context_id, its_control = HEADERS.unpack_from(buffer, self._start)
            if (kind, its_context_id, pdu_length) != (P_DATA_TF, context_id, length + 4) or its_control & COMMAND:
                break
            if not 2 <= length <= LONGEST_P_DATA - 4:
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
        """Tell whether the next PDU, the end, or the rest of this PDU can be read without waiting for the peer.

        For a PDU longer than the buffer, its beginning is enough.
        """
        while self.is_open and self._end - self._start < self._due() <= len(self._buffer):
            received = self._receive_now()
            if not received:
                return received == 0
        return True

    def _due(self) -> int:
        """Return the length of the rest of this PDU, or of the next one, as far as it is known."""
        if self._pdu_left or self._end - self._start < PDU_HEADER.size:
            return self._pdu_left or PDU_HEADER.size
        _, length = PDU_HEADER.unpack_from(self._buffer, self._start)
        return PDU_HEADER.size + int(length)

    def _next_p_data(self, timeout_s: float) -> None:
        """Go to the body of the next P-DATA-TF; handle other PDUs on the way."""
        while self._pdu_left == 0:
            pdu = self._read_pdu(time.monotonic() + timeout_s)
            if pdu is not None:
                self._act_on(pdu)
            if self.state != ESTABLISHED:
                raise AssociationEnded

    def _next_pdv(self) -> None:
        """Read the header of the next PDV; abort when its length is wrong (PS3.8 9.3.5.1)."""
        if self._pdu_left < PDV_HEADER.size:
            self.reject_pdu("the last PDV of a PDU has no room for its header")
        self._require(PDV_HEADER.size, self._pdu_deadline)
        length, context_id, control = PDV_HEADER.unpack(self._take(PDV_HEADER.size))
        self._pdu_left -= PDV_HEADER.size
        self._pdv_left = length - 2
        self._pdv = (context_id, control)
        if length < 2 or self._pdv_left > self._pdu_left:
            self.reject_pdu(f"a PDV of {length} bytes, where {self._pdu_left} are left in its PDU")

    def reject_pdu(self, what: str) -> NoReturn:
        """Abort because of an invalid PDU, and raise; ``what`` ends a sentence in the log."""
        self._pdu_left = self._pdv_left = 0
        self.refuse(what)
        raise AssociationEnded

    # -- writing --------------------------------------------------------------------------------------------------

    def send_message(self, context_id: int, command: bytes, data: bytes | None = None) -> None:
        """Send a Command Set, and a Data Set that is in memory, in as few writes as possible."""
        self._write(p_data.framed(context_id, command, data, self._largest_fragment()))

    def framed(self, context_id: int, command: bytes, data: bytes | None = None) -> bytes:
        """Return the PDUs of one message, for ``send_framed``, which sends several messages together."""
        return b"".join(p_data.framed(context_id, command, data, self._largest_fragment()))

    def send_framed(self, messages: bytearray) -> None:
        """Send whole messages in one write."""
        self._write([messages])

    def send_data_set(self, context_id: int, command: bytes, parts: Iterable[Piece]) -> None:
        """Send a Command Set and a Data Set in parts, with constant memory."""
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
            The Association is not established any more, or the peer takes nothing more.
        """
        if self.state != ESTABLISHED:
            raise AssociationEnded
        try:
            self._put(pieces)
        except OSError:
            self._peer_is_gone()
            raise AssociationEnded from None
