"""A codestream's header decides: a missing pixel or bit is refused in plain words, whatever a decoder returns."""

from __future__ import annotations

import dataclasses
import io
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.encoders.base import get_encoder

from backup_scp.dicom.transcode import transcode
from backup_scp.dicom.transcode.codestreams import read_jpeg, read_jpeg_2000, read_jpeg_ls, read_rle
from backup_scp.errors import InstanceRefused
from tests import samples
from tests.dicom.transcode.compression import Variant, coded_by_dcmtk, coded_here, variants

EXPLICIT = str(uid.ExplicitVRLittleEndian)
WORDS = variants()["plain"].pixels
JPEG_LOSSLESS, JPEG_LS, JPEG_2000, RLE = (
    str(each) for each in (uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.RLELossless)
)


def jpeg_ls_of_12_bits(words: np.ndarray) -> bytes:
    return get_encoder(JPEG_LS).encode(
        words.tobytes(), rows=words.shape[0], columns=words.shape[1], samples_per_pixel=1, number_of_frames=1,
        bits_allocated=16, bits_stored=12, pixel_representation=0, photometric_interpretation="MONOCHROME2",
    )  # fmt: skip


OF_12_BITS = {
    JPEG_LOSSLESS: lambda words: imagecodecs.jpeg8_encode(words, lossless=True, bitspersample=12),
    JPEG_LS: jpeg_ls_of_12_bits,
    JPEG_2000: lambda words: imagecodecs.jpeg2k_encode(words, codecformat="J2K", reversible=True, bitspersample=12),
}


def image(syntax: str, codestream: bytes | bytearray, **replaced) -> samples.Sample:
    ds = samples.replace(Variant(WORDS, 12, 11).data_set(), **replaced)
    ds.add_new("PixelData", "OB", encapsulate([bytes(codestream)]))
    ds["PixelData"].is_undefined_length = True
    return samples.encode(ds, syntax)


def converted(sample: samples.Sample):
    stream = io.BytesIO(sample.data_set)
    return transcode(stream, sample.transfer_syntax_uid, [EXPLICIT], len(sample.data_set), Path("absent"))


def words(sample: samples.Sample) -> bytes:
    with converted(sample).data_set as data_set:
        return dataclasses.replace(sample, transfer_syntax_uid=EXPLICIT, data_set=data_set.read()).dataset().PixelData


def refusal(sample: samples.Sample) -> str:
    with pytest.raises(InstanceRefused) as caught:
        converted(sample)
    return str(caught.value).partition(": ")[2]


@pytest.mark.parametrize("syntax", OF_12_BITS)
@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ({}, ""),
        ({"HighBit": 15}, "bits are missing"),  # left-justified, and its codestream is not
        ({"HighBit": 12}, "bits are missing"),
        ({"BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1}, "bits are missing"),  # where is the sign?
        ({"BitsStored": 13, "HighBit": 12}, "bits are missing"),
        ({"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}, "wider than its Bits Allocated"),
        ({"Rows": 41}, "another size"),
        ({"Columns": 55}, "another size"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "Samples per Pixel is 3"),
        ({"BitsStored": 11, "HighBit": 10}, ""),  # a bit above Bits Stored is kept
        ({"HighBit": None}, ""),
        ({"HighBit": 10}, "contradict"),
        ({"HighBit": 16}, "contradict"),
        ({"BitsStored": 17, "HighBit": 16}, "contradict"),
        ({"BitsStored": 0}, "contradict"),
        ({"BitsStored": None}, "no Bits Stored"),
        ({"Rows": 0}, "are 0"),
        ({"Rows": 60_000, "Columns": 60_000}, "larger than 1 GiB"),
        ({"PhotometricInterpretation": "YBR_PARTIAL_420", "SamplesPerPixel": 3}, "no equal"),
    ],
)
def test_what_the_data_set_says_must_be_in_the_codestream(syntax, description, reason):
    sample = image(syntax, OF_12_BITS[syntax](WORDS[0]), **description)
    if reason:
        assert reason in refusal(sample)
    else:
        assert words(sample) == WORDS.tobytes()


def test_a_sign_that_the_data_set_does_not_know_is_refused():
    signed = variants()["signed"].pixels
    codestream = imagecodecs.jpeg2k_encode(signed[0], codecformat="J2K", reversible=True)
    description = {"BitsStored": 16, "HighBit": 15}
    assert "with a sign" in refusal(image(JPEG_2000, codestream, **description))
    assert words(image(JPEG_2000, codestream, PixelRepresentation=1, **description)) == signed.tobytes()


def test_every_frame_is_looked_at():
    """The second of them lacks bits."""
    ds = samples.replace(variants()["plain"].data_set(), NumberOfFrames="2", BitsStored=16, HighBit=15)
    codestreams = [
        imagecodecs.jpeg8_encode(WORDS[0], lossless=True, bitspersample=16),
        OF_12_BITS[JPEG_LOSSLESS](WORDS[0]),
    ]
    ds.add_new("PixelData", "OB", encapsulate([bytes(each) for each in codestreams]))
    ds["PixelData"].is_undefined_length = True
    assert "bits are missing" in refusal(samples.encode(ds, JPEG_LOSSLESS))


def test_pixel_data_that_is_there_twice_is_refused():
    """One of them would come out as zeros, or as the other."""
    first, second = (image(JPEG_2000, OF_12_BITS[JPEG_2000](words)) for words in (WORDS[0], WORDS[0][::-1]))
    begin = second.data_set.index(b"\xe0\x7f\x10\x00OB")
    both = dataclasses.replace(first, data_set=first.data_set + second.data_set[begin:])
    assert "Pixel Data twice" in refusal(both)


@pytest.mark.parametrize("recipe", ["JPEG Baseline", "JPEG Lossless SV1", "JPEG-LS", "RLE"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_a_codestream_that_is_cut_short_is_refused(recipe, part, tmp_path):
    coded = coded_by_dcmtk(recipe, variants()["plain"], tmp_path)
    assert refusal(cut(coded.sample, part))


@pytest.mark.parametrize("recipe", ["JPEG 2000", "HTJ2K"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_jpeg_2000_that_is_cut_short_is_refused(recipe, part):
    assert refusal(cut(coded_here(recipe, variants()["plain"]).sample, part))


def cut(sample: samples.Sample, part: float) -> samples.Sample:
    ds = sample.dataset()
    codestream = next(generate_frames(ds.PixelData, number_of_frames=1))
    ds.add_new("PixelData", "OB", encapsulate([codestream[: int(len(codestream) * part) // 2 * 2]]))
    ds["PixelData"].is_undefined_length = True
    return samples.encode(ds, sample.transfer_syntax_uid)


@pytest.mark.parametrize("read", [read_jpeg, read_jpeg_ls, read_jpeg_2000])
@pytest.mark.parametrize("content", [b"", b"\xff", b"\xff\xd8", b"\xff\x4f\xff\x51", b"BM" + bytes(60)])
def test_another_kind_of_compression_is_refused(read, content):
    with pytest.raises(InstanceRefused, match="are not JPEG"):
        read(content)


def test_jpeg_and_jpeg_ls_are_told_apart():
    with pytest.raises(InstanceRefused, match="not JPEG-LS"):
        read_jpeg_ls(bytes(OF_12_BITS[JPEG_LOSSLESS](WORDS[0])))
    with pytest.raises(InstanceRefused, match="not JPEG,"):
        read_jpeg(bytes(imagecodecs.jpegls_encode(WORDS[0])))


def test_fill_bytes_before_a_marker_are_skipped():
    codestream = bytes(OF_12_BITS[JPEG_LOSSLESS](WORDS[0]))
    filled = codestream[:2] + b"\xff\xff" + codestream[2:]
    assert read_jpeg(filled)[1:] == read_jpeg(codestream)[1:] == (40, 56, 1, 12, False, "")


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (24, (0, 32), "size of tiles"),
        (24, (32, 0), "size of tiles"),
        (24, (1, 1), "size of tiles"),
        (42, (0x0B010200, 0), "different ways"),
    ],
)
def test_what_jpeg_2000_says_of_its_tiles_and_components(at, value, reason):
    header = bytearray(imagecodecs.jpeg2k_encode(np.zeros((512, 512), "<u2"), codecformat="J2K")[:60])
    struct.pack_into(">LL", header, at, *value)
    with pytest.raises(InstanceRefused, match=reason):
        read_jpeg_2000(bytes(header))


def test_jpeg_2000_says_its_size_and_bits():
    codestream = bytes(OF_12_BITS[JPEG_2000](WORDS[0]))
    assert read_jpeg_2000(codestream) == (codestream, 40, 56, 1, 12, False, "")


@pytest.mark.parametrize(
    ("count", "offsets", "reason"),
    [
        (1, (64,), "as many as"),
        (2, (64, 64), "one behind another"),
        (2, (80, 70), "one behind another"),
        (2, (63, 70), "one behind another"),
        (2, (64, 100), "one behind another"),
    ],
)
def test_what_rle_says_of_its_segments(count, offsets, reason):
    frame = struct.pack("<16L", count, *offsets, *([0] * (15 - len(offsets)))) + bytes(36)
    with pytest.raises(InstanceRefused, match=reason):
        read_rle(frame, 6, 3, 1, 16)
    good = struct.pack("<16L", 2, 64, 99, *([0] * 13)) + bytes(36)
    assert read_rle(good, 6, 3, 1, 16) == (good, 6, 3, 1, 16, False, "")


def test_an_rle_frame_without_a_header_is_refused():
    with pytest.raises(InstanceRefused, match="not RLE"):
        read_rle(bytes(63), 6, 3, 1, 16)
