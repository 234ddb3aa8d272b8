"""Seal files with age, so that a place that keeps a copy cannot read it; open them with the recovery key.

The node has public keys only: it cannot open what it has sealed.
"""

from __future__ import annotations

import hashlib
import io
import re
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from backup_scp.copies.cloud.recovery_key import GROUP, PREFIX, file_of, typed_keys
from backup_scp.copies.cloud.streams import Readable, Writable
from backup_scp.errors import DigestMismatch, InvalidSettings, OtherKey

if TYPE_CHECKING:
    from pyrage.x25519 import Identity, Recipient

_PUBLIC_KEY = re.compile(r"age1[02-9ac-hj-np-z]{58}")
_COLLECTED_BYTES = 256 << 10
_NO_LIBRARY = "the library pyrage is missing: run  pip install 'backup-scp[copies]'"


class KeyPair(NamedTuple):
    """A key pair of age (X25519).

    Attributes
    ----------
    public_key
        Seals; begins with ``age1``.  It is no secret, and the node keeps it alone.
    recovery_key
        Opens; begins with ``AGE-SECRET-KEY-1``.  A person keeps it, on paper, away from the node.
    """

    public_key: str
    recovery_key: str


class Sealed(NamedTuple):
    """The bytes that ``Seal.write`` has written."""

    sha256: str
    size_bytes: int


class Seal:
    """Seals for a list of public keys; each of their owners can open it.

    Parameters
    ----------
    public_keys
        At least one, each ``age1...``.

    Raises
    ------
    InvalidSettings
        The list is empty, a key is mistyped or of a kind that cannot be used, or the library is missing.
    """

    def __init__(self, public_keys: Sequence[str]) -> None:
        if not public_keys:
            raise InvalidSettings("encrypt: name at least one public key (age1...)")
        self._recipients = [_recipient(key) for key in public_keys]

    def write(self, source: Readable, target: Writable) -> Sealed:
        """Seal a stream up to its end; return the digest and the length of the sealed bytes.

        Other threads run meanwhile: pyrage holds Python's lock only while it reads and writes.

        Raises
        ------
        Exception
            Whatever ``source`` or ``target`` raised; what is in ``target`` then is of no use.
        """
        import pyrage

        digest = hashlib.sha256()
        reading, writing = _SealingReader(source), _SealingWriter(target, digest.update)
        try:
            pyrage.encrypt_io(reading, writing, self._recipients)
        except pyrage.EncryptError:
            raise reading.error or writing.error or DigestMismatch("A file cannot be sealed") from None
        writing.finish()
        return Sealed(digest.hexdigest(), writing.size_bytes)


class RecoveryKeys:
    """Opens what was sealed for one of its keys.

    Parameters
    ----------
    text
        Recovery keys: a key file of age, our printed sheet, or what a person typed from it.

    Raises
    ------
    InvalidSettings
        There is no key, a key is mistyped, or the library is missing.  The text does not repeat the key.
    """

    def __init__(self, text: str) -> None:
        self._identities = [_identity(key) for key in typed_keys(text)]

    @classmethod
    def given(cls, text: str) -> RecoveryKeys:
        """Take the keys of a text; of a file, when the text is the name of one.

        Raises
        ------
        InvalidSettings
        """
        file = file_of(text)
        return cls(text) if file is None else cls.read(file)

    @classmethod
    def read(cls, file: Path) -> RecoveryKeys:
        """Read a file of keys.

        Raises
        ------
        InvalidSettings
        """
        try:
            return cls(file.read_text("utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise InvalidSettings(f"The recovery key's file {file} cannot be read ({reason})") from None

    @property
    def public_keys(self) -> list[str]:
        """The public key of each."""
        return [str(identity.to_public()) for identity in self._identities]

    def open(self, source: Readable, target: Writable) -> None:
        """Open a sealed stream.

        ``target`` gets the beginning of a damaged file before the damage is noticed: write into a new file, and use it
        only after this method has returned.

        Raises
        ------
        OtherKey
            It was sealed for other keys.
        DigestMismatch
            It is no sealed file, or is cut off or changed.
        Exception
            Whatever ``source`` or ``target`` raised.
        """
        import pyrage

        reading, writing = _SealingReader(source), _SealingWriter(target, lambda _: None)
        try:
            pyrage.decrypt_io(reading, writing, self._identities)
        except pyrage.DecryptError as error:
            wrong = DigestMismatch("The file is no sealed file")
            if "No matching keys" in str(error):
                wrong = OtherKey("The file is sealed for another key: try the recovery key of its time")
            raise reading.error or writing.error or wrong from None
        except OSError:
            raise reading.error or writing.error or DigestMismatch("The sealed file is cut off or changed") from None
        writing.finish()


def make_keys() -> KeyPair:
    """Make a new key pair.

    Raises
    ------
    InvalidSettings
        The library is missing.
    """
    identity_type, _ = _types()
    identity = identity_type.generate()
    return KeyPair(str(identity.to_public()), str(identity))


def prove(keys: RecoveryKeys, public_keys: Sequence[str]) -> None:
    """Prove that the recovery key opens what these public keys seal: seal a probe, open it, and compare.

    Raises
    ------
    InvalidSettings
        It does not.
    """
    probe = secrets.token_bytes(100_000)
    sealed, opened = io.BytesIO(), io.BytesIO()
    Seal(public_keys).write(io.BytesIO(probe), sealed)
    sealed.seek(0)
    try:
        keys.open(sealed, opened)
    except DigestMismatch:
        raise InvalidSettings(
            "The recovery key does not belong to any public key in encrypt: copies that are sealed with these cannot "
            "be opened with it"
        ) from None
    if opened.getvalue() != probe:
        raise InvalidSettings("The probe came back changed: this computer cannot be trusted with sealed copies")


def envelope(pair: KeyPair, copies: str, made_on: str) -> str:
    """Return the sheet to print: the recovery key, and the words that belong on its envelope.

    Parameters
    ----------
    copies
        What it opens, in a person's words: the name of the practice, or of the copy.
    made_on
        The date, as a person reads it.
    """
    key = pair.recovery_key
    groups = [PREFIX, *(key[start : start + GROUP] for start in range(len(PREFIX), len(key), GROUP))]
    return "\n".join(
        [
            "RECOVERY KEY OF THE X-RAY BACKUP",
            "",
            f"It opens:     the sealed copies of {copies}",
            f"Made on:      {made_on}",
            f"Public key:   {pair.public_key}",
            "",
            "Recovery key (type it without the blanks, or with them):",
            "",
            "    " + " ".join(groups[:6]),
            "    " + " ".join(groups[6:]),
            "",
            "Without this key nobody can open the copies: neither you nor the maker of the program.",
            "Whoever has this key and the copies can read every image.",
            "",
            "Write on the envelope:",
            "",
            f"    X-ray backup of {copies}: recovery key, {made_on}.",
            "    Open only when the archive is lost.  Keep it in a safe, outside of the building.",
            "    A second one is at: ______________________________",
            "",
            "To try it:  backup-scp copies keys --prove -",
            "",
        ]
    )


def _types() -> tuple[type[Identity], type[Recipient]]:
    try:
        from pyrage.x25519 import Identity, Recipient
    except ImportError:
        raise InvalidSettings(f"For sealed copies, {_NO_LIBRARY}") from None
    return Identity, Recipient


def _recipient(key: str) -> Recipient:
    _, recipient_type = _types()
    key = key.strip()
    if key.upper().startswith(PREFIX):
        raise InvalidSettings(
            "encrypt holds a recovery key (AGE-SECRET-KEY-1...): it does not belong on this computer. Write the public "
            "key (age1...) there, and make a new pair: backup-scp copies keys"
        )
    shown = key if len(key) <= 24 else f"{key[:20]}..."
    if re.match(r"age1(tag|tagpq|pq|[a-z0-9]+1)", key) and not _PUBLIC_KEY.fullmatch(key):
        raise InvalidSettings(
            f"encrypt: {shown} is a key of another kind (a plug-in's or a post-quantum one), which cannot be used "
            "here: make one by  backup-scp copies keys"
        )
    wrong = InvalidSettings(
        f"encrypt: {shown} is no public key of age, or is mistyped: it is age1 and 58 small letters and digits"
    )
    if not _PUBLIC_KEY.fullmatch(key):
        raise wrong
    try:
        return recipient_type.from_str(key)
    except Exception:  # noqa: BLE001 - its checksum is wrong; pyrage has a type of its own
        raise wrong from None


def _identity(key: str) -> Identity:
    identity_type, _ = _types()
    try:
        return identity_type.from_str(key)
    except Exception:  # noqa: BLE001 - pyrage has a type of its own
        raise InvalidSettings("The recovery key is of a kind that cannot be used here") from None


class _SealingReader:
    """Keeps the error that a read raised: pyrage makes a text of it."""

    def __init__(self, stream: Readable) -> None:
        self.error: Exception | None = None
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except Exception as error:
            self.error = error
            raise


class _SealingWriter:
    """Collects the small parts that pyrage writes, counts them, and keeps the error.

    Parameters
    ----------
    passed
        Called with each part that ``stream`` has taken.
    """

    def __init__(self, stream: Writable, passed: Callable[[bytearray], object]) -> None:
        self.error: Exception | None = None
        self.size_bytes = 0
        self._stream = stream
        self._passed = passed
        self._collected = bytearray()

    def write(self, data: bytes) -> int:
        if self.error:
            raise self.error
        self._collected += data
        if len(self._collected) >= _COLLECTED_BYTES:
            self._pass_on()
        return len(data)

    def flush(self) -> None:
        """Nothing: ``finish`` does it."""

    def finish(self) -> None:
        """Pass on the rest; raise the error, also one that pyrage does not tell."""
        if self.error:
            raise self.error
        self._pass_on()
        self._stream.flush()

    def _pass_on(self) -> None:
        part, self._collected = self._collected, bytearray()
        try:
            _write_all(self._stream, part)
        except Exception as error:
            self.error = error
            raise
        self._passed(part)
        self.size_bytes += len(part)


def _write_all(stream: Writable, data: bytearray) -> None:
    """Write all of it, also into an unbuffered file, which may take a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]
