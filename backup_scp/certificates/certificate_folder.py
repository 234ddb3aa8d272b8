"""The folder of the clinic's certificate authority: its key, the node's certificate, and those of consoles.

Each file is whole or not there, and no key is ever overwritten: what was interrupted goes on where it ended.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from backup_scp.certificates import authority as made_by
from backup_scp.certificates.authority import PrivateKey
from backup_scp.certificates.certified import Certified, ForClient
from backup_scp.errors import InvalidSelection, InvalidSettings, Unavailable
from backup_scp.machine import clock, whole_file
from backup_scp.machine.folders import make_folders
from backup_scp.machine.process_lock import exclusive_lock

CA, CA_KEY = "ca.pem", "ca-key.pem"
NODE, NODE_KEY = "node.pem", "node-key.pem"
CLIENTS = "clients"

_SECRET, _PUBLIC = 0o600, 0o644
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # 32, none like another: five bits each
_GROUPS, _GROUP = 5, 4
_ROUNDS_OF_OLD = 20_000


class CertificateFolder:
    """The folder.

    Parameters
    ----------
    folder
        Made when it is missing, for our user alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def authority(self) -> Certified:
        """The authority.

        Raises
        ------
        InvalidSettings
            It is not there.
        """
        return self._shown(self._read(CA), CA, CA_KEY, made=False)

    def init(
        self, subject: str, named: Sequence[str], own_names: Sequence[str], *, any_name: bool
    ) -> tuple[Certified, Certified]:
        """Make what is missing: the authority, and the node's certificate; return both.

        Parameters
        ----------
        subject
            What the authority is called.
        named
            Host names and addresses that the user named.
        own_names
            Those that this computer has.
        any_name
            The authority may certify every name.

        Raises
        ------
        InvalidSettings
            The folder has an authority without its key, or files of another kind.
        Unavailable
            The folder cannot be written.
        """
        names = list(dict.fromkeys([*named, *own_names]))
        for name in names:
            made_by.as_general_name(name)
        with self._changing():
            authority, key, is_new = self._required_authority(subject, names, any_name=any_name)
            made = not self._is_there(NODE)
            if made:
                self._issue(authority, key, NODE, NODE_KEY, _common_name(names), names)
            return (
                self._shown(authority, CA, CA_KEY, made=is_new),
                self._shown(self._read(NODE), NODE, NODE_KEY, made=made),
            )

    def renew(self, named: Sequence[str], own_names: Sequence[str]) -> Certified:
        """Make the node's certificate again, with its key, for the names it has and these.

        Parameters
        ----------
        named
            Further names; one that the authority is not for is an error.
        own_names
            Those that this computer has now; the ones that the authority is not for are left out.

        Raises
        ------
        InvalidSettings, InvalidSelection, Unavailable
        """
        with self._changing():
            authority, key = self._pair(CA, CA_KEY)
            before = made_by.names_of(self._read(NODE)) if self._is_there(NODE) else ()
            own = [name for name in own_names if made_by.permits(authority, name)]
            names = list(dict.fromkeys([*before, *named, *own]))
            self._issue(authority, key, NODE, NODE_KEY, _common_name(names), names)
            return self._shown(self._read(NODE), NODE, NODE_KEY, made=True)

    def client(self, name: str, names: Sequence[str], *, for_old_systems: bool) -> ForClient:
        """Make a certificate for a console or program, or renew it with its key.

        Parameters
        ----------
        name
            What it is called, also its files.
        names
            Host names and addresses, where this node calls it.
        for_old_systems
            Encrypt the PKCS #12 file with Triple DES, which every system opens; its password is long and random.

        Raises
        ------
        InvalidSettings, InvalidSelection, Unavailable
        """
        if not _PLAIN_NAME.fullmatch(name):
            raise InvalidSelection(f"{name!r}: name it with letters, digits, points and hyphens, such as DR-1")
        file, key_file, bundle = (f"{CLIENTS}/{name}{ending}" for ending in (".pem", "-key.pem", ".p12"))
        with self._changing():
            authority, key = self._pair(CA, CA_KEY)
            self._issue(authority, key, file, key_file, name, names)
            certificate, own_key = self._pair(file, key_file)
            password = _new_password()
            encryption = _encryption(password, for_old_systems=for_old_systems)
            content = pkcs12.serialize_key_and_certificates(
                name.encode(), own_key, certificate, [authority], encryption
            )
            self._write(bundle, content, _SECRET)
            return ForClient(self._shown(certificate, file, key_file, made=True), str(self.folder / bundle), password)

    # -- making --------------------------------------------------------------------------------------------------------

    def _required_authority(
        self, subject: str, names: Sequence[str], *, any_name: bool
    ) -> tuple[x509.Certificate, PrivateKey, bool]:
        if self._is_there(CA):
            return (*self._pair(CA, CA_KEY), False)
        if self._is_there(NODE):
            raise InvalidSettings(f"{self.folder / CA} is missing: bring it back, it has signed {NODE}")
        key = self._key(CA_KEY)
        made = made_by.new_authority(key, subject, names, clock.now(), any_name=any_name)
        self._write(CA, made_by.pem_of(made), _PUBLIC)
        return made, key, True

    def _issue(
        self,
        authority: x509.Certificate,
        authority_key: PrivateKey,
        file: str,
        key_file: str,
        common_name: str,
        names: Sequence[str],
    ) -> None:
        now = clock.now()
        if authority.not_valid_after_utc <= now:
            raise InvalidSelection(
                f"The certificate authority in {self.folder} has expired: move the folder away, run backup-scp tls "
                "init, and install the new ca.pem everywhere"
            )
        made_by.require_permitted(authority, names)  # before a key is written that would stay alone
        key = self._key(key_file)
        made = made_by.issue(authority, authority_key, key, common_name, names, now)
        self._write(file, made_by.pem_of(made), _PUBLIC)

    def _key(self, name: str) -> PrivateKey:
        """Return the key of a file, which is made when it is not there."""
        if not self._is_there(name):
            self._write_new(name, made_by.key_pem(made_by.new_key()), _SECRET)
        return self._read_key(name)

    # -- files ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Let nobody else change the folder meanwhile; tell errors of the disk in words."""
        try:
            make_folders(self.folder, 0o700)
            with exclusive_lock(self.folder / ".lock"):
                yield
        except OSError as error:
            raise Unavailable(f"{self.folder} cannot be written ({error.strerror}); run it again") from None

    def _is_there(self, name: str) -> bool:
        return (self.folder / name).exists()

    def _write(self, name: str, content: bytes, mode: int) -> None:
        if self._is_there(name):
            whole_file.replace(self.folder / name, content, None)
        else:
            self._write_new(name, content, mode)

    def _write_new(self, name: str, content: bytes, mode: int) -> None:
        whole_file.write_new(self.folder / name, content, mode)

    def _read(self, name: str) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificate((self.folder / name).read_bytes())
        except FileNotFoundError:
            raise InvalidSettings(f"There is no {name} in {self.folder}: backup-scp tls init makes it") from None
        except ValueError:
            raise InvalidSettings(f"{self.folder / name} is no certificate in PEM") from None

    def _read_key(self, name: str) -> PrivateKey:
        path = self.folder / name
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), None)
        except FileNotFoundError:
            raise InvalidSettings(
                f"{path} is missing: bring it back. Without it no certificate can be made or renewed; to begin again, "
                f"move {self.folder} away, run backup-scp tls init, and install the new ca.pem everywhere"
            ) from None
        except (ValueError, TypeError):
            raise InvalidSettings(f"{path} is no key in PEM without a password") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise InvalidSettings(f"{path} is a key of another kind than tls init makes (EC P-256)")
        return key

    def _pair(self, name: str, key_name: str) -> tuple[x509.Certificate, PrivateKey]:
        certificate, key = self._read(name), self._read_key(key_name)
        if not made_by.fits(certificate, key):
            raise InvalidSettings(f"In {self.folder}, {key_name} is not the key of {name}: bring the right one back")
        return certificate, key

    def _shown(self, certificate: x509.Certificate, name: str, key_name: str, *, made: bool) -> Certified:
        return Certified(
            str(self.folder / name),
            str(self.folder / key_name),
            _subject_of(certificate),
            made_by.names_of(certificate),
            certificate.not_valid_after_utc,
            made_by.fingerprint(certificate),
            made,
        )


def ends_within(authority: Certified, period: timedelta) -> bool:
    """Tell whether an authority ends so soon that certificates of it are short."""
    return authority.valid_until < clock.now() + period


def _common_name(names: Sequence[str]) -> str:
    return names[0] if names else "backup-scp"


def _subject_of(certificate: x509.Certificate) -> str:
    return ", ".join(str(attribute.value) for attribute in certificate.subject)


def _new_password() -> str:
    groups = ("".join(secrets.choice(_LETTERS) for _ in range(_GROUP)) for _ in range(_GROUPS))
    return "-".join(groups)


def _encryption(password: str, *, for_old_systems: bool) -> serialization.KeySerializationEncryption:
    if not for_old_systems:
        return serialization.BestAvailableEncryption(password.encode())
    return (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_ROUNDS_OF_OLD)
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())  # noqa: S303 - what those systems know; 100 random bits need no slow hash
        .build(password.encode())
    )
