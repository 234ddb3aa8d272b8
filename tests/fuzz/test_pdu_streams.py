"""A server keeps serving others while one caller breaks PS3.8 in every way; `make fuzz` goes on for a million PDUs."""

from __future__ import annotations

import logging
from random import Random

import pytest

from tests.fuzz.live_server import live_server
from tests.fuzz.pdu_streams import stream


@pytest.fixture
def server(tmp_path):
    with live_server(tmp_path) as running:
        yield running


def test_no_stream_of_pdus_is_an_error_of_the_node(server, caplog):
    caplog.set_level(logging.ERROR, "backup_scp")
    answered = 0
    for number in range(1500):
        answered += server.send(stream(Random(f"test:{number}")))[1] > 0
        if number % 100 == 0:
            server.echo()

    assert caplog.messages == []
    assert server.server.faults == 0
    assert answered > 500, "streams that went further than their first PDU"
