"""Received bytes are acknowledged at once, so that no peer waits for the system's delay (TCP_QUICKACK)."""

from __future__ import annotations

import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from backup_scp.dimse.association.association import Timing
from backup_scp.dimse.upper_layer import Secured, SecuredSocket, UpperLayer
from backup_scp.dimse.upper_layer import socket_io as streams
from tests.dimse.conftest import establish
from tests.dimse.wire import COMMAND as CMD
from tests.dimse.wire import DATA, LAST, TIMEOUT_S, TLSSocket, p_data, pdv
from tests.processes import wait_until

MESSAGE = p_data(pdv(1, CMD | LAST, b"a command")) + p_data(pdv(1, DATA | LAST, bytes(1000)))
BEFORE_THE_REST = (12, 30, len(MESSAGE) - 1)  # a header, a part of a fragment, all but its end

pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="this system has no TCP_QUICKACK")


class NotingSocket(socket.socket):
    """Counts how often it is to acknowledge what it has received."""

    acknowledged = 0

    def setsockopt(self, *arguments: Any) -> None:
        if arguments[:2] == (socket.IPPROTO_TCP, socket.TCP_QUICKACK):
            self.acknowledged += 1
        super().setsockopt(*arguments)


class NotingSecuredSocket(NotingSocket, SecuredSocket):
    """The same with TLS."""


def connected():
    """Return the two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near = listener.accept()[0]
    far.settimeout(TIMEOUT_S)
    return NotingSocket(near.family, near.type, near.proto, fileno=near.detach()), far


@pytest.fixture(params=["the system waits", "we ask", "TLS"])
def ends(request, monkeypatch):
    """Yield our layer, our socket, and the peer's socket."""
    near, far = connected()
    monkeypatch.setattr(streams, "_SYSTEM_WAITS", request.param != "we ask")
    if request.param == "TLS":
        ours, theirs = request.getfixturevalue("secured")
        near = NotingSecuredSocket(near, ours)
        with ThreadPoolExecutor(1) as other:
            handshake = other.submit(TLSSocket, far, theirs)
            Secured(near).do_handshake(TIMEOUT_S)
            far = handshake.result(TIMEOUT_S)
    layer = UpperLayer(near, Timing(), "a peer")
    establish(layer)
    near.acknowledged = 0
    with contextlib.closing(far):
        yield layer, near, far
    layer.close()


def read_message(layer):
    while not (fragment := layer.read_fragment()).is_last or fragment.is_command:
        pass


@pytest.mark.parametrize("cut", BEFORE_THE_REST)
def test_what_has_come_is_acknowledged_before_the_rest_is_waited_for(ends, cut):
    layer, near, far = ends
    for _ in range(3):
        near.acknowledged = 0
        with ThreadPoolExecutor(1) as other:
            far.sendall(MESSAGE[:cut])
            reading = other.submit(read_message, layer)
            wait_until(lambda: near.acknowledged, TIMEOUT_S)  # else Nagle's algorithm keeps the rest there
            far.sendall(MESSAGE[cut:])
            reading.result(TIMEOUT_S)
        layer.send_message(1, b"the answer")


def test_what_comes_in_one_piece_and_is_answered_costs_nothing(ends):
    layer, near, far = ends
    for _ in range(3):
        far.sendall(MESSAGE)
        wait_until(layer.has_pdu, TIMEOUT_S)
        read_message(layer)
        layer.send_message(1, b"the answer")
    assert near.acknowledged == 0


def test_a_socket_that_is_not_tcp_is_left_alone():
    near, far = socket.socketpair()
    layer = UpperLayer(near, Timing(), "a peer")
    establish(layer)
    with far, ThreadPoolExecutor(1) as other:
        far.sendall(MESSAGE[:12])
        reading = other.submit(read_message, layer)
        far.sendall(MESSAGE[12:])
        reading.result(TIMEOUT_S)
    layer.close()
