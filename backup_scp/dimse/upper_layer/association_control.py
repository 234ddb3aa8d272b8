"""Begin and end an Association: read its PDUs, each an event of the state machine (PS3.8 9.2, 9.3).

``data_transfer`` handles P-DATA-TF in Sta6.
"""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import struct
import time

from backup_scp.dimse.upper_layer.buffered_socket import AssociationEnded, BufferedSocket, PeerTimedOut
from backup_scp.dimse.upper_layer.p_data import P_DATA_TF, PDU_HEADER, PDV_HEADER
from backup_scp.dimse.upper_layer.proxy_protocol import SIGNATURE
from backup_scp.dimse.upper_layer.state_machine import (
    INVALID_PARAMETER_VALUE,
    SERVICE_PROVIDER,
    UNRECOGNIZED_PDU,
    StateMachine,
)
from backup_scp.dimse.upper_layer.state_table import (
    ABORT_REQUEST,
    ARTIM_EXPIRED,
    ASSOCIATE_REQUEST,
    AWAITING_CLOSE,
    AWAITING_LOCAL_RELEASE,
    AWAITING_LOCAL_RESPONSE,
    COLLIDED_AWAITING_LOCAL_RELEASE,
    CONNECTION_ACCEPTED,
    CONNECTION_CLOSED,
    ESTABLISHED,
    IDLE,
    INVALID_PDU,
    PDU_EVENTS,
    RELEASE_REQUEST,
    RELEASE_RESPONSE,
)
from backup_scp.dimse.upper_layer.timing import Timing

log = logging.getLogger(__name__)

_REJECTION = struct.Struct(">BxIxBBB")  # A-ASSOCIATE-RJ: and result, source, reason (PS3.8 9.3.4)
_A_ASSOCIATE_RJ, _A_ABORT = 0x03, 0x07
_PDU_NAMES = {
    0x01: "an A-ASSOCIATE-RQ",
    0x02: "an A-ASSOCIATE-AC",
    0x03: "an A-ASSOCIATE-RJ",
    0x04: "a P-DATA-TF",
    0x05: "an A-RELEASE-RQ",
    0x06: "an A-RELEASE-RP",
}
_SHORTEST_A_ABORT = 10
_REASONS = (
    "No reason given",
    "Unrecognised PDU",
    "Unexpected PDU",
    "Reserved",
    "Unrecognised PDU parameter",
    "Unexpected PDU parameter",
    "Invalid PDU parameter value",
)
RELEASED = "released"
"""How an Association ended that its requestor has released."""

_TLS_HANDSHAKE = b"\x16\x03"  # type and major version of a TLS record
_PROXY_1 = b"PROXY "
_HTTP = (b"GET ", b"HEAD", b"POST", b"PUT ", b"OPTI", b"PRI ")
_OTHERS = (
    (b"\x0bMSH", "HL7, and this port speaks DICOM"),
    (b"SSH-", "SSH, and this port speaks DICOM"),
)
_LONGEST_CONTROL_PDU = 1 << 18  # an A-ASSOCIATE-RQ with 128 contexts of many syntaxes is about 100 KiB
LONGEST_P_DATA = 1 << 26  # longer than what we offer, for senders that ignore it; but no PDU may last for days
_LINGER_S = 5.0


class AssociationControl(BufferedSocket, StateMachine):
    """The connection and state of an Association.

    Attributes
    ----------
    association_timeout_s
        Limit for the peer's answer to an A-ASSOCIATE-RQ or A-RELEASE-RQ, in seconds.
    idle_timeout_s
        How long the peer may be silent between messages, in seconds.
    peer_address
        The peer's address, for the log.
    violation
        The violation of PS3.8 for which the peer was aborted, if any; it ends a sentence that begins with "it sent".
    """

    def __init__(self, connection: socket.socket | None, timing: Timing, peer_address: str) -> None:
        super().__init__(connection, timing.network_s)
        self.state = IDLE
        self.artim, self.artim_s = math.inf, timing.association_s
        self.association_timeout_s = timing.association_s
        self.idle_timeout_s = timing.idle_s
        self.peer_address = peer_address
        self.violation = ""
        self._aborted = ""  # how the peer aborted; empty when it did not
        self._pdu_left = 0  # bytes of the current P-DATA-TF that have not been read
        self._pdu_deadline = 0.0
        self.happen(ASSOCIATE_REQUEST if self.is_requestor else CONNECTION_ACCEPTED)
        self.artim_s = _LINGER_S

    # -- state -------------------------------------------------------------------------------------------------------

    @property
    def is_established(self) -> bool:
        """Whether messages can be sent (Sta6)."""
        return self.state == ESTABLISHED

    @property
    def is_open(self) -> bool:
        """Whether the connection is open."""
        return self.connection is not None and self.state != IDLE

    @property
    def is_over(self) -> bool:
        """Whether the Association was released, rejected or aborted, and only the connection is still open."""
        return self.state == AWAITING_CLOSE

    def _act_on(self, pdu: bytes) -> None:
        """Execute the table's action for a PDU in this state; log a PDU that comes at the wrong time."""
        if pdu[0] == _A_ABORT:
            if len(pdu) < _SHORTEST_A_ABORT:
                self.refuse("an A-ABORT that cannot be decoded")
                return
            self._aborted = _how_aborted(pdu)
        self.happen(PDU_EVENTS[pdu[0]])
        if self.state == AWAITING_CLOSE:  # AA-1, AA-8
            self._note_violation(f"{_PDU_NAMES[pdu[0]]} at the wrong time")

    # -- establishing ------------------------------------------------------------------------------------------------

    def read_request(self) -> bytes | None:
        """Read an A-ASSOCIATE-RQ (PS3.8 9.3.2); None when another PDU came, or nothing before ARTIM expired."""
        try:
            pdu = self._read_pdu(self.artim)
        except PeerTimedOut:
            self.happen(ARTIM_EXPIRED)
            return None
        except AssociationEnded:
            return None
        if pdu is not None:
            self._act_on(pdu)
        return pdu if self.state == AWAITING_LOCAL_RESPONSE else None

    def part(self, result: int, source: int, reason: int) -> bytes:
        """Give up the connection without sending; return the A-ASSOCIATE-RJ, which another thread sends (AE-8)."""
        self.connection = None
        self.close()
        return _REJECTION.pack(_A_ASSOCIATE_RJ, 4, result, source, reason)

    # -- ending ------------------------------------------------------------------------------------------------------

    def finish(self) -> str:
        """Answer the end of the Association that reading has found; return how it ended.

        Afterwards ``linger`` waits until the peer closes: do what is left to do before that, while the peer is busy.
        """
        how = self._aborted or "lost"
        if self.state == AWAITING_LOCAL_RELEASE:
            self.happen(RELEASE_RESPONSE)
            how = RELEASED
        elif self.is_over:
            how = "aborted here, the peer broke the protocol"
        return how

    def release(self) -> None:
        """Release an Association of ours; if the peer does not answer, abort it."""
        self.watch = None
        if self.is_established:
            self.happen(RELEASE_REQUEST)
            with contextlib.suppress(AssociationEnded):
                self._read_answer_to_release(time.monotonic() + self.association_timeout_s)
            if self.is_open and not self.is_over:
                self.happen(ABORT_REQUEST)
        self.linger()

    def _read_answer_to_release(self, deadline: float) -> None:
        """Read until the release is answered; ignore data that the peer sent before (PS3.8 AR-6)."""
        while self.is_open and not self.is_over and time.monotonic() < deadline:
            pdu = self._read_pdu(deadline)
            if pdu is not None:
                self._act_on(pdu)
            if self.state in COLLIDED_AWAITING_LOCAL_RELEASE:
                self.happen(RELEASE_RESPONSE)

    def abort(self, *, block: bool = True) -> None:
        """Send an A-ABORT and close the connection; with ``block`` wait a moment for the peer to close first."""
        self.watch = None
        if self.is_open and not self.is_over:
            self.happen(ABORT_REQUEST)
        if block:
            self.linger()
        else:
            self.close()

    def linger(self) -> None:
        """After a release or an abort, wait until the peer closes or the ARTIM timer expires; then close.

        Closing at once could destroy our last PDU before the peer has read it.  It ignores what the peer still sends:
        AA-6 ignores it too, and AA-7 would only repeat an A-ABORT.
        """
        try:
            while self.state == AWAITING_CLOSE and time.monotonic() < self.artim:
                self._start = self._end = 0
                self._receive(self.artim)
        except AssociationEnded:
            pass
        if self.state == AWAITING_CLOSE:
            self.happen(ARTIM_EXPIRED)
        self.close()

    def close(self) -> None:
        """Close the connection in any state, without sending."""
        self._close_transport()
        self._give_back()
        self.state = IDLE

    def _close_transport(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _peer_is_gone(self) -> None:
        self.happen(CONNECTION_CLOSED)

    # -- reading ---------------------------------------------------------------------------------------------------

    def _read_pdu(self, deadline: float) -> bytes | None:
        """Read one PDU; None for a P-DATA-TF in Sta6 (DT-2), whose body is read elsewhere, and when there is no PDU."""
        self._require(PDU_HEADER.size, deadline)
        header = bytes(self._take(PDU_HEADER.size))
        pdu_type, length = PDU_HEADER.unpack(header)
        if pdu_type == P_DATA_TF and self.state == ESTABLISHED:
            if not PDV_HEADER.size <= length <= LONGEST_P_DATA:  # it holds one or more PDVs, PS3.8 9.3.5
                self.refuse(f"a P-DATA-TF of {length} bytes")
                return None
            self._pdu_left = length
            self._pdu_deadline = self._deadline(length)
            return None
        if pdu_type not in PDU_EVENTS:
            self.refuse(_named(header), UNRECOGNIZED_PDU)
            return None
        if length > _LONGEST_CONTROL_PDU:
            self.refuse(_named(header))
            return None
        return header + self._read_exactly(length, deadline)

    def refuse(self, what: str, reason: int = INVALID_PARAMETER_VALUE) -> None:
        """Abort because of an invalid PDU (Evt19), and log it; after the end of an Association without logging."""
        if not self.is_over:
            self._note_violation(what)
        self.happen(INVALID_PDU, reason=reason)

    def _note_violation(self, what: str) -> None:
        self.violation = self.violation or what
        log.warning("Association with %s aborted: it sent %s", self.peer_address, what)


def _named(header: bytes) -> str:
    """Describe bytes that are no PDU, from their beginning."""
    if header.startswith(_TLS_HANDSHAKE):
        return "TLS to a port without it"
    if header == SIGNATURE[: len(header)] or header == _PROXY_1:
        return "a header of the PROXY protocol, and its address is not one of proxies"
    if header.startswith(_HTTP):
        return "HTTP, and this port speaks DICOM"
    if other := next((said for begin, said in _OTHERS if header.startswith(begin)), ""):
        return other
    pdu_type, length = PDU_HEADER.unpack(header)
    return f"a PDU of type 0x{pdu_type:02X} with {length} bytes"


def _how_aborted(pdu: bytes) -> str:
    """Describe who aborted and why (PS3.8 9.3.8); reserved values are no violation."""
    source, reason = pdu[8:10]
    if source != SERVICE_PROVIDER:
        return "aborted by the peer"
    said = _REASONS[reason] if reason < len(_REASONS) else "no value available"
    return f"aborted by the peer's upper layer, reason {reason} ({said})"
