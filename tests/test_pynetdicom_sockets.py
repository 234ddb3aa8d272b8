"""pynetdicom's sockets are closed before the garbage collector warns of them."""

from __future__ import annotations

import gc
import socket
import warnings
from typing import Any

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from tests.pynetdicom_sockets import close_forgotten_sockets


def test_a_forgotten_socket_is_closed_without_a_warning(monkeypatch):
    monkeypatch.setattr(AssociationSocket, "__init__", AssociationSocket.__init__)  # put back behind the test
    close_forgotten_sockets()
    ours, theirs = socket.socketpair()
    association: Any = Association(AE(), "acceptor")
    association.dul.socket = AssociationSocket(association, client_socket=theirs)
    del association, theirs

    with ours, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        gc.collect()
        ours.settimeout(10)
        assert ours.recv(1) == b""  # the other end is closed
    assert told == []
