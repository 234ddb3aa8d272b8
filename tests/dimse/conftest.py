"""A real Server on a free port; no thread or socket of it survives a test."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from backup_scp.archive.filesystem import FilesystemArchive
from backup_scp.dicom.file_meta import Heading
from backup_scp.dimse.association.access import AccessPolicy
from backup_scp.dimse.association.association import Association, Context, LocalAE, Timing
from backup_scp.dimse.association.listener import ListenSettings
from backup_scp.dimse.association.negotiation import VERIFICATION, is_storage
from backup_scp.dimse.association.request_dispatch import Service
from backup_scp.dimse.association.server import Server
from backup_scp.dimse.messages.command_set import CommandSet, Element, Field, response
from backup_scp.dimse.scp.service_table import services as real_services
from backup_scp.dimse.scp.verification_scp import VerificationSCP
from backup_scp.dimse.upper_layer import UpperLayer
from backup_scp.dimse.upper_layer.state_table import PDU_EVENTS
from backup_scp.index.connection.migrate import upgrade
from backup_scp.index.sql_index import SQLIndex
from backup_scp.ports import Arrival, RemoteAE
from backup_scp.services.commitment import StorageCommitment
from backup_scp.services.ingest import Ingest
from backup_scp.services.permissions import Right
from tests.dimse.destination import Destination
from tests.dimse.wire import ABORT, ASSOCIATE_RQ, TIMEOUT_S, Peer, item, items, pdu
from tests.processes import wait_until
from tests.pynetdicom_answers import keep_answers
from tests.pynetdicom_sockets import close_forgotten_sockets

close_forgotten_sockets()
keep_answers()
PATIENT = Timing(connect_s=10, association_s=TIMEOUT_S, idle_s=TIMEOUT_S, network_s=TIMEOUT_S)


@dataclass
class Sink:
    """A Storage SCP that only notes what it got."""

    stored: list[tuple[str, bytes]] = field(default_factory=list)
    voided: list[int] = field(default_factory=list)  # bytes of Data Sets that did not come to their end
    began: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def serve(self, association: Association, context: Context, command: CommandSet) -> None:
        received = bytearray()
        complete = False
        self.began.set()
        try:
            for part in association.data_set():
                received += part
            complete = True
        finally:
            if not complete:
                self.voided.append(len(received))
            self.ended.set()
        self.stored.append((command.text(Element.AFFECTED_SOP_INSTANCE_UID), bytes(received)))
        association.send(context.context_id, response(command, 0))


@dataclass
class Recorder:
    """Records rejected callers and successes."""

    rejections: list[tuple[str, ...]] = field(default_factory=list)
    successes: list[tuple[str, ...]] = field(default_factory=list)

    def rejected(self, *facts: str) -> bool:
        self.rejections.append(facts)
        return True

    def succeeded(self, *facts: str) -> None:
        self.successes.append(facts)


@dataclass
class Running:
    """A server under test."""

    server: Server
    port: int
    rejections: list[tuple[str, ...]]
    sink: Sink
    secured_port: int = 0
    host: str = "127.0.0.1"
    ae_title: str = "BACKUP_SCP"

    def peer(self, *contexts: tuple[str, tuple[str, ...]], **request: Any) -> Peer:
        """Open an association."""
        return Peer.associated(self.port, *([contexts] if contexts else []), **request)


def establish(layer: UpperLayer, answer: bytes = b"", peer_maximum_length: int = 0) -> None:
    """Let an acceptor's layer have read a request, and accept it."""
    layer.happen(PDU_EVENTS[ASSOCIATE_RQ])
    layer.accept(answer, peer_maximum_length)


def threads() -> list[threading.Thread]:
    ours = {"association", "spare", "listener", "closing"}
    return [thread for thread in threading.enumerate() if thread.name in ours]


def associations_ended() -> None:
    """Wait until no association is under way; the threads that served them may be kept for others."""
    wait_until(lambda: not [thread for thread in threads() if thread.name == "association"], TIMEOUT_S)


def sockets() -> list[str]:
    """Return the sockets that this process has open."""
    names = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.append(str(descriptor.readlink()))
    return sorted(name for name in names if name.startswith("socket:"))


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    """Check that no thread or socket of a test is left; fixtures that start some use it."""
    before = sockets()
    yield
    for thread in threads():
        thread.join(TIMEOUT_S)
    assert threads() == []
    assert sockets() == before


@pytest.fixture
def destination(leaves_nothing) -> Iterator[Callable[..., Destination]]:
    """Return ``destination(**behaviour)``: it runs, see ``Destination``."""
    made: list[Destination] = []

    def make(**behaviour: Any) -> Destination:
        made.append(Destination(**behaviour))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def start_server(leaves_nothing, sink, recorder) -> Iterator[Callable[..., Running]]:
    """Yield ``start_server(services, remotes, **listening)``; by default with C-ECHO and a sink."""
    started: list[Running] = []

    def start(services=None, remotes=(), reporter=None, **listening) -> Running:
        listening = {"timing": PATIENT, **listening}
        served = {
            Field.C_ECHO_RQ: Service(VERIFICATION.__eq__, VerificationSCP().serve, Right.ECHO),
            Field.C_STORE_RQ: Service(is_storage, sink.serve, Right.STORE),
        } | (services or {})
        policy = AccessPolicy(remotes, trust_this_machine=listening.pop("trust_this_machine", True))
        identification = listening.pop("identification", None)
        server = Server(
            ListenSettings("BACKUP_SCP", listening.pop("host", "127.0.0.1"), 0, **listening),
            policy,
            served,
            recorder,
            reporter=reporter,
            identification=identification,
        )
        ports = server.start()
        running = Running(server, ports[0], recorder.rejections, sink, ports[-1])
        started.append(running)
        return running

    yield start
    for running in started:
        running.server.stop(0)


@pytest.fixture
def server(start_server) -> Running:
    return start_server()


@pytest.fixture
def secured() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return what a node's connections are secured with, and those of its callers."""
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    theirs.check_hostname = False
    authority = trustme.CA()
    authority.configure_trust(theirs)
    authority.issue_cert("node.clinic.example").configure_cert(ours)
    return ours, theirs


@dataclass
class OpenStores:
    """A real archive and index, and how to serve them."""

    folder: Path
    archive: FilesystemArchive
    index: SQLIndex
    recorder: Recorder

    def services(self, remotes: tuple[RemoteAE, ...] = (), timing: Timing = PATIENT, **query_retrieve: bool):
        policy = AccessPolicy(remotes)
        commitment = StorageCommitment(self.archive, self.index, is_storage)
        local = LocalAE("BACKUP_SCP", timing)
        ingest = Ingest(self.archive, self.index)
        return real_services(
            self.archive, self.index, policy, local, commitment, self.recorder, ingest=ingest, **query_retrieve
        )

    def staged(self) -> list[Path]:
        """Return the staged files that have bytes, and no visible name."""
        found = {path: path.stat() for path in (self.folder / ".staging").rglob("*.dcm")}
        return sorted(path for path, now in found.items() if now.st_size and now.st_nlink == 1)

    def kept(self) -> list[Path]:
        """Return the visible files."""
        return [path for path in sorted(self.folder.rglob("*.dcm")) if ".staging" not in path.parts]


@pytest.fixture
def storage(tmp_path, recorder) -> Iterator[OpenStores]:
    url = f"sqlite:///{tmp_path / 'index.sqlite'}"
    upgrade(url)
    index = SQLIndex(url)
    yield OpenStores(tmp_path / "archive", FilesystemArchive(tmp_path / "archive"), index, recorder)
    index.close()


@pytest.fixture
def holding(storage):
    """Take instances in."""

    def take(*some):
        ingest = Ingest(storage.archive, storage.index)
        for sample in some:
            staged = ingest.begin(Heading(sample.sop_class_uid, sample.sop_instance_uid, sample.transfer_syntax_uid))
            staged.write(sample.data_set)
            ingest.accept(staged, Arrival(datetime.now(UTC), "IMPORT"))

    return take


class Other(Peer):
    """The acceptor's side of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.settimeout(TIMEOUT_S)

    def accept_association(
        self, *, maximum_length: int = 0, answers: dict[int, tuple[int, str]] | None = None, user: bytes = b""
    ) -> None:
        """Accept every context in its first Transfer Syntax, or answer as given; ``user`` follows our own items."""
        kind, body = self.pdu()
        assert kind == 1
        proposed = {}
        for sub, content in items(body[68:]):
            if sub == 0x20:
                proposed[content[0]] = next(value for k, value in items(content[4:]) if k == 0x40).decode()
        results = answers if answers is not None else {context: (0, syntax) for context, syntax in proposed.items()}
        context_items = b"".join(
            item(0x21, bytes((context, 0, result, 0)) + item(0x40, syntax.encode()))
            for context, (result, syntax) in results.items()
        )
        user = item(0x50, item(0x51, struct.pack(">I", maximum_length)) + item(0x52, b"1.2.3") + user)
        self.send(pdu(2, body[:68] + item(0x10, b"1.2.840.10008.3.1.1.1") + context_items + user))


@pytest.fixture
def acceptor(leaves_nothing) -> Iterator[Callable[[Callable[[Other], None]], int]]:
    """Yield ``acceptor(behave)``: a listener whose one connection is handed to ``behave``; it returns the port."""
    running: list[tuple[socket.socket, threading.Thread]] = []
    errors: list[BaseException] = []

    def start(behave: Callable[[Other], None]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))

        def run() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(ConnectionError):
                try:
                    behave(Other(connection))
                except AssertionError as error:
                    errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        running.append((listener, thread))
        return int(listener.getsockname()[1])

    yield start
    for listener, thread in running:
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()
        listener.close()
    assert errors == []


def until_closed(other: Other) -> None:
    """Read until the association is aborted or the connection closed."""
    while other.pdu()[0] != ABORT:
        pass
