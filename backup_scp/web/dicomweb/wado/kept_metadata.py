"""Keep the metadata of a study or series as it was sent, and send it again without opening its files (docs/adr/0051).

The key has the digest of every Data Set, so that what is kept is true as long as the study holds these; a study that
grows gets another key.  The text has marks where the base URI of the service stands.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from json.encoder import encode_basestring
from typing import NamedTuple

from backup_scp import __version__
from backup_scp.machine.disk_cache import DiskCache
from backup_scp.ports import StoredVersion
from backup_scp.web.streamed import gathered

_FORM = "1"
"""Change it with what is written for the same Data Set."""

_AS_FAST_AS_ONE_FILE = 2 << 20
_MOST_BYTES = 16 << 20  # compressed: hundreds of thousands of images
_INFLATED_AT_ONCE = 1 << 14  # compressed bytes, which become half a megabyte
_FASTEST = 1
_MARK = b"\0"  # JSON has it only as \u0000


class InstanceText(NamedTuple):
    """The text of one instance.

    Attributes
    ----------
    is_of_version
        Whether it is that of the version that was asked for, and not of another one that stands for it.
    """

    text: str
    is_of_version: bool


Texts = Callable[[str], Iterable[InstanceText]]
"""Writes the text of each instance, with this as base URI of the service."""


def json_array(cache: DiskCache | None, held: Sequence[StoredVersion], base: str, texts: Texts) -> Iterator[bytes]:
    """Yield the JSON array of the metadata of these versions: as it is kept, or else as ``texts`` writes it."""
    uri = encode_basestring(base)[1:-1].encode("utf-8", "replace")
    if cache is None or not _is_worth_it(held):
        token = _token()
        yield from (part.replace(token, uri) for part in _gathered(_Array(texts(token.decode()))))
        return
    key = _key(held)
    if (kept := cache.get(key)) is not None:
        yield from _inflated(kept, uri)
        return
    token = _token()
    array, deflated = _Array(texts(token.decode())), _Deflated()
    for part in _gathered(array):
        yield part.replace(token, uri)
        deflated.add(part, token)
    if array.is_of_versions and (content := deflated.content()):
        cache.keep(key, content)


def _token() -> bytes:
    """Return what stands for the base URI while the text is made: nobody can have sent it in a Data Set."""
    return secrets.token_hex(16).encode()


class _Array:
    """The parts of a JSON array; they end with a text."""

    def __init__(self, texts: Iterable[InstanceText]) -> None:
        self._texts = texts
        self.is_of_versions = True

    def __iter__(self) -> Iterator[bytes]:
        before = "["
        for one in self._texts:
            self.is_of_versions = self.is_of_versions and one.is_of_version
            yield f"{before}{one.text}".encode("utf-8", "replace")
            before = ","
        yield b"]"


class _Deflated:
    """What is to be kept, compressed; None when it has become too long."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._deflate = zlib.compressobj(_FASTEST)
        self._can_be_kept = True

    def add(self, part: bytes, token: bytes) -> None:
        """Add a part, with marks in place of the token."""
        self._can_be_kept = self._can_be_kept and self._size <= _MOST_BYTES
        if self._can_be_kept:
            self._parts.append(self._deflate.compress(part.replace(token, _MARK)))
            self._size += len(self._parts[-1])

    def content(self) -> bytes | None:
        """Return all of it."""
        return b"".join([*self._parts, self._deflate.flush()]) if self._can_be_kept else None


def _gathered(array: _Array) -> Iterator[bytes]:
    return map(bytes, gathered(iter(array)))


def _inflated(kept: bytes, uri: bytes) -> Iterator[bytes]:
    inflate = zlib.decompressobj()
    for at in range(0, len(kept), _INFLATED_AT_ONCE):
        if part := inflate.decompress(kept[at : at + _INFLATED_AT_ONCE]):
            yield part.replace(_MARK, uri)


def _is_worth_it(held: Sequence[StoredVersion]) -> bool:
    return len(held) > 1 or held[0].size_bytes > _AS_FAST_AS_ONE_FILE


def _key(held: Iterable[StoredVersion]) -> str:
    """Return what the text depends on."""
    digest = sha256(f"metadata {_FORM} {__version__}".encode())
    for one in held:
        digest.update(
            f"\0{one.sha256}\0{one.study_instance_uid}\0{one.series_instance_uid}\0{one.sop_instance_uid}".encode()
        )
    return digest.hexdigest()
