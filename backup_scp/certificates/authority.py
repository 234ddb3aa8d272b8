"""Make keys, a certificate authority, and certificates of it (RFC 5280).

The authority is for the clinic's own names alone (name constraints, RFC 5280 4.2.1.10): whoever steals its key can
pretend to be no other website to the computers that trust it (docs/adr/0071).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from backup_scp.errors import InvalidSelection

_AUTHORITY_LIVES = timedelta(days=3653)
_CERTIFICATE_LIVES = timedelta(days=800)  # Apple takes 825 days from a private authority, other browsers more
_CLOCKS_DIFFER = timedelta(days=1)
_PRIVATE_NAMES = ("localhost", "local", "lan", "home", "internal", "home.arpa")  # and all names below them
_PRIVATE_NETWORKS = (
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
)
_HOST_NAME = re.compile(
    r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*(?!\d+$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
)
_LONGEST_COMMON_NAME = 64

PrivateKey = ec.EllipticCurvePrivateKey
"""A key on the curve P-256."""


def new_key() -> PrivateKey:
    """Make a key."""
    return ec.generate_private_key(ec.SECP256R1())


def as_general_name(name: str) -> x509.GeneralName:
    """Return a host name or an address as certificates have it.

    Raises
    ------
    InvalidSelection
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        plain = name.rstrip(".").lower()
    if not plain.isascii():
        plain = plain.encode("idna").decode()
    if not _HOST_NAME.fullmatch(plain):
        raise InvalidSelection(f"--name {name}: write a host name such as pacs.clinic.example, or an address")
    return x509.DNSName(plain)


def new_authority(
    key: PrivateKey, common_name: str, names: Iterable[str], now: datetime, *, any_name: bool
) -> x509.Certificate:
    """Make the certificate of an authority, for ten years.

    Parameters
    ----------
    names
        Host names and addresses that it may certify, besides private ones.
    any_name
        It may certify every name: for software that refuses name constraints.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:_LONGEST_COMMON_NAME])])
    usage = _key_usage(signs_certificates=True)
    builder = (
        _builder(key, subject, subject, now, now + _AUTHORITY_LIVES)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    if not any_name:
        builder = builder.add_extension(x509.NameConstraints(_permitted(names), None), critical=True)
    return builder.sign(key, hashes.SHA256())


def issue(
    authority: x509.Certificate,
    authority_key: PrivateKey,
    key: PrivateKey,
    common_name: str,
    names: Sequence[str],
    now: datetime,
) -> x509.Certificate:
    """Make a certificate for both directions: who has it may be called, and call.

    Raises
    ------
    InvalidSelection
        A name is none.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:_LONGEST_COMMON_NAME])])
    end = min(now + _CERTIFICATE_LIVES, authority.not_valid_after_utc)
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    issuer = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(key, subject, authority.subject, now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(both, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
    )
    if names:
        shown = x509.SubjectAlternativeName([as_general_name(name) for name in names])
        builder = builder.add_extension(shown, critical=False)
    return builder.sign(authority_key, hashes.SHA256())


def permits(authority: x509.Certificate, name: str) -> bool:
    """Tell whether an authority is for a host name or address."""
    try:
        constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return True
    return _is_within(as_general_name(name), constraints.permitted_subtrees or [])


def require_permitted(authority: x509.Certificate, names: Iterable[str]) -> None:
    """Raise for a name that the authority is not for.

    Raises
    ------
    InvalidSelection
    """
    for name in names:
        if not permits(authority, name):
            raise InvalidSelection(
                f"The certificate authority is not for {name}, only for names of this building's network and those "
                "that it was made with. For a new one, move its folder away, run backup-scp tls init with this --name, "
                "and install the new ca.pem everywhere"
            )


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the host names and addresses of a certificate."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress)))


def pem_of(certificate: x509.Certificate) -> bytes:
    """Return a certificate in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: PrivateKey) -> bytes:
    """Return a key in PEM (PKCS #8), without a password."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def fits(certificate: x509.Certificate, key: PrivateKey) -> bool:
    """Tell whether a key belongs to a certificate."""
    spki = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return certificate.public_key().public_bytes(*spki) == key.public_key().public_bytes(*spki)


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate as browsers and consoles show it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def _builder(
    key: PrivateKey, subject: x509.Name, issuer: x509.Name, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _permitted(names: Iterable[str]) -> list[x509.GeneralName]:
    """Return the subtrees of private names and networks, and of each given name that is not in one of them."""
    found: list[x509.GeneralName] = [x509.DNSName(name) for name in _PRIVATE_NAMES]
    found += [x509.IPAddress(ipaddress.ip_network(network)) for network in _PRIVATE_NETWORKS]
    for name in map(as_general_name, names):
        if not _is_within(name, found):
            value = name.value
            is_name = isinstance(name, x509.DNSName)
            found.append(name if is_name else x509.IPAddress(ipaddress.ip_network(value)))
    return found


def _is_within(name: x509.GeneralName, subtrees: Iterable[x509.GeneralName]) -> bool:
    if isinstance(name, x509.DNSName):
        trees = [tree.value for tree in subtrees if isinstance(tree, x509.DNSName)]
        return any(name.value == tree or name.value.endswith(f".{tree}") for tree in trees)
    address = ipaddress.ip_address(str(name.value))
    networks = [ipaddress.ip_network(str(tree.value)) for tree in subtrees if isinstance(tree, x509.IPAddress)]
    return any(address in network for network in networks)
