"""Change bytes where parsers decide: lengths, counts, ends."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

_EDGES = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    12,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFE,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0x80000000,
)


def lie(rng: Random, number: int, bits: int) -> int:
    """Return mostly the true length, else one that is near, at an edge, or anything."""
    most = (1 << bits) - 1
    kind = rng.randrange(250)
    if kind == 0:
        return rng.choice([*_EDGES, most - 1, most]) & most
    if kind == 1:
        return (number + rng.choice([-2, -1, 1, 2, 8])) & most
    return rng.getrandbits(bits) if kind == 2 else number & most


def _flip(rng: Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _edge(rng: Random, data: bytearray) -> None:
    form = rng.choice(["<H", ">H", "<I", ">I"])
    size = struct.calcsize(form)
    if len(data) >= size:
        value = rng.choice([*_EDGES, 0xFFFFFFFF]) & ((1 << 8 * size) - 1)
        struct.pack_into(form, data, rng.randrange(len(data) - size + 1), value)


def _cut(rng: Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def _remove(rng: Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.randrange(1, 17)]


def _repeat(rng: Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at:at] = data[at : at + rng.randrange(1, 65)] * rng.randrange(1, 5)


def _insert(rng: Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.randrange(1, 17))


def _move(rng: Random, data: bytearray) -> None:
    at, to = rng.randrange(len(data)), rng.randrange(len(data))
    piece = data[at : at + rng.randrange(1, 65)]
    del data[at : at + len(piece)]
    data[to:to] = piece


_CHANGES: tuple[Callable[[Random, bytearray], None], ...] = (_flip, _edge, _cut, _remove, _repeat, _insert, _move)


def mutated(rng: Random, data: bytes, share: float = 0.5) -> bytes:
    """Return the bytes as they are, or with a few changes, for the given share of the calls."""
    if not data or rng.random() >= share:
        return data
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        if changed:
            rng.choice(_CHANGES)(rng, changed)
    return bytes(changed)
