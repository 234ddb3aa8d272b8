"""What systemd hears, at a socket like its own."""

from __future__ import annotations

import socket
import sys

import pytest

from backup_scp.machine.service_manager import ALIVE, READY, tell

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="only systems with AF_UNIX have such a manager")


@pytest.fixture
def manager(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as waiting:
        waiting.bind(str(tmp_path / "notify"))
        waiting.settimeout(10)
        yield waiting


def test_it_is_told_in_one_datagram(manager):
    tell(READY, "STATUS=Receives", environment={"NOTIFY_SOCKET": manager.getsockname()})

    assert manager.recv(4096) == b"READY=1\nSTATUS=Receives"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract sockets")
def test_an_abstract_socket(tmp_path):
    name = f"backup-scp-{tmp_path.name}-{tmp_path.stat().st_ino}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as waiting:
        waiting.bind(f"\0{name}")
        waiting.settimeout(10)
        tell(ALIVE, environment={"NOTIFY_SOCKET": f"@{name}"})
        assert waiting.recv(64) == b"WATCHDOG=1"


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "vsock:2:1234"])
def test_nobody_to_tell_is_no_error(address):
    tell(READY, environment={"NOTIFY_SOCKET": address})


def test_a_manager_that_does_not_read_holds_up_nothing(manager):
    for _ in range(10_000):
        tell(ALIVE, environment={"NOTIFY_SOCKET": manager.getsockname()})
