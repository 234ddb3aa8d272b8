"""DICOM over TLS: BCP 195, certificates of both sides, and the same promises as without (PS3.15 B.12)."""

from __future__ import annotations

import dataclasses
import re
import socket
import ssl
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.dimse import wire
from tests.processes import LOOPBACK, connects, free_port, wait_until
from tests.samples import dx, encode, make_study, replace
from tests.system import raw_sender
from tests.system.contents import digests, staged, visible
from tests.system.node import Remote
from tests.system.peers import echoscu, findscu, movescu, storescu
from tests.system.raw_sender import contexts_of


@dataclass(frozen=True)
class Party:
    """One side's certificate and key, and the CA that it trusts: PEM files."""

    certificate: Path
    key: Path
    ca: Path

    @property
    def settings(self) -> dict[str, str]:
        return {"certificate": str(self.certificate), "key": str(self.key), "ca": str(self.ca)}

    @property
    def dcmtk(self) -> tuple[str, ...]:
        return ("+tls", str(self.key), str(self.certificate), "+cf", str(self.ca))

    @property
    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca))
        context.check_hostname = False
        context.load_cert_chain(self.certificate, self.key)
        return context


@dataclass
class Authority:
    """A CA that issues certificates into a folder."""

    folder: Path
    ca: trustme.CA

    def issue(self, name: str, **facts: Any) -> Party:
        leaf = self.ca.issue_cert(f"{name}.clinic.example", **facts)
        party = Party(*(self.folder / f"{name}.{kind}.pem" for kind in ("certificate", "key", "ca")))
        leaf.private_key_pem.write_to_path(party.key)
        for number, pem in enumerate(leaf.cert_chain_pems):
            pem.write_to_path(party.certificate, append=number > 0)
        self.ca.cert_pem.write_to_path(party.ca)
        return party


@dataclass(frozen=True)
class Port:
    """The port with TLS of a node, as a peer calls it."""

    port: int
    host: str = LOOPBACK
    ae_title: str = "BACKUP_SCP"


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path, trustme.CA())


@pytest.fixture
def console(authority) -> Party:
    return authority.issue("console")


@pytest.fixture
def start_secured(make_node, authority):
    """Return `start_secured(remotes=..., tls=...)`: a node with TLS, and that port of it."""

    def start(*, remotes=(), **tls):
        port = Port(free_port())
        settings = authority.issue("node").settings | {"port": port.port} | tls
        node = make_node(remotes=remotes, settings={"tls": settings})
        node.start()
        wait_until(lambda: connects(port.port), what="the port with TLS")
        return node, port

    return start


def echoes(port: Port, context: ssl.SSLContext) -> bool:
    with raw_sender.Association(port, tls=context) as caller:
        return caller.echo() == 0


def test_dcmtk_stores_finds_and_is_sent_to(start_secured, start_storescp, console, tmp_path):
    sink = start_storescp(options=("+xa", *console.dcmtk))
    node, port = start_secured(remotes=[dataclasses.replace(sink.remote, tls=True)])
    make_study(tmp_path / "study", patients=1, studies=1, instances=4)

    echoscu(port, *console.dcmtk)
    storescu(port, tmp_path / "study", options=console.dcmtk)
    found = findscu(port, "STUDY", {"PatientID": "", "StudyInstanceUID": ""}, options=console.dcmtk)
    moved = movescu(node, "SINK", "STUDY", {"StudyInstanceUID": found[0].StudyInstanceUID})  # it knows no TLS itself

    assert (len(found), moved.status, moved.completed) == (1, 0, 4)
    assert digests(visible(node)) == digests(sink.files())
    node.cli("echo", "sink")
    node.cli("restore", "--to", "sink", "--all")
    assert len(sink.files()) == 8


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_both_versions_and_an_object_larger_than_every_buffer(start_secured, console, version):
    node, port = start_secured()
    context = console.context
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    large = encode(replace(dx(), PixelData=bytes(range(256)) * 40_000))

    with raw_sender.Association(port, contexts_of(large), tls=context) as sender:
        answer = sender.store(large)

    assert (answer.status, digests(visible(node))) == (0, {large.sha256: 1})


def test_what_is_cut_off_leaves_nothing(start_secured, console):
    node, port = start_secured()
    sample = encode(dx())
    for end in ("abort", "reset"):
        sender = raw_sender.Association(port, contexts_of(sample), tls=console.context)
        sender.begin_store(sample)
        sender.send_data(sample, sample.data_set[:1000])
        getattr(sender, end)()
        sender.socket.close()

    wait_until(lambda: staged(node) == [], what="the staged files being gone")
    assert visible(node) == []
    assert raw_sender.send(node, [sample])[0].status == 0


def test_a_caller_that_says_nothing_holds_up_nobody(start_secured, console):
    _, port = start_secured()
    silent = [socket.create_connection((port.host, port.port)) for _ in range(5)]
    assert echoes(port, console.context)
    for connection in silent:
        connection.close()


def _old(console: Party) -> ssl.SSLContext:
    context = console.context
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def _weak(console: Party) -> ssl.SSLContext:
    context = console.context
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")
    return context


def _without_certificate(console: Party) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(console.ca))
    context.check_hostname = False
    return context


def _expired(_: Party, authority: Authority) -> ssl.SSLContext:
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    return authority.issue("expired", not_before=long_ago, not_after=datetime(2021, 1, 1, tzinfo=UTC)).context


def _foreign(console: Party, tmp_path: Path) -> ssl.SSLContext:
    (tmp_path / "foreign").mkdir()
    foreign = Authority(tmp_path / "foreign", trustme.CA()).issue("stranger")
    return dataclasses.replace(foreign, ca=console.ca).context


CALLERS: dict[str, tuple[Callable[..., ssl.SSLContext | None], str]] = {
    "TLS 1.1": (lambda c, *_: _old(c), "no TLS 1.2 or newer"),
    "no forward secrecy": (lambda c, *_: _weak(c), "no cipher suite of BCP 195"),
    "no certificate": (lambda c, *_: _without_certificate(c), "shows no certificate"),
    "expired": (lambda c, a, _: _expired(c, a), "its certificate has expired"),
    "another CA": (lambda c, _, t: _foreign(c, t), "is not from our CA"),
    "no TLS": (lambda *_: None, "does not speak TLS"),
}


@pytest.mark.parametrize("caller", CALLERS)
def test_who_is_turned_away_and_what_status_says_of_it(start_secured, authority, console, tmp_path, caller):
    node, port = start_secured()
    make, reason = CALLERS[caller]

    with pytest.raises((OSError, raw_sender.AssociationRefusedError, AssertionError)):
        raw_sender.Association(port, tls=make(console, authority, tmp_path))

    def noted():
        return [each for each in node.json("status", exit_code=None)["rejections"] if reason in each["reason"]]

    (rejection,) = wait_until(noted, what="the rejection in status")
    assert (rejection["address"], rejection["count"]) == (LOOPBACK, 1)
    assert rejection["fix"]
    assert echoes(port, console.context)


def test_without_a_ca_anyone_may_call_and_the_plain_port_stays(start_secured, console):
    node, port = start_secured(ca="")
    assert echoes(port, _without_certificate(console))
    assert node.echo()


def test_a_destination_that_is_not_who_it_should_be(start_secured, start_storescp, console, tmp_path):
    (tmp_path / "foreign").mkdir()
    stranger = Authority(tmp_path / "foreign", trustme.CA()).issue("stranger")
    sink = start_storescp(options=("+xa", *dataclasses.replace(stranger, ca=console.ca).dcmtk))
    node, _ = start_secured(remotes=[dataclasses.replace(sink.remote, tls=True)])

    told = node.cli("echo", "sink", exit_code=None)

    assert told.returncode
    assert "certificate" in told.stderr


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ({"certificate": "nowhere.pem"}, "No such file"),
        ({"key": ""}, "PEM files"),
        ({"ca": "nowhere.pem"}, "ca .*nowhere.pem cannot be used"),
    ],
)
def test_files_that_cannot_be_used(make_node, authority, spoil, words):
    settings = authority.issue("node").settings | spoil
    told = make_node(settings={"tls": settings}).cli("serve", exit_code=None)
    assert told.returncode
    assert "[tls]" in told.stderr
    assert re.search(words, told.stderr)


def test_a_remote_ae_that_has_to_use_tls(start_secured, console):
    """Its calls without TLS are rejected, logged and shown with the fix; those of others are not."""
    remote = Remote("console", "CONSOLE", free_port(), tls="required")
    node, port = start_secured(remotes=[remote])
    with pytest.raises(raw_sender.AssociationRefusedError) as refused:
        raw_sender.Association(node, calling="CONSOLE")
    assert refused.value.args == (wire.ASSOCIATE_RJ, 1, 1, 1)
    with raw_sender.Association(node, calling="ANOTHER") as other:
        assert other.echo() == 0
    with raw_sender.Association(port, calling="CONSOLE", tls=console.context) as caller:
        assert caller.echo() == 0
    fix = f"let it call port {port.port} with TLS"
    line = f"'CONSOLE' at 127.0.0.1 rejected: remote AE console has tls = required, and it called without TLS; {fix}"
    assert line in node.output


def test_a_node_without_a_plain_port(make_node, authority, console):
    port = Port(free_port())
    tls = authority.issue("node").settings | {"port": port.port}
    node = make_node(settings={"node": {"plain": False}, "tls": tls})
    node.write_settings()
    node.process.launch(lambda: connects(port.port), 60)
    assert echoes(port, console.context)
    echoscu(port, *console.dcmtk)
    assert not connects(node.port)
    assert f"is ready: AE title BACKUP_SCP, with TLS port {port.port} on " in node.output
    with pytest.raises((ConnectionError, raw_sender.AssociationRefusedError)):
        raw_sender.Association(port)
