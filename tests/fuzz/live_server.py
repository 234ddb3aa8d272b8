"""A real Server with archive and index, and a sender that breaks the rules, on one connection after the other."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backup_scp.archive.filesystem import FilesystemArchive
from backup_scp.dimse.association.access import AccessPolicy
from backup_scp.dimse.association.association import LocalAE, Timing
from backup_scp.dimse.association.listener import ListenSettings
from backup_scp.dimse.association.negotiation import is_storage
from backup_scp.dimse.association.server import Server
from backup_scp.dimse.scp.service_table import services
from backup_scp.index.connection.migrate import upgrade
from backup_scp.index.sql_index import SQLIndex
from backup_scp.services.commitment import StorageCommitment
from backup_scp.services.ingest import Ingest
from backup_scp.watch.checkpoints import CheckpointThread
from tests.processes import LOOPBACK
from tests.system import raw_sender

_SHORT = Timing(connect_s=5, association_s=20, idle_s=20, network_s=20)
_GRACE_S = 5.0
_PATIENCE_S = 30.0


class _Rejections:
    """Counts nothing: every second association is refused."""

    def rejected(self, *_: str) -> bool:
        return False

    def succeeded(self, *_: str) -> None:
        pass


@dataclass(frozen=True)
class LiveServer:
    """A server that listens, as ``raw_sender`` wants an acceptor."""

    server: Server
    port: int
    host: str = LOOPBACK
    ae_title: str = "BACKUP_SCP"

    def send(self, pdus: Sequence[bytes]) -> tuple[float, int]:
        """Send PDUs and end that direction; return the seconds until the server has ended the other one, and its bytes.

        It must not wait for a peer that has said all.
        """
        answered = 0
        with socket.create_connection((self.host, self.port), _PATIENCE_S) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            began = time.monotonic()
            with contextlib.suppress(ConnectionError):  # the server may have aborted already
                connection.sendall(b"".join(pdus))
                connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while answer := connection.recv(1 << 16):
                    answered += len(answer)
            took_s = time.monotonic() - began
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # frees the port
        return took_s, answered

    def echo(self) -> float:
        """Return the seconds that a C-ECHO takes of a peer that keeps to the rules."""
        began = time.monotonic()
        assert raw_sender.echo(self), "the server answers no C-ECHO any more"
        return time.monotonic() - began


@contextlib.contextmanager
def live_server(folder: Path) -> Iterator[LiveServer]:
    """Run a server whose archive and index are in a folder."""
    url = f"sqlite:///{folder / 'index.sqlite'}"
    upgrade(url)
    with contextlib.closing(SQLIndex(url)) as index:
        archive, policy = FilesystemArchive(folder / "archive"), AccessPolicy(())
        rejections, ingest = _Rejections(), Ingest(archive, index)
        checkpoints = CheckpointThread(ingest)
        offered = services(
            archive,
            index,
            policy,
            LocalAE("BACKUP_SCP", _SHORT),
            StorageCommitment(archive, index, is_storage),
            rejections,
            ingest=ingest,
        )
        listening = ListenSettings(ae_title="BACKUP_SCP", host=LOOPBACK, port=0, timing=_SHORT)
        server = Server(listening, policy, offered, rejections)
        (port,) = server.start()
        checkpoints.start()
        try:
            yield LiveServer(server, port)
        finally:
            server.stop(_GRACE_S)
            checkpoints.stop()
