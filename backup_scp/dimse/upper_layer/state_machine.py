"""pynetdicom's side of an Association: its state machine, ACSE and codecs, without its threads (PS3.8 9.2).

This is where whatever is not usual ends up: PDUs that are malformed or come at the wrong time, A-ABORT, a connection
that is lost.  The names that are used here are listed in docs/adr/0017.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import time
from typing import TYPE_CHECKING, Any

from pydicom.config import IGNORE, settings
from pydicom.uid import UID
from pynetdicom import AE, _config
from pynetdicom._globals import MODE_ACCEPTOR, MODE_REQUESTOR
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.pdu_primitives import A_RELEASE
from pynetdicom.transport import AddressInformation, AssociationSocket

from backup_scp.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from backup_scp.dimse.upper_layer.buffered_socket import PeerTimedOut

if TYPE_CHECKING:
    from backup_scp.dimse.upper_layer.acceptor import UpperLayer

# pynetdicom's own log prints identifiers and pydicom's warnings print values: both are patient data.
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
_config.LOG_HANDLER_LEVEL = "none"
settings.reading_validation_mode = IGNORE
# Identity never blocks: UIDs of any length, AE titles padded with NUL or with an umlaut; ``server`` judges the rest.
_config.VALIDATORS = {"AE": lambda _: (True, ""), "UI": lambda _: (True, "")}
_config.CODECS = ("ascii", "latin-1")

IDLE, AWAITING_REQUEST, AWAITING_ANSWER, AWAITING_ACCEPTANCE = "Sta1", "Sta2", "Sta3", "Sta5"
ESTABLISHED, AWAITING_RELEASE_ANSWER, AWAITING_RELEASE, AWAITING_CLOSE = "Sta6", "Sta7", "Sta8", "Sta13"
INVALID_PDU, CONNECTION_CLOSED, TIMER_EXPIRED = "Evt19", "Evt17", "Evt18"
_SERVICE_USER, _SERVICE_PROVIDER = 0, 2  # sources of an A-ABORT, PS3.8 9.3.8
_RECEIVED_PDU = frozenset(("Evt3", "Evt4", "Evt6", "Evt10", "Evt12", "Evt13", "Evt16"))


class Transport(AssociationSocket):
    """A socket that is closed when it is told to, and the upper layer's with it."""

    def __init__(self, assoc: ThreadlessAssociation, client_socket: socket.socket | None) -> None:
        super().__init__(assoc, client_socket=client_socket)
        self._upper_layer = assoc.dul.upper_layer

    def _shutdown_socket(self) -> None:
        """Close it also where the peer was first: there pynetdicom's own leaves it open."""
        if self.socket is not None:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()
        self._upper_layer.connection = None


class StateMachine(DULServiceProvider):
    """A DUL service provider with no thread of its own.

    Attributes
    ----------
    upper_layer
        What reads and writes for it.
    """

    def __init__(self, assoc: Association, upper_layer: UpperLayer) -> None:
        super().__init__(assoc)
        self.upper_layer = upper_layer
        self._aborted = ""  # by the peer, and how

    # -- what pynetdicom calls -----------------------------------------------------------------------------------

    def stop_dul(self) -> bool:
        """Say whether the state machine has come to rest."""
        return bool(self.state_machine.current_state == IDLE)

    def send_pdu(self, primitive: Any) -> None:
        """Carry out a primitive of the local user before returning."""
        self.to_provider_queue.put(primitive)
        self._run()

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002
        """Return the next primitive for the local user, reading PDUs until there is one, or none can come."""
        layer = self.upper_layer
        deadline = time.monotonic() + (timeout if timeout is not None else layer.network_timeout_s)
        while wait and self.to_user_queue.empty() and layer.is_open and not layer.is_over:
            if time.monotonic() > deadline:  # a peer that never pauses is late, too
                return None
            try:
                layer.read_control_pdu(deadline)
            except PeerTimedOut:
                return None
        try:
            return self.to_user_queue.get_nowait()
        except queue.Empty:
            return None

    def _send(self, pdu: Any) -> None:
        """Send a PDU, in mid-action."""
        self.upper_layer.put_blindly(pdu.encode())

    # -- what the upper layer calls ------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """Sta1 to Sta13 of PS3.8 9.2."""
        return str(self.state_machine.current_state)

    def take(self, encoded: bytes) -> bool:
        """Act on a PDU; say whether it is one."""
        try:
            pdu, event = self._decode_pdu(bytearray(encoded))
        except Exception:  # noqa: BLE001 - whatever the codec makes of hostile bytes, PS3.8 knows one answer
            return False
        if isinstance(pdu, A_ABORT_RQ):
            self._aborted = _how_aborted(pdu)
            pdu.source, pdu.reason_diagnostic = _SERVICE_USER, 0  # pynetdicom refuses what PS3.8 9.3.8 reserves
        self._recv_pdu.put(pdu)
        self.happen(event)
        return True

    def happen(self, event: str) -> None:
        """Act on an event."""
        self.event_queue.put(event)
        self._run()

    def _run(self) -> None:
        """Act on events until none is left."""
        while not self.event_queue.empty() or self._process_recv_primitive():
            event = self.event_queue.get_nowait()
            try:
                self.state_machine.do_action(event)
            except Exception:  # noqa: BLE001 - an event that the state does not know, or a PDU that makes no primitive
                if event not in _RECEIVED_PDU:
                    self.upper_layer.close()
                    return
                self._recv_pdu.queue.clear()
                self.upper_layer.refuse("a PDU with values that PS3.8 does not allow")

    def come_to_rest(self) -> None:
        """Forget everything: the connection is closed."""
        self.state_machine.current_state = IDLE
        if self.socket is not None:
            self.socket.socket = None
        for pending in (self.event_queue, self.to_provider_queue, self._recv_pdu):
            pending.queue.clear()

    def answer_release(self) -> str:
        """Answer an A-RELEASE indication (PS3.8 AR-4), and say how the Association ended."""
        primitive = self.receive_pdu()
        if isinstance(primitive, A_RELEASE) and primitive.result is None:
            self.assoc.acse.send_release(is_response=True)
            return "released"
        if self._aborted:
            return self._aborted
        return "aborted here, the peer broke the protocol" if self.upper_layer.is_over else "lost"


class ThreadlessAssociation(Association):
    """pynetdicom's Association around such a state machine."""

    dul: StateMachine

    def __init__(self, upper_layer: UpperLayer, mode: str, ae_title: str) -> None:
        ae = AE(ae_title)
        ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        super().__init__(ae, mode)
        self.dul = StateMachine(self, upper_layer)

    def abort(self, block: bool = True) -> None:  # noqa: FBT001, FBT002 - pynetdicom's signature
        """Abort: the peer is told, and the connection closed; ``block`` lets the peer close first, for a moment."""
        self.dul.upper_layer.abort(block=block)


def _how_aborted(pdu: A_ABORT_RQ) -> str:
    """Say who has aborted, and why (PS3.8 9.3.8)."""
    if pdu.source != _SERVICE_PROVIDER:
        return "aborted by the peer"
    return f"aborted by the peer's upper layer, reason {pdu.reason_diagnostic} ({pdu.reason_str})"


def take_over(upper_layer: UpperLayer, state: str) -> StateMachine:
    """Put pynetdicom's state machine together for an Association that has come to ``state`` without it."""
    mode = MODE_REQUESTOR if upper_layer.is_requestor else MODE_ACCEPTOR
    association = ThreadlessAssociation(upper_layer, mode, "BACKUP_SCP")
    association.acse_timeout = upper_layer.association_timeout_s
    association.set_socket(Transport(association, client_socket=upper_layer.connection))
    for peer in (association.requestor, association.acceptor):
        peer.address_info = AddressInformation("127.0.0.1", 0)  # for the handlers of an event; there are none here
    machine = association.dul
    machine.event_queue.queue.clear()  # the Evt5 of a socket that is taken up
    machine.state_machine.current_state = state
    return machine
