"""The digest of a Data Set's content is the same in every encoding, and differs for every changed word."""

from __future__ import annotations

import io
import math
import struct
from pathlib import Path

import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from backup_scp.dicom.transcode import transcode
from backup_scp.dicom.transcode.content import digest_of_content, digest_of_elements
from backup_scp.errors import InstanceRefused
from tests import samples
from tests.dicom.transcode.compression import DCMTK, LOSSLESS, OURS, Variant, coded_by_dcmtk, coded_here, variants
from tests.system.peers import dcmtk

EXPLICIT, IMPLICIT = str(uid.ExplicitVRLittleEndian), str(uid.ImplicitVRLittleEndian)
DEFLATED, BIG_ENDIAN = str(uid.DeflatedExplicitVRLittleEndian), str(uid.ExplicitVRBigEndian)
IMAGE = variants()["overlay in the upper bits"]
NAMES = [name for name in (*DCMTK, *OURS) if name in LOSSLESS]


def digest(sample, digest_of=digest_of_content, *, until=math.inf, folder=Path("absent")):
    stream = io.BytesIO(sample.data_set)
    return digest_of(stream, sample.transfer_syntax_uid, len(sample.data_set), folder, until)


def with_everything(variant: Variant = IMAGE) -> Dataset:
    """Return an image with sequences, private elements and an icon."""
    ds = variant.data_set()
    ds.add_new(0x00090010, "LO", "MINE")
    ds.add_new(0x00091001, "LO", "text of mine")
    ds.add_new(0x00091002, "US", [1, 2, 3])
    inner = Dataset()
    inner.add_new(0x00091010, "SQ", [Dataset()])
    inner.add_new(0x00091011, "FD", 1.5)
    ds.add_new(0x00091003, "SQ", [inner, Dataset()])
    ds.IconImageSequence = Sequence([samples.with_pixels(Dataset(), 8, 8, bits=8)])
    return ds


def in_other_words(ds: Dataset, name: str, folder: Path) -> samples.Sample:
    """Return it as dcmtk writes it with these options of dcmconv."""
    source = samples.encode(ds).write(folder / "source.dcm")
    dcmtk("dcmconv", *name.split(), source, folder / "other.dcm")
    found = samples.Sample.of_file(folder / "other.dcm")
    assert found is not None
    return found


@pytest.mark.parametrize("options", ["+te +e", "+te -e", "+ti +e", "+ti -e", "+tb +e", "+te +g", "+ti +g", "+td"])
def test_it_is_the_same_however_dcmtk_writes_it(options, tmp_path):
    ds = with_everything()
    other = in_other_words(ds, options, tmp_path)
    assert digest(other, folder=tmp_path) == digest(samples.encode(ds))
    assert digest(other, digest_of_elements, folder=tmp_path) == digest(samples.encode(ds), digest_of_elements)


@pytest.mark.parametrize("recipe", NAMES)
def test_it_is_the_same_compressed_without_loss(recipe, tmp_path):
    coded = coded_by_dcmtk(recipe, IMAGE, tmp_path) if recipe in DCMTK else coded_here(recipe, IMAGE)
    plain = samples.encode(IMAGE.data_set())
    assert digest(coded.sample) == digest(plain)
    assert digest(coded.sample, digest_of_elements) == digest(plain, digest_of_elements)


@pytest.mark.parametrize("recipe", [name for name in (*DCMTK, *OURS) if name not in LOSSLESS and "pseudo" not in name])
def test_what_has_lost_pixels_says_something_else(recipe, tmp_path):
    coded = coded_by_dcmtk(recipe, IMAGE, tmp_path) if recipe in DCMTK else coded_here(recipe, IMAGE)
    assert digest(coded.sample) != digest(samples.encode(IMAGE.data_set()))


@pytest.mark.parametrize("target", [EXPLICIT, IMPLICIT, DEFLATED, BIG_ENDIAN])
@pytest.mark.parametrize("sample", [each for each in samples.pydicom_samples() if each.name in {
    "JPGExtended.dcm", "SC_rgb_small_odd_jpeg.dcm", "examples_ybr_color.dcm", "SC_rgb_rle_2frame.dcm", "CT_small.dcm",
    "GDCMJ2K_TextGBR.dcm", "reportsi.dcm", "rtplan.dcm",
}], ids=lambda sample: sample.name)  # fmt: skip
def test_it_is_the_same_when_what_we_have_sent_decoded_comes_back(sample, target, tmp_path):
    stream = io.BytesIO(sample.data_set)
    sent = transcode(stream, sample.transfer_syntax_uid, [target], len(sample.data_set), tmp_path)
    with sent.data_set as data_set:
        back = samples.Sample("back", "", "", sent.transfer_syntax_uid, data_set.read())
    assert digest(back, folder=tmp_path) == digest(sample, folder=tmp_path)


def changed(keyword: str, value: object) -> Dataset:
    ds = with_everything()
    setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize(
    "ds",
    [
        changed("PatientName", "Other^Name"),
        changed("PatientName", None),
        changed("PatientComments", "more"),
        changed("PixelRepresentation", 1),
        changed("IconImageSequence", Sequence([samples.with_pixels(Dataset(), 8, 4, bits=8)])),
    ],
    ids=["another name", "no name", "more", "a sign", "another icon"],
)
def test_another_word_is_another_content(ds):
    assert digest(samples.encode(ds)) != digest(samples.encode(with_everything()))


def test_another_word_in_a_private_sequence_is_another_content(tmp_path):
    ds = with_everything()
    ds[0x00091003].value[0].add_new(0x00091011, "FD", 2.5)
    found = {digest(in_other_words(each, "+ti +e", tmp_path)) for each in (ds, with_everything())}
    assert len(found) == 2


def test_one_other_pixel_is_another_content_and_the_same_elements():
    pixels = IMAGE.pixels.copy()
    pixels[0, 3, 5] ^= 1 << 14  # in the overlay
    one, other = (samples.encode(with_everything(Variant(each, 12, 11))) for each in (IMAGE.pixels, pixels))
    assert digest(one) != digest(other)
    assert digest(one, digest_of_elements) == digest(other, digest_of_elements)


def test_elements_are_compared_without_decoding():
    ds = IMAGE.data_set()
    ds.add_new("PixelData", "OB", encapsulate([b"this is no image"]))
    ds["PixelData"].is_undefined_length = True
    broken = samples.encode(ds, str(uid.JPEGLSLossless))
    assert digest(broken, digest_of_elements) == digest(samples.encode(IMAGE.data_set()), digest_of_elements)
    with pytest.raises(InstanceRefused, match="not JPEG-LS"):
        digest(broken)


@pytest.mark.parametrize("sample", [
    samples.unparsable(),
    samples.Sample("cut", "", "", EXPLICIT, samples.encode(with_everything()).data_set[:-7]),
    samples.Sample("video", "", "", str(uid.MPEG2MPML), samples.encode(with_everything()).data_set),
    samples.Sample("private", "", "", samples.PRIVATE_TRANSFER_SYNTAX, samples.encode(with_everything()).data_set),
], ids=lambda sample: sample.name)  # fmt: skip
def test_of_what_cannot_be_read_nobody_knows_what_it_says(sample):
    for digest_of in (digest_of_content, digest_of_elements):
        with pytest.raises(InstanceRefused):
            digest(sample, digest_of)


def test_a_value_that_only_begins_like_a_sequence_is_refused():
    value = b"\xfe\xff\x00\xe0" + struct.pack("<L", 400) + bytes(8)
    data_set = struct.pack("<HHL", 0x0009, 0x1001, len(value)) + value
    with pytest.raises(InstanceRefused, match="longer than what holds it"):
        digest(samples.Sample("odd", "", "", IMPLICIT, data_set))


def test_it_is_given_up_in_time():
    with pytest.raises(InstanceRefused, match="too long"):
        digest(samples.encode(with_everything()), until=0)


def test_memory_does_not_grow_with_the_image():
    import tracemalloc

    ds = Variant(np.zeros((1, 4000, 4000), "<u2"), 16, 15).data_set()
    sample = samples.encode(ds)
    tracemalloc.start()
    digest(sample)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(sample.data_set) / 4
