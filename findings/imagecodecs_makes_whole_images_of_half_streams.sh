#!/usr/bin/env bash
# Two lossless decoders of imagecodecs make a full image of half a codestream, and say nothing.
#
# One would guess: a lossless decoder that runs out of data raises an error. That libjpeg fills the rest with grey is
# well known, but as a matter of lossy JPEG. And decoders of one package for the same format agree.
# What happens (imagecodecs 2026.3.6; each stream is cut at half of its length):
# - HTJ2K, reversible: htj2k_decode (OpenJPH) returns a full image in which no row is right and 97 pixels of 100 are
#   wrong, most by less than 60 grey levels of 4192: it looks like the image. jpeg2k_decode (OpenJPEG) refuses the same
#   bytes.
# - JPEG Lossless: jpeg8_decode returns the full size, the lower half 32768. jpegsof3_decode and ljpeg_decode refuse
#   the same bytes. JPEG-LS: jpegls_decode refuses.
# No error and no warning in the two cases.
# Why an archive cares: "it can be decoded" is a usual test that a copy is whole. With these decoders a file of which
# half was copied passes, and in HTJ2K nobody sees it. Compare lengths and checksums, not pictures.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check imagecodecs==2026.3.6 numpy==2.4.6 \
    2>"$work/pip" || { echo "The pinned packages cannot be had here."; exit 1; }
cd "$work"
cat >run.py <<'PYTHON'
import sys
import warnings

import imagecodecs
import numpy as np

warnings.simplefilter("error")
y, x = np.mgrid[:256, :256]
noise = np.random.default_rng(1).integers(0, 8, x.shape)
image = (((x + y) // 2 + noise) * 16).astype("u2")
streams = {
    "HTJ2K": bytes(imagecodecs.htj2k_encode(image)),
    "JPEG Lossless": bytes(imagecodecs.ljpeg_encode(image, bitspersample=16)),
    "JPEG-LS": bytes(imagecodecs.jpegls_encode(image)),
}


def decoded(stream, decoder):
    """Return the decoded image, or None if the decoder refuses."""
    try:
        return getattr(imagecodecs, decoder)(stream)
    except RuntimeError:  # every decoder's own error is one
        return None


good = []
for name, decoder, fills in (
    ("HTJ2K", "htj2k_decode", True),
    ("HTJ2K", "jpeg2k_decode", False),
    ("JPEG Lossless", "jpeg8_decode", True),
    ("JPEG Lossless", "jpegsof3_decode", False),
    ("JPEG Lossless", "ljpeg_decode", False),
    ("JPEG-LS", "jpegls_decode", False),
):
    stream = streams[name]
    whole = decoded(stream, decoder)
    half = decoded(stream[: len(stream) // 2], decoder)
    text = "refused"
    if half is not None:
        wrong = np.abs(half.astype(int) - image)
        text = f"{half.shape}, rows right {(wrong == 0).all(axis=1).sum()}, pixels wrong {(wrong > 0).mean():.0%}"
        text += f", median error {np.median(wrong):.0f} of {image.max()}, last row begins {half[-1][:2].tolist()}"
        good.append(half.shape == image.shape and wrong.any())
    print(f"{name:13} {decoder:15} whole: {'right' if (whole == image).all() else 'wrong'}; half: {text}")
    good.append((whole == image).all() and (half is not None) == fills)
sys.exit(0 if all(good) else "The behaviour has changed.")
PYTHON
echo "imagecodecs 2026.3.6"
timeout 40 venv/bin/python run.py 2>err || { tail -n 3 err; exit 1; }
