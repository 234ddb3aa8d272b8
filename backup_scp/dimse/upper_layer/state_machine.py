"""Execute the state transition table for one Association (PS3.8 9.2)."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Mapping

from backup_scp.dimse.upper_layer.state_table import ACTIONS, TRANSITIONS, Action, Sent, Timer

UNRECOGNIZED_PDU, UNEXPECTED_PDU, INVALID_PARAMETER_VALUE = 1, 2, 6  # PS3.8 9.3.8
SERVICE_PROVIDER = 2

_P_ABORT = struct.Struct(">BxIxxBB")  # A-ABORT: source and reason (PS3.8 9.3.8)
_TRANSITIONS: Mapping[tuple[str, str], Action] = {at: ACTIONS[name] for at, name in TRANSITIONS.items()}


class StateMachine:
    """The state of one Association, and the actions at events.

    Attributes
    ----------
    state
        Sta1 to Sta13 of PS3.8 9.2.
    is_requestor
        Whether we requested the Association.
    artim
        When the ARTIM timer expires, on the monotonic clock (PS3.8 9.1.5); infinity when it does not run.
    artim_s
        The timer's duration when it is started next, in seconds.
    """

    is_requestor = False
    state: str
    artim: float
    artim_s: float

    def happen(self, event: str, pdu: bytes = b"", reason: int = UNEXPECTED_PDU) -> None:
        """Execute the action of an event, and go to the next state.

        An event that cannot happen in this state closes the connection.

        Parameters
        ----------
        event
            Evt1 to Evt19 of PS3.8 9.2.
        pdu
            The A-ASSOCIATE PDU to send.
        reason
            Reason of an A-ABORT from the service provider (PS3.8 9.3.8).
        """
        action = _TRANSITIONS.get((event, self.state))
        if action is None:
            self.close()
            return
        next_state, sends, artim, closes, next_state_of_acceptor = action
        if sends is not None:
            if sends is Sent.ASSOCIATE:
                sends = pdu
            elif sends is Sent.P_ABORT:
                sends = _P_ABORT.pack(7, 4, SERVICE_PROVIDER, reason)
            self.send_ignoring_errors(sends)
        if artim is not None:
            self.artim = time.monotonic() + self.artim_s if artim is Timer.START else math.inf
        if closes:
            self._close_transport()
        self.state = next_state if self.is_requestor or not next_state_of_acceptor else next_state_of_acceptor

    def close(self) -> None:
        """Close the connection in any state, without sending."""
        raise NotImplementedError

    def send_ignoring_errors(self, data: bytes) -> None:
        """Send a PDU; when the peer is gone, the next read reports it."""
        raise NotImplementedError

    def _close_transport(self) -> None:
        raise NotImplementedError
