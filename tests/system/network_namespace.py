"""A second machine on the network: a network namespace with a virtual cable (Linux, root)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

_CLONE_NEWNET = 0x40000000


class OtherMachine:
    """`address` is its own; `our_address` is this machine's, as seen from there."""

    def __init__(self) -> None:
        number = os.getpid()
        self._name = f"backup-scp-{number}"
        self._here, self._there = f"bscp{number}h", f"bscp{number}t"
        network = f"198.18.{number >> 6 & 255}"  # RFC 2544: nobody's
        self.our_address, self.address = (f"{network}.{(number & 63) * 4 + host}" for host in (1, 2))

    def connect(self) -> None:
        """Set it up; the test is skipped where this may not be done."""
        if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip"):
            pytest.skip("a caller with another address needs a network namespace: Linux, root and iproute2")
        try:
            _ip("netns", "add", self._name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespace can be made here: {error.stderr.strip()}")
        _ip("link", "add", self._here, "type", "veth", "peer", "name", self._there, "netns", self._name)
        _ip("addr", "add", f"{self.our_address}/30", "dev", self._here)
        _ip("link", "set", self._here, "up")
        _ip("-n", self._name, "addr", "add", f"{self.address}/30", "dev", self._there)
        _ip("-n", self._name, "link", "set", self._there, "up")
        _ip("-n", self._name, "link", "set", "lo", "up")

    def disconnect(self) -> None:
        for remove in (("link", "del", self._here), ("netns", "del", self._name)):  # a cable outlives its namespace
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip(*remove)

    @contextlib.contextmanager
    def there(self) -> Iterator[None]:
        """Run the block in the namespace: its sockets, and the processes and threads that it starts."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net") as ours, open(f"/run/netns/{self._name}") as theirs:  # noqa: PTH123
            assert libc.setns(theirs.fileno(), _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(ours.fileno(), _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
