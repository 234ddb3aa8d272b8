"""Keep the metadata of a series as it was sent, and send it again without opening its files (docs/adr/0051).

The key has the digest of every Data Set, so that what is kept is true as long as the series holds these; a series that
grows gets another key.  The text has marks where the base URI of the service stands.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import groupby
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


Texts = Callable[[Sequence[StoredVersion], str], Iterable[InstanceText]]
"""Writes the text of each of these versions, with this as base URI of the service."""


def json_array(cache: DiskCache | None, held: Sequence[StoredVersion], base: str, texts: Texts) -> Iterator[bytes]:
    """Yield the JSON array of the metadata of these versions: as it is kept, or else as ``texts`` writes it."""
    return map(bytes, gathered(_array(_KeptText(cache, base, texts), held)))


def missing(cache: DiskCache, held: Iterable[StoredVersion], texts: Texts) -> Iterator[bytes]:
    """Make and keep what is not kept of the metadata of these versions; yield its parts while it is made."""
    text = _KeptText(cache, "", texts)
    for series in _by_series(held):
        if _is_worth_it(series) and cache.get(_key(series)) is None:
            yield from text.of(series)


def _by_series(held: Iterable[StoredVersion]) -> Iterator[list[StoredVersion]]:
    return (list(series) for _, series in groupby(held, key=lambda one: one.series_instance_uid))


def _array(text: _KeptText, held: Iterable[StoredVersion]) -> Iterator[bytes]:
    before = b"["
    for series in _by_series(held):
        for part in text.of(series):
            yield before + part if before else part
            before = b""
        before = b","
    yield b"]"


class _KeptText:
    """Writes the instances of one series after the other, separated by commas."""

    def __init__(self, cache: DiskCache | None, base: str, texts: Texts) -> None:
        self._cache = cache
        self._texts = texts
        self._uri = encode_basestring(base)[1:-1].encode("utf-8", "replace")
        self._token = secrets.token_hex(16)  # stands for the URI meanwhile: nobody can have sent it in a Data Set

    def of(self, series: Sequence[StoredVersion]) -> Iterator[bytes]:
        """Yield the text of a series; never an empty part."""
        token = self._token.encode()
        if self._cache is None or not _is_worth_it(series):
            yield from (part.replace(token, self._uri) for part, _ in self._made(series))
            return
        key = _key(series)
        if (kept := self._cache.get(key)) is not None:
            yield from _inflated(kept, self._uri)
            return
        deflated, is_true = _Deflated(), True
        for part, is_of_version in self._made(series):
            yield part.replace(token, self._uri)
            deflated.add(part.replace(token, _MARK))
            is_true = is_true and is_of_version
        if is_true and (content := deflated.content()):
            self._cache.keep(key, content)

    def _made(self, series: Sequence[StoredVersion]) -> Iterator[tuple[bytes, bool]]:
        before = ""
        for one in self._texts(series, self._token):
            yield f"{before}{one.text}".encode("utf-8", "replace"), one.is_of_version
            before = ","


class _Deflated:
    """What is to be kept, compressed."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._deflate = zlib.compressobj(_FASTEST)

    def add(self, part: bytes) -> None:
        """Add a part, unless it has become too long."""
        if self._size <= _MOST_BYTES:
            self._parts.append(self._deflate.compress(part))
            self._size += len(self._parts[-1])

    def content(self) -> bytes | None:
        """Return all of it; None when it is too long."""
        return b"".join([*self._parts, self._deflate.flush()]) if self._size <= _MOST_BYTES else None


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
        digest.update("\0".join(("", one.sha256, *_uids(one))).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _uids(held: StoredVersion) -> tuple[str, ...]:
    return (
        held.study_instance_uid,
        held.series_instance_uid,
        held.sop_instance_uid,
        held.sop_class_uid,
        held.transfer_syntax_uid,
    )
