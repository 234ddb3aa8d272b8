"""The node that is attacked: its ports, and who calls from which address."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import trustme

from tests.dimse.wire import ASSOCIATE_AC, ASSOCIATE_RJ, IMPLICIT, VERIFICATION, Contexts, Peer, associate_rq
from tests.processes import LOOPBACK, ROOT, connects, free_port, wait_until
from tests.system.node import Node, Remote
from tests.system.web import web_address, web_node

MODALITY, VIEWER = "MODALITY", "VIEWER"
MODALITY_ADDRESS, VIEWER_ADDRESS, ATTACKER = "127.0.0.3", "127.0.0.4", "127.0.0.66"
TOKEN = "t" * 32
USER, PASSWORD = "maria", "correct horse battery"
ECHO: Contexts = ((VERIFICATION, (IMPLICIT,)),)
_TRANSIENT = 2  # result of an A-ASSOCIATE-RJ


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

    @contextlib.contextmanager
    def associated(
        self, contexts: Contexts = ECHO, source: str = ATTACKER, calling: str = "STRANGER"
    ) -> Iterator[Peer]:
        """Associate, again while too many of this address are being served."""

        def accepted() -> Peer | None:
            peer = self.peer(source)
            kind, body = peer.ask(associate_rq(contexts, calling=calling.encode()))
            if kind == ASSOCIATE_AC:
                peer.accept(body)
                return peer
            peer.socket.close()
            assert (kind, body[1]) == (ASSOCIATE_RJ, _TRANSIENT), (kind, body)
            return None

        peer = wait_until(accepted)
        assert peer is not None
        with peer:
            yield peer

    def send(self, content: bytes, port: int | None = None) -> None:
        """Send on a connection of its own, end that direction, and read until the node ends the other one."""
        with self.connect(port) as connection, contextlib.suppress(OSError):  # it may be closed, or reset, at any point
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


def form_of(browser: httpx2.Client, path: str) -> dict[str, str]:
    """Return what the form of a page sends back, so that no other page can send it."""
    return {"token": re.findall(r'name="token" value="([^"]+)"', browser.get(path).text)[0]}


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
    settings = {"node": {"trust_this_machine": False}, "tls": tls, "verify": {"full_pass_days": 0}}
    return web_node(make_node, {"token_file": folder / "tokens"}, remotes=remotes, settings=settings)


def started(node: Node, studies: int) -> Target:
    """Start the node with so many studies in its index, and a user; return its ports."""
    node.start()
    node.stop()  # it has made an archive, to which the index belongs
    url = f"sqlite:///{node.home}/index.sqlite"
    fill = [sys.executable, "-m", "benchmarks.fill_index", url, "--studies", str(studies)]
    subprocess.run(fill, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    node.start()
    tls_port = int(str(node.settings["tls"]["port"]))
    wait_until(lambda: connects(tls_port), what="the port with TLS")
    target = Target(node.port, tls_port, web_address(node))
    link = re.findall(r"/link\?token=(\S+)", node.cli("users", "add", USER).stdout)[0]
    with httpx2.Client(base_url=target.web.removesuffix("dicom-web")) as browser:
        form = form_of(browser, f"link?token={link}")
        chosen = {"link": link, "password": PASSWORD, "again": PASSWORD}
        assert browser.post("link", data=form | chosen).status_code == 303
    return target
