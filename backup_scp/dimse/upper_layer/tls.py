"""Create TLS contexts for Associations in both roles (PS3.15 B.12, BCP 195).

TLS 1.2 and 1.3 with authenticated encryption and forward secrecy, nothing older.  The peer's certificate is checked,
but no host name in it: DICOM nodes are configured by address (docs/adr/0020).
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backup_scp.dimse.upper_layer.tls_faults import tls_reason
from backup_scp.errors import InvalidSettings
from backup_scp.machine import clock

_CIPHERS_OF_1_2 = "ECDHE+AESGCM:ECDHE+CHACHA20"  # no DHE: RFC 9325 4.1; TLS 1.3 has no others
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_MOST_FLIGHTS = 10  # limit for a handshake; TLS 1.2 has four flights


@dataclass(frozen=True, slots=True)
class Credentials:
    """PEM files with our certificate and the trusted CAs.

    Attributes
    ----------
    certificate, key
        Our certificate, followed by intermediate certificates in the same file, and its key.
    ca
        Certificates of the CAs that we trust; None when any caller may connect.
    section
        The section of the settings that names them, for messages.
    """

    certificate: Path
    key: Path
    ca: Path | None = None
    section: str = "[tls]"

    @property
    def files(self) -> list[Path]:
        """All files."""
        return [self.certificate, self.key, *([self.ca] if self.ca else [])]


def acceptor_context(credentials: Credentials) -> ssl.SSLContext:
    """Create the TLS context of incoming Associations; a caller needs a certificate when there is a CA.

    Raises
    ------
    InvalidSettings
        A file cannot be used.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, credentials)
    context.verify_mode = ssl.CERT_REQUIRED if credentials.ca else ssl.CERT_NONE
    return context


def requestor_context(credentials: Credentials) -> ssl.SSLContext:
    """Create the TLS context of outgoing Associations, for peers with a certificate of a CA that we trust.

    Raises
    ------
    InvalidSettings
        A file cannot be used.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, credentials)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _context(protocol: int, credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS_OF_1_2)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # A peer may end its direction without a TLS alert: we can still send an A-ABORT, and DICOM detects cut messages.
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    try:
        context.load_cert_chain(credentials.certificate, credentials.key, password=_no_password)
    except (OSError, ValueError) as error:
        raise InvalidSettings(
            f"{credentials.section} certificate {credentials.certificate} with key {credentials.key} cannot be used "
            f"({_mixed_up(credentials) or _reason(error)}): both are PEM files, the key without a password"
        ) from None
    if credentials.ca is not None:
        try:
            context.load_verify_locations(credentials.ca)
        except (OSError, ValueError) as error:
            raise InvalidSettings(
                f"{credentials.section} ca {credentials.ca} cannot be used ({_reason(error)}): it is a PEM file of "
                "certificates"
            ) from None
    return context


def first_end(credentials: Credentials) -> tuple[datetime, str]:
    """Return when the first of our certificate and the CAs ends, and which that is, after a handshake with ourselves.

    Raises
    ------
    InvalidSettings
        The certificate cannot be used, has expired, or is not valid yet; or a certificate of ``ca`` has expired.
    """
    ours = Credentials(credentials.certificate, credentials.key)
    client = _context(ssl.PROTOCOL_TLS_CLIENT, ours)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # trust our own certificate, whoever signed it
    client.load_verify_locations(credentials.certificate)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        client.wrap_bio(to_client, to_server),
        acceptor_context(ours).wrap_bio(to_server, to_client, server_side=True),
    )
    try:
        for _ in range(_MOST_FLIGHTS):
            for side in sides:
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        sentence = f"{_named(credentials)}: {error.verify_message}; renew it, or set the clock"
        raise InvalidSettings(sentence) from None
    shown = sides[0].getpeercert()
    assert shown is not None, "the handshake has ended"  # noqa: S101 - for the type checker
    trusted = f"{credentials.section} ca {credentials.ca}"
    ends = [(end, trusted) for end in _ends_of_authorities(credentials)]
    return min([(_not_after(shown), _named(credentials)), *ends])


def _named(credentials: Credentials) -> str:
    return f"{credentials.section} certificate {credentials.certificate}"


def _ends_of_authorities(credentials: Credentials) -> list[datetime]:
    """Return the dates on which the certificates of ``ca`` expire; afterwards no peer is accepted."""
    if credentials.ca is None:
        return []
    ends = [_not_after(authority) for authority in acceptor_context(credentials).get_ca_certs()]
    if any(end < clock.now() for end in ends):
        raise InvalidSettings(f"{credentials.section} ca {credentials.ca}: a certificate in it has expired; renew it")
    return ends


def _not_after(certificate: Mapping[str, Any]) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)


def _mixed_up(credentials: Credentials) -> str:
    """Return a sentence when the files of key and certificate are exchanged; otherwise empty."""
    with contextlib.suppress(OSError):
        if _CERTIFICATE not in credentials.certificate.read_bytes():
            exchanged = credentials.key.is_file() and _CERTIFICATE in credentials.key.read_bytes()
            return "certificate and key are exchanged" if exchanged else "there is no certificate in the first"
    return ""


def _no_password() -> str:
    """Raise instead of asking for a password: nobody is there to type it."""
    raise ValueError("the key has a password")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return tls_reason(error)
    return getattr(error, "strerror", None) or str(error)
