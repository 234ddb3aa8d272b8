"""The action in each cell of the state transition table, on a real connection (PS3.8 Tables 9-6 to 9-10)."""

from __future__ import annotations

import ast
import math
import socket
from pathlib import Path

import pytest
from pynetdicom import fsm

import backup_scp
from backup_scp.dimse.upper_layer import Timing, UpperLayer
from backup_scp.dimse.upper_layer.association_control import _LINGER_S
from backup_scp.dimse.upper_layer.requestor import RequestingLayer
from tests.dimse.wire import ABORT, RELEASE_RP, RELEASE_RQ, TIMEOUT_S, pdu

GIVEN = pdu(1, b"an A-ASSOCIATE PDU")
BY_USER, BY_PROVIDER = pdu(ABORT, bytes(4)), pdu(ABORT, b"\0\0\2\6")
SENT = {
    **dict.fromkeys(("AE-2", "AE-7", "AE-8"), GIVEN),
    "AR-1": pdu(RELEASE_RQ, bytes(4)),
    **dict.fromkeys(("AR-4", "AR-9"), pdu(RELEASE_RP, bytes(4))),
    "AA-1": BY_USER,
    **dict.fromkeys(("AA-7", "AA-8"), BY_PROVIDER),
}
ENDS_THE_CONNECTION = {"AE-4", "AR-3", "AR-5", "AA-2", "AA-3", "AA-4", "AA-5"}
STARTS_ARTIM = {"AE-5", "AE-8", "AR-4", "AA-1", "AA-8"}
STOPS_ARTIM = {"AE-6", "AR-5", "AA-2", "AA-5"}
RUNNING = 1.0  # a time on the monotonic clock that is past
TIMING = Timing(association_s=1000)


def states_after(action: str) -> tuple[str, str]:
    """Say where pynetdicom's copy of the standard leads: a requestor, and an acceptor."""
    state = fsm.ACTIONS[action][2]
    if action == "AE-6":
        return "Sta3", "Sta3"
    return state if isinstance(state, tuple) else (state, state)


@pytest.mark.parametrize(("event", "state"), fsm.TRANSITION_TABLE, ids="-".join)
@pytest.mark.parametrize("role", [RequestingLayer, UpperLayer])
def test_each_cell_has_the_effect_of_its_action(role, event, state):
    action = fsm.TRANSITION_TABLE[event, state]
    near, far = socket.socketpair()
    far.settimeout(TIMEOUT_S)
    with far:
        layer = role(near, TIMING, "a peer")
        layer.state, layer.artim = state, RUNNING
        layer.happen(event, GIVEN, reason=6)
        assert layer.state == states_after(action)[role is UpperLayer]
        assert layer.is_open is (action not in ENDS_THE_CONNECTION)
        if action in STARTS_ARTIM:
            assert RUNNING + _LINGER_S < layer.artim < math.inf
        else:
            assert layer.artim == (math.inf if action in STOPS_ARTIM else RUNNING)
        layer.close()
        assert far.makefile("rb").read() == SENT.get(action, b"")


@pytest.mark.parametrize("event", fsm.EVENTS)
def test_an_event_that_cannot_happen_closes_the_connection_without_a_word(event):
    for state in {f"Sta{number}" for number in range(1, 14)}:
        if (event, state) in fsm.TRANSITION_TABLE:
            continue
        near, far = socket.socketpair()
        far.settimeout(TIMEOUT_S)
        with far:
            layer = UpperLayer(near, TIMING, "a peer")
            layer.state = state
            layer.happen(event, GIVEN)
            assert (layer.state, layer.connection) == ("Sta1", None)
            assert far.recv(1) == b""


def test_a_requestor_has_connected_and_an_acceptor_awaits_a_request():
    for role, state in ((RequestingLayer, "Sta4"), (UpperLayer, "Sta2")):
        layer = role(None, TIMING, "a peer")
        assert layer.state == state
        layer.close()


# ------------------------------------------------------------------------------------------- collisions, PS3.8 7.2.2.7


@pytest.fixture
def established():
    near, far = socket.socketpair()
    far.settimeout(TIMEOUT_S)
    with far:
        layer = UpperLayer(near, Timing(association_s=TIMEOUT_S), "a peer")
        layer.state = "Sta6"
        yield layer, far
        layer.close()


def test_an_acceptor_that_asks_for_release_with_its_peer_answers_last(established):
    """PS3.8 AR-8, AR-10, AR-4."""
    layer, far = established
    far.sendall(pdu(RELEASE_RQ, bytes(4)) + pdu(RELEASE_RP, bytes(4)))
    far.shutdown(socket.SHUT_WR)
    layer.release()
    assert far.makefile("rb").read() == pdu(RELEASE_RQ, bytes(4)) + pdu(RELEASE_RP, bytes(4))


def test_a_second_release_request_is_unexpected(established):
    layer, far = established
    layer.is_requestor = True
    far.sendall(pdu(RELEASE_RQ, bytes(4)) * 2)
    far.shutdown(socket.SHUT_WR)
    layer.release()
    answer = pdu(RELEASE_RQ, bytes(4)) + pdu(RELEASE_RP, bytes(4)) + pdu(ABORT, b"\0\0\2\2")
    assert far.makefile("rb").read() == answer
    assert layer.violation == "an A-RELEASE-RQ at the wrong time"


# ------------------------------------------------------------------------------------------------- what is pynetdicom's


def test_one_module_knows_pynetdicom_and_only_what_is_public_of_it():
    """``pynetdicom._config`` is private by its name only: its reference documents it for users."""
    found: dict[str, set[str]] = {}
    for path in Path(backup_scp.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("pynetdicom"):
                names = {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                names = {alias.name for alias in node.names if alias.name.startswith("pynetdicom")}
            else:
                continue
            found.setdefault(path.name, set()).update(names)
    used = {name: names for name, names in found.items() if names}
    assert set(used) == {"codecs.py"}
    assert {name for name in used["codecs.py"] if "._" in name} == {"pynetdicom._config"}
