"""What a service manager hears of a real node, with one process and with several."""

from __future__ import annotations

import socket

import pytest

from tests.processes import Processes
from tests.system.node import Node

pytestmark = pytest.mark.system


@pytest.mark.parametrize("workers", [1, 2])
def test_it_hears_that_the_node_is_ready_lives_and_ends(tmp_path, processes: Processes, workers):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        env = {"NOTIFY_SOCKET": manager.getsockname()}
        node = Node(tmp_path / "node", settings={"node": {"workers": workers}}, env=env)
        processes.add(node.process)
        node.start()

        first = manager.recv(4096).decode()
        assert first.startswith("READY=1\nSTATUS=Consoles send to: AE title BACKUP_SCP, 127.0.0.1 port")
        assert manager.recv(4096) == b"WATCHDOG=1"

        node.stop()
        manager.setblocking(False)
        assert "STOPPING=1" in list(_all(manager))


def _all(manager: socket.socket):
    while True:
        try:
            yield manager.recv(4096).decode()
        except BlockingIOError:
            return
