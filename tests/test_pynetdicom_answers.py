"""pynetdicom's reactor does not take an answer that another thread waits for."""

from __future__ import annotations

from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider

from tests.pynetdicom_answers import keep_answers

ANSWER = (1, "an answer")


@pytest.fixture
def association(monkeypatch) -> Any:
    monkeypatch.setattr(DIMSEServiceProvider, "get_msg", DIMSEServiceProvider.get_msg)  # put back behind the test
    keep_answers()
    return Association(AE(), "requestor")


def test_a_reactor_that_was_just_paused_takes_nothing(association):
    association._reactor_checkpoint.clear()  # by send_c_find; the reactor is behind its wait() already
    association.dimse.msg_queue.put(ANSWER)
    assert association.dimse.get_msg(block=False) == (None, None)
    assert association.dimse.get_msg(block=True) == ANSWER


def test_a_reactor_that_runs_takes_what_comes(association):
    assert association.dimse.get_msg(block=False) == (None, None)
    association.dimse.msg_queue.put(ANSWER)
    assert association.dimse.get_msg(block=False) == ANSWER
