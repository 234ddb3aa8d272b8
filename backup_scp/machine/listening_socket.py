"""Open a port, also while another socket of this process has it at another address."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable

from backup_scp.machine.addresses import EVERY_ADDRESS


def listen(host: str, port: int, backlog: int, beside: Iterable[socket.socket] = ()) -> socket.socket:
    """Return a socket that listens; ``::`` is every IPv4 address as well.

    Parameters
    ----------
    host, port
        The address; with port 0 the system chooses a port.
    backlog
        Callers that wait, at most.
    beside
        Sockets of this process that go soon: 127.0.0.1 and every address cannot have one port otherwise (Linux).

    Raises
    ------
    OSError, TypeError, UnicodeError
        The port cannot be opened.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == EVERY_ADDRESS[1] and socket.has_dualstack_ipv6()
    same = [one for one in beside if port and one.getsockname()[1] == port]
    _share(same, 1)
    try:
        opened = socket.create_server(
            (host, port), family=family, backlog=backlog, reuse_port=bool(same) and _CAN_SHARE, dualstack_ipv6=both
        )
    finally:
        _share(same, 0)
    if same:
        _share([opened], 0)  # no other program may share it
    return opened


_CAN_SHARE = sys.platform != "win32"


def _share(sockets: Iterable[socket.socket], value: int) -> None:
    """Allow or forbid another socket of this user at the same port."""
    if sys.platform != "win32":
        for one in sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, value)
