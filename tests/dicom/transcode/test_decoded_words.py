"""Decoded words equal the encoded ones: every syntax that we decode, with any pixels."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
from pydicom import uid
from pydicom.encaps import generate_frames

from backup_scp.dicom.transcode import transcode
from backup_scp.dicom.transcode.decoders import DECODABLE
from tests.dicom.transcode.compression import (
    DCMTK,
    LOSSLESS,
    NOT_CODED,
    OURS,
    Coded,
    coded_by_dcmtk,
    coded_here,
    in_fragments,
    variants,
)

EXPLICIT = str(uid.ExplicitVRLittleEndian)
VARIANTS = variants()
TABLE = [
    pytest.param(recipe, name, id=f"{recipe}-{name}")
    for recipe in (*DCMTK, *OURS)
    for name in VARIANTS
    if (recipe, name) not in NOT_CODED
]


def made(recipe, name, folder) -> Coded:
    if recipe in DCMTK:
        return coded_by_dcmtk(recipe, VARIANTS[name], folder)
    return coded_here(recipe, VARIANTS[name])


def converted(sample, folder):
    stream = io.BytesIO(sample.data_set)
    result = transcode(stream, sample.transfer_syntax_uid, [EXPLICIT], len(sample.data_set), folder)
    with result.data_set as data_set:
        content = data_set.read()
    return type(sample)(sample.name, sample.sop_class_uid, sample.sop_instance_uid, EXPLICIT, content).dataset()


def test_the_table_has_every_syntax_that_is_decoded():
    assert {str(syntax) for syntax, *_ in (*DCMTK.values(), *OURS.values())} == DECODABLE


@pytest.mark.parametrize(("recipe", "name"), TABLE)
def test_the_words_that_arrive_are_those_that_were_coded(recipe, name, tmp_path):
    coded = made(recipe, name, tmp_path)
    ds, stored = converted(coded.sample, tmp_path), coded.dataset()
    assert ds.PixelData == coded.words
    if recipe in LOSSLESS:
        content = VARIANTS[name].pixels.tobytes()
        assert ds.PixelData == content + bytes(len(content) % 2)
    for keyword in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation"):
        assert ds[keyword] == stored[keyword]


def test_the_other_decoder_of_htj2k_comes_to_the_same(tmp_path):
    """OpenJPH and OpenJPEG round the irreversible transformation in two ways, which the standard leaves open."""
    coded = made("HTJ2K lossy", "plain", tmp_path)
    other = imagecodecs.htj2k_decode(next(generate_frames(coded.dataset().PixelData, number_of_frames=1)))
    ours = np.frombuffer(converted(coded.sample, tmp_path).PixelData, "<u2").reshape(other.shape)
    assert np.abs(ours.astype(int) - other).max() <= 1


@pytest.mark.parametrize("recipe", [name for name in (*DCMTK, *OURS) if name != "RLE"])
@pytest.mark.parametrize(("fragments", "table"), [(1, "none"), (1, "extended"), (3, "basic"), (3, "none")])
def test_frames_in_several_fragments(recipe, fragments, table, tmp_path):
    coded = made(recipe, "several frames", tmp_path)
    assert converted(in_fragments(coded, fragments, table), tmp_path).PixelData == coded.words


@pytest.mark.parametrize("table", ["none", "basic", "extended"])
def test_frames_of_rle_have_one_fragment_each(table, tmp_path):
    coded = made("RLE", "several frames", tmp_path)
    assert converted(in_fragments(coded, 1, table), tmp_path).PixelData == coded.words
