"""The log goes to a syslog server in order, each entry at least once; a server that dies has taken nothing."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from backup_scp.audit import audit_log
from backup_scp.audit.audit_log import AuditLog
from backup_scp.audit.log_forwarding import ForwardState, LogForwarding
from backup_scp.audit.syslog_server import SyslogFailed, SyslogServer
from tests.peer_certificates import CN, PeerAuthority, PeerCertificate
from tests.processes import LOOPBACK


@dataclass
class Reader:
    """A server that reads frames over TLS; a test says how it ends a connection."""

    certificate: PeerCertificate
    asks_for: Path | None = None
    dies: bool = False
    breaks_off: bool = False  # after it has read all, without close_notify: as a process that is killed
    messages: list[bytes] = field(default_factory=list)
    port: int = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[Reader]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.asks_for)
        context.load_cert_chain(self.certificate.certificate, self.certificate.key)
        context.verify_mode = ssl.CERT_REQUIRED if self.asks_for else ssl.CERT_NONE
        with socket.create_server((LOOPBACK, 0)) as listening:
            self.port = listening.getsockname()[1]
            thread = threading.Thread(target=self._serve, args=(listening, context))
            thread.start()
            try:
                yield self
            finally:
                listening.shutdown(socket.SHUT_RDWR)
                thread.join()

    def _serve(self, listening: socket.socket, context: ssl.SSLContext) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection, contextlib.suppress(OSError):
                    if self.dies:
                        self._reset(connection, context)
                    else:
                        self._read(context.wrap_socket(connection, server_side=True))

    def _reset(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        """Die with unread bytes: the system then resets the connection."""
        secured = context.wrap_socket(connection, server_side=True)
        secured.recv(1)
        secured.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        secured.close()

    def _read(self, secured: ssl.SSLSocket) -> None:
        data = b""
        with secured:
            while part := secured.recv(1 << 16):
                data += part
            while data:
                length, _, rest = data.partition(b" ")
                self.messages.append(rest[: int(length)])
                data = rest[int(length) :]
            if not self.breaks_off:
                secured.unwrap()

    @property
    def numbers(self) -> list[int]:
        return [int(message.rpartition(b"n='")[2].partition(b"'")[0]) for message in self.messages]


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> PeerAuthority:
    return PeerAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def reader(authority):
    issued = authority.issue("server", (CN, "syslog"), names=(f"IP:{LOOPBACK}",))
    with Reader(issued).running() as running:
        yield running


@pytest.fixture
def log(tmp_path) -> AuditLog:
    return AuditLog(tmp_path / "audit")


@pytest.fixture
def forward(tmp_path, authority, reader):
    """Return `forward()`: a new process that sends all that is due."""

    def forward(**other) -> LogForwarding:
        server = SyslogServer(LOOPBACK, other.pop("port", reader.port), other.pop("ca", authority.ca), **other)
        forwarding = LogForwarding(tmp_path / "audit", server)
        while forwarding.send_some():
            pass
        return forwarding

    return forward


def add(log: AuditLog, *numbers: int) -> None:
    for number in numbers:
        log.append(f"<AuditMessage n='{number}'/>".encode())
    log.settle(is_end=True)  # a signature, which is no message


def test_each_entry_once_in_order_also_after_a_restart(log, reader, forward, monkeypatch):
    monkeypatch.setattr(audit_log, "_LONGEST_FILE", 50_000)  # several files
    add(log, *range(700))
    forwarding = forward()
    assert reader.numbers == list(range(700))
    add(log, 700, 701)
    while forwarding.send_some():
        pass
    add(log, 702)
    forward()
    assert reader.numbers == list(range(703))
    forward()
    assert len(reader.messages) == 703


def test_a_server_that_dies_gets_it_again(log, reader, forward, tmp_path):
    add(log, *range(300))
    reader.dies = True
    for _ in range(2):
        with pytest.raises(SyslogFailed, match="cannot be reached"):
            forward()
    noted = ForwardState.load(tmp_path / "audit")
    assert (noted.number, noted.at) == (0, None)
    assert noted.since is not None
    reader.dies = False
    forward()
    assert reader.numbers == list(range(300))
    noted = ForwardState.load(tmp_path / "audit")
    assert (noted.trouble, noted.since) == ("", None)
    assert noted.number > 300  # with the signatures


def test_trouble_counts_from_its_beginning(log, reader, forward, tmp_path):
    add(log, 1)
    reader.dies = True
    with pytest.raises(SyslogFailed):
        forward()
    began = ForwardState.load(tmp_path / "audit").since
    reader.dies = False
    with pytest.raises(SyslogFailed, match="not trusted"):
        forward(ca=None)
    noted = ForwardState.load(tmp_path / "audit")
    assert noted.since == began
    assert "not trusted" in noted.trouble


def test_the_end_of_tcp_alone_is_no_answer(log, forward, reader):
    log.append(b"<A n='1'/>")
    reader.breaks_off = True
    with pytest.raises(SyslogFailed, match="broke off"):
        forward()
    reader.breaks_off = False
    forward()
    assert reader.numbers == [1, 1]


def test_another_server_gets_the_whole_log(log, reader, forward, authority):
    add(log, 1, 2)
    forward()
    with Reader(reader.certificate).running() as other:
        forward(port=other.port)
        assert other.numbers == [1, 2]


def test_a_line_that_is_being_written_waits(log, reader, forward, tmp_path):
    add(log, 1)
    (file,) = (tmp_path / "audit").glob("audit-*.log")
    with file.open("ab") as stream:
        stream.write(b"3 2026-03-02T12:00:00")
    forwarding = forward()
    assert reader.numbers == [1]
    add(log, 2)  # sets the cut line apart
    while forwarding.send_some():
        pass
    assert reader.numbers == [1, 2]


def test_a_line_that_somebody_has_changed_holds_nothing_up(log, reader, forward, tmp_path):
    add(log, 1, 2, 3)
    (file,) = (tmp_path / "audit").glob("audit-*.log")
    lines = file.read_bytes().splitlines(keepends=True)
    lines[1] = b"nothing was done here\n"
    file.write_bytes(b"".join(lines))
    forward()
    assert reader.numbers == [1, 3]


def test_a_log_that_has_lost_its_end_is_sent_again(log, reader, forward, tmp_path):
    add(log, 1, 2, 3)
    forward()
    (file,) = (tmp_path / "audit").glob("audit-*.log")
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:2]))
    forward()
    assert reader.numbers == [1, 2, 3, 1, 2]


def test_an_empty_log_needs_no_server(forward, tmp_path):
    forward(port=1)
    assert not (tmp_path / "audit").exists()


class TestWhatIsWrong:
    """In words, each with what to do."""

    def failure(self, server: SyslogServer) -> SyslogFailed:
        with pytest.raises(SyslogFailed) as told:
            server.send([b"<85>1 - - - - - -"])
        assert told.value.fix
        return told.value

    def test_another_authority(self, reader, tmp_path):
        told = self.failure(SyslogServer(LOOPBACK, reader.port, PeerAuthority(tmp_path).ca))
        assert "is not trusted" in str(told)
        assert "in ca of [audit]" in told.fix

    def test_another_name(self, reader, authority):
        told = self.failure(SyslogServer("localhost", reader.port, authority.ca))
        assert str(told) == "the certificate of the syslog server is not of the name localhost"

    def test_a_server_that_asks_for_a_certificate(self, reader, authority):
        with Reader(reader.certificate, authority.ca).running() as strict:
            told = self.failure(SyslogServer(LOOPBACK, strict.port, authority.ca))
            assert "certificate and key of [audit]" in told.fix
            ours = authority.issue("ours", (CN, "node"))
            SyslogServer(LOOPBACK, strict.port, authority.ca, ours.certificate, ours.key).send([b"<85>1 n='5'"])
            assert strict.numbers == [5]

    def test_a_port_without_tls(self, authority):
        with socket.create_server((LOOPBACK, 0)) as plain:
            thread = threading.Thread(target=_greet, args=(plain,))
            thread.start()
            told = self.failure(SyslogServer(LOOPBACK, plain.getsockname()[1], authority.ca))
            thread.join()
        assert "does not speak TLS" in str(told)

    def test_a_key_with_a_password(self, reader, authority, tmp_path):
        ours = authority.issue("with a password", (CN, "node"))
        key = load_pem_private_key(ours.key.read_bytes(), None)
        locked = BestAvailableEncryption(b"secret")
        (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
        server = SyslogServer(LOOPBACK, reader.port, authority.ca, ours.certificate, tmp_path / "key.pem")
        assert "without a password" in str(self.failure(server))

    @pytest.mark.parametrize("content", [None, b"no certificate"])
    def test_files_that_are_none(self, reader, tmp_path, content):
        file = tmp_path / "ca.pem"
        if content is not None:
            file.write_bytes(content)
        told = self.failure(SyslogServer(LOOPBACK, reader.port, file))
        assert "files of [audit] cannot be used" in str(told)


def _greet(plain: socket.socket) -> None:
    connection, _ = plain.accept()
    with connection:
        connection.recv(1)
        connection.sendall(b"220 mail.example ESMTP\r\n")
        with contextlib.suppress(OSError):
            while connection.recv(1 << 12):
                pass
