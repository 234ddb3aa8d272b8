"""An authority that issues certificates with any subject and any alternative names."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

CN, ORGANIZATION = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class PeerCertificate:
    """PEM files of a certificate and its key."""

    certificate: Path
    key: Path
    fingerprint: str


class PeerAuthority:
    """A CA whose files are in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(CN, f"authority {folder.name}")])
        is_ca = x509.BasicConstraints(ca=True, path_length=0)
        builder = self._builder(self._name, self._key, _DAY).add_extension(is_ca, critical=True)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def issue(
        self,
        file: str,
        *subject: tuple[x509.ObjectIdentifier, str],
        names: tuple[str, ...] = (),
        ends: timedelta = _DAY,
    ) -> PeerCertificate:
        """Issue a certificate; names are ``DNS:``, ``IP:`` or ``URI:`` and a value."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(kind, value) for kind, value in subject])
        builder = self._builder(name, key, ends)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general, names))), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        made = PeerCertificate(
            self.folder / f"{file}.pem", self.folder / f"{file}-key.pem", certificate.fingerprint(hashes.SHA256()).hex()
        )
        made.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        made.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return made

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, ends: timedelta) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        of_issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder(self._name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - 2 * _DAY)
            .not_valid_after(now + ends)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(of_issuer, critical=False)
        )


def _general(text: str) -> x509.GeneralName:
    kind, _, value = text.partition(":")
    if kind == "IP":
        return x509.IPAddress(ipaddress.ip_address(value))
    return x509.DNSName(value) if kind == "DNS" else x509.UniformResourceIdentifier(value)
