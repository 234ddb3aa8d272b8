"""WADO-RS: frames (PS3.18 10.4.1.1.6), as stored and decoded."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.pixels.utils import unpack_bits
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from backup_scp.dicom.transcode.stored_frames import frame_layout
from backup_scp.ports import InstanceKey
from backup_scp.services import frame_layouts
from tests.samples import (
    Sample,
    dx,
    encode,
    pydicom_samples,
    replace,
    secondary_capture,
    structured_report,
    with_pixels,
)
from tests.web.multipart import parts_of
from tests.web.test_wado_instances import compressed, get, path_of, put_all

OCTETS = 'multipart/related; type="application/octet-stream"'
AS_STORED = f"{OCTETS}; transfer-syntax=*"
OHIF = 'multipart/related; type="application/octet-stream"; transfer-syntax="*"'
CORNERSTONE = "multipart/related; type=application/octet-stream; transfer-syntax=*"


def multi_frame(frames: int = 5):
    return with_pixels(secondary_capture(), 16, 20, frames=frames, bits=16)


def frames_of(web, ds, numbers="1", accept=AS_STORED):
    return get(web, f"{path_of(ds)}/frames/{numbers}", accept)


@pytest.mark.parametrize("accept", [OCTETS, AS_STORED, OHIF, CORNERSTONE, "*/*"])
def test_uncompressed_frames_are_slices_of_the_pixel_data(stored, web, accept):
    ds = multi_frame()
    put_all(stored, [ds])
    parts = parts_of(frames_of(web, ds, "2,5,1", accept))
    size = 16 * 20 * 2
    assert [part.content for part in parts] == [ds.PixelData[(n - 1) * size : n * size] for n in (2, 5, 1)]
    assert {part.content_type for part in parts} == {
        f"application/octet-stream; transfer-syntax={ExplicitVRLittleEndian}"
    }


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_frames_of_other_encodings_are_in_explicit_vr_little_endian(stored, web, syntax):
    ds = multi_frame()
    sample = encode(ds, syntax)
    stored.put(sample)
    (part,) = parts_of(frames_of(web, ds, "3"))
    assert part.content_type.endswith(ExplicitVRLittleEndian)
    words = np.frombuffer(ds.PixelData, ">u2" if syntax == ExplicitVRBigEndian else "<u2")
    assert part.content == words[2 * 320 : 3 * 320].astype("<u2").tobytes()


def test_frames_of_single_bits_begin_at_their_first_bit(stored, web):
    ds = secondary_capture()
    replace(ds, Rows=3, Columns=5, BitsAllocated=1, BitsStored=1, HighBit=0, NumberOfFrames="4")
    bits = np.random.default_rng(1).integers(0, 2, 60, dtype="u1")
    ds.PixelData = np.packbits(bits, bitorder="little").tobytes()
    put_all(stored, [ds])
    for number, part in enumerate(parts_of(frames_of(web, ds, "1,2,3,4"))):
        assert np.array_equal(unpack_bits(part.content)[:15], bits[number * 15 : number * 15 + 15])


def test_compressed_frames_come_as_stored(stored, web):
    sample = compressed()
    stored.put(sample)
    expected = next(generate_frames(sample.dataset().PixelData, number_of_frames=1))
    for accept, media_type in (
        (AS_STORED, "application/octet-stream"),
        ('multipart/related; type="image/jls"', "image/jls"),
        ('multipart/related; type="image/*"; transfer-syntax=*', "image/jls"),
        (f'multipart/related; type="image/jls"; transfer-syntax={JPEGLSLossless}', "image/jls"),
    ):
        (part,) = parts_of(frames_of(web, sample.dataset(), "1", accept))
        assert part.content_type == f"{media_type}; transfer-syntax={JPEGLSLossless}"
        assert part.content.rstrip(b"\0") == expected.rstrip(b"\0")


def test_one_frame_is_a_single_part_when_asked_so(stored, web):
    sample = compressed()
    stored.put(sample)
    answer = frames_of(web, sample.dataset(), "1", "image/jls")
    assert answer.headers["content-type"] == f"image/jls; transfer-syntax={JPEGLSLossless}"
    assert answer.content[:2] == b"\xff\xd8"
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_compressed_frames_are_decoded_for_the_default(stored, web):
    sample = compressed()
    stored.put(sample)
    (part,) = parts_of(frames_of(web, sample.dataset(), "1", OCTETS))
    assert part.content_type.endswith(ExplicitVRLittleEndian)
    assert part.content == sample.dataset().pixel_array.tobytes()


@pytest.mark.parametrize("accept", ['multipart/related; type="image/jls"', "image/jpeg", "text/plain"])
def test_what_is_not_stored_so_is_not_acceptable(stored, web, accept):
    ds = dx()
    put_all(stored, [ds])
    answer = frames_of(web, ds, "1", accept)
    assert answer.status_code == 406
    assert "octet-stream" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("numbers", "status"), [("0", 400), ("x", 400), ("1,,2", 400), ("-1", 400), ("6", 404), ("1,6", 404), ("٣", 400)]
)
def test_odd_numbers_of_frames(stored, web, numbers, status):
    ds = multi_frame()
    put_all(stored, [ds])
    assert frames_of(web, ds, numbers).status_code == status


def test_an_object_without_pixels_has_no_frames(stored, web):
    ds = structured_report()
    put_all(stored, [ds])
    answer = frames_of(web, ds)
    assert answer.status_code == 404
    assert "no pixels" in answer.json()["detail"]


def test_pixel_data_that_is_cut_off_has_the_frames_before(stored, web):
    ds = multi_frame()
    sample = encode(ds)
    stored.put(
        Sample("cut", sample.sop_class_uid, sample.sop_instance_uid, sample.transfer_syntax_uid, sample.data_set[:-700])
    )
    assert frames_of(web, ds, "3").status_code == 200
    assert frames_of(web, ds, "5").status_code == 404


def tables(frames: list[bytes]):
    yield encapsulate(frames, has_bot=True), {}
    yield encapsulate(frames, has_bot=False), {}
    yield encapsulate(frames, fragments_per_frame=2, has_bot=True), {}
    content, offsets, lengths = encapsulate_extended(frames)
    yield content, {"ExtendedOffsetTable": offsets, "ExtendedOffsetTableLengths": lengths}


def test_frames_are_found_by_tables_and_by_fragments(stored, web):
    pixels = multi_frame(4)
    pixels.file_meta = pydicom.dataset.FileMetaDataset()
    pixels.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pixels.compress(JPEGLSLossless, generate_instance_uid=False)
    frames = list(generate_frames(pixels.PixelData, number_of_frames=4))
    for number, (content, elements) in enumerate(tables(frames)):
        ds = multi_frame(4)
        replace(ds, SOPInstanceUID=f"1.2.3.{number}", PixelData=content, **elements)
        ds["PixelData"].is_undefined_length = True
        ds["PixelData"].VR = "OB"
        put_all(stored, [ds], JPEGLSLossless)
        parts = parts_of(frames_of(web, ds, "4,1"))
        assert [part.content.rstrip(b"\0") for part in parts] == [frames[3].rstrip(b"\0"), frames[0].rstrip(b"\0")]
        (decoded,) = parts_of(frames_of(web, ds, "3", OCTETS))
        size = 16 * 20 * 2
        assert decoded.content == multi_frame(4).PixelData[2 * size : 3 * size]


@pytest.mark.filterwarnings("ignore:Expected explicit VR")
def test_every_sample_with_pixels_has_the_frames_that_pydicom_finds(stored, web):
    count = 0
    for sample in pydicom_samples():
        stored.put(sample)
    for held in list(stored.index.versions()):
        sample = next(each for each in pydicom_samples() if each.sha256 == held.sha256)
        if held.transfer_syntax_uid != RLELossless and not held.transfer_syntax_uid.startswith("1.2.840.10008.1.2.4"):
            continue
        ds = sample.dataset()
        uids = held.study_instance_uid, held.series_instance_uid, held.sop_instance_uid
        if not all(uids) or "PixelData" not in ds or stored.index.versions_of(InstanceKey(*uids))[0] != held:
            continue
        number = int(ds.get("NumberOfFrames", 1))
        try:
            expected = list(generate_frames(ds.PixelData, number_of_frames=number))
        except ValueError:
            continue
        answer = get(web, "/studies/{}/series/{}/instances/{}/frames/{}".format(*uids, number), AS_STORED)
        if answer.status_code == 200:
            (part,) = parts_of(answer)
            assert part.content.rstrip(b"\0") == expected[-1].rstrip(b"\0"), sample.name
            count += 1
    assert count > 10


def test_a_frame_of_a_damaged_file_is_never_sent(stored, web):
    ds = multi_frame()
    location = stored.put(encode(ds)).location
    assert frames_of(web, ds, "5").status_code == 200
    stored.flip(location, -10)
    answer = frames_of(web, ds, "5")
    assert answer.status_code == 500
    assert ds.SOPInstanceUID in answer.json()["detail"]


def test_an_unchanged_frame_is_not_sent_again(stored, web):
    ds = multi_frame()
    put_all(stored, [ds])
    tag = frames_of(web, ds, "2").headers["etag"]
    path = f"{path_of(ds)}/frames/2"
    assert get(web, path, AS_STORED, **{"If-None-Match": tag}).status_code == 304
    assert get(web, f"{path_of(ds)}/frames/3", AS_STORED, **{"If-None-Match": tag}).status_code == 200


def test_where_the_frames_are_is_remembered_of_each_slice_that_viewers_scroll_through(web, stored, monkeypatch):
    slices = [dx(number=number, StudyDescription="Scrolled") for number in range(60)]
    put_all(stored, slices)
    searched = []

    def counted(*arguments):
        searched.append(arguments)
        return frame_layout(*arguments)

    monkeypatch.setattr(frame_layouts, "frame_layout", counted)
    for _ in range(2):
        for one in slices:
            assert get(web, f"{path_of(one)}/frames/1", AS_STORED).status_code == 200
    assert len(searched) == len(slices)
