"""The key that signs the audit log: Ed25519 (RFC 8032), a file that only the node's user may read."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from backup_scp.errors import InvalidSelection
from backup_scp.machine import whole_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY = "key.pem"
PUBLIC_KEY = "public-key.pem"

_PUBLIC = 0o644


class SigningKey:
    """A key that signs.

    Parameters
    ----------
    private
        The key.

    Attributes
    ----------
    fingerprint
        SHA-256 of the public key in DER, in hexadecimal digits.
    """

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.fingerprint = _fingerprint(private.public_key())

    @classmethod
    def load(cls, folder: Path) -> SigningKey:
        """Read it.

        Raises
        ------
        FileNotFoundError
            There is none.
        OSError
            It cannot be read, or is no such key.
        """
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        content = (folder / KEY).read_bytes()
        try:
            private = serialization.load_pem_private_key(content, None)
        except (ValueError, TypeError):
            raise OSError(f"{folder / KEY} is no key") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise OSError(f"{folder / KEY} is no Ed25519 key")
        return cls(private)

    @classmethod
    def make(cls, folder: Path, number: int) -> SigningKey:
        """Make a key; an earlier public key, whose private one is gone, is kept under a name with this record number.

        Raises
        ------
        OSError
        """
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        private = Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
        secret = private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
        if (folder / PUBLIC_KEY).exists():
            (folder / PUBLIC_KEY).replace(folder / f"public-key-until-{number}.pem")
        whole_file.write_new(folder / PUBLIC_KEY, public, _PUBLIC)
        whole_file.write_new(folder / KEY, secret)
        return cls(private)

    def signed(self, text: bytes) -> bytes:
        """Return the signature of a text, in base64."""
        return base64.b64encode(self._private.sign(text))


class PublicKey:
    """A key that checks signatures.

    Attributes
    ----------
    fingerprint
        As ``SigningKey.fingerprint``.
    """

    def __init__(self, public: Ed25519PublicKey) -> None:
        self._public = public
        self.fingerprint = _fingerprint(public)

    @classmethod
    def load(cls, file: Path) -> PublicKey:
        """Read it.

        Raises
        ------
        InvalidSelection
            The file cannot be read, or is no such key.
        """
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            public = serialization.load_pem_public_key(file.read_bytes())
        except OSError as error:
            raise InvalidSelection(f"The public key {file} cannot be read ({error.strerror})") from None
        except ValueError:
            public = None
        if not isinstance(public, Ed25519PublicKey):
            raise InvalidSelection(f"{file} is no public key of an audit log")
        return cls(public)

    def has_signed(self, text: bytes, signature: bytes) -> bool:
        """Tell whether a signature in base64 is this key's for a text."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._public.verify(base64.b64decode(signature, validate=True), text)
        except (InvalidSignature, ValueError):
            return False
        return True


def _fingerprint(public: Ed25519PublicKey) -> str:
    from cryptography.hazmat.primitives import serialization as form

    return hashlib.sha256(public.public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)).hexdigest()
