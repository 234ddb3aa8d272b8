"""Write the names in a certificate in one form each, so that settings and certificates can be compared as texts.

``SHA256:`` is the digest of the whole certificate; ``CN=`` its common name, or with further attributes its whole
subject (RFC 4514); ``DNS:``, ``IP:`` and ``URI:`` are names in subjectAltName (RFC 5280 4.2.1.6).
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_SHORT = {
    "commonname": "CN",
    "organizationname": "O",
    "organizationalunitname": "OU",
    "countryname": "C",
    "localityname": "L",
    "stateorprovincename": "ST",
    "domaincomponent": "DC",
    "userid": "UID",
    "streetaddress": "STREET",
}
_KINDS = {"DNS": "DNS", "IP ADDRESS": "IP", "IP": "IP", "URI": "URI"}
_FINGERPRINT = re.compile(r"(?i)\s*sha-?256(?: fingerprint)?\s*[:=]\s*(?P<digits>[0-9a-f]{2}(?::?[0-9a-f]{2})*)\s*")
_DIGITS_OF_SHA256 = 64
_OTHER_DIGEST = re.compile(r"(?i)\s*(sha-?1|md5|sha-?512|sha-?384)( fingerprint)?\s*[:=]")
_ALTERNATIVE = re.compile(r"(?i)\s*(?P<kind>dns|uri|ip(?: address)?)\s*:\s*(?P<value>\S+)\s*")
_ATTRIBUTE = re.compile(r"(?s)\s*(?P<kind>[A-Za-z][\w.-]*|[0-9.]+)\s*=\s*(?P<value>.*?)\s*")
_PART = re.compile(r"(?s)(?P<part>(?:\\.|[^\\,+])*)(?P<end>[,+]|\Z)")
_ESCAPED = re.compile(r"\\(.)")


def normal_name(text: str) -> str:
    """Return the one form of a name that a person wrote.

    Raises
    ------
    ValueError
        It is no name of a certificate; the text says what to write.
    """
    if found := _FINGERPRINT.fullmatch(text):
        digits = found["digits"].replace(":", "").lower()
        if len(digits) != _DIGITS_OF_SHA256:
            raise ValueError("a SHA-256 fingerprint has 64 hexadecimal digits")
        return f"SHA256:{digits}"
    if _OTHER_DIGEST.match(text):
        raise ValueError("only SHA-256 fingerprints count: openssl x509 -noout -fingerprint -sha256 -in FILE prints it")
    if found := _ALTERNATIVE.fullmatch(text):
        return _alternative(found["kind"], found["value"])
    attributes = [_ATTRIBUTE.fullmatch(part) for part in _parts(text.removeprefix("subject="))]
    if any(found is None or not found["value"] for found in attributes):
        raise ValueError('write "CN=NAME", "DNS:NAME", "IP:ADDRESS", "URI:NAME" or "SHA256:FINGERPRINT"')
    return _subject((found["kind"], _ESCAPED.sub(r"\1", found["value"])) for found in attributes if found)


def names_in(der: bytes, decoded: Mapping[str, Any]) -> frozenset[str]:
    """Return all names of a certificate, in their one form.

    Parameters
    ----------
    der
        The whole certificate.
    decoded
        The same as ``ssl.SSLSocket.getpeercert()`` returns it.
    """
    attributes = [attribute for several in decoded.get("subject", ()) for attribute in several]
    found = {f"SHA256:{hashlib.sha256(der).hexdigest()}"}
    if attributes:
        found.add(_subject(attributes))
    common = [value for kind, value in attributes if _short(kind) == "CN"]
    if len(common) == 1:  # whoever puts two names into one subject is neither
        found.add(_subject([("CN", common[0])]))
    for kind, value in decoded.get("subjectAltName", ()):
        if kind.upper() in _KINDS:
            found.add(_alternative(kind, value))
    return frozenset(found)


def _parts(text: str) -> Iterator[str]:
    """Split a subject at each comma and plus sign that is not escaped (RFC 4514 2.4)."""
    position, end = 0, ","
    while end:
        found = _PART.match(text, position)
        if found is None:  # a backslash that escapes nothing
            yield ""
            return
        yield found["part"]
        position, end = found.end(), found["end"]


def _alternative(kind: str, value: str) -> str:
    kind = _KINDS[kind.upper()]
    if kind == "DNS":
        value = value.lower().rstrip(".")
    if kind == "IP":
        try:
            value = str(ipaddress.ip_address(value.strip()))
        except ValueError:
            raise ValueError('IP: write one address, such as "IP:192.168.1.20"') from None
    return f"{kind}:{value}"


def _subject(attributes: Iterable[tuple[str, str]]) -> str:
    """Return a subject in one order: OpenSSL prints it from its begin, RFC 4514 from its end."""
    return ",".join(sorted(f"{_short(kind)}={_escaped(value)}" for kind, value in attributes))


def _short(kind: str) -> str:
    return _SHORT.get(kind.lower(), kind.upper() if kind.upper() in _SHORT.values() else kind.lower())


def _escaped(value: str) -> str:
    return re.sub(r"[\\,+]", r"\\\g<0>", value)
