"""Carries out the state transition table for one Association (PS3.8 9.2)."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Mapping

from backup_scp.dimse.upper_layer.state_table import ACTIONS, IDLE, TRANSITIONS, Action, Sent, Timer

UNRECOGNIZED_PDU, UNEXPECTED_PDU, INVALID_PARAMETER_VALUE = 1, 2, 6  # PS3.8 9.3.8
SERVICE_PROVIDER = 2

_P_ABORT = struct.Struct(">BxIxxBB")  # A-ABORT: source and reason (PS3.8 9.3.8)
_FIXED = {
    Sent.RELEASE_RQ: bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0)),  # PS3.8 9.3.6
    Sent.RELEASE_RP: bytes((6, 0, 0, 0, 0, 4, 0, 0, 0, 0)),  # PS3.8 9.3.7
    Sent.ABORT: bytes((7, 0, 0, 0, 0, 4, 0, 0, 0, 0)),  # its reason is not significant
}
_TRANSITIONS: Mapping[tuple[str, str], Action] = {at: ACTIONS[name] for at, name in TRANSITIONS.items()}


class StateMachine:
    """The state of one Association, and what is done at an event.

    Attributes
    ----------
    state
        Sta1 to Sta13 of PS3.8 9.2.
    is_requestor
        Whether the Association is ours.
    artim
        When the ARTIM timer expires, on the monotonic clock (PS3.8 9.1.5); infinity when it does not run.
    """

    is_requestor = False

    def __init__(self) -> None:
        self.state = IDLE
        self.artim = math.inf

    def happen(self, event: str, pdu: bytes = b"", reason: int = UNEXPECTED_PDU) -> None:
        """Carry out the action of an event, and go to the next state.

        An event that cannot happen in this state closes the connection.

        Parameters
        ----------
        event
            Evt1 to Evt19 of PS3.8 9.2.
        pdu
            The A-ASSOCIATE PDU that is sent.
        reason
            Of an A-ABORT that is sent by the service provider (PS3.8 9.3.8).
        """
        action = _TRANSITIONS.get((event, self.state))
        if action is None:
            self.close()
            return
        next_state, sends, artim, closes, next_state_of_acceptor = action
        if sends is not None:
            self.send_ignoring_errors(_encoded(sends, pdu, reason))
        if artim is not None:
            self.artim = time.monotonic() + self._artim_s() if artim is Timer.START else math.inf
        if closes:
            self._close_transport()
        self.state = next_state if self.is_requestor or not next_state_of_acceptor else next_state_of_acceptor

    def close(self) -> None:
        """Close the connection in whatever state it is; nothing is left to be done."""
        raise NotImplementedError

    def send_ignoring_errors(self, data: bytes) -> None:
        """Send a PDU; where the peer is gone the next read sees it."""
        raise NotImplementedError

    def _close_transport(self) -> None:
        raise NotImplementedError

    def _artim_s(self) -> float:
        """Say for how long an ARTIM timer runs that starts in this state."""
        raise NotImplementedError


def _encoded(sent: Sent, pdu: bytes, reason: int) -> bytes:
    if sent is Sent.ASSOCIATE:
        return pdu
    if sent is Sent.P_ABORT:
        return _P_ABORT.pack(7, 4, SERVICE_PROVIDER, reason)
    return _FIXED[sent]
