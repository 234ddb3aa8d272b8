"""The state transition table of the upper layer as PS3.8 9.2 prints it: data, which ``state_machine`` carries out."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

# Tables 9-1 to 9-5.  Sta9 and Sta11 are of a requestor, Sta10 and Sta12 of an acceptor, after both asked for release.
IDLE, AWAITING_REQUEST, AWAITING_LOCAL_ANSWER, AWAITING_CONNECTION, AWAITING_ANSWER = (f"Sta{n}" for n in range(1, 6))
ESTABLISHED, AWAITING_RELEASE_RP, AWAITING_LOCAL_RELEASE = "Sta6", "Sta7", "Sta8"
COLLISION_LOCAL_RELEASE_REQUESTOR, COLLISION_RELEASE_RP_ACCEPTOR = "Sta9", "Sta10"
COLLISION_RELEASE_RP_REQUESTOR, COLLISION_LOCAL_RELEASE_ACCEPTOR = "Sta11", "Sta12"
AWAITING_CLOSE = "Sta13"

# What the local user asks for, what the transport says, what a PDU of the peer is (by its type), and the rest.
ASSOCIATE_REQUEST, ASSOCIATE_ACCEPT, ASSOCIATE_REJECT, P_DATA_REQUEST = "Evt1", "Evt7", "Evt8", "Evt9"
RELEASE_REQUEST, RELEASE_RESPONSE, ABORT_REQUEST = "Evt11", "Evt14", "Evt15"
CONNECTION_OPENED, CONNECTION_ACCEPTED, CONNECTION_CLOSED = "Evt2", "Evt5", "Evt17"
PDU_EVENTS = {0x01: "Evt6", 0x02: "Evt3", 0x03: "Evt4", 0x04: "Evt10", 0x05: "Evt12", 0x06: "Evt13", 0x07: "Evt16"}
ARTIM_EXPIRED, INVALID_PDU = "Evt18", "Evt19"


class Step(Enum):
    """A part of an action that has an effect outside of the state machine."""

    SEND_ASSOCIATE = auto()
    """The A-ASSOCIATE PDU that came with the event."""
    SEND_RELEASE_RQ = auto()
    SEND_RELEASE_RP = auto()
    SEND_ABORT = auto()
    """Source: the service user."""
    SEND_P_ABORT = auto()
    """Source: the service provider."""
    START_ARTIM = auto()
    STOP_ARTIM = auto()
    CLOSE = auto()
    """The transport connection."""


class Action(NamedTuple):
    """What is done at an event, and the state after it.

    Attributes
    ----------
    next_state_of_acceptor
        Where it is another than that of a requestor.
    """

    next_state: str
    steps: tuple[Step, ...] = ()
    next_state_of_acceptor: str = ""


# Tables 9-6 to 9-9.  An indication or a confirmation to the local user is the new state: the local user is the thread
# that reads the PDUs, and looks at it.
ACTIONS: Mapping[str, Action] = {
    "AE-1": Action("Sta4"),  # whoever requests an Association connects
    "AE-2": Action("Sta5", (Step.SEND_ASSOCIATE,)),
    "AE-3": Action("Sta6"),
    "AE-4": Action("Sta1", (Step.CLOSE,)),
    "AE-5": Action("Sta2", (Step.START_ARTIM,)),
    "AE-6": Action("Sta3", (Step.STOP_ARTIM,)),  # what is not acceptable is rejected with AE-8, or aborted with AA-8
    "AE-7": Action("Sta6", (Step.SEND_ASSOCIATE,)),
    "AE-8": Action("Sta13", (Step.SEND_ASSOCIATE, Step.START_ARTIM)),
    "DT-1": Action("Sta6"),  # P-DATA-TF is written and read in place, whatever its size
    "DT-2": Action("Sta6"),
    "AR-1": Action("Sta7", (Step.SEND_RELEASE_RQ,)),
    "AR-2": Action("Sta8"),
    "AR-3": Action("Sta1", (Step.CLOSE,)),
    "AR-4": Action("Sta13", (Step.SEND_RELEASE_RP, Step.START_ARTIM)),
    "AR-5": Action("Sta1", (Step.STOP_ARTIM, Step.CLOSE)),
    "AR-6": Action("Sta7"),
    "AR-7": Action("Sta8"),
    "AR-8": Action("Sta9", next_state_of_acceptor="Sta10"),
    "AR-9": Action("Sta11", (Step.SEND_RELEASE_RP,)),
    "AR-10": Action("Sta12"),
    "AA-1": Action("Sta13", (Step.SEND_ABORT, Step.START_ARTIM)),
    "AA-2": Action("Sta1", (Step.STOP_ARTIM, Step.CLOSE)),
    "AA-3": Action("Sta1", (Step.CLOSE,)),
    "AA-4": Action("Sta1", (Step.CLOSE,)),
    "AA-5": Action("Sta1", (Step.STOP_ARTIM, Step.CLOSE)),
    "AA-6": Action("Sta13"),
    "AA-7": Action("Sta13", (Step.SEND_P_ABORT,)),
    "AA-8": Action("Sta13", (Step.SEND_P_ABORT, Step.START_ARTIM)),
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
"""The action at an event in a state."""
