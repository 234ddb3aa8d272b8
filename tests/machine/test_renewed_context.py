"""A TLS context takes renewed files, refuses wrong ones in words, and disturbs no connection."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from backup_scp.errors import InvalidSettings
from backup_scp.machine import renewed_context
from backup_scp.machine.renewed_context import RenewedContext


@pytest.fixture
def clocked(monkeypatch):
    """Let it look at the files for each connection."""
    monkeypatch.setattr(renewed_context, "_LOOK_EVERY_S", 0.0)


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def files(tmp_path) -> list[Path]:
    return [tmp_path / "certificate.pem", tmp_path / "key.pem"]


def put(authority: trustme.CA, name: str, certificate: Path | None, key: Path | None) -> None:
    leaf = authority.issue_cert(name)
    if certificate is not None:
        leaf.cert_chain_pems[0].write_to_path(certificate)
    if key is not None:
        leaf.private_key_pem.write_to_path(key)


@pytest.fixture
def context(files, authority, clocked) -> RenewedContext:
    put(authority, "first.example", *files)

    def make() -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            made.load_cert_chain(*files)
        except (OSError, ssl.SSLError) as error:
            raise InvalidSettings(f"the pair cannot be used ({error})") from None
        return made

    return RenewedContext(make, files)


class Connection:
    """Both ends of a connection, in memory."""

    def __init__(self, context: ssl.SSLContext, authority: trustme.CA) -> None:
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname = False
        authority.configure_trust(trusting)
        inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = context.wrap_bio(inward, outward, server_side=True)
        self.client = trusting.wrap_bio(outward, inward)
        for _ in range(4):
            for end in (self.client, self.server):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue

    @property
    def name(self) -> str:
        shown: Any = self.client.getpeercert()
        return str(shown["subjectAltName"][0][1])


def test_new_connections_get_the_renewed_certificate_and_open_ones_go_on(context, files, authority, caplog):
    caplog.set_level(logging.INFO)
    earlier = Connection(context, authority)
    put(authority, "second.example", *files)
    later = Connection(context, authority)
    assert (earlier.name, later.name) == ("first.example", "second.example")
    earlier.client.write(b"still open")
    assert earlier.server.read() == b"still open"
    assert "was renewed" in caplog.text


def test_a_wrong_pair_is_refused_in_words_once_and_the_earlier_one_stays(context, files, authority, caplog):
    put(authority, "second.example", files[0], None)
    assert [Connection(context, authority).name for _ in range(3)] == ["first.example"] * 3
    (told,) = caplog.messages
    assert "cannot be used" in told
    assert "earlier certificate stays" in told
    put(authority, "third.example", *files)
    assert Connection(context, authority).name == "third.example"


def test_files_that_are_gone_for_a_moment(context, files, authority):
    gone = [file.rename(file.with_suffix(".old")) for file in files]
    assert Connection(context, authority).name == "first.example"
    for file, old in zip(files, gone, strict=True):
        old.rename(file)
    assert Connection(context, authority).name == "first.example"


def test_files_are_looked_at_once_a_second_at_most(context, files, authority, monkeypatch):
    monkeypatch.setattr(renewed_context, "_LOOK_EVERY_S", 1000.0)
    Connection(context, authority)
    put(authority, "second.example", *files)
    assert Connection(context, authority).name == "first.example"


def test_at_the_start_wrong_files_are_an_error(files, authority, tmp_path):
    def make() -> ssl.SSLContext:
        raise InvalidSettings("no such file")

    with pytest.raises(InvalidSettings, match="no such file"):
        RenewedContext(make, files)
