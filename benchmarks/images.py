"""Instances to send, made while they are needed: a header of their own, pixels that all of a kind share.

What is random in a pixel does not matter to a node that keeps bytes; that no two instances are equal does.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_OF_BENCHMARKS = "1.2.826.0.1.3680043.10.1337.9"
_ROOT = f"{_OF_BENCHMARKS}.{int(time.time())}"
"""New to a node that was measured before."""

KEPT_ROOT = f"{_OF_BENCHMARKS}.16"
"""Of what is filled once and measured often."""

_BLOCK_BYTES = 15_000_000

_runs = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a modality makes."""

    name: str
    sop_class: str
    modality: str
    rows: int
    columns: int
    bytes_a_pixel: int = 2
    in_study: int = 1

    @property
    def size_bytes(self) -> int:
        """Return the length of Pixel Data."""
        return self.rows * self.columns * self.bytes_a_pixel


DR = Kind("DR", "1.2.840.10008.5.1.4.1.1.1.1", "DX", 3000, 2500, in_study=2)
CT = Kind("CT", "1.2.840.10008.5.1.4.1.1.2", "CT", 512, 512, in_study=250)
TINY = Kind("tiny", "1.2.840.10008.5.1.4.1.1.7", "OT", 96, 96, bytes_a_pixel=1, in_study=10)


def sized(size_bytes: int) -> Kind:
    """Make a kind of DX with so many bytes of Pixel Data, or a few less (below 4 GB)."""
    side = math.isqrt(size_bytes // 2)
    return Kind(f"{size_bytes / 1e6:g} MB", DR.sop_class, "DX", side, side, in_study=10)


@dataclass(frozen=True, slots=True)
class Instance:
    """A Data Set in Explicit VR Little Endian, in parts that follow one another."""

    sop_class: str
    sop_instance: str
    study: str
    parts: Sequence[memoryview]


def new(kind: Kind, count: int, codestream: bytes = b"", root: str = "") -> list[Instance]:
    """Make instances with UIDs that this process has not given yet; with a codestream their pixels are compressed.

    With a ``root`` their UIDs begin with it, and are the same at each run.
    """
    root = root or f"{_ROOT}.{next(_runs)}"
    content = encapsulated(codestream) if codestream else ()
    return [_instance(kind, f"{root}.{number // kind.in_study + 1}", number, content) for number in range(count)]


def encapsulated(codestream: bytes) -> Sequence[memoryview]:
    """Make Pixel Data of one frame in one fragment, with an empty Basic Offset Table (PS3.5 A.4)."""
    codestream += b"\0" * (len(codestream) % 2)
    head = struct.pack("<HH2s2xL", 0x7FE0, 0x0010, b"OB", 0xFFFFFFFF)
    head += struct.pack("<HHLHHL", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, len(codestream))
    return tuple(map(memoryview, (head, codestream, struct.pack("<HHL", 0xFFFE, 0xE0DD, 0))))


def slice_of_ct(kind: Kind) -> bytes:
    """Compress a round body with some noise in it by JPEG Lossless SV1: half of its length, as with a real one."""
    import imagecodecs
    import numpy as np

    y, x = np.mgrid[-1 : 1 : kind.rows * 1j, -1 : 1 : kind.columns * 1j]
    body = np.where(x * x + y * y < 0.8, 1000 + 400 * np.sin(9 * x) * np.cos(7 * y), 0)
    noise = np.random.default_rng(15).normal(0, 12, body.shape)
    words = np.clip(body + noise, 0, 4095).astype("<u2")
    return bytes(imagecodecs.jpeg8_encode(words, lossless=True, predictor=1, bitspersample=16))


def _instance(kind: Kind, study: str, number: int, content: Sequence[memoryview]) -> Instance:
    sop_instance = f"{study}.1.{number + 1}"
    head = b"".join(_header(kind, study, sop_instance, number))
    if content:
        return Instance(kind.sop_class, sop_instance, study, (memoryview(head), *content))
    vr = "OW" if kind.bytes_a_pixel == 2 else "OB"
    head += struct.pack("<HH2s2xI", 0x7FE0, 0x0010, vr.encode(), kind.size_bytes)
    return Instance(kind.sop_class, sop_instance, study, (memoryview(head), *pixels(kind.size_bytes)))


@functools.cache
def pixels(size_bytes: int) -> Sequence[memoryview]:
    """Give so many bytes, in parts; the same memory over and over where they are many."""
    block = memoryview(_block())
    whole, rest = divmod(size_bytes, _BLOCK_BYTES)
    return (*[block] * whole, block[:rest])


@functools.cache
def _block() -> bytes:
    return random.Random(15).randbytes(_BLOCK_BYTES)


def _header(kind: Kind, study: str, sop_instance: str, number: int) -> Iterator[bytes]:
    """Encode what is before Pixel Data, in the order of the tags (PS3.5 7.1)."""
    patient = sum(map(ord, study)) % 97
    day = f"2024{patient % 12 + 1:02}{patient % 28 + 1:02}"
    yield _text(0x0008, 0x0005, "CS", "ISO_IR 100")
    yield _text(0x0008, 0x0008, "CS", "ORIGINAL\\PRIMARY")
    yield _text(0x0008, 0x0016, "UI", kind.sop_class)
    yield _text(0x0008, 0x0018, "UI", sop_instance)
    for element in (0x0020, 0x0021, 0x0022, 0x0023):
        yield _text(0x0008, element, "DA", day)
    for element in (0x0030, 0x0031):  # of the study and the series, which say the same in all their instances
        yield _text(0x0008, element, "TM", f"{patient % 24:02}3000")
    for element in (0x0032, 0x0033):
        yield _text(0x0008, element, "TM", f"{number // 3600 % 24:02}{number // 60 % 60:02}{number % 60:02}")
    yield _text(0x0008, 0x0050, "SH", f"ACC{study[-8:]}")
    yield _text(0x0008, 0x0060, "CS", kind.modality)
    yield _text(0x0008, 0x0070, "LO", "ACME")
    yield _text(0x0008, 0x0080, "LO", "Clinic")
    yield _text(0x0008, 0x0090, "PN", "Referrer^Ruth")
    yield _text(0x0008, 0x1010, "SH", f"{kind.modality}1")
    yield _text(0x0008, 0x1030, "LO", "Measured study")
    yield _text(0x0008, 0x103E, "LO", "Series 1")
    yield _text(0x0010, 0x0010, "PN", f"Measured^Nobody{patient:02}")
    yield _text(0x0010, 0x0020, "LO", f"M{study.removeprefix(_OF_BENCHMARKS)}")
    yield _text(0x0010, 0x0030, "DA", f"19{patient:02}0101")
    yield _text(0x0010, 0x0040, "CS", "FM"[patient % 2])
    yield _text(0x0018, 0x0015, "CS", "CHEST")
    yield _text(0x0018, 0x0050, "DS", "1.25")
    yield _text(0x0018, 0x0060, "DS", "120")
    yield _text(0x0018, 0x1164, "DS", "0.143\\0.143")
    yield _text(0x0020, 0x000D, "UI", study)
    yield _text(0x0020, 0x000E, "UI", f"{study}.1")
    yield _text(0x0020, 0x0010, "SH", "1")
    yield _text(0x0020, 0x0011, "IS", "1")
    yield _text(0x0020, 0x0013, "IS", str(number + 1))
    yield _text(0x0020, 0x0032, "DS", f"-180\\-180\\{number * 1.25:.2f}")
    yield _text(0x0020, 0x0037, "DS", "1\\0\\0\\0\\1\\0")
    yield _short(0x0028, 0x0002, 1)
    yield _text(0x0028, 0x0004, "CS", "MONOCHROME2")
    yield _short(0x0028, 0x0010, kind.rows)
    yield _short(0x0028, 0x0011, kind.columns)
    yield _short(0x0028, 0x0100, 8 * kind.bytes_a_pixel)
    yield _short(0x0028, 0x0101, 8 * kind.bytes_a_pixel)
    yield _short(0x0028, 0x0102, 8 * kind.bytes_a_pixel - 1)
    yield _short(0x0028, 0x0103, 0)


def _text(group: int, element: int, vr: str, value: str) -> bytes:
    encoded = value.encode("latin-1")
    encoded += (b"\0" if vr == "UI" else b" ") * (len(encoded) % 2)
    return struct.pack("<HH2sH", group, element, vr.encode(), len(encoded)) + encoded


def _short(group: int, element: int, value: int) -> bytes:
    return struct.pack("<HH2sHH", group, element, b"US", 2, value)
