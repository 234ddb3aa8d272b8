"""Our state transition table equals pynetdicom's, cell by cell (PS3.8 Tables 9-6 to 9-10)."""

from __future__ import annotations

import pytest
from pynetdicom import fsm

from backup_scp.dimse.upper_layer.state_table import ACTIONS, PDU_EVENTS, TABLE_9_10, TRANSITIONS

STATES = [f"Sta{number}" for number in range(1, 14)]
EVENTS = [f"Evt{number}" for number in range(1, 20)]


def test_it_has_all_states_and_events_in_order():
    states, *rows = (line.split() for line in TABLE_9_10.strip().splitlines())
    assert states == STATES
    assert [row[0] for row in rows] == EVENTS


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_each_cell_is_that_of_pynetdicom(event, state):
    assert TRANSITIONS.get((event, state)) == fsm.TRANSITION_TABLE.get((event, state))


@pytest.mark.parametrize("name", fsm.ACTIONS)
def test_each_action_leads_to_the_state_that_it_has_in_pynetdicom(name):
    action, theirs = ACTIONS[name], fsm.ACTIONS[name][2]
    ours = (action.next_state, action.next_state_of_acceptor or action.next_state)
    if name == "AE-6":
        theirs = "Sta3"  # we reject with AE-8
    assert ours == (theirs if isinstance(theirs, tuple) else (theirs, theirs))


def test_neither_has_an_action_more():
    assert set(ACTIONS) == set(fsm.ACTIONS) == set(TRANSITIONS.values())


@pytest.mark.parametrize(("pdu_type", "event"), PDU_EVENTS.items())
def test_a_pdu_is_the_event_that_it_is_in_pynetdicom(pdu_type, event):
    names = ("", "A-ASSOCIATE-RQ", "A-ASSOCIATE-AC", "A-ASSOCIATE-RJ", "P-DATA-TF", "A-RELEASE-RQ", "A-RELEASE-RP")
    assert fsm.EVENTS[event].startswith((*names, "A-ABORT")[pdu_type] + " ")
