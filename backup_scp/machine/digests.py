"""Compute the digests of a Data Set: SHA-256 as proof, XXH3 for a quick comparison (docs/adr/0022)."""

from __future__ import annotations

from hashlib import sha256
from typing import BinaryIO, Protocol

from xxhash import xxh3_128

_XXH3_DIGITS = 32
_CHUNK_BYTES = 1 << 18  # fits into a core's own cache while it is hashed
_FILLED_BYTES = 1 << 20  # still fits, and a CT needs one part


class Digest(Protocol):
    """The methods of ``hashlib``'s and ``xxhash``'s objects that we use."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Go on with more bytes."""

    def hexdigest(self) -> str:
        """Return the hex digits of the digest of all bytes so far."""


def digest_like(expected: str) -> Digest:
    """Return a new digest of the same kind as ``expected``: XXH3 for 32 hex digits, SHA-256 for 64."""
    return xxh3_128() if len(expected) == _XXH3_DIGITS else sha256()


class Digests:
    """Both digests of the same bytes."""

    __slots__ = ("_sha256", "_xxh3_128")

    def __init__(self) -> None:
        self._sha256, self._xxh3_128 = sha256(), xxh3_128()

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Go on with more bytes."""
        self._sha256.update(data)
        self._xxh3_128.update(data)

    @property
    def sha256(self) -> str:
        """SHA-256 of all bytes so far, 64 hex digits."""
        return self._sha256.hexdigest()

    @property
    def xxh3_128(self) -> str:
        """XXH3 of all bytes so far, 32 hex digits."""
        return self._xxh3_128.hexdigest()


def digest_rest(stream: BinaryIO, digest: Digest) -> str:
    """Hash a stream from its position to its end, with little memory; return the hex digits."""
    with memoryview(bytearray(_CHUNK_BYTES)) as chunk:
        while count := stream.readinto(chunk):  # type: ignore[attr-defined]  # BinaryIO does not tell of it
            digest.update(chunk[:count])
    return digest.hexdigest()


def fill_and_digest(memory: memoryview, stream: BinaryIO, digest: Digest) -> str:
    """Fill the memory from the stream; hash each part while it is in the CPU cache; return the hex digits."""
    for position in range(0, len(memory), _FILLED_BYTES):
        part = memory[position : position + _FILLED_BYTES]
        stream.readinto(part)  # type: ignore[attr-defined]  # BinaryIO does not tell of it
        digest.update(part)  # after a short read the digest cannot match
    return digest.hexdigest()
