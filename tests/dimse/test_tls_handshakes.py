"""Handshakes of `openssl s_client` with the port for TLS: what BCP 195 (RFC 9325) allows is accepted, all else refused.

Accepted means that an A-ASSOCIATE-AC comes back: in TLS 1.3 a client is ready before the server has seen its
certificate.
"""

from __future__ import annotations

import datetime as dt
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from backup_scp.dimse.association.association import Timing
from backup_scp.dimse.upper_layer.tls import Credentials, acceptor_context
from tests.dimse.conftest import Running
from tests.dimse.wire import ASSOCIATE_AC, IMPLICIT, TIMEOUT_S, VERIFICATION, associate_rq
from tests.processes import wait_until
from tests.system.peers import require

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
REQUEST = associate_rq([(VERIFICATION, (IMPLICIT,))])
ACCEPTED, REFUSED = True, False
OLD = ("-cipher", "ALL:@SECLEVEL=0")

KEYS: dict[str, Callable[[], Any]] = {
    "RSA 1024": lambda: rsa.generate_private_key(65537, 1024),
    "RSA 2048": lambda: rsa.generate_private_key(65537, 2048),
    "RSA 3072": lambda: rsa.generate_private_key(65537, 3072),
    "RSA 4096": lambda: rsa.generate_private_key(65537, 4096),
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}
OF_NODES = [name for name in KEYS if name != "RSA 1024"]


@dataclass(frozen=True)
class KeyHolder:
    """A certificate with its key, in one PEM file."""

    file: Path
    key: Any
    certificate: x509.Certificate


class Issuer:
    """Issues certificates into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = self.issue("ca", "P-256", is_ca=True)

    def issue(
        self,
        name: str,
        key_type: str = "P-256",
        *,
        by: KeyHolder | None = None,
        is_ca: bool = False,
        until: dt.datetime = NOW + DAY,
        usage: x509.ObjectIdentifier | None = None,
    ) -> KeyHolder:
        key = KEYS[key_type]()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = by.key if by else key
        built = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(by.certificate.subject if by else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(until - 3 * DAY)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if usage is not None:
            built = built.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        certificate = built.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())
        file = self.folder / f"{name}.pem"
        form = serialization.Encoding.PEM
        written = key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file.write_bytes(written + certificate.public_bytes(form))
        return KeyHolder(file, key, certificate)

    def with_sha_1(self, party: KeyHolder) -> KeyHolder:
        """Sign a certificate again, as no library does any more."""
        openssl, ca = require("openssl"), str(self.ca.file)
        ask = [openssl, "req", "-new", "-key", str(party.file), "-subj", "/CN=console-sha1"]
        sign = [openssl, "x509", "-req", "-CA", ca, "-CAkey", ca, "-sha1", "-set_serial", "7", "-days", "1"]
        asked = subprocess.run(ask, check=True, capture_output=True).stdout
        signed = subprocess.run(sign, check=True, capture_output=True, input=asked).stdout
        key, _, _ = party.file.read_bytes().partition(b"-----BEGIN CERTIFICATE")
        party.file.write_bytes(key + signed)
        return party


@pytest.fixture(scope="module")
def issuer(tmp_path_factory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("handshakes"))


@pytest.fixture(scope="module")
def nodes(issuer) -> dict[str, KeyHolder]:
    """The node's certificate with each type of key."""
    return {name: issuer.issue(f"node {name}", name, by=issuer.ca) for name in OF_NODES}


@pytest.fixture(scope="module")
def clients(issuer) -> dict[str, KeyHolder]:
    """The certificates that a caller may show."""
    ca, stranger = issuer.ca, issuer.issue("strange ca", is_ca=True)
    return {
        "right": issuer.issue("console", by=ca),
        "RSA 2048": issuer.issue("console-rsa", "RSA 2048", by=ca),
        "Ed25519": issuer.issue("console-ed", "Ed25519", by=ca),
        "RSA 1024": issuer.issue("console-short", "RSA 1024", by=ca),
        "expired": issuer.issue("console-old", by=ca, until=NOW - DAY),
        "not yet": issuer.issue("console-new", by=ca, until=NOW + 4 * DAY),
        "SHA-1": issuer.with_sha_1(issuer.issue("console-sha1", by=ca)),
        "another CA": issuer.issue("console-strange", by=stranger),
        "self-signed": issuer.issue("console-self"),
        "for servers": issuer.issue("console-server", by=ca, usage=ExtendedKeyUsageOID.SERVER_AUTH),
    }


@pytest.fixture
def handshake(start_server, issuer, nodes, clients) -> Callable[..., bool]:
    """Return `handshake(options, key_type, client)`: whether the Association is accepted."""
    started: dict[str, Running] = {}

    def node(key_type: str) -> Running:
        if key_type not in started:
            file = nodes[key_type].file
            started[key_type] = start_server(tls=acceptor_context(Credentials(file, file, issuer.ca.file)))
        return started[key_type]

    def handshake(*options: str, key_type: str = "RSA 2048", client: str = "right", sent: bytes = REQUEST) -> bool:
        running = node(key_type)
        shown = ("-cert", str(clients[client].file)) if client else ()
        command = [require("openssl"), "s_client", "-quiet", "-no_ign_eof"]
        command += ["-connect", f"127.0.0.1:{running.secured_port}"]
        command += ["-CAfile", str(issuer.ca.file), "-verify_return_error", *shown, *options]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
            assert run.stdin is not None
            assert run.stdout is not None
            assert run.stderr is not None
            try:
                run.stdin.write(sent)
                run.stdin.flush()
            except BrokenPipeError:
                pass
            answer = run.stdout.read(1)
            run.kill()
            told = run.stderr.read().decode()
        assert answer in {b"", bytes([ASSOCIATE_AC])}, (answer, told)
        unknown = [words for words in ("unknown option", "Error with command", "Call to SSL_CONF_cmd") if words in told]
        assert not unknown, told
        if not answer:  # and it was the node that refused
            wait_until(lambda: running.rejections, TIMEOUT_S)
        return answer == bytes([ASSOCIATE_AC])

    return handshake


HANDSHAKES: dict[str, tuple[tuple[str, ...], bool]] = {
    # versions
    "what OpenSSL offers by itself": ((), ACCEPTED),
    "TLS 1.3": (("-tls1_3",), ACCEPTED),
    "TLS 1.2": (("-tls1_2",), ACCEPTED),
    "TLS 1.1": (("-tls1_1", *OLD), REFUSED),
    "TLS 1.0": (("-tls1", *OLD), REFUSED),
    "TLS 1.2 as a fallback": (("-tls1_2", "-fallback_scsv"), REFUSED),  # RFC 7507
    # cipher suites of TLS 1.3
    "AES-128-GCM": (("-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"), ACCEPTED),
    "AES-256-GCM": (("-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"), ACCEPTED),
    "ChaCha20": (("-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"), ACCEPTED),
    "AES-128-CCM-8": (("-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_8_SHA256"), REFUSED),
    # cipher suites of TLS 1.2
    "ECDHE-RSA AES-128-GCM": (("-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"), ACCEPTED),
    "ECDHE-RSA AES-256-GCM": (("-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"), ACCEPTED),
    "ECDHE-RSA ChaCha20": (("-tls1_2", "-cipher", "ECDHE-RSA-CHACHA20-POLY1305"), ACCEPTED),
    "ECDHE-ECDSA with a key for RSA": (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"), REFUSED),
    "ECDHE with CBC and SHA-256": (("-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA256"), REFUSED),
    "ECDHE with CBC and SHA-384": (("-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA384"), REFUSED),
    "ECDHE with CBC and SHA-1": (("-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA"), REFUSED),
    "ECDHE with Camellia": (("-tls1_2", "-cipher", "ECDHE-RSA-CAMELLIA128-SHA256"), REFUSED),
    "RSA key transport, AES-128-GCM": (("-tls1_2", "-cipher", "AES128-GCM-SHA256"), REFUSED),
    "RSA key transport, the AES profile of PS3.15": (("-tls1_2", "-cipher", "AES128-SHA:AES256-SHA"), REFUSED),
    "DHE with AES-128-GCM": (("-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"), REFUSED),  # RFC 9325 4.1
    "DHE with AES-256-GCM": (("-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384"), REFUSED),
    "DHE with CBC": (("-tls1_2", "-cipher", "DHE-RSA-AES256-SHA256"), REFUSED),
    "no encryption": (("-tls1_2", "-cipher", "NULL-SHA256:@SECLEVEL=0"), REFUSED),
    "no authentication": (("-tls1_2", "-cipher", "ADH-AES128-GCM-SHA256:@SECLEVEL=0"), REFUSED),
    "a shared secret": (("-tls1_2", "-cipher", "PSK", "-psk", "c0ffee"), REFUSED),
    # groups and signatures
    "X25519": (("-groups", "X25519"), ACCEPTED),
    "P-256": (("-groups", "P-256"), ACCEPTED),
    "P-384": (("-groups", "P-384"), ACCEPTED),
    "P-256 in TLS 1.2": (("-tls1_2", "-groups", "P-256"), ACCEPTED),
    "a group of 160 bits": (("-tls1_2", "-groups", "secp160r1", *OLD), REFUSED),
    "signatures with SHA-1 alone": (("-tls1_2", "-sigalgs", "RSA+SHA1", *OLD), REFUSED),
    "signatures with PSS": (("-tls1_2", "-sigalgs", "RSA-PSS+SHA256:ECDSA+SHA256"), ACCEPTED),
    # extensions
    "compression": (("-tls1_2", "-comp"), ACCEPTED),  # it is offered, and not taken
    "no tickets": (("-no_ticket",), ACCEPTED),
    "another name": (("-servername", "somebody.else.example"), ACCEPTED),
    "ALPN": (("-alpn", "dicom,h2"), ACCEPTED),
}


@pytest.mark.parametrize("what", HANDSHAKES)
def test_a_handshake(handshake, what):
    options, expected = HANDSHAKES[what]
    assert handshake(*options) is expected


def test_http_in_tls_is_aborted(handshake):
    with pytest.raises(AssertionError, match=r"b'\\x07'"):  # an A-ABORT
        handshake(sent=b"GET / HTTP/1.1\r\nHost: node\r\n\r\n")


CERTIFICATES = {
    "right": ACCEPTED,
    "RSA 2048": ACCEPTED,
    "Ed25519": ACCEPTED,
    "": REFUSED,
    "RSA 1024": REFUSED,
    "expired": REFUSED,
    "not yet": REFUSED,
    "SHA-1": REFUSED,
    "another CA": REFUSED,
    "self-signed": REFUSED,
    "for servers": REFUSED,
}


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("client", CERTIFICATES)
def test_a_client_certificate(handshake, version, client):
    options = (version, "-cipher", "DEFAULT:@SECLEVEL=0") if client in {"RSA 1024", "SHA-1"} else (version,)
    assert handshake(*options, client=client) is CERTIFICATES[client]


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("key_type", OF_NODES)
def test_a_key_of_the_node(handshake, version, key_type):
    assert handshake(version, key_type=key_type)


@pytest.fixture
def conversation(start_server, issuer, nodes, clients) -> Callable[..., str]:
    """Return `conversation(options, sent)`: what OpenSSL says while it sends these lines."""
    file = nodes["RSA 2048"].file
    context, soon = acceptor_context(Credentials(file, file, issuer.ca.file)), Timing(association_s=0.5)
    port = start_server(tls=context, timing=soon).secured_port

    def conversation(*options: str, sent: bytes = b"Q\n", client: str = "right") -> str:
        shown = ("-cert", str(clients[client].file)) if client else ()
        command = [require("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", *shown, *options]
        done = subprocess.run(
            command, input=sent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT_S, check=False
        )
        return done.stdout.decode(errors="replace")

    return conversation


def test_a_caller_cannot_renegotiate(conversation):
    told = conversation("-tls1_2", sent=b"R\n")
    assert "RENEGOTIATING" in told
    assert told.count("-----BEGIN CERTIFICATE-----") == 1  # of the first handshake alone


def test_compression_is_not_taken(conversation):
    assert "Compression: NONE" in conversation("-tls1_2", "-comp")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_session_of_nobody_cannot_be_resumed(conversation, tmp_path, version):
    """A ticket is given only after the certificate was good."""
    session = tmp_path / "session"
    conversation(version, "-sess_out", str(session), client="another CA")
    told = conversation(version, "-sess_in", str(session), client="") if session.exists() else "alert"
    assert "alert" in told
