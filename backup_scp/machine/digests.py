"""The digests of a Data Set: SHA-256, which proves, and XXH3, which compares quickly (docs/adr/0022)."""

from __future__ import annotations

from hashlib import sha256
from typing import Protocol

from xxhash import xxh3_128

_XXH3_DIGITS = 32


class Digest(Protocol):
    """The part of ``hashlib``'s and ``xxhash``'s objects that is used."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Go on with more bytes."""

    def hexdigest(self) -> str:
        """Give the digits of what came so far."""


def digest_like(expected: str) -> Digest:
    """Begin the digest that ``expected`` is one of: XXH3 with 32 hex digits, SHA-256 with 64."""
    return xxh3_128() if len(expected) == _XXH3_DIGITS else sha256()


class Digests:
    """Both, of the same bytes."""

    __slots__ = ("_sha256", "_xxh3_128")

    def __init__(self) -> None:
        self._sha256, self._xxh3_128 = sha256(), xxh3_128()

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Go on with more bytes."""
        self._sha256.update(data)
        self._xxh3_128.update(data)

    @property
    def sha256(self) -> str:
        """64 hex digits of what came so far."""
        return self._sha256.hexdigest()

    @property
    def xxh3_128(self) -> str:
        """32 hex digits of what came so far."""
        return self._xxh3_128.hexdigest()
