"""Images in every Transfer Syntax that we decode, made by dcmtk where it can, and their pixel words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from openjpeg.utils import decode
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames

from tests import samples
from tests.system.peers import dcmtk

SPECTRAL_SELECTION, FULL_PROGRESSION = "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"


@dataclass(frozen=True)
class Variant:
    """Pixels (frames, rows, columns) and their description in a Data Set."""

    pixels: np.ndarray
    bits_stored: int
    high_bit: int

    @property
    def is_signed(self) -> bool:
        return self.pixels.dtype.kind == "i"

    def data_set(self) -> Dataset:
        """Return it uncompressed."""
        frames, rows, columns = self.pixels.shape
        ds = samples.dx(
            Rows=rows,
            Columns=columns,
            BitsAllocated=8 * self.pixels.itemsize,
            BitsStored=self.bits_stored,
            HighBit=self.high_bit,
            PixelRepresentation=int(self.is_signed),
            **({"NumberOfFrames": str(frames)} if frames > 1 else {}),
        )
        content = self.pixels.tobytes()
        ds.add_new("PixelData", "OB" if self.pixels.itemsize == 1 else "OW", content + bytes(len(content) % 2))
        return ds


def _ramp(rows: int = 40, columns: int = 56, *, frames: int = 1) -> np.ndarray:
    """Return words of 12 bits with structure and noise in them."""
    frame, y, x = np.mgrid[0:frames, 0:rows, 0:columns]
    noise = np.random.default_rng(3).integers(0, 40, frame.shape)
    return (frame * 700 + y * x * 2 + noise) % 4096


def variants() -> dict[str, Variant]:
    """Return what pixels may look like, by name."""
    plain = _ramp()
    squares = np.indices(plain.shape).sum(0) // 8 % 2
    return {
        "plain": Variant(plain.astype("<u2"), 12, 11),
        "overlay in the upper bits": Variant((plain | squares << 12 | (1 - squares) << 15).astype("<u2"), 12, 11),
        "left-justified": Variant((plain << 4).astype("<u2"), 12, 15),
        "in the middle": Variant((plain << 2).astype("<u2"), 12, 13),
        "signed": Variant((plain * 16 - 32768).astype("<i2"), 16, 15),
        "signed of 12 bits": Variant((plain - 2048).astype("<i2"), 12, 11),
        "words above Bits Stored": Variant((plain * 16).astype("<u2"), 10, 9),
        "8 bits of odd size": Variant((_ramp(31, 45) // 16).astype("u1"), 8, 7),
        "one pixel": Variant(np.full((1, 1, 1), 2748, "<u2"), 12, 11),
        "several frames": Variant(_ramp(frames=4).astype("<u2"), 12, 11),
    }


def _encode_jpeg_2000(frame: np.ndarray, *, lossless: bool) -> bytes:
    level = None if lossless else 60
    return bytes(imagecodecs.jpeg2k_encode(frame, level, codecformat="J2K", reversible=lossless))


def _encode_htj2k(frame: np.ndarray, *, lossless: bool) -> bytes:
    level = None if lossless else 0.001
    return bytes(imagecodecs.htj2k_encode(frame, level, reversible=lossless))


DCMTK = {
    "JPEG Baseline": (uid.JPEGBaseline8Bit, ("dcmcjpeg", "+eb"), "dcmdjpeg"),
    "JPEG Extended": (uid.JPEGExtended12Bit, ("dcmcjpeg", "+ee"), "dcmdjpeg"),
    "JPEG Spectral Selection": (SPECTRAL_SELECTION, ("dcmcjpeg", "+es"), "dcmdjpeg"),
    "JPEG Full Progression": (FULL_PROGRESSION, ("dcmcjpeg", "+ep"), "dcmdjpeg"),
    "JPEG Lossless, 4": (uid.JPEGLossless, ("dcmcjpeg", "+el", "+sv", "4"), "dcmdjpeg"),
    "JPEG Lossless, 7": (uid.JPEGLossless, ("dcmcjpeg", "+el", "+sv", "7"), "dcmdjpeg"),
    "JPEG Lossless SV1": (uid.JPEGLosslessSV1, ("dcmcjpeg", "+e1"), "dcmdjpeg"),
    "JPEG Lossless SV1, pseudo": (uid.JPEGLosslessSV1, ("dcmcjpeg", "+e1", "+pl"), "dcmdjpeg"),
    "JPEG-LS": (uid.JPEGLSLossless, ("dcmcjpls", "+el"), "dcmdjpls"),
    "JPEG-LS near-lossless": (uid.JPEGLSNearLossless, ("dcmcjpls", "+en"), "dcmdjpls"),
    "RLE": (uid.RLELossless, ("dcmcrle",), "dcmdrle"),
}
OURS = {
    "JPEG 2000": (uid.JPEG2000Lossless, _encode_jpeg_2000, True),
    "JPEG 2000 lossy": (uid.JPEG2000, _encode_jpeg_2000, False),
    "HTJ2K": (uid.HTJ2KLossless, _encode_htj2k, True),
    "HTJ2K RPCL": (uid.HTJ2KLosslessRPCL, _encode_htj2k, True),
    "HTJ2K lossy": (uid.HTJ2K, _encode_htj2k, False),
}
LOSSLESS = {
    "JPEG Lossless, 4",
    "JPEG Lossless, 7",
    "JPEG Lossless SV1",
    "JPEG-LS",
    "RLE",
    "JPEG 2000",
    "HTJ2K",
    "HTJ2K RPCL",
}
NOT_CODED = {
    *(("JPEG-LS near-lossless", name) for name in ("signed", "signed of 12 bits")),  # dcmtk refuses to
    *(("HTJ2K lossy", name) for name in ("one pixel",)),
}
"""Pairs of which there is no encoder."""


@dataclass(frozen=True)
class Coded:
    """A compressed image and the words of its pixels, as another decoder than ours reads them."""

    sample: samples.Sample
    words: bytes

    def dataset(self) -> Dataset:
        return self.sample.dataset()


def coded_by_dcmtk(recipe: str, variant: Variant, folder: Path) -> Coded:
    """Compress with dcmtk, and let dcmtk decode it again."""
    _, encoder, decoder = DCMTK[recipe]
    source, coded, decoded = (folder / name for name in ("source.dcm", "coded.dcm", "decoded.dcm"))
    samples.encode(variant.data_set()).write(source)
    dcmtk(*encoder, source, coded)
    dcmtk(decoder, coded, decoded)
    sample = samples.Sample.of_file(coded)
    assert sample is not None
    return Coded(sample, pydicom.dcmread(decoded).PixelData)


def coded_here(recipe: str, variant: Variant) -> Coded:
    """Compress what dcmtk cannot; decode lossy pixels with another binding of OpenJPEG than ours."""
    syntax, encode, lossless = OURS[recipe]
    frames = [encode(frame, lossless=lossless) for frame in variant.pixels]
    words = variant.pixels.tobytes()
    if not lossless:
        words = b"".join(decode(frame).tobytes() for frame in frames)
    ds = variant.data_set()
    ds.add_new("PixelData", "OB", encapsulate(frames))
    ds["PixelData"].is_undefined_length = True
    return Coded(samples.encode(ds, syntax), words + bytes(len(words) % 2))


def in_fragments(coded: Coded, fragments: int, table: str) -> samples.Sample:
    """Return the same frames in several fragments each, with an offset table of that kind."""
    ds = coded.dataset()
    frames = list(generate_frames(ds.PixelData, number_of_frames=int(ds.NumberOfFrames)))
    if table == "extended":
        content, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended(frames)
    else:
        content = encapsulate(frames, fragments_per_frame=fragments, has_bot=table == "basic")
    ds.add_new("PixelData", "OB", content)
    ds["PixelData"].is_undefined_length = True
    return samples.encode(ds, coded.sample.transfer_syntax_uid)
