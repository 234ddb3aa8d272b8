"""The state transition table of the upper layer, as printed in PS3.8 9.2; ``state_machine`` executes it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

# Tables 9-1 to 9-5
IDLE = "Sta1"
AWAITING_REQUEST = "Sta2"  # A-ASSOCIATE-RQ
AWAITING_LOCAL_RESPONSE = "Sta3"  # our response to an A-ASSOCIATE indication
AWAITING_CONNECTION = "Sta4"
AWAITING_ANSWER = "Sta5"  # A-ASSOCIATE-AC or A-ASSOCIATE-RJ
ESTABLISHED = "Sta6"
AWAITING_RELEASE_RP = "Sta7"
AWAITING_LOCAL_RELEASE = "Sta8"  # our response to an A-RELEASE indication
COLLIDED_AWAITING_LOCAL_RELEASE = ("Sta9", "Sta12")  # both sides requested release: requestor, acceptor
COLLIDED_AWAITING_RELEASE_RP = ("Sta11", "Sta10")
AWAITING_CLOSE = "Sta13"

# Events other than a PDU of the peer; then events by the type of the PDU
ASSOCIATE_REQUEST, ASSOCIATE_ACCEPT, ASSOCIATE_REJECT, P_DATA_REQUEST = "Evt1", "Evt7", "Evt8", "Evt9"
RELEASE_REQUEST, RELEASE_RESPONSE, ABORT_REQUEST = "Evt11", "Evt14", "Evt15"
CONNECTION_OPENED, CONNECTION_ACCEPTED, CONNECTION_CLOSED = "Evt2", "Evt5", "Evt17"
ARTIM_EXPIRED, INVALID_PDU = "Evt18", "Evt19"
PDU_EVENTS = {0x01: "Evt6", 0x02: "Evt3", 0x03: "Evt4", 0x04: "Evt10", 0x05: "Evt12", 0x06: "Evt13", 0x07: "Evt16"}


class Sent(Enum):
    """A PDU that an action sends, when it is not always the same."""

    ASSOCIATE = auto()
    """The PDU given with the event: A-ASSOCIATE-RQ, -AC or -RJ."""
    P_ABORT = auto()
    """A-ABORT of the service provider, with the reason given with the event (PS3.8 9.3.8)."""


_RELEASE_RQ = bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0))  # PS3.8 9.3.6
_RELEASE_RP = bytes((6, 0, 0, 0, 0, 4, 0, 0, 0, 0))  # PS3.8 9.3.7
_ABORT = bytes((7, 0, 0, 0, 0, 4, 0, 0, 0, 0))  # of the service user; its reason is not significant (PS3.8 9.3.8)


class Timer(Enum):
    """What an action does to the ARTIM timer."""

    START = auto()
    STOP = auto()


class Action(NamedTuple):
    """What to do at an event, in this order, and the next state.

    Attributes
    ----------
    closes
        Whether to close the transport connection.
    next_state_of_acceptor
        The acceptor's next state, when it differs from the requestor's.
    """

    next_state: str
    sends: Sent | bytes | None = None
    artim: Timer | None = None
    closes: bool = False
    next_state_of_acceptor: str = ""


# Tables 9-6 to 9-9.  The new state replaces an indication or confirmation to the local user: the local user is the
# thread that reads the PDUs, and it checks the state.
ACTIONS: Mapping[str, Action] = {
    "AE-1": Action("Sta4"),  # the code that requests an Association connects
    "AE-2": Action("Sta5", Sent.ASSOCIATE),
    "AE-3": Action("Sta6"),
    "AE-4": Action("Sta1", closes=True),
    "AE-5": Action("Sta2", artim=Timer.START),
    "AE-6": Action("Sta3", artim=Timer.STOP),  # an unacceptable request is rejected with AE-8 or aborted with AA-8
    "AE-7": Action("Sta6", Sent.ASSOCIATE),
    "AE-8": Action("Sta13", Sent.ASSOCIATE, Timer.START),
    "DT-1": Action("Sta6"),  # ``data_transfer`` writes and reads P-DATA-TF in place
    "DT-2": Action("Sta6"),
    "AR-1": Action("Sta7", _RELEASE_RQ),
    "AR-2": Action("Sta8"),
    "AR-3": Action("Sta1", closes=True),
    "AR-4": Action("Sta13", _RELEASE_RP, Timer.START),
    "AR-5": Action("Sta1", artim=Timer.STOP, closes=True),
    "AR-6": Action("Sta7"),
    "AR-7": Action("Sta8"),
    "AR-8": Action("Sta9", next_state_of_acceptor="Sta10"),
    "AR-9": Action("Sta11", _RELEASE_RP),
    "AR-10": Action("Sta12"),
    "AA-1": Action("Sta13", _ABORT, Timer.START),
    "AA-2": Action("Sta1", artim=Timer.STOP, closes=True),
    "AA-3": Action("Sta1", closes=True),
    "AA-4": Action("Sta1", closes=True),
    "AA-5": Action("Sta1", artim=Timer.STOP, closes=True),
    "AA-6": Action("Sta13"),
    "AA-7": Action("Sta13", Sent.P_ABORT),
    "AA-8": Action("Sta13", Sent.P_ABORT, Timer.START),
}

TABLE_9_10 = """
        Sta1  Sta2  Sta3  Sta4  Sta5  Sta6  Sta7  Sta8  Sta9  Sta10 Sta11 Sta12 Sta13
Evt1    AE-1  -     -     -     -     -     -     -     -     -     -     -     -
Evt2    -     -     -     AE-2  -     -     -     -     -     -     -     -     -
Evt3    -     AA-1  AA-8  -     AE-3  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt4    -     AA-1  AA-8  -     AE-4  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt5    AE-5  -     -     -     -     -     -     -     -     -     -     -     -
Evt6    -     AE-6  AA-8  -     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
Evt7    -     -     AE-7  -     -     -     -     -     -     -     -     -     -
Evt8    -     -     AE-8  -     -     -     -     -     -     -     -     -     -
Evt9    -     -     -     -     -     DT-1  -     AR-7  -     -     -     -     -
Evt10   -     AA-1  AA-8  -     AA-8  DT-2  AR-6  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt11   -     -     -     -     -     AR-1  -     -     -     -     -     -     -
Evt12   -     AA-1  AA-8  -     AA-8  AR-2  AR-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt13   -     AA-1  AA-8  -     AA-8  AA-8  AR-3  AA-8  AA-8  AR-10 AR-3  AA-8  AA-6
Evt14   -     -     -     -     -     -     -     AR-4  AR-9  -     -     AR-4  -
Evt15   -     -     AA-1  AA-2  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  -
Evt16   -     AA-2  AA-3  -     AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-2
Evt17   -     AA-5  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AR-5
Evt18   -     AA-2  -     -     -     -     -     -     -     -     -     -     AA-2
Evt19   -     AA-1  AA-8  -     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
"""


def _transitions() -> dict[tuple[str, str], str]:
    states, *rows = (line.split() for line in TABLE_9_10.strip().splitlines())
    return {
        (event, state): action
        for event, *actions in rows
        for state, action in zip(states, actions, strict=True)
        if action != "-"
    }


TRANSITIONS: Mapping[tuple[str, str], str] = _transitions()
"""The action for an event and a state; no entry when the event cannot happen in the state."""
