"""A CT series in JPEG Lossless, each slice with pixels of its own."""

from __future__ import annotations

import imagecodecs
import numpy as np
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLosslessSV1

from tests.samples import Sample, ct_series, encode


def lossless_series(slices: int) -> list[tuple[Sample, bytes]]:
    """Return the slices, and the pixel words of each."""
    made = []
    for number, ds in enumerate(ct_series(slices)):
        words = np.random.default_rng(number).integers(0, 65536, (ds.Rows, ds.Columns)).astype("<u2")
        codestream = bytes(imagecodecs.jpeg8_encode(words, lossless=True, bitspersample=16))
        ds.add_new("PixelData", "OB", encapsulate([codestream]))
        ds["PixelData"].is_undefined_length = True
        made.append((encode(ds, JPEGLosslessSV1), words.tobytes()))
    return made


def damaged(sample: Sample) -> Sample:
    """Return it with a codestream whose middle is damaged, so that no decoder accepts it."""
    ds = sample.dataset()
    content = bytearray(ds.PixelData)
    at = content.index(b"\xff\xc4")
    content[at + 5 : at + 21] = b"\xff" * 16
    ds.PixelData = bytes(content)
    return encode(ds, sample.transfer_syntax_uid)
