"""Detect a stored image that arrives in another encoding."""

from __future__ import annotations

import pytest
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from backup_scp.ports import Heading, Selection, StoredVersion
from backup_scp.services import same_content
from backup_scp.services.same_content import find_same
from tests import samples
from tests.dicom.transcode.compression import coded_by_dcmtk, variants
from tests.samples import Sample, dx, encode, replace

IMAGE = variants()["words above Bits Stored"]
PLAIN = encode(IMAGE.data_set())


def found(stored, *held: Sample, came: Sample) -> str:
    for number, sample in enumerate(held):
        stored.put(sample, number)
    return compared(stored, came, stored.index.select(Selection(all_versions=True)))


def compared(stored, came: Sample, held: list[StoredVersion]) -> str:
    staged = stored.archive.stage(Heading(came.sop_class_uid, came.sop_instance_uid, came.transfer_syntax_uid))
    try:
        staged.write(came.data_set)
        return find_same(stored.archive, staged, held)
    finally:
        staged.discard()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_another_encoding_of_the_elements(stored, syntax):
    report = samples.structured_report()
    came = encode(report, syntax)
    assert found(stored, encode(report), came=came) == encode(report).sha256


@pytest.mark.parametrize("recipe", ["JPEG Lossless SV1", "RLE", "JPEG-LS"])
def test_another_encoding_of_the_pixels(stored, recipe, tmp_path):
    coded = coded_by_dcmtk(recipe, IMAGE, tmp_path).sample
    assert found(stored, PLAIN, came=coded) == PLAIN.sha256


def test_of_several_versions_the_one_that_says_the_same_is_named(stored):
    other = encode(replace(IMAGE.data_set(), PatientName="Other"))
    came = encode(IMAGE.data_set(), ImplicitVRLittleEndian)
    assert found(stored, other, PLAIN, came=came) == PLAIN.sha256


@pytest.mark.parametrize(
    "ds",
    [replace(IMAGE.data_set(), PatientName="Other"), replace(IMAGE.data_set(), PixelData=bytes(40 * 56 * 2))],
    ids=["another name", "other pixels"],
)
def test_what_says_something_else_is_not_the_same(stored, ds):
    assert found(stored, PLAIN, came=encode(ds, ImplicitVRLittleEndian)) == ""


def test_what_is_damaged_or_cannot_be_decoded_is_passed_over(stored, tmp_path):
    coded = coded_by_dcmtk("RLE", IMAGE, tmp_path).sample
    ds = replace(coded.dataset(), ImageComments="x")
    undecodable = encode(ds, JPEGLSLossless)
    assert coded.transfer_syntax_uid == RLELossless
    assert found(stored, undecodable, coded, PLAIN, came=encode(IMAGE.data_set(), ImplicitVRLittleEndian)) != ""
    for held in stored.index.select(Selection(all_versions=True)):
        stored.flip(held.location, -30)
    came = encode(IMAGE.data_set(), ImplicitVRLittleEndian)
    assert compared(stored, came, stored.index.select(Selection(all_versions=True))) == ""


def test_one_that_is_damaged_where_nobody_looks_is_not_the_same(stored, tmp_path):
    """dcmtk describes there how it has compressed."""
    coded = coded_by_dcmtk("JPEG Lossless SV1", IMAGE, tmp_path).sample
    assert found(stored, coded, came=PLAIN) == coded.sha256
    (held,) = stored.index.select(Selection())
    stored.flip(held.location, stored.path(held.location).read_bytes().index(b"Lossless JPEG compression"))
    assert compared(stored, PLAIN, [held]) == ""


def test_the_rest_of_many_and_what_is_too_large_is_not_compared(stored, monkeypatch):
    came = encode(IMAGE.data_set(), ImplicitVRLittleEndian)
    others = [encode(replace(dx(number=number), ImageComments=f"{number}")) for number in range(3)]
    assert found(stored, PLAIN, *others, came=came) == PLAIN.sha256
    held = stored.index.select(Selection(all_versions=True))
    first = next(each for each in held if each.sha256 == PLAIN.sha256)
    last = [each for each in held if each != first] + [first]
    monkeypatch.setattr(same_content, "_MOST", 3)
    assert compared(stored, came, last) == ""
    assert compared(stored, came, last[::-1]) == PLAIN.sha256
    monkeypatch.setattr(same_content, "_LARGEST_BYTES", first.size_bytes - 1)
    assert compared(stored, came, last[::-1]) == ""


def test_it_is_given_up_in_time(stored, monkeypatch):
    monkeypatch.setattr(same_content, "_LONGEST_S", 0.0)
    assert found(stored, PLAIN, came=encode(IMAGE.data_set(), ImplicitVRLittleEndian)) == ""
