"""Certificates of a CA of our own, for both sides of DICOM TLS."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificates:
    """PEM files."""

    certificate: Path
    key: Path
    ca: Path

    @property
    def context(self) -> ssl.SSLContext:
        """Return what a caller needs who shows the same certificate."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.check_hostname = False
        context.load_cert_chain(self.certificate, self.key)
        return context


def issue(folder: Path, *names: str) -> Certificates:
    """Make a CA and one certificate of it, for some names and addresses (needs trustme)."""
    import trustme

    folder.mkdir(parents=True)
    made = Certificates(folder / "certificate.pem", folder / "key.pem", folder / "ca.pem")
    authority = trustme.CA()
    leaf = authority.issue_cert(*(names or ["measured.clinic.example"]))
    leaf.private_key_pem.write_to_path(made.key)
    for number, pem in enumerate(leaf.cert_chain_pems):
        pem.write_to_path(made.certificate, append=number > 0)
    authority.cert_pem.write_to_path(made.ca)
    return made
