"""The node that is attacked: its ports, and who calls from which address."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import trustme

from tests.dimse.wire import Peer
from tests.processes import LOOPBACK, connects, free_port, wait_until
from tests.system.node import Node, Remote
from tests.system.web import web_address, web_node

MODALITY, VIEWER = "MODALITY", "VIEWER"
MODALITY_ADDRESS, VIEWER_ADDRESS, ATTACKER = "127.0.0.3", "127.0.0.4", "127.0.0.66"
TOKEN = "t" * 32


@dataclass
class Target:
    """Where attacks go; ``hold`` waits while the modality sends some images."""

    port: int
    tls_port: int
    web: str
    host: str = LOOPBACK
    ae_title: str = "BACKUP_SCP"
    hold: Callable[[], None] = field(default=lambda: None)

    @property
    def web_port(self) -> int:
        port = urlsplit(self.web).port
        assert port is not None
        return port

    def connect(self, port: int | None = None, source: str = ATTACKER) -> socket.socket:
        connection = socket.create_connection((self.host, port or self.port), 60, (source, 0))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def peer(self, source: str = ATTACKER, tls: ssl.SSLContext | None = None) -> Peer:
        return Peer(self.tls_port if tls else self.port, tls=tls, source=source)

    def send(self, content: bytes, port: int | None = None) -> None:
        """Send on a connection of its own, end that direction, and read until the node ends the other one."""
        with self.connect(port) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass


Attack = Callable[[Target], None]


def at_once(work: Callable[[int], object], times: int, callers: int = 8) -> None:
    """Do it so many times, several at a time."""
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(work, range(times)))


@contextlib.contextmanager
def held(target: Target, connections: int, begun: Sequence[bytes], port: int | None = None) -> Iterator[None]:
    """Open many connections that have sent this, one after the other in turn, and keep them."""
    with contextlib.ExitStack() as stack:
        for number in range(connections):
            connection = stack.enter_context(target.connect(port))
            with contextlib.suppress(ConnectionError):  # the node closes the oldest of too many
                connection.sendall(begun[number % len(begun)])
        yield


def probed_node(make_node: Callable[..., Node], folder: Path) -> Node:
    """Return a node whose callers on loopback are strangers, with TLS and DICOMweb; not started."""
    remotes = [
        Remote("modality", MODALITY, free_port(), MODALITY_ADDRESS, query=False),
        Remote("viewer", VIEWER, free_port(), VIEWER_ADDRESS),
    ]
    authority = trustme.CA()
    leaf = authority.issue_cert("node.clinic.example")
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    leaf.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    (folder / "tokens").write_text(TOKEN)
    tls = {"certificate": folder / "certificate.pem", "key": folder / "key.pem", "port": free_port()}
    settings = {"node": {"trust_this_machine": False}, "tls": tls}
    return web_node(make_node, {"token_file": folder / "tokens"}, remotes=remotes, settings=settings)


def started(node: Node) -> Target:
    """Start the node, and return its ports."""
    node.start()
    tls_port = int(str(node.settings["tls"]["port"]))
    wait_until(lambda: connects(tls_port), what="the port with TLS")
    return Target(node.port, tls_port, web_address(node))
