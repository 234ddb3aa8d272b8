"""Transcoding keeps every pixel and every attribute, or refuses: against pydicom, dcmtk, and broken input."""

from __future__ import annotations

import copy
import io
import logging
import shutil
import struct
import subprocess
import tracemalloc
import warnings
import zlib
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.encoders.base import get_encoder
from pydicom.sequence import Sequence

import backup_scp.dicom.transcode
from backup_scp.dicom.transcode import alternatives, begin, decoders, transcode, write_plainly
from backup_scp.dicom.transcode.decoder_process import DecoderProcess
from backup_scp.dicom.transcode.decoders import DECODABLE
from backup_scp.errors import InstanceRefused
from tests import samples

EXPLICIT, IMPLICIT = str(uid.ExplicitVRLittleEndian), str(uid.ImplicitVRLittleEndian)
DEFLATED, BIG_ENDIAN = str(uid.DeflatedExplicitVRLittleEndian), str(uid.ExplicitVRBigEndian)
NATIVE = (EXPLICIT, IMPLICIT, DEFLATED, BIG_ENDIAN)
RLE, BASELINE, JPEG_2000 = str(uid.RLELossless), str(uid.JPEGBaseline8Bit), str(uid.JPEG2000Lossless)
MPEG, JPEG_XL = str(uid.MPEG2MPML), "1.2.840.10008.1.2.4.110"
# PhotometricInterpretation, PlanarConfiguration, the Extended Offset Table, Pixel Data
FOLLOWS_THE_PIXELS = {0x00280004, 0x00280006, 0x7FE00001, 0x7FE00002, 0x7FE00010}
UNDECODABLE = {"JPEG2000-embedded-sequence-delimiter.dcm"}  # broken on purpose
NOT_BY_DCMTK = {"SC_rgb_jpeg.dcm"}  # it does not read elements of implicit VR in an explicit Data Set
NOT_BY_PYDICOM = {"JPEG-lossy.dcm", "JPGExtended.dcm"}  # JPEG Extended of 12 bits: compared with dcmtk alone
LEFT_OUT = {"MR_truncated.dcm", "rtplan_truncated.dcm", "UN_sequence.dcm"}  # cut short; the last has no pixels


def shipped(*transfer_syntaxes):
    """The readable Data Sets inside pydicom, but for a hundred like slices."""
    return [
        pytest.param(sample, id=sample.name)
        for sample in samples.pydicom_samples()
        if sample.transfer_syntax_uid in transfer_syntaxes and "." in sample.name and sample.name not in LEFT_OUT
    ]


def convert(sample, target, folder=None):
    """Transcode and give the result as a sample."""
    stream = io.BytesIO(b"in front" + sample.data_set)
    stream.seek(8)
    size = len(sample.data_set)
    result = transcode(stream, sample.transfer_syntax_uid, [target], size, folder or Path("absent"))
    with result.data_set:
        data_set = result.data_set.read()
    assert result.transfer_syntax_uid == target
    assert result.size_bytes == len(data_set)
    return samples.Sample(sample.name, sample.sop_class_uid, sample.sop_instance_uid, target, data_set)


def refusal(sample, target=EXPLICIT, folder=None):
    with pytest.raises(InstanceRefused) as caught:
        convert(sample, target, folder)
    return str(caught.value)


def decoded(sample):
    """The pixels as pydicom sees them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sample.dataset().pixel_array


def elements(ds, at=()):
    """Yield path and encoded Value of every element, save those that count bytes of an encoding."""
    for tag in sorted(ds.keys()):
        if tag.element == 0 or tag == 0x00080001:
            continue
        raw = ds.get_item(tag)
        known = dictionary_VR(tag) if dictionary_has_tag(tag) else None
        if raw.VR == "SQ" or (raw.VR in {None, "UN"} and known == "SQ"):
            yield (*at, int(tag)), len(ds[tag].value)
            for number, item in enumerate(ds[tag].value):
                yield from elements(item, (*at, int(tag), number))
        elif tag == 0x00280103:  # pydicom reads it ahead
            yield (*at, int(tag)), ds[tag].value
        else:
            yield (*at, int(tag)), raw.value or b""


def values(sample, without=()):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {path: value for path, value in elements(sample.dataset()) if path[-1] not in without}


def coded_frames(syntax, pixels, bits_stored):
    """Compress one frame after another."""
    encoder = get_encoder(syntax)
    _, rows, columns = pixels.shape
    options: dict[str, Any] = {
        "rows": rows,
        "columns": columns,
        "samples_per_pixel": 1,
        "number_of_frames": 1,
        "bits_allocated": pixels.itemsize * 8,
        "bits_stored": bits_stored,
        "pixel_representation": 0,
        "photometric_interpretation": "MONOCHROME2",
    }
    return [encoder.encode(frame.tobytes(), **options) for frame in pixels]


def rle(*, frames_=1, **replaced):
    """A grey image of 16 bits in RLE."""
    ds = samples.with_pixels(samples.dx(), frames=frames_)
    pixels = np.frombuffer(ds.PixelData, "<u2").reshape(frames_, 32, 32)
    return compressed(samples.replace(ds, **replaced), encapsulate(coded_frames(RLE, pixels, 16))), RLE, pixels


def jpeg_2000_frames(frames_=4):
    ds = samples.with_pixels(samples.dx(), frames=frames_)
    return coded_frames(JPEG_2000, np.frombuffer(ds.PixelData, "<u2").reshape(frames_, 32, 32), 12), ds


def shipped_by_name(name):
    return next(sample for sample in samples.pydicom_samples() if sample.name == name)


def told(convert_it):
    """What a refusal said, empty when there was none."""
    try:
        convert_it()
    except InstanceRefused as error:
        return str(error)
    return ""


def compressed(ds, encapsulated):
    ds.add_new("PixelData", "OB", encapsulated)
    ds["PixelData"].is_undefined_length = True
    return ds


def encoded(ds, transfer_syntax_uid=EXPLICIT):
    return samples.encode(ds, transfer_syntax_uid)


def header(tag, vr, length):
    if vr in {"OB", "OW", "SQ", "UN", "UT", "OL"}:
        return struct.pack("<HH2s2xL", tag >> 16, tag & 0xFFFF, vr.encode(), length)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), length)


def raw(data_set, transfer_syntax_uid=EXPLICIT):
    return samples.Sample("raw", "1.2.3", "1.2.3.4", transfer_syntax_uid, data_set)


# ------------------------------------------------------------------------------------------------ native to native


@pytest.mark.skipif(not shutil.which("dcmconv"), reason="dcmtk is not installed")
@pytest.mark.parametrize("sample", shipped(*NATIVE))
def test_native_syntaxes_come_out_as_dcmtk_writes_them(sample, tmp_path):
    source = sample.write(tmp_path / "source.dcm")
    for target, option in ((EXPLICIT, "+te"), (IMPLICIT, "+ti"), (DEFLATED, "+td"), (BIG_ENDIAN, "+tb")):
        syntaxes = {target, sample.transfer_syntax_uid}
        if len(syntaxes) == 1 or (BIG_ENDIAN in syntaxes and wide(sample)):
            continue
        subprocess.run(["dcmconv", option, source, tmp_path / "theirs.dcm"], check=True, capture_output=True)
        theirs = samples.Sample.of_file(tmp_path / "theirs.dcm")
        ours = convert(sample, target, tmp_path)
        # For 8 bits dcmtk chooses OW and we OB (PS3.5 A.2 allows both): other bytes in big endian, the same pixels
        either = {0x7FE00010} if ours.dataset().get("BitsAllocated") == 8 and target == BIG_ENDIAN else {}
        assert values(ours, either) == values(theirs, either)
        if either:
            np.testing.assert_array_equal(decoded(ours), decoded(theirs))


def wide(sample):
    return values(sample).get((0x00280100,), b"")[:2] in {b"\x20\0", b"\0\x20"}


@pytest.mark.parametrize("via", NATIVE)
@pytest.mark.parametrize("kind", samples.one_of_each(), ids=lambda ds: ds.Modality)
def test_a_round_trip_gives_the_same_bytes(kind, via):
    stored = convert(encoded(kind, IMPLICIT), EXPLICIT)
    assert values(stored) == values(encoded(kind))
    assert convert(convert(stored, via), EXPLICIT).data_set == stored.data_set


@pytest.mark.parametrize("target", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("ds", samples.one_of_each(), ids=lambda ds: ds.Modality)
def test_deflation_and_byte_order_are_undone(ds, target):
    for stored in (encoded(ds, DEFLATED), encoded(swapped(ds), BIG_ENDIAN)):
        assert values(convert(stored, target)) == values(encoded(ds))


def swapped(ds):
    """Turn the words of Pixel Data over: pydicom writes OW as it finds it."""
    ds = copy.deepcopy(ds)
    if "PixelData" in ds and ds["PixelData"].VR == "OW":
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").byteswap().tobytes()
    return ds


def test_explicit_and_deflated_differ_in_nothing_but_deflation():
    stored = encoded(samples.structured_report())
    assert convert(convert(stored, DEFLATED), EXPLICIT).data_set == stored.data_set


def test_what_is_deflated_is_padded_to_an_even_length():
    """PS3.5 A.5."""
    padded = []
    for size in range(0, 40, 2):
        stored = raw(header(0x00104000, "LT", size) + (b"ABCDEFG" * 6)[:size])
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        deflated = deflater.compress(stored.data_set) + deflater.flush()
        padded.append(len(deflated) % 2)
        assert convert(stored, DEFLATED).data_set == deflated + bytes(padded[-1])
    assert set(padded) == {0, 1}


def test_values_are_swapped_by_the_width_of_their_vr():
    numbers = Dataset()
    numbers.SOPClassUID = numbers.SOPInstanceUID = "1.2.3"
    for tag, vr, value in ((1, "US", 0x0102), (2, "SL", -3), (3, "FD", 1.5), (4, "AT", 0x00100020), (5, "UV", 1 << 40)):
        numbers.add_new(0x00091000 + tag, vr, value)
    numbers.add_new(0x00091010, "OW", b"\1\2\3\4")
    numbers.add_new(0x00091011, "OB", b"\1\2\3\4")
    numbers.add_new(0x00091012, "OL", b"\1\2\3\4")
    numbers.add_new(0x00091013, "UN", b"\1\2\3\4")
    big_endian = convert(encoded(numbers), BIG_ENDIAN)
    assert values(big_endian)[0x00091010,] == b"\2\1\4\3"
    assert values(big_endian)[0x00091011,] == b"\1\2\3\4"
    assert values(big_endian)[0x00091012,] == b"\4\3\2\1"
    assert values(big_endian)[0x00091013,] == b"\1\2\3\4"
    assert big_endian.data_set.endswith(b"\x00\x09\x10\x13UN\0\0\0\0\0\4\1\2\3\4")
    assert b"\x00\x09\x10\x04AT\0\4\x00\x10\x00\x20" in big_endian.data_set
    assert b"\x00\x09\x10\x03FD\0\x08\x3f\xf8\0\0" in big_endian.data_set
    assert convert(big_endian, EXPLICIT).data_set == encoded(numbers).data_set


def test_private_sequences_odd_values_and_strange_vrs_are_kept():
    item = header(0xFFFEE000, "SQ", 0)[:4]
    nested = item + struct.pack("<L", 0xFFFFFFFF) + header(0x00091002, "LO", 4) + b"in  "
    nested += struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    verbatim = item + struct.pack("<L", 12) + struct.pack("<HHL", 9, 0x1004, 4) + b"deep"
    verbatim += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    data_set = (
        header(0x00080020, "DA", 9) + b"not a day"
        + header(0x00090010, "LO", 4) + b"MINE"
        + header(0x00091001, "SQ", 0xFFFFFFFF) + nested
        + header(0x00091003, "UN", 0xFFFFFFFF) + verbatim
        + struct.pack("<HH2s2xL", 9, 0x1005, b"ZZ", 3) + b"odd"
        + header(0x00100010, "PN", 3) + b"\x1b$B"
    )  # fmt: skip
    there = convert(raw(data_set), IMPLICIT)
    assert b"not a day" in there.data_set
    assert b"\x09\x00\x05\x10\x04\x00\x00\x00odd\0" in there.data_set  # an even length, PS3.5 7.1.1
    assert len(there.data_set) % 2 == 0
    assert nested[16:20] in there.data_set
    back = convert(raw(data_set), DEFLATED)
    assert convert(back, EXPLICIT).data_set == data_set
    assert b"is of unknown VR" not in refusal(raw(data_set), BIG_ENDIAN).encode()
    assert "unknown VR" in refusal(raw(data_set), BIG_ENDIAN)


def test_an_un_sequence_is_kept_and_becomes_a_sequence_in_big_endian():
    data_set = header(0x00091003, "UN", 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 12)
    data_set += struct.pack("<HHL", 0x0028, 0x0010, 4) + b"\1\0\2\0" + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    big = convert(raw(data_set), BIG_ENDIAN).data_set
    assert big.startswith(b"\x00\x09\x10\x03SQ\0\0\xff\xff\xff\xff")
    assert b"\x00\x28\x00\x10US\x00\x04\x00\x01\x00\x02" in big
    assert values(convert(raw(data_set), IMPLICIT)) == values(raw(data_set))
    anew = convert(raw(data_set, RLE), EXPLICIT).data_set
    assert anew.startswith(data_set[:12])
    assert data_set[20:32] in anew


def test_an_un_sequence_is_implicit_even_where_a_length_looks_like_a_vr():
    length = int.from_bytes(b"LT\0\0", "little")
    inside = struct.pack("<HHL", 0x0010, 0x4000, length) + b"x" * length
    data_set = header(0x00091003, "UN", 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, len(inside)) + inside
    data_set += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    assert inside in convert(raw(data_set), IMPLICIT).data_set


@pytest.mark.parametrize(("sequence", "item"), [(20, 14), (18, 10), (17, 10), (18, 11)])
def test_what_does_not_fit_into_what_holds_it_is_refused(sequence, item):
    inside = header(0x00280010, "US", 2) + b"\1\0"
    data_set = header(0x00081140, "SQ", sequence) + struct.pack("<HHL", 0xFFFE, 0xE000, item) + inside
    after = header(0x00280010, "US", 2) + b"\1\0"
    if (sequence, item) == (18, 10):
        assert values(convert(raw(data_set + after), IMPLICIT)) == values(raw(data_set + after))
    else:
        assert "cannot be read" in refusal(raw(data_set + after), IMPLICIT)


def test_implicit_elements_inside_an_explicit_sequence_are_understood():
    inside = struct.pack("<HHL", 0x0028, 0x0010, 2) + b"\1\0"
    data_set = header(0x00081140, "SQ", 18) + struct.pack("<HHL", 0xFFFE, 0xE000, 10) + inside
    assert b"\x28\x00\x10\x00\x02\x00\x00\x00\x01\x00" in convert(raw(data_set), IMPLICIT).data_set


def test_a_value_too_long_for_its_vr_becomes_un():
    data_set = struct.pack("<HHL", 0x0018, 0x9074, 0) + struct.pack("<HHL", 0x0028, 0x3006, 0)
    data_set += struct.pack("<HHL", 0x3006, 0x0050, 70_000) + b"1.5\\" * 17_500
    explicit = convert(raw(data_set, IMPLICIT), EXPLICIT)
    assert header(0x30060050, "UN", 70_000) in explicit.data_set
    assert convert(explicit, IMPLICIT).data_set == data_set


@pytest.mark.parametrize(("representation", "vr"), [(0, b"US"), (1, b"SS")])
def test_an_ambiguous_vr_follows_pixel_representation(representation, vr):
    ds = samples.dx(
        PixelRepresentation=representation, SmallestImagePixelValue=b"\1\0", ModalityLUTSequence=[Dataset()]
    )
    ds["SmallestImagePixelValue"].VR = "OW"
    ds.ModalityLUTSequence[0].add_new(0x00283002, "OW", b"\1\0\2\0\3\0")
    explicit = convert(encoded(ds, IMPLICIT), EXPLICIT).data_set
    assert b"\x28\x00\x06\x01" + vr + b"\2\0\1\0" in explicit
    assert b"\x28\x00\x02\x30" + vr + b"\6\0" in explicit


@pytest.mark.parametrize(("bits", "vr"), [(8, "OB"), (16, "OW")])
def test_native_pixel_data_gets_the_vr_of_its_bits(bits, vr):
    ds = samples.with_pixels(samples.dx(), bits=bits)
    result = convert(encoded(ds, IMPLICIT), EXPLICIT).dataset()
    assert vr == result["PixelData"].VR


def test_lengths_of_the_old_encoding_go_and_nothing_else():
    data_set = header(0x00080000, "UL", 4) + b"\x0a\0\0\0" + header(0x00080016, "UI", 4) + b"1.2\0"
    assert convert(raw(data_set), IMPLICIT).data_set == struct.pack("<HHL", 8, 0x16, 4) + b"1.2\0"


# ---------------------------------------------------------------------------------------------- compressed to native


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("sample", shipped(*DECODABLE))
def test_decoded_pixels_are_pydicoms_and_everything_else_is_unchanged(sample, target, tmp_path):
    if sample.name in UNDECODABLE:
        assert "its pixels" in refusal(sample, target, tmp_path)
        return
    if target == BIG_ENDIAN and wide(sample):
        assert "byte order" in refusal(sample, target, tmp_path)
        return
    result = convert(sample, target, tmp_path)
    if get_decoder(sample.transfer_syntax_uid).is_available and sample.name not in NOT_BY_PYDICOM:
        np.testing.assert_array_equal(decoded(result), decoded(sample))
    little_endian = convert(result, EXPLICIT, tmp_path) if target != EXPLICIT else result
    assert values(little_endian, FOLLOWS_THE_PIXELS) == values(sample, FOLLOWS_THE_PIXELS)


@pytest.mark.parametrize("sample", shipped(*(DECODABLE - {JPEG_2000, uid.JPEG2000})))
def test_dcmtk_decodes_the_same_pixels(sample, tmp_path):
    if sample.name in NOT_BY_DCMTK:
        return
    program = {"1.2.840.10008.1.2.4.8": ["dcmdjpls"], RLE: ["dcmdrle"]}.get(sample.transfer_syntax_uid[:21])
    command = program or ["dcmdjpeg", "+cn"]
    path = sample.write(tmp_path / "source.dcm")
    subprocess.run([*command, path, tmp_path / "theirs.dcm"], check=True, capture_output=True)
    theirs = samples.Sample.of_file(tmp_path / "theirs.dcm")
    assert theirs
    ours = convert(sample, EXPLICIT, tmp_path)
    np.testing.assert_array_equal(decoded(ours), decoded(theirs))
    assert ours.dataset().PhotometricInterpretation == theirs.dataset().PhotometricInterpretation


ADOBE_YCBCR = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\1"


@pytest.mark.parametrize("jfif", [True, False])
def test_adobes_marker_does_not_turn_ycbcr_into_rgb(jfif):
    """The same image with JFIF's and with Adobe's marker is the same image."""
    ds = shipped_by_name("SC_rgb_dcmtk_+eb+cy+np.dcm").dataset()
    plain = next(generate_frames(ds.PixelData, number_of_frames=1))
    assert plain[2:4] == b"\xff\xe0"
    body = plain[2 if jfif else 20 :]
    expected = convert(encoded(ds, BASELINE), EXPLICIT)
    marked = encoded(compressed(ds, encapsulate([b"\xff\xd8" + ADOBE_YCBCR + body])), BASELINE)
    assert convert(marked, EXPLICIT).dataset().PixelData == expected.dataset().PixelData
    ds.PhotometricInterpretation = "RGB"  # as many writers have it
    mislabelled = convert(encoded(ds, BASELINE), EXPLICIT).dataset()
    assert (mislabelled.PhotometricInterpretation, mislabelled.PixelData) == ("YBR_FULL", expected.dataset().PixelData)


def test_the_bits_above_bits_stored_are_kept():
    """Older images have overlays there (PS3.5 8.1.2)."""
    ds, syntax, pixels = rle(BitsStored=4, HighBit=3)
    assert convert(encoded(ds, syntax), EXPLICIT).dataset().PixelData == pixels.tobytes()


def test_planar_configuration_follows_the_decoded_pixels():
    stored = shipped_by_name("SC_rgb_rle.dcm")
    ds = stored.dataset()
    ds.PlanarConfiguration = 1
    result = convert(encoded(ds, RLE), EXPLICIT)
    assert result.dataset().PlanarConfiguration == 0
    np.testing.assert_array_equal(decoded(result), decoded(stored))


@pytest.mark.parametrize("fragments_per_frame", [1, 3])
@pytest.mark.parametrize("has_table", [True, False])
def test_frames_in_several_fragments_are_told_apart(fragments_per_frame, has_table):
    coded, ds = jpeg_2000_frames()
    ds = compressed(ds, encapsulate(coded, fragments_per_frame=fragments_per_frame, has_bot=has_table))
    result = convert(encoded(ds, JPEG_2000), EXPLICIT)
    np.testing.assert_array_equal(decoded(result), np.frombuffer(samples.with_pixels(
        samples.dx(), frames=4).PixelData, "<u2").reshape(4, 32, 32))  # fmt: skip


def test_the_extended_offset_table_is_used_and_goes():
    coded, ds = jpeg_2000_frames()
    encapsulated, offsets, lengths = encapsulate_extended(coded)
    ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = offsets, lengths
    result = convert(encoded(compressed(ds, encapsulated), JPEG_2000), IMPLICIT).dataset()
    assert "ExtendedOffsetTable" not in result
    assert "ExtendedOffsetTableLengths" not in result
    assert len(result.PixelData) == 4 * 2048


@pytest.mark.parametrize("number_of_frames", ["1", "2", "3", "5", "0", "x", None])
def test_a_wrong_number_of_frames_is_refused(number_of_frames):
    coded, ds = jpeg_2000_frames()
    compressed(samples.replace(ds, NumberOfFrames=None), encapsulate(coded, has_bot=False))
    sample = encoded(ds, JPEG_2000)
    if number_of_frames:
        sample = with_frames(sample, number_of_frames)
    assert "rame" in refusal(sample).split(": ", 1)[1]


def with_frames(sample, number):
    """Insert (0028,0008) before (0028,0010)."""
    at = sample.data_set.index(header(0x00280010, "US", 2))
    element = header(0x00280008, "IS", 2) + number.ljust(2).encode()
    return raw(sample.data_set[:at] + element + sample.data_set[at:], sample.transfer_syntax_uid)


def test_an_offset_table_that_points_into_a_frame_is_refused():
    coded, ds = jpeg_2000_frames()
    good = encapsulate(coded, fragments_per_frame=2)
    offsets = list(struct.unpack("<4L", good[8:24]))
    offsets[2] = offsets[1] + 8 + struct.unpack_from("<L", good, 28 + offsets[1])[0]
    wrong = good[:8] + struct.pack("<4L", *offsets) + good[24:]
    assert "fragments" in refusal(encoded(compressed(ds, wrong), JPEG_2000))


def test_an_rle_frame_in_two_fragments_is_refused():
    ds, syntax, _ = rle()
    frame = next(generate_frames(ds.PixelData, number_of_frames=1))
    assert "RLE" in refusal(encoded(compressed(ds, encapsulate([frame], fragments_per_frame=2)), syntax))


def test_samples_get_the_width_that_bits_allocated_says():
    coded, ds = jpeg_2000_frames(1)
    (eight,) = coded_frames(JPEG_2000, np.arange(1024, dtype="u1").reshape(1, 32, 32), 8)
    samples.replace(compressed(ds, encapsulate([eight])), BitsStored=8, HighBit=7)
    result = convert(encoded(ds, JPEG_2000), EXPLICIT).dataset()
    assert result.BitsAllocated == 16
    assert result.PixelData == np.tile(np.arange(256, dtype="<u2"), 4).tobytes()
    samples.replace(compressed(ds, encapsulate(coded)), BitsAllocated=8)
    assert "wider" in refusal(encoded(ds, JPEG_2000))


def test_an_encapsulated_icon_is_decoded_and_a_native_one_kept():
    ds, syntax, pixels = rle()
    icon, _, _ = rle()
    small = samples.with_pixels(Dataset(), 8, 8, bits=8)
    ds.IconImageSequence = Sequence([icon, small])
    result = convert(encoded(ds, syntax), IMPLICIT).dataset()
    assert result.PixelData == result.IconImageSequence[0].PixelData == pixels.tobytes()
    assert result.IconImageSequence[1].PixelData == small.PixelData


def test_a_compressed_syntax_without_pixels_is_only_written_anew():
    report = samples.structured_report()
    sample = encoded(report)
    stored = samples.Sample("SR", sample.sop_class_uid, sample.sop_instance_uid, JPEG_2000, sample.data_set)
    assert values(convert(stored, EXPLICIT)) == values(sample)


@pytest.mark.parametrize("target", NATIVE)
def test_it_needs_no_decoder_then(target):
    sample = shipped_by_name("UN_sequence.dcm")
    assert sample.transfer_syntax_uid == uid.JPEGLosslessSV1
    result = convert(sample, target)
    assert values(convert(result, EXPLICIT) if target != EXPLICIT else result) == values(sample)


def test_odd_pixel_data_is_padded():
    sample = shipped_by_name("SC_rgb_small_odd_jpeg.dcm")
    assert len(convert(sample, EXPLICIT).dataset().PixelData) == 3 * 3 * 3 + 1


# --------------------------------------------------------------------------------------------- choice and refusals


def test_the_stored_syntax_wins_and_the_stream_comes_back():
    stream = io.BytesIO(b"anything")
    result = transcode(stream, MPEG, [EXPLICIT, MPEG], 8, Path("absent"))
    assert result == (stream, MPEG, 8)


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ([JPEG_2000, IMPLICIT, EXPLICIT], EXPLICIT),
        ([DEFLATED, BIG_ENDIAN, IMPLICIT], IMPLICIT),
        ([BIG_ENDIAN, DEFLATED], DEFLATED),
        ([MPEG, BIG_ENDIAN], BIG_ENDIAN),
    ],
)
def test_explicit_vr_is_chosen_where_it_is_taken_and_big_endian_last(accepted, chosen):
    ds, syntax, _ = rle()
    sample = encoded(ds, syntax)
    result = transcode(io.BytesIO(sample.data_set), syntax, accepted, len(sample.data_set), Path("absent"))
    result.data_set.close()
    assert result.transfer_syntax_uid == chosen


@pytest.mark.parametrize("stored", [MPEG, JPEG_XL, str(uid.HEVCMP51), samples.PRIVATE_TRANSFER_SYNTAX, ""])
def test_what_has_no_decoder_is_refused_by_name(stored):
    sentence = refusal(raw(b"", stored))
    assert "Explicit VR Little Endian" in sentence
    assert "no decoder" in sentence
    assert uid.UID(stored).name in sentence or stored in sentence  # other tests may register its name
    assert alternatives(stored) == ()


@pytest.mark.parametrize("accepted", [[], [JPEG_2000], [MPEG]])
def test_nothing_is_ever_compressed(accepted):
    sample = encoded(samples.dx())
    with pytest.raises(InstanceRefused, match="Explicit VR Little Endian"):
        transcode(io.BytesIO(sample.data_set), EXPLICIT, accepted, len(sample.data_set), Path("absent"))


def test_a_missing_decoder_is_named_with_its_fix(monkeypatch):
    ds, syntax, _ = rle()
    monkeypatch.setattr(decoders, "find_spec", lambda _: None)
    monkeypatch.setattr(decoders, "_process", DecoderProcess())  # one that runs is there, whatever is installed
    assert "pip install backup-scp[images]" in refusal(encoded(ds, syntax))
    assert alternatives(syntax) == ()


def test_alternatives_are_the_native_ones():
    assert alternatives(IMPLICIT) == (EXPLICIT, DEFLATED, BIG_ENDIAN)
    assert alternatives(RLE) == NATIVE[:1] + NATIVE[1:]


@pytest.mark.parametrize(
    "changes",
    [{"Rows": None}, {"BitsAllocated": 12}, {"BitsAllocated": None}, {"Rows": 33}, {"PhotometricInterpretation": None},
     {"SamplesPerPixel": 3}, {"PhotometricInterpretation": "NONSENSE"}, {"PixelRepresentation": 7}],
)  # fmt: skip
def test_pixels_that_are_not_what_the_data_set_says_are_refused(changes):
    ds, syntax, _ = rle(**changes)
    assert refusal(encoded(ds, syntax))


def test_a_damaged_frame_is_refused(caplog):
    ds, syntax, _ = rle(frames_=3)
    coded = list(generate_frames(ds.PixelData, number_of_frames=3))
    caplog.set_level(logging.DEBUG)
    for damaged in range(3):
        broken = [bytes(64) if number == damaged else frame for number, frame in enumerate(coded)]
        assert "its RLE segments" in refusal(encoded(compressed(ds, encapsulate(broken)), syntax))
    assert not caplog.records


def test_a_jp2_file_is_decoded_and_a_damaged_one_refused():
    coded, ds = jpeg_2000_frames(1)
    signature = b"\0\0\0\x0cjP  \r\n\x87\n"
    file_type = struct.pack(">L4s4sL4s", 20, b"ftyp", b"jp2 ", 0, b"jp2 ")
    short = signature + struct.pack(">L", 7) + b"ftyp" + coded[0]
    assert "damaged JP2" in refusal(encoded(compressed(ds, encapsulate([short])), JPEG_2000))
    unended = signature + file_type
    assert "not JPEG 2000" in refusal(encoded(compressed(ds, encapsulate([unended])), JPEG_2000))
    image = struct.pack(">L4sLLHBBBB", 22, b"ihdr", 32, 32, 1, 11, 7, 0, 0)
    colour = struct.pack(">L4sBBBL", 15, b"colr", 1, 0, 0, 17)
    header_box = struct.pack(">L4s", 8 + len(image) + len(colour), b"jp2h") + image + colour
    whole = signature + file_type + header_box + struct.pack(">L4s", 0, b"jp2c") + coded[0]
    result = convert(encoded(compressed(ds, encapsulate([whole])), JPEG_2000), EXPLICIT)
    np.testing.assert_array_equal(decoded(result).ravel(), np.arange(1024))


def test_pixel_data_that_contradicts_its_syntax_is_refused():
    assert "not encapsulated" in refusal(raw(encoded(samples.dx()).data_set, RLE))
    ds, syntax, _ = rle()
    assert "is encapsulated" in refusal(raw(encoded(ds, syntax).data_set), IMPLICIT)


def test_wide_big_endian_pixels_are_refused():
    ds = samples.replace(samples.dx(), BitsAllocated=32)
    assert "byte order" in refusal(encoded(ds), BIG_ENDIAN)
    assert "byte order" in refusal(encoded(ds, BIG_ENDIAN), IMPLICIT)
    assert values(convert(encoded(ds), IMPLICIT)) == values(encoded(ds))


@pytest.mark.parametrize("depth", [128, 129, 5_000])
def test_deep_nesting_is_written_or_refused_but_never_a_traceback(depth):
    inner = header(0x00081140, "SQ", 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    closing = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    sample = raw(inner * depth + closing * depth)
    if depth > 128:
        assert "nests more than 256 levels" in refusal(sample, IMPLICIT)
    else:
        assert convert(convert(sample, IMPLICIT), EXPLICIT).data_set == sample.data_set


def test_a_refusal_names_what_is_stored_and_what_is_accepted():
    sentence = refusal(raw(b"", MPEG), EXPLICIT)
    names = "Stored as MPEG2 Main Profile / Main Level, and the destination accepts only Explicit VR Little Endian: "
    assert sentence.startswith(names)


def test_a_deflate_bomb_and_damaged_deflation_are_refused(monkeypatch):
    sample = encoded(samples.dx(), DEFLATED)
    assert "too early" in refusal(raw(sample.data_set[:-10], DEFLATED))
    assert "damaged" in refusal(raw(b"\xff" * 50, DEFLATED))
    monkeypatch.setattr(backup_scp.dicom.transcode, "_INFLATED_LIMIT_BYTES", 1000)
    assert "larger" in refusal(sample)


@pytest.mark.parametrize("further_bytes", [0, 2])
def test_an_image_that_needs_up_to_a_mebibyte_with_its_pixels_is_read_at_once(further_bytes):
    ds, syntax, _ = rle()
    pixel_bytes = ds.Rows * ds.Columns * ds.SamplesPerPixel * ds.BitsAllocated // 8
    ds.add_new(0x00091001, "OB", b"")
    ds[0x00091001].value = bytes((1 << 20) - pixel_bytes - len(encoded(ds, syntax).data_set) + further_bytes)
    sample = encoded(ds, syntax)
    size_bytes = len(sample.data_set)
    transcoding = begin(io.BytesIO(sample.data_set), syntax, [EXPLICIT], size_bytes, Path("absent"))
    assert transcoding.needs_source == bool(further_bytes)
    transcoding.give_up()


@pytest.mark.parametrize("limit_bytes", [1 << 28, 1 << 32])
@pytest.mark.parametrize("further_bytes", [0, 1])
def test_so_much_may_be_inflated_to_compare_or_to_send_it(limit_bytes, further_bytes, monkeypatch, tmp_path):
    """The temporary file says that it is as long as that, so that nothing of this length has to be written."""

    class Long(SpooledTemporaryFile):
        def tell(self):
            return limit_bytes + further_bytes

    monkeypatch.setattr(backup_scp.dicom.transcode, "SpooledTemporaryFile", Long)
    sample = encoded(samples.dx(), DEFLATED)

    def compare():
        write_plainly(io.BytesIO(sample.data_set), DEFLATED, len(sample.data_set), tmp_path, io.BytesIO(), frozenset())

    refused = told(compare if limit_bytes == 1 << 28 else lambda: convert(sample, IMPLICIT))
    assert (f"inflated it is larger than {limit_bytes >> 20} MiB" in refused) == bool(further_bytes)


@pytest.mark.parametrize("target", [IMPLICIT, DEFLATED])
def test_a_file_that_is_shorter_than_it_was_is_refused(target):
    data_set = encoded(samples.dx()).data_set
    with pytest.raises(InstanceRefused, match=r"too early|shorter than it was"):
        transcode(io.BytesIO(data_set), EXPLICIT, [target], len(data_set) + 2, Path("absent"))


@pytest.mark.parametrize("stored", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_a_data_set_cut_anywhere_is_whole_elements_or_refused(stored):
    whole = encoded(samples.structured_report(), stored)
    target = IMPLICIT if stored != IMPLICIT else EXPLICIT
    complete = convert(whole, target).data_set
    for size in range(len(whole.data_set)):
        sample = raw(whole.data_set[:size], stored)
        refused = told(lambda sample=sample: convert(sample, target))
        assert "Kein Befund" not in refused
        assert refused or complete.startswith(convert(sample, target).data_set)


@given(st.binary(max_size=300), st.sampled_from([*NATIVE, RLE, BASELINE]))
def test_arbitrary_bytes_are_converted_or_refused(data_set, stored):
    assert "\n" not in told(lambda: convert(raw(data_set, stored), EXPLICIT if stored != EXPLICIT else IMPLICIT))


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
def test_a_damaged_data_set_is_converted_or_refused(at, damage):
    ds, syntax, _ = rle()
    data_set = bytearray(encoded(ds, syntax).data_set)
    at %= len(data_set)
    data_set[at : at + len(damage)] = damage
    assert "Family" not in told(lambda: convert(raw(bytes(data_set), syntax), IMPLICIT))


def test_a_file_shorter_than_the_index_says_is_refused():
    sample = encoded(samples.dx())
    with pytest.raises(InstanceRefused, match="shorter"):
        transcode(io.BytesIO(sample.data_set), EXPLICIT, [IMPLICIT], len(sample.data_set) + 2, Path("absent"))


def test_a_full_or_missing_folder_is_refused():
    sample = encoded(samples.with_pixels(samples.dx(), 1024, 1024))
    assert "No such file" in refusal(sample, IMPLICIT, Path("absent"))


# ------------------------------------------------------------------------------------------------ memory and traces


def big(size_bytes):
    ds = samples.dx(PixelData=None)
    ds.add_new("PixelData", "OW", b"\1\2" * (size_bytes // 2))
    return encoded(ds)


def test_a_large_result_lies_in_the_given_folder_without_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    sample = big(4 << 20)
    result = transcode(io.BytesIO(sample.data_set), EXPLICIT, [IMPLICIT], len(sample.data_set), tmp_path)
    with result.data_set:
        assert list(tmp_path.iterdir()) == []
        assert result.data_set.read() == encoded(sample.dataset(), IMPLICIT).data_set


def test_a_small_result_is_sent_from_where_it_is_and_a_large_one_in_parts(tmp_path):
    ds, syntax, _ = rle()
    for sample, target, size in ((encoded(ds, syntax), EXPLICIT, None), (big(4 << 20), IMPLICIT, 1 << 20)):
        result = transcode(
            io.BytesIO(sample.data_set), sample.transfer_syntax_uid, [target], len(sample.data_set), tmp_path
        )
        parts = result.parts()
        first = next(parts)
        assert len(first) == (size or result.size_bytes)
        whole = bytes(first) + b"".join(map(bytes, parts))
        assert whole == convert(sample, target, tmp_path).data_set
        result.data_set.close()  # though a part of it is still held
        assert bytes(first) == whole[: len(first)]


@pytest.mark.parametrize("target", [IMPLICIT, BIG_ENDIAN, DEFLATED])
def test_memory_does_not_grow_with_the_object(tmp_path, target):
    path = big(48 << 20).write(tmp_path / "big.dcm")
    size = len(samples.data_set_bytes(path))
    with path.open("rb") as stream:
        stream.seek(path.stat().st_size - size)
        tracemalloc.start()
        with transcode(stream, EXPLICIT, [target], size, tmp_path).data_set:
            peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 12 << 20


def test_one_frame_at_a_time_is_in_memory(tmp_path):
    ds = samples.replace(samples.dx(PixelData=None), Rows=512, Columns=1024, NumberOfFrames="40")
    (coded,) = coded_frames(RLE, np.zeros((1, 512, 1024), "<u2"), 16)
    sample = encoded(compressed(ds, encapsulate([coded] * 40)), RLE)
    tracemalloc.start()
    result = transcode(io.BytesIO(sample.data_set), RLE, [EXPLICIT], len(sample.data_set), tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    with result.data_set:
        assert result.size_bytes > 40 << 20
    assert peak < 16 << 20


def test_no_word_of_a_patient_is_warned_or_logged(caplog):
    """Warnings are errors in these tests; this Data Set has several values that pydicom warns of."""
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        odd = list(samples.odd_identities())
    caplog.clear()
    for sample in odd:
        for target in set(NATIVE) - {sample.transfer_syntax_uid}:
            assert "Family" not in told(lambda sample=sample, target=target: convert(sample, target))
    mislabelled = shipped_by_name("SC_rgb_dcmtk_+eb+cy+np.dcm")
    ds = mislabelled.dataset()
    ds.PhotometricInterpretation = "RGB"
    convert(encoded(ds, BASELINE), EXPLICIT)
    assert not [record for record in caplog.records if "Family" in record.getMessage()]
