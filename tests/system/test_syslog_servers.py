"""The audit log at real syslog servers over TLS, set up as docs/audit.md says: rsyslog and syslog-ng."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backup_scp.audit.audit_log import AuditLog
from backup_scp.audit.log_record import LogRecord, RecordKind
from backup_scp.audit.syslog_message import syslog_message
from backup_scp.audit.syslog_server import SyslogFailed, SyslogServer
from tests.audit_messages import messages_in
from tests.peer_certificates import CN, PeerAuthority
from tests.processes import LOOPBACK, ROOT, Process, connects, free_port, wait_until
from tests.samples import dx, encode
from tests.system.node import Node
from tests.unpacked_packages import unpacked

pytestmark = pytest.mark.system

MANY = 1000
AT = "2026-12-01T10:00:00.000000+00:00"


_ASKING = {
    'streamDriver.authMode="anon"': 'streamDriver.authMode="x509/certvalid"',
    "peer-verify(optional-untrusted)": "peer-verify(required-trusted)",
}
"""What the documentation says for a server that lets in only nodes with a certificate."""


class SyslogPeer:
    """A server with the configuration of the documentation, on a port and with files of its own."""

    def __init__(self, name: str, folder: Path, authority: PeerAuthority, *, asks: bool = False) -> None:
        self.file, self.port = folder / "dicom-audit.log", free_port()
        (told,) = re.findall(rf"```{name}\n(.*?)```", (ROOT / "docs/audit.md").read_text(), re.DOTALL)
        issued = authority.issue("server", (CN, "syslog"), names=("DNS:localhost", f"IP:{LOOPBACK}"))
        for here, there in (
            ("/etc/ssl/syslog/ca.pem", authority.ca),
            ("/etc/ssl/syslog/server.pem", issued.certificate),
            ("/etc/ssl/syslog/server-key.pem", issued.key),
            ("/var/log/dicom-audit.log", self.file),
            ("6514", self.port),
        ):
            assert here in told
            told = told.replace(here, str(there))
        if asks:
            (instead,) = [(open_, asking) for open_, asking in _ASKING.items() if open_ in told]
            told = told.replace(*instead)
        config = folder / f"{name}.conf"
        config.write_text(told)
        packages = unpacked(name)
        plugins = packages.folder / "usr/lib"
        argv = {
            "rsyslog": lambda: [packages.program("rsyslogd"), "-n", "-f", str(config), "-i", str(folder / "pid"),
                                "-M", str(next(plugins.glob("*/rsyslog")))],
            "syslog-ng": lambda: [packages.program("syslog-ng"), "-F", "--no-caps", "-f", str(config),
                                  "-R", str(folder / "persist"), "-p", str(folder / "pid"), "-c", str(folder / "ctl"),
                                  "--module-path", str(next(plugins.glob("syslog-ng/*")))],
        }[name]()  # fmt: skip
        self.process = Process(argv, folder / f"{name}.output", packages.environment())

    def start(self) -> None:
        self.process.launch(lambda: connects(self.port))

    @property
    def messages(self) -> list[bytes]:
        """The XML of each line."""
        lines = self.file.read_bytes().splitlines() if self.file.exists() else []
        return [line.partition(b" - \xef\xbb\xbf")[2] for line in lines]


@pytest.fixture
def authority(tmp_path) -> PeerAuthority:
    (tmp_path / "authority").mkdir()
    return PeerAuthority(tmp_path / "authority")


@pytest.fixture(params=["rsyslog", "syslog-ng"])
def peer(request, tmp_path, authority, processes) -> SyslogPeer:
    peer = SyslogPeer(request.param, tmp_path, authority)
    processes.add(peer.process)
    peer.start()
    return peer


def kept(node: Node) -> list[bytes]:
    return [message.encoded for message in messages_in(node.home / "audit")]


def has_all_with(study: str, peer: SyslogPeer, node: Node) -> bool:
    """Tell whether the server has the whole log, and that has a study."""
    log = kept(node)
    return any(study.encode() in message for message in log) and set(log) <= set(peer.messages)


def assert_has_all_of_it(peer: SyslogPeer, node: Node) -> None:
    """Each entry came at least once, byte for byte, and in order."""
    log = kept(node)
    there = set(log)
    assert [message for message in dict.fromkeys(peer.messages) if message in there] == log


def test_the_whole_log_arrives_also_after_the_server_was_dead(peer, authority, make_node):
    node = make_node(settings={"audit": {"syslog": f"tls://localhost:{peer.port}", "ca": str(authority.ca)}})
    log = AuditLog(node.home / "audit")  # of the years before
    for number in range(MANY):
        log.append(f"<AuditMessage n='{number}' more='{'x' * (7 * number)}'/>".encode())
    log.settle(is_end=True)
    assert "has read a message" in node.cli("audit", "test").stdout
    node.start()
    before, meanwhile, after = (encode(dx(study=name)) for name in ("before", "while it is off", "after"))
    node.send([before])
    uid = before.dataset().StudyInstanceUID
    wait_until(lambda: has_all_with(uid, peer, node), 60, what="the log of the years before, and of now")

    peer.process.kill()
    node.send([meanwhile])
    wait_until(lambda: "cannot be reached" in node.cli("status", exit_code=None).stdout, what="status tells it")
    assert "cannot be reached" in node.cli("audit", "test", exit_code=1).stdout
    peer.start()
    node.send([after])
    uid = after.dataset().StudyInstanceUID
    wait_until(lambda: has_all_with(uid, peer, node), 90, what="the server has the whole log again")
    assert_has_all_of_it(peer, node)
    assert "The syslog server takes the audit log again" in node.output
    assert "the audit log waits" not in node.cli("status", exit_code=None).stdout


@pytest.mark.parametrize("name", ["rsyslog", "syslog-ng"])
def test_a_server_that_does_not_trust_us_has_taken_nothing(name, tmp_path, authority, processes):
    """In TLS 1.3 it says so after our handshake has succeeded: an alert, and that is no end as we wait for."""
    peer = SyslogPeer(name, tmp_path, authority, asks=True)
    processes.add(peer.process)
    peer.start()
    (tmp_path / "other").mkdir()
    right, wrong = (each.issue("node", (CN, "node")) for each in (authority, PeerAuthority(tmp_path / "other")))
    message = syslog_message(LogRecord(1, AT, "", RecordKind.ENTRY, b"<A/>"), 1)

    for shown, said in (
        ((), "certificate required"),
        ((wrong.certificate, wrong.key), "unknown ca"),
    ):
        server = SyslogServer("localhost", peer.port, authority.ca, *shown)
        for messages in ([message], [message] * 2000):
            with pytest.raises(SyslogFailed, match=said) as told:
                server.send(messages)
            assert "certificate and key of [audit]" in told.value.fix
    SyslogServer("localhost", peer.port, authority.ca, right.certificate, right.key).send([message])
    wait_until(lambda: peer.messages, what="the message of the one that it trusts")
    assert peer.messages == [b"<A/>"]


@pytest.mark.parametrize("peer", ["rsyslog"], indirect=True)
def test_what_it_has_answered_it_has_written(peer, authority):
    """Also when it is killed at this moment: with its usual queue in memory it loses some, as syslog-ng seldom does."""
    server = SyslogServer("localhost", peer.port, authority.ca)
    sent: list[bytes] = []
    for _ in range(3):
        contents = [b"<A n='%d'>%b</A>" % (len(sent) + number, b"x" * 2000) for number in range(200)]
        server.send([syslog_message(LogRecord(1, AT, "", RecordKind.ENTRY, each), 1) for each in contents])
        peer.process.kill()
        sent += contents
        assert peer.messages == sent
        peer.start()


@pytest.mark.parametrize("peer", ["rsyslog"], indirect=True)
def test_a_server_that_is_not_trusted_gets_nothing(peer, tmp_path, start_node):
    other = tmp_path / "other"
    other.mkdir()
    ca = PeerAuthority(other).ca
    node = start_node(settings={"audit": {"syslog": f"tls://localhost:{peer.port}", "ca": str(ca)}})
    status = wait_until(
        lambda: found if "the audit log waits" in (found := node.cli("status", exit_code=None).stdout) else ""
    )
    assert "is not trusted" in status
    assert "ca of [audit]" in status
    assert not peer.messages
