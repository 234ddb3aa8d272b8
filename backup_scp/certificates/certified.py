"""A certificate as commands show it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate.

    Attributes
    ----------
    file, key_file
        PEM files of the certificate and of its key.
    subject
        Whose it is.
    names
        The host names and addresses it is for.
    valid_until
        When it ends.
    fingerprint
        Its SHA-256.
    made
        Whether it was made now; it was there already otherwise.
    """

    file: str
    key_file: str
    subject: str
    names: tuple[str, ...]
    valid_until: datetime
    fingerprint: str
    made: bool


@dataclass(frozen=True, slots=True)
class ForClient:
    """A certificate for a console or another program.

    Attributes
    ----------
    certificate
        In PEM.
    bundle
        The PKCS #12 file of certificate, key and authority.
    password
        Of that file; it is kept nowhere.
    """

    certificate: Certified
    bundle: str
    password: str
