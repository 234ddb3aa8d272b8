"""Tell the service manager how the node is: systemd's notifications (``sd_notify``) and its watchdog.

The protocol is one datagram to a socket that the environment names; without one nothing is sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

_SOCKET = "NOTIFY_SOCKET"

READY = "READY=1"
"""The service has started: those that wait for it may go on."""

STOPPING = "STOPPING=1"
"""The service ends."""

ALIVE = "WATCHDOG=1"
"""The service works: without this the manager starts it again (``WatchdogSec``)."""


def tell(*said: str, environment: Mapping[str, str] = os.environ) -> None:
    """Send notifications, such as ``READY``, in one datagram; do nothing without a service manager.

    A manager that cannot be told is no reason to stop serving.
    """
    address = environment.get(_SOCKET, "")
    if address[:1] not in {"/", "@"} or not hasattr(socket, "AF_UNIX"):
        return
    if address.startswith("@"):  # an abstract socket
        address = f"\0{address[1:]}"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(0)
        manager.sendto("\n".join(said).encode(), address)
